//! Faults that are planted on purpose. Each is told by one body of a test, which holds on the backend as it is and fails
//! on one with the fault, naming the clause that the fault breaks.

mod deliver_before_commit;
mod drop_after_commit;
mod fan_out_by_thread_only;
mod lease_not_fenced;
mod lost_after_acknowledgement;
mod memory_per_run;
mod oracle_in_timing;
mod orphans_stay;
mod replay_off_by_one;
mod secrets_in_the_log;

use kingsguard_protocol::client::Ping;
use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;

/// Claims that a body fails on a backend with a fault, and that the judgement names the clause.
async fn assert_caught(test: Builder, sabotage: &str, clause: &str, body: impl AsyncFnOnce(&TestContext)) {
    let failure = test.with_sabotage(sabotage).run_to_failure(body).await;
    assert!(failure.contains(&format!("{clause} (MUST)")), "{failure}");
}

/// Waits until everything that was queued for a connection so far has arrived: a pong comes behind it.
async fn catch_up(chat: &mut Chat) {
    let ping = chat.send(Ping {}).await;
    chat.answer_to(&ping).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_planted_fault_says_so_in_its_log() {
    TestContext::own(case!("EVT-7"))
        .with_sabotage("replay-off-by-one")
        .run(async |ctx| {
            let log = ctx.log_of(0).await;
            let loud = log
                .lines()
                .any(|line| line.starts_with("SABOTAGED: replay-off-by-one breaks SEQ-3"));
            ctx.check("the fault is named", loud);
        })
        .await;
}
