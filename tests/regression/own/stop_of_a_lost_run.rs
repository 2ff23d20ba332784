//! A run was stopped while the node that worked on it stood still. The node that took it over ended it as failed, and whoever
//! had asked for the stop never heard of it.

use kingsguard_protocol::client::StopAgent;
use kingsguard_testkit::prelude::*;
use nix::sys::signal::Signal;
use pretty_assertions::assert_eq;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_answered_by_the_node_that_takes_the_run_over() {
    TestContext::own(case!("ERR-1", "MSG-1", "SEQ-9"))
        .with_nodes(2)
        .with_setting("KINGSGUARD_RUN_LEASE_MS", 1_000)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut near = ada.connect().await;
            let thread_id = near.thread_id();
            let mut far = ada.open_with(ada.options().with_base_url(&ctx.node_url(1).await)).await;
            far.handshake_with(Some(&thread_id), Vec::new()).await;
            let asked = near.say("Watch my usage for 20 seconds").await;
            let run_id = near.accepted(&asked).await.run_id;
            far.expect_event(
                "the tool at work",
                |event| matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"),
            )
            .await;

            ctx.signal_node(0, Signal::SIGSTOP).await;
            let stop = far
                .send(StopAgent {
                    run_id: run_id.clone(),
                    reason: None,
                })
                .await;
            let stopped = far
                .expect_event("agent_stopped", |event| {
                    matches!(event.body, EventBody::AgentStopped(_))
                })
                .await;
            assert_eq!(stopped.header.correlation_id, stop);
            let run = far.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Cancelled);
            ctx.signal_node(0, Signal::SIGCONT).await;
        })
        .await;
}
