//! What a node knew of threads, its successor knows.

use kingsguard_protocol::client::SwitchThread;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::threads::ManyThreads;
use pretty_assertions::assert_eq;

covers!("BRG-1", "BRG-2");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_every_run_still_reaches_its_own_thread() {
    TestContext::own(case!("SEQ-1", "SEQ-2", "SEQ-3", "ORD-6"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let ada = ctx.user("ada").await;
            let mut threads = ManyThreads::create(&ada, 12).await;
            let mut chat = ada.connect().await;
            for thread_id in threads.ids() {
                let switch = chat.send_to(thread_id, SwitchThread { resume: None }).await;
                chat.answer_to(&switch).await; // it tells the epoch, without which nothing can be resumed
            }
            let before = threads.ask_in_each(&ada, &mut chat).await;
            ctx.restart_node(0).await;
            chat.expect_closed().await;

            let points = chat.resume_points();
            assert_eq!(
                points.len(),
                before.len() + 1,
                "the offered thread and those that it switched to"
            );
            let mut again = ada.open().await;
            let complete = again.handshake_with(Some(&chat.thread_id()), points.clone()).await;
            for (position, point) in complete.threads.iter().zip(&points) {
                assert_eq!(
                    (position.recovered, &position.epoch, position.last_seq),
                    (true, &point.point.epoch, point.point.after),
                    "{point:?}"
                );
            }
            let after = threads.ask_in_each(&ada, &mut again).await;
            for (thread_id, run) in &after {
                assert_ne!(run.run_id(), before[thread_id].run_id());
            }
        })
        .await;
}
