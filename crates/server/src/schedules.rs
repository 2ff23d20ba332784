//! The queues and registries that many tasks share, under a schedule explorer: it decides at every lock which task goes
//! on, and repeats a scenario under very many decisions.
//!
//! Only locks are points of decision. That is enough here: nothing is shared but behind a lock, and [`tokio::sync::Notify`]
//! never blocks between its own steps. The last test shows that the explorer finds a race where there is one.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use kingsguard_protocol::{CloseCode, ThreadId};
use pretty_assertions::assert_eq;
use shuttle::future::{block_on, spawn};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::bridge::hub::{CatchUp, Hub};
use crate::bridge::{Outbox, OutboxReader, Outgoing, Overflow};
use crate::connection::Connections;
use crate::sync::Mutex;

/// Schedules by chance that each scenario goes through.
const RANDOM_SCHEDULES: usize = 300;
/// Schedules that put few but arbitrary preemptions into an otherwise undisturbed order; most races need very few.
const PCT_SCHEDULES: usize = 300;
/// How many preemptions those hold, and one more.
const PCT_DEPTH: usize = 3;

/// Goes through a scenario under all of these schedules.
fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    let scenario = Arc::new(scenario);
    let again = scenario.clone();
    shuttle::check_random(move || scenario(), RANDOM_SCHEDULES);
    shuttle::check_pct(move || again(), PCT_SCHEDULES, PCT_DEPTH);
}

fn frame(seq: u64) -> Utf8Bytes {
    Utf8Bytes::from(seq.to_string())
}

fn text(number: u64) -> Outgoing {
    Outgoing::Text(frame(number))
}

/// Everything that comes until the close frame or the bound.
async fn drain(mut reader: OutboxReader) -> (Vec<Outgoing>, Option<Overflow>) {
    let mut all = Vec::new();
    loop {
        if let Err(overflow) = reader.next_batch(&mut all).await {
            return (all, Some(overflow));
        }
        if let Some(Outgoing::Close(..)) = all.last() {
            return (all, None);
        }
    }
}

#[test]
fn a_queue_under_its_bound_brings_everything_once_and_each_sender_in_order() {
    explore(|| {
        let (outbox, reader) = Outbox::new(100, 1_000);
        let reading = spawn(drain(reader));
        let senders = [10, 20].map(|first| {
            let outbox = outbox.clone();
            spawn(async move {
                for number in first..first + 3 {
                    outbox.push_text(frame(number)).expect("there is room");
                }
            })
        });
        block_on(async move {
            for sender in senders {
                sender.await.expect("it ends");
            }
            outbox.close(CloseCode::Normal, "bye");
            let (mut all, overflow) = reading.await.expect("it ends");
            assert_eq!(all.pop(), Some(Outgoing::Close(CloseCode::Normal, "bye")));
            let of = |first: u64| (first..first + 3).map(text).collect::<Vec<_>>();
            let (low, high): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| of(10).contains(one));
            assert_eq!((low, high, overflow), (of(10), of(20), None));
        });
    });
}

#[test]
fn a_queue_past_its_bound_tells_its_reader_and_every_sender() {
    explore(|| {
        let (outbox, mut reader) = Outbox::new(2, 1_000);
        let senders = [10, 20].map(|first| {
            let outbox = outbox.clone();
            spawn(async move {
                (first..first + 2)
                    .map(|number| outbox.push_text(frame(number)))
                    .filter(Result::is_err)
                    .count()
            })
        });
        block_on(async move {
            let mut refused = 0;
            for sender in senders {
                refused += sender.await.expect("it ends");
            }
            // Four frames in two places: the third and the fourth are refused, and who reads is told so.
            assert_eq!(refused, 2);
            assert_eq!(reader.next_batch(&mut Vec::new()).await, Err(Overflow));
        });
    });
}

#[test]
fn who_waits_for_room_is_woken_by_reading_and_by_the_end_of_the_connection() {
    explore(|| {
        let (outbox, mut reader) = Outbox::new(2, 1_000);
        let waiting = spawn(async move {
            let mut pushed = 0;
            while pushed < 4 && outbox.has_room().await {
                outbox.push_text(frame(pushed)).expect("there is room");
                pushed += 1;
            }
            pushed
        });
        let reading = spawn(async move {
            let mut all = Vec::new();
            while all.len() < 2 {
                reader
                    .next_batch(&mut all)
                    .await
                    .expect("no more than there is room for");
            }
            all.len() as u64
            // Dropped here: the connection ends.
        });
        block_on(async move {
            let read = reading.await.expect("it ends");
            let pushed = waiting.await.expect("it ends");
            assert!((read..=4).contains(&pushed), "{pushed} pushed, {read} read");
        });
    });
}

/// What the bridge does for a resume, while events are committed, delivered and lost on their way.
#[test]
fn a_replay_and_live_events_meet_without_hole_or_repeat() {
    const COMMITTED: u64 = 2;
    const LAST: u64 = 5;
    explore(|| {
        let hub = Arc::new(Hub::default());
        let thread = ThreadId::from("thread_1");
        let log = Arc::new(Mutex::new(COMMITTED));
        let (outbox, reader) = Outbox::new(100, 1_000);
        // Another one keeps the feed from ending, and must see everything from where it joined.
        let (steady, steady_reader) = Outbox::new(100, 1_000);
        let id = hub.join(&thread, &steady);
        hub.seed(&thread, COMMITTED);
        assert_eq!(hub.catch_up(&thread, id, COMMITTED), CatchUp::Live);

        let writer = spawn({
            let (hub, log, thread) = (hub.clone(), log.clone(), thread.clone());
            async move {
                for seq in COMMITTED + 1..=LAST {
                    *log.lock().unwrap_or_else(PoisonError::into_inner) = seq;
                    // The fourth is lost on its way: the fifth shows that it is missing.
                    if seq != 4 && hub.deliver(&thread, seq, &frame(seq)) {
                        let position = hub.position(&thread).expect("it is followed");
                        hub.fill(&thread, (position + 1..=seq).map(|seq| (seq, frame(seq))));
                    }
                }
            }
        });
        let replay = spawn({
            let (hub, log, thread, outbox) = (hub.clone(), log.clone(), thread.clone(), outbox.clone());
            async move {
                let end = || *log.lock().unwrap_or_else(PoisonError::into_inner);
                let id = hub.join(&thread, &outbox);
                let read = end();
                if hub.seed(&thread, read) < read {
                    let position = hub.position(&thread).expect("it is followed");
                    hub.fill(&thread, (position + 1..=end()).map(|seq| (seq, frame(seq))));
                }
                let mut have = 0;
                while hub.catch_up(&thread, id, have) == CatchUp::ReadLog {
                    let page = (have + 1..=end()).take(2).map(|seq| (seq, frame(seq)));
                    hub.fill(&thread, page.clone());
                    for (seq, frame) in page {
                        outbox.push_text(frame).expect("there is room");
                        have = seq;
                    }
                }
            }
        });
        block_on(async move {
            writer.await.expect("it ends");
            replay.await.expect("it ends");
            for (outbox, reader, after) in [(outbox, reader, 0), (steady, steady_reader, COMMITTED)] {
                outbox.close(CloseCode::Normal, "bye");
                let (mut all, overflow) = drain(reader).await;
                all.pop();
                assert_eq!((all, overflow), ((after + 1..=LAST).map(text).collect(), None));
            }
        });
    });
}

#[test]
fn who_joins_and_leaves_while_all_are_told_is_counted_and_told_in_full() {
    explore(|| {
        let connections = Connections::new();
        let comings = ["a", "b"].map(|id| {
            let connections = connections.clone();
            spawn(async move {
                let (outbox, reader) = Outbox::new(10, 1_000);
                let registration = connections.register(&"ada".into(), &id.into(), &outbox);
                connections.take_notices(&"ada".into(), &id.into());
                outbox.close(CloseCode::Normal, "bye");
                drop(registration);
                drain(reader).await
            })
        });
        let telling = spawn({
            let connections = connections.clone();
            async move { connections.announce("shutdown".into()) }
        });
        block_on(async move {
            telling.await.expect("it ends");
            for coming in comings {
                let (told, overflow) = coming.await.expect("it ends");
                // Announced before it came, while it was there, or after it left; never twice.
                let announcements = told.iter().filter(|one| matches!(one, Outgoing::Text(_))).count();
                assert!(announcements <= 1 && overflow.is_none(), "{told:?}");
            }
            connections.all_left().await;
            assert_eq!(connections.count(), 0);
            let (late, reader) = Outbox::new(10, 1_000);
            let _registration = connections.register(&"ada".into(), &"late".into(), &late);
            late.close(CloseCode::Normal, "bye");
            assert_eq!(drain(reader).await.0.first(), Some(&Outgoing::Text("shutdown".into())));
        });
    });
}

/// A queue that looks at its bound under one lock and fills under another.
struct TwoLocks {
    waiting: Mutex<VecDeque<u64>>,
    bound: usize,
}

impl TwoLocks {
    fn push(&self, number: u64) -> bool {
        let lock = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = lock().len() < self.bound;
        if has_room {
            lock().push_back(number);
        }
        has_room
    }
}

#[test]
#[should_panic(expected = "the bound holds")]
fn the_explorer_finds_a_race_where_there_is_one() {
    explore(|| {
        let queue = Arc::new(TwoLocks {
            waiting: Mutex::default(),
            bound: 1,
        });
        let senders = [1, 2].map(|number| {
            let queue = queue.clone();
            spawn(async move { queue.push(number) })
        });
        block_on(async move {
            for sender in senders {
                sender.await.expect("it ends");
            }
            let waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
            assert!(waiting <= 1, "the bound holds");
        });
    });
}
