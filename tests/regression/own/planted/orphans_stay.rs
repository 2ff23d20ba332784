//! A node dies, and nobody ends its runs.

use std::time::{Duration, Instant};

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use super::assert_caught;

/// SEQ-9: the lease of these tests, the 5 s of the clause, and room for a busy machine.
const ENDED_WITHIN: Duration = Duration::from_secs(7);
/// Where the machine keeps everybody waiting, this is the end.
const WAITED_FOR_MAX: Duration = Duration::from_secs(16);

fn test() -> Builder {
    TestContext::own(case!("SEQ-9"))
        .with_nodes(2)
        .with_setting("KINGSGUARD_RUN_LEASE_MS", 600)
}

async fn a_run_of_a_dead_node_is_ended_by_another(ctx: &TestContext) {
    let ada = ctx.user("ada").await;
    let mut near = ada.connect().await;
    // Before the run begins: where the machine keeps its node waiting for longer than the lease, it ends early.
    let mut far = ada.open_with(ada.options().with_base_url(&ctx.node_url(1).await)).await;
    far.handshake_with(Some(&near.thread_id()), Vec::new()).await;
    let asked = near.say("Watch my usage for 25 seconds").await;
    let accepted = near.accepted(&asked).await;
    // One that has not begun is not failed by another node, but done there from its beginning.
    near.expect_event("the run's beginning", |event| event.header.run_id == accepted.run_id)
        .await;
    ctx.kill_node(0).await;
    let died = Instant::now();
    let overdue = async {
        while ctx.time_since(died) < ENDED_WITHIN && died.elapsed() < WAITED_FOR_MAX {
            // sleeps because what does not come is not announced
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        run = far.until_completed(&accepted.run_id) => assert_eq!(run.completed().status, RunStatus::Failed),
        () = overdue => panic!("SEQ-9 (MUST): the run of the dead node has no end after {ENDED_WITHIN:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_nobody_ends_is_caught() {
    assert_caught(
        test(),
        "orphans-stay",
        "SEQ-9",
        a_run_of_a_dead_node_is_ended_by_another,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_nodes_run_is_ended_without_it() {
    test().run(a_run_of_a_dead_node_is_ended_by_another).await;
}
