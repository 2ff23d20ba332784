//! A thousand threads that talk at once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::threads::ManyThreads;
use pretty_assertions::assert_eq;

covers!("BRG-1");

const USERS: usize = 50;
/// What one user may say at once, as the contract has it (LIM-1).
const THREADS_EACH: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_a_thousand_threads_gets_the_events_of_its_own_run_and_no_other() {
    TestContext::wire(case!("SEQ-1", "ORD-6", "ISO-1", "MSG-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let began = tokio::time::Instant::now();
            let runs = join_all((0..USERS).map(async |nth| {
                let user = ctx.user(&format!("user{nth}")).await;
                let mut threads = ManyThreads::create(&user, THREADS_EACH).await;
                let mut chat = user.connect().await;
                threads.ask_in_each(&user, &mut chat).await
            }))
            .await;
            let threads: BTreeSet<&ThreadId> = runs.iter().flat_map(|runs| runs.keys()).collect();
            let ids: BTreeSet<&RunId> = runs
                .iter()
                .flat_map(|runs| runs.values())
                .map(RunView::run_id)
                .collect();
            assert_eq!((threads.len(), ids.len()), (1_000, 1_000));
            ctx.figure("thousand_threads_s", began.elapsed().as_secs_f64(), "s");
        })
        .await;
}
