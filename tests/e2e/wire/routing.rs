//! Every event reaches the thread of its run, and the connections that follow that thread, however many there are.

use futures_util::future::join_all;
use kingsguard_protocol::client::SwitchThread;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::threads::ManyThreads;
use pretty_assertions::assert_eq;

use crate::people::log_of;

covers!("BRG-1");

const USERS: usize = 10;
/// Below `messages_burst_max`, so that one user can speak in all of them at once.
const THREADS_EACH: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_sixty_threads_gets_the_events_of_its_own_run_and_no_other() {
    TestContext::wire(case!("SEQ-1", "ORD-6", "ISO-1", "MSG-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let runs = join_all((0..USERS).map(async |nth| {
                let user = ctx.user(&format!("user{nth}")).await;
                let mut threads = ManyThreads::create(&user, THREADS_EACH).await;
                let mut chat = user.connect().await;
                threads.ask_in_each(&user, &mut chat).await
            }))
            .await;
            let threads: std::collections::BTreeSet<&ThreadId> = runs.iter().flat_map(|runs| runs.keys()).collect();
            assert_eq!(threads.len(), USERS * THREADS_EACH);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_receives_the_threads_that_it_follows_and_no_other() {
    TestContext::wire(case!("SEQ-6", "SEQ-2", "SEQ-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let ada = ctx.user("ada").await;
            let mut threads = ManyThreads::create(&ada, 8).await;
            let (mut speaker, mut watcher) = (ada.connect().await, ada.connect().await);
            let watched: Vec<ThreadId> = threads.ids().step_by(2).cloned().collect();
            for thread_id in &watched {
                let switch = watcher.send_to(thread_id, SwitchThread { resume: None }).await;
                watcher.answer_to(&switch).await;
            }
            let mut runs = threads.ask_in_each(&ada, &mut speaker).await;
            for thread_id in &watched {
                let spoken = runs.remove(thread_id).expect("asked in each");
                let seen = watcher.until_completed(spoken.run_id()).await;
                assert_eq!(log_of(&seen), log_of(&spoken));
            }
            // A run of its own comes after all others ended: what had to come came before it.
            watcher.ask("Hello").await;
            let stray: Vec<&Frame> = watcher
                .unclaimed()
                .iter()
                .filter(|frame| frame.event().is_some())
                .collect();
            assert!(stray.is_empty(), "{stray:?}");
            assert_eq!(runs.len(), 4, "as many were not watched");
        })
        .await;
}
