//! A node is paused past its lease, another one ends its run, and the first goes on writing.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use nix::sys::signal::Signal;
use pretty_assertions::assert_eq;

use super::assert_caught;

fn test() -> Builder {
    TestContext::own(case!("ORD-4", "SEQ-9"))
        .with_nodes(2)
        .with_setting("KINGSGUARD_RUN_LEASE_MS", 600)
}

async fn a_paused_node_cannot_write_into_a_run_that_was_taken_over(ctx: &TestContext) {
    let ada = ctx.user("ada").await;
    let mut near = ada.connect().await;
    let thread_id = near.thread_id();
    let mut far = ada.open_with(ada.options().with_base_url(&ctx.node_url(1).await)).await;
    far.handshake_with(Some(&thread_id), Vec::new()).await;
    let asked = near.say("Watch my usage for 2 seconds").await;
    let run_id = near.accepted(&asked).await.run_id;
    far.expect_event(
        "the tool at work",
        |event| matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"),
    )
    .await;
    ctx.signal_node(0, Signal::SIGSTOP).await;
    let run = far.until_completed(&run_id).await;
    assert_eq!(run.completed().status, RunStatus::Failed, "its node seemed dead");
    ctx.signal_node(0, Signal::SIGCONT).await;
    // It tries when its tool has ended: then either it is refused, or what it wrote is seen.
    ctx.eventually("the end of the paused node's work", async || {
        let refused = ctx.log_of(0).await.contains("run was taken over by another node");
        let written = far.unclaimed().iter().filter_map(Frame::event).count();
        if refused || written > 0 {
            Ok(())
        } else {
            Err("it has not tried to write".to_owned())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_not_fenced_is_caught() {
    let body = a_paused_node_cannot_write_into_a_run_that_was_taken_over;
    assert_caught(test(), "lease-not-fenced", "ORD-4", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_fenced_without_it() {
    test()
        .run(a_paused_node_cannot_write_into_a_run_that_was_taken_over)
        .await;
}
