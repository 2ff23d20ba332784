//! The largest call of `POST /api/usage-records` (HTTP-1, LIM-1).

use kingsguard_protocol::http::UsageRecordsResponse;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

const PATH: &str = "/api/usage-records";

const HEADER: &str = "timestamp,model,input_tokens,output_tokens,latency_ms,feature,cost_microusd,prompt_hash,success";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_rows_are_stored_and_one_more_is_refused() {
    TestContext::wire(case!("HTTP-1", "LIM-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let row = "2026-01-31T08:15:30Z,gpt-4o,100,20,900,search,7,abc,true\n";
            let csv = |count: usize| format!("{HEADER}\n{}", row.repeat(count));
            let began = std::time::Instant::now();
            let answer = ada.http().post_as(PATH, "text/csv", csv(100_000)).await;
            ctx.figure(
                "usage_rows_stored_per_second",
                100_000.0 / began.elapsed().as_secs_f64(),
                "rows/s",
            );
            assert_eq!(
                answer.expect_status(201).parse::<UsageRecordsResponse>().stored,
                100_000
            );
            let answer = ada.http().post_as(PATH, "text/csv", csv(100_001)).await;
            let code = answer.json()["error_code"].clone();
            assert!(code == "VALIDATION_ERROR" || code == "MESSAGE_TOO_LARGE", "{answer:?}");
            assert!(answer.status() == 400 || answer.status() == 413, "{answer:?}");
        })
        .await;
}
