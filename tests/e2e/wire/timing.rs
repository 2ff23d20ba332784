//! Time: acceptance, beginning, silence.

use std::time::Duration;

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer};

covers!("EVT");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_accepted_within_half_a_second_and_begun_within_one() {
    TestContext::wire(case!("TIM-1"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 71, 100).await;
            let mut chat = ada.connect().await;
            for _ in 0..8 {
                let run = chat.ask(SPEND_LESS).await;
                assert_eq!(run.completed().status, RunStatus::Completed);
            }
            // The bounds themselves are judged by the validators; this says that there was something to judge.
            let acceptance = Timing::of_acceptance(&ctx.recording());
            assert_eq!(acceptance.count(), 8);
            ctx.check(
                "half are accepted within 500 ms",
                acceptance.percentile(50.0) <= Duration::from_millis(500),
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_is_never_silent_for_five_seconds_and_sees_records_as_they_come() {
    TestContext::wire(case!("TIM-2", "EVT-6"))
        .run(async |ctx| {
            ctx.needs(Capability::DataImport);
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say("Watch my usage for 6 seconds").await;
            let run_id = chat.accepted(&asked).await.run_id;
            let started = chat
                .expect_event(
                    "watch_usage",
                    |event| matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"),
                )
                .await;
            // What fills the silence comes after the first count, so these records are new to the tool.
            let filler = chat
                .expect_event("a sign of life", |event| {
                    matches!(event.body, EventBody::ProgressUpdate(_) | EventBody::AgentThinking(_))
                        && event.header.seq > started.header.seq
                })
                .await;
            let silence = filler.header.timestamp.as_unix_ms() - started.header.timestamp.as_unix_ms();
            assert!(silence < 5_000, "{silence} ms");
            let records = SampleRecords::generate(72, 10);
            ada.upload(&records).await;
            let run = chat.until_completed(&run_id).await;
            assert_eq!(
                run.completed().result["watch_usage"],
                json!({
                    "watched_seconds": 6,
                    "new_records": 10,
                    "new_cost_microusd": records.cost_microusd(),
                    "additions_seen": 1,
                    "records": 10,
                    "total_cost_microusd": records.cost_microusd(),
                })
            );
            let longest = Timing::of_gaps(&ctx.recording()).max();
            assert!(longest < Duration::from_secs(5), "{longest:?}");
            assert!(run.completed().duration_ms >= 6_000);
        })
        .await;
}
