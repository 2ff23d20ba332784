//! Connections that come and go.

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("STRESS");

/// Asks, and cuts and resumes the connection while the answer comes; the log must come whole over all connections.
async fn restless(ctx: &TestContext, nth: usize, cycles: usize) -> usize {
    let user = ctx.user(&format!("restless{nth}")).await;
    let mut chat = user.connect().await;
    let mut last = 0;
    for cycle in 0..cycles {
        let asked = chat.say("Hello").await;
        let run_id = chat.accepted(&asked).await.run_id;
        for _ in 0..cycle % 4 {
            last += 1;
            assert_eq!(chat.next_event().await.header.seq, last);
        }
        if cycle % 2 == 0 {
            chat.drop_connection().await;
        } else {
            chat.reset_connection().await;
        }
        let mut again = user.resume(&mut chat).await;
        // What had arrived before the cut counts as seen; the resume began after it.
        last = chat.positions()[&chat.thread_id()].1;
        let ended = chat.unclaimed().iter().filter_map(Frame::event).any(|event| {
            event.header.run_id == run_id
                && event.header.seq <= last
                && matches!(event.body, EventBody::AgentCompleted(_))
        });
        if !ended {
            let rest = again.until_completed(&run_id).await;
            for event in rest.events() {
                last += 1;
                assert_eq!(event.header.seq, last, "a gap or a repeat after cycle {cycle}");
            }
        }
        chat = again;
    }
    let calm = chat.ask("Hello").await;
    assert_eq!(calm.events()[0].header.seq, last + 1);
    cycles
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_in_the_middle_of_runs_lose_and_repeat_nothing() {
    TestContext::wire(case!("SEQ-3", "SEQ-5", "SEQ-1", "CON-6"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let cycles = join_all((0..10).map(|nth| restless(ctx, nth, 12))).await;
            assert_eq!(cycles.into_iter().sum::<usize>(), 120);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_connects_and_leaves_a_hundred_times_and_keeps_his_places() {
    TestContext::wire(case!("CON-6", "LIM-1", "HSK-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            for round in 0..100 {
                let mut chat = ada.connect().await;
                match round % 3 {
                    0 => {
                        assert_eq!(chat.close().await, Some(1000));
                    }
                    1 => chat.drop_connection().await,
                    _ => chat.reset_connection().await,
                }
            }
            let mut last = ada.connect().await;
            assert_eq!(last.ask("Hello").await.completed().status, RunStatus::Completed);
        })
        .await;
}
