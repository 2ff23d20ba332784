//! What counts as used in a day, a week, a month.

use kingsguard_protocol::client::GetUsage;
use kingsguard_protocol::control::UsagePeriod;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use sqlx::{Connection as _, PgConnection};

covers!("FLOW");

/// How many hours ago runs ended: just within and just beyond each period.
const ENDED_HOURS_AGO: [i32; 6] = [23, 25, 7 * 24 - 1, 7 * 24 + 1, 30 * 24 - 1, 30 * 24 + 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_period_counts_the_runs_that_ended_within_it() {
    TestContext::own(case!("MSG-1", "ISO-3"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let mut database = PgConnection::connect(&ctx.backend().await.database_url())
                .await
                .expect("the test's own database");
            for hours in ENDED_HOURS_AGO {
                let run = chat.ask("Hello").await;
                sqlx::query("UPDATE runs SET ended_at = ended_at - $2 * interval '1 hour' WHERE run_id = $1")
                    .bind(run.run_id().as_str())
                    .bind(f64::from(hours))
                    .execute(&mut database)
                    .await
                    .expect("its runs can be made older");
            }
            let mut counted = Vec::new();
            for period in [
                UsagePeriod::Day,
                UsagePeriod::Week,
                UsagePeriod::Month,
                UsagePeriod::All,
            ] {
                let asked = chat.send(GetUsage { period: Some(period) }).await;
                let ControlFrame::UsageReport(report) = chat.answer_to(&asked).await else {
                    panic!("expected usage_report")
                };
                counted.push(report.runs);
            }
            assert_eq!(counted, [1, 3, 5, 6]);
        })
        .await;
}
