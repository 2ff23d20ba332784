//! Connections come and go; the thread's log stays.

use kingsguard_protocol::client::{GetThreadHistory, HandshakeAcknowledged};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer, log_of};

covers!("CONN", "BRG-2");

/// A thread's whole log as `get_thread_history` tells it, oldest first.
async fn history(chat: &mut Chat, thread_id: &ThreadId) -> Vec<(u64, String)> {
    let mut log = Vec::new();
    let mut before = None;
    loop {
        let ask = chat
            .send_to(
                thread_id,
                GetThreadHistory {
                    limit: Some(100),
                    before,
                },
            )
            .await;
        let ControlFrame::ThreadHistory(page) = chat.answer_to(&ask).await else {
            panic!("expected thread_history")
        };
        let mut events: Vec<(u64, String)> = page
            .events
            .iter()
            .map(|event| {
                let seq = serde_json::from_str::<Value>(event.get()).expect("an event is JSON")["seq"].as_u64();
                (seq.expect("an event has a seq"), event.get().to_owned())
            })
            .collect();
        before = events.first().map(|(seq, _)| *seq);
        events.append(&mut log);
        log = events;
        if !page.has_more {
            return log;
        }
    }
}

/// The events of `count` frames that come next.
async fn next_events(chat: &mut Chat, count: usize) -> Vec<(u64, String)> {
    let mut log = Vec::new();
    for _ in 0..count {
        let frame = chat.expect("event", |frame| frame.event().is_some()).await;
        let seq = frame.event().expect("just matched").header.seq;
        log.push((seq, frame.text().to_owned()));
    }
    log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_outlives_its_connection_and_its_end_is_found_by_resume_and_in_the_history() {
    TestContext::wire(case!("SEQ-5", "SEQ-3", "SEQ-2", "CON-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say(&ctx.long_run_prompt(2)).await;
            let run_id = chat.accepted(&asked).await.run_id;
            let last = chat
                .expect_event("a tool", |event| matches!(event.body, EventBody::ToolExecuting(_)))
                .await;
            chat.drop_connection().await;
            let mut again = ada.resume(&mut chat).await;
            let rest = again.until_completed(&run_id).await;
            assert_eq!(rest.completed().status, RunStatus::Completed);
            assert!(rest.events()[0].header.seq > last.header.seq, "nothing comes twice");

            let log = history(&mut again, &chat.thread_id()).await;
            let from = rest.events()[0].header.seq;
            let tail: Vec<_> = log.iter().filter(|(seq, _)| *seq >= from).cloned().collect();
            assert_eq!(tail, log_of(&rest), "the history has the same bytes");
            assert_eq!(log.first().map(|(seq, _)| *seq), Some(1));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_with_nobody_there_and_waits_in_the_history() {
    TestContext::wire(case!("SEQ-5", "MSG-5"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 52, 60).await;
            let mut chat = ada.connect().await;
            let asked = chat.say(SPEND_LESS).await;
            let accepted = chat.accepted(&asked).await;
            chat.reset_connection().await;
            let ended = ctx
                .eventually("the run's end", async || {
                    let told = ada.http().get(&format!("/api/runs/{}", accepted.run_id)).await.json();
                    if told["status"] == "completed" {
                        Ok(told)
                    } else {
                        Err(told.to_string())
                    }
                })
                .await;
            assert_eq!(ended["thread_id"], accepted.thread_id.as_str());
            let mut later = ada.connect().await;
            let log = history(&mut later, &accepted.thread_id).await;
            let end: Value = serde_json::from_str(&log.last().expect("there are events").1).expect("JSON");
            assert_eq!(end["type"], "agent_completed");
            assert_eq!(end["result"]["saving_estimate"], expected.saving_estimate(None));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_of_one_user_see_the_same_bytes() {
    TestContext::wire(case!("SEQ-6", "SEQ-2"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 53, 60).await;
            let mut phone = ada.connect().await;
            let mut desk = ada.open().await;
            desk.expect_established().await;
            desk.expect_offer().await;
            // The thread exists at the latest from its first use.
            let first = phone.ask("Hello").await;
            let first_events = first.events().len();
            desk.acknowledge(Some(&phone.thread_id()), Vec::new()).await;
            let complete = desk.expect_complete().await;
            assert_eq!(complete.threads[0].last_seq, first_events as u64);
            let run = phone.ask(SPEND_LESS).await;
            let same = desk.until_completed(run.run_id()).await;
            assert_eq!(log_of(&run), log_of(&same));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_from_any_place_brings_exactly_what_is_above_it_byte_for_byte() {
    TestContext::wire(case!("SEQ-2", "SEQ-3"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 54, 60).await;
            let mut chat = ada.connect().await;
            let mut log = log_of(&chat.ask(SPEND_LESS).await);
            log.extend(log_of(&chat.ask("What did I spend?").await));
            let thread_id = chat.thread_id();
            let epoch = chat.positions()[&thread_id].0.clone();
            let last = log.len() as u64;
            for after in [0, 1, last / 2, last - 1, last] {
                let mut again = ada.open().await;
                let resume = vec![ThreadResume {
                    thread_id: thread_id.clone(),
                    point: ResumePoint {
                        epoch: epoch.clone(),
                        after,
                    },
                }];
                let complete = again.handshake_with(Some(&thread_id), resume).await;
                let position = &complete.threads[0];
                assert_eq!(
                    (
                        position.recovered,
                        position.oldest_seq,
                        position.last_seq,
                        &position.epoch
                    ),
                    (true, 1, last, &epoch)
                );
                let above: Vec<_> = log.iter().filter(|(seq, _)| *seq > after).cloned().collect();
                assert_eq!(next_events(&mut again, above.len()).await, above, "after {after}");
                again.close().await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_in_the_middle_of_a_run_hands_over_to_live_without_gap_or_repeat() {
    TestContext::wire(case!("SEQ-3", "SEQ-6", "SEQ-1"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 55, 150).await;
            let mut steady = ada.connect().await;
            let thread_id = steady.thread_id();
            steady.ask("Hello").await;
            let epoch = steady.positions()[&thread_id].0.clone();
            let mut asked = Vec::new();
            for _ in 0..4 {
                asked.push(steady.say(SPEND_LESS).await);
            }
            let mut comers = Vec::new();
            for _ in 0..5 {
                let mut comer = ada.open().await;
                let resume = vec![ThreadResume {
                    thread_id: thread_id.clone(),
                    point: ResumePoint {
                        epoch: epoch.clone(),
                        after: 0,
                    },
                }];
                comer.handshake_with(Some(&thread_id), resume).await;
                comers.push(comer);
            }
            let mut last = 0;
            for message_id in &asked {
                let run_id = steady.accepted(message_id).await.run_id;
                let run = steady.until_completed(&run_id).await;
                last = run.events().last().expect("it has events").header.seq;
            }
            let whole = history(&mut steady, &thread_id).await;
            assert_eq!(whole.len() as u64, last);
            for comer in &mut comers {
                let length = usize::try_from(last).expect("few");
                assert_eq!(next_events(comer, length).await, whole);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_epoch_or_a_place_above_the_end_is_not_recovered_and_follows_live() {
    TestContext::wire(case!("SEQ-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let last = chat.ask("Hello").await.events().len() as u64;
            let thread_id = chat.thread_id();
            let epoch = chat.positions()[&thread_id].0.clone();
            let points = [
                ResumePoint {
                    epoch: kingsguard_protocol::Epoch::from("no-such-epoch"),
                    after: 1,
                },
                ResumePoint {
                    epoch: epoch.clone(),
                    after: last + 1_000,
                },
            ];
            for point in points {
                let mut again = ada.open().await;
                again.expect_established().await;
                again.expect_offer().await;
                again
                    .send_to(
                        &thread_id,
                        HandshakeAcknowledged {
                            resume: vec![ThreadResume {
                                thread_id: thread_id.clone(),
                                point,
                            }],
                        },
                    )
                    .await;
                let complete = again.expect_complete().await;
                let position = &complete.threads[0];
                assert_eq!(
                    (position.recovered, position.oldest_seq, &position.epoch),
                    (false, 1, &epoch),
                    "never a silent gap"
                );
                let run = chat.ask("Hello").await;
                let live = again.until_completed(run.run_id()).await;
                assert_eq!(log_of(&run), log_of(&live));
                again.close().await;
            }
        })
        .await;
}
