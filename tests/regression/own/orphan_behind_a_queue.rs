//! A run whose node died had to wait for its end behind the runs that the node which took it over had of the same thread.

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_run_of_a_dead_node_ends_while_others_of_its_thread_go_on() {
    TestContext::own(case!("SEQ-9", "TIM-2", "ORD-6"))
        .with_nodes(2)
        .with_setting("KINGSGUARD_RUN_LEASE_MS", 600)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut near = ada.connect().await;
            let thread_id = near.thread_id();
            let mut far = ada.open_with(ada.options().with_base_url(&ctx.node_url(1).await)).await;
            far.handshake_with(Some(&thread_id), Vec::new()).await;
            let mut begun = Vec::new();
            for chat in [&mut near, &mut far] {
                let asked = chat.say("Watch my usage for 6 seconds").await;
                let run_id = chat.accepted(&asked).await.run_id;
                chat.expect_event("the tool of that run at work", |event| {
                    event.header.run_id == run_id && matches!(event.body, EventBody::ToolExecuting(_))
                })
                .await;
                begun.push(run_id);
            }
            ctx.kill_node(0).await;
            let first = far
                .expect_event("the end of a run", |event| {
                    matches!(event.body, EventBody::AgentCompleted(_))
                })
                .await;
            assert_eq!(first.header.run_id, begun[0], "the orphan ends first");
            far.until_completed(&begun[1]).await;
        })
        .await;
}
