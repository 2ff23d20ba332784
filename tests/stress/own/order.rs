//! First said, first answered: many connections that each say much at once, in threads of their own and in one.

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::counters::{by_label, events_received};
use pretty_assertions::assert_eq;

covers!("BRG-3");

/// Connections that speak at once.
const SENDERS: usize = 25;
/// What each says before it reads an answer.
const MESSAGES: usize = 40;
/// The same, where all speak in one thread.
const MESSAGES_IN_ONE_THREAD: usize = 4;

/// Its sequence number and bytes.
type Logged = (u64, String);

/// Says `count` things, waits for no answer, and claims that they are accepted in that order.
async fn say(chat: &mut Chat, nth: usize, count: usize) -> Vec<MessageId> {
    let mut said = Vec::new();
    for round in 0..count {
        said.push(chat.say(&format!("Hello number {round} of {nth}")).await);
    }
    for (place, message_id) in said.iter().enumerate() {
        let frame = chat.expect("message_received", |frame| {
            matches!(frame.control(), Some(ControlFrame::MessageReceived(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::MessageReceived(accepted)) => {
                assert_eq!(accepted.message_id, *message_id, "answer {place} to {nth}");
            }
            other => unreachable!("just matched {other:?}"),
        }
    }
    said
}

/// Takes whole runs, one after the other: gives the cause of each, and the log.
async fn runs(chat: &mut Chat, count: usize) -> (Vec<MessageId>, Vec<Logged>) {
    let (mut causes, mut log): (Vec<MessageId>, Vec<Logged>) = (Vec::new(), Vec::new());
    while causes.len() < count {
        let mut cause = None;
        loop {
            let frame = chat.expect("event", |frame| frame.event().is_some()).await;
            let event = frame.event().expect("just matched");
            log.push((event.header.seq, frame.text().to_owned()));
            assert_eq!(event.header.seq, log.len() as u64, "a hole or a repeat");
            let cause = cause.get_or_insert_with(|| event.header.correlation_id.clone());
            assert_eq!(
                event.header.correlation_id, *cause,
                "runs of one thread follow one another"
            );
            if matches!(event.body, EventBody::AgentCompleted(_)) {
                break;
            }
        }
        causes.extend(cause);
    }
    (causes, log)
}

fn with_room_to_speak() -> kingsguard_testkit::context::Builder {
    TestContext::own(case!("SEQ-1", "SEQ-6", "ORD-4", "ORD-6", "MSG-1", "OPS-2"))
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 1_000_000)
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 1_000_000)
        .with_setting("KINGSGUARD_CONNECTIONS_PER_USER_MAX", SENDERS)
        .with_setting("KINGSGUARD_RUNS_QUEUED_PER_THREAD_MAX", SENDERS * MESSAGES)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_five_connections_with_forty_messages_each_are_answered_in_their_order_and_counted_exactly() {
    with_room_to_speak()
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let began = tokio::time::Instant::now();
            let events = join_all((0..SENDERS).map(async |nth| {
                let mut chat = ctx.user(&format!("sender{nth}")).await.connect().await;
                let said = say(&mut chat, nth, MESSAGES).await;
                let (answered, log) = runs(&mut chat, MESSAGES).await;
                assert_eq!(answered, said, "in the order in which {nth} said them");
                log.len() as u64
            }))
            .await;
            let events: u64 = events.into_iter().sum();
            ctx.figure(
                "events_per_second_25_senders",
                events as f64 / began.elapsed().as_secs_f64(),
                "events/s",
            );

            let metrics = ctx.http().get("/metrics").await.expect_status(200).text();
            let sent = by_label(&metrics, "kingsguard_events_sent_total", "type");
            assert_eq!(sent, events_received(ctx));
            assert_eq!(sent, by_label(&metrics, "kingsguard_events_stored_total", "type"));
            assert_eq!(sent.values().sum::<u64>(), events);
            assert_eq!(sent["agent_completed"], (SENDERS * MESSAGES) as u64);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_five_connections_that_speak_in_one_thread_see_one_log_with_each_in_its_own_order() {
    with_room_to_speak()
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let ada = ctx.user("ada").await;
            let thread_id = ada.create_thread("one for all").await;
            let mut chats = Vec::new();
            for _ in 0..SENDERS {
                let mut chat = ada.open().await;
                chat.handshake_with(Some(&thread_id), Vec::new()).await;
                chats.push(chat);
            }
            let seen = join_all(chats.iter_mut().enumerate().map(async |(nth, chat)| {
                let said = say(chat, nth, MESSAGES_IN_ONE_THREAD).await;
                let (answered, log) = runs(chat, SENDERS * MESSAGES_IN_ONE_THREAD).await;
                let own: Vec<MessageId> = answered.iter().filter(|cause| said.contains(cause)).cloned().collect();
                assert_eq!(own, said, "in the order in which {nth} said them");
                (answered, log)
            }))
            .await;
            for (nth, one) in seen.iter().enumerate() {
                assert!(*one == seen[0], "connection {nth} saw another log");
            }
        })
        .await;
}
