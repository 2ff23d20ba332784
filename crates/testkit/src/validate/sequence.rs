//! SEQ: a connection sees each followed log without hole or repeat, and every delivery of an event is the same.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use super::Judgement;
use super::log::{ThreadLog, thread_logs};
use super::reading::{ConnectionReading, Frame, Place, Position, Reading};

/// How long a connection may lag behind another one that follows the same thread before it is said to have missed
/// something. The contract has no bound; it is that of a resume (TIM-5).
const LAG_US: u64 = 3_000_000;

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    let is_placed = ["seq", "thread_id"]
        .iter()
        .all(|field| !reading.lacks.fields.contains_key(*field));
    if !is_placed {
        return;
    }
    for connection in &reading.connections {
        let mut follower = Follower {
            connection,
            judgement,
            threads: BTreeMap::new(),
            asked: Vec::new(),
        };
        follower.judge(reading);
    }
    judge_copies(reading, judgement);
    judge_followers(reading, judgement);
}

/// Connections that are open and have not yet seen what another one saw.
pub(super) fn under_way(reading: &Reading<'_>) -> Option<String> {
    if reading.is_unnumbered() {
        return None;
    }
    laggards(reading)
        .into_iter()
        .find(|laggard| laggard.is_open)
        .map(|laggard| {
            format!(
                "connection {} has seen {} up to {} of {}",
                laggard.connection, laggard.thread, laggard.has, laggard.last.0
            )
        })
}

/// What a connection must see next of a thread.
struct Expectation {
    next: u64,
    /// Also right: a later answer to the same thread counts from its own position.
    or: Option<u64>,
    clause: &'static str,
    told: Place,
    /// What a granted resume owes: everything up to here.
    owed: Option<(u64, u64)>,
}

struct Follower<'a, 'j> {
    connection: &'a ConnectionReading<'a>,
    judgement: &'j mut Judgement,
    threads: BTreeMap<&'a str, Expectation>,
    asked: Vec<(&'a str, &'a str, u64)>,
}

impl<'a> Follower<'a, '_> {
    fn judge(&mut self, reading: &Reading<'_>) {
        let mut followed: BTreeSet<&str> = BTreeSet::new();
        for frame in &self.connection.frames {
            if !frame.is_received() {
                self.asked.extend(frame.resume_points());
                followed.extend(followed_by_sending(reading, frame));
                continue;
            }
            for position in frame.positions() {
                followed.insert(position.thread);
                self.stand_at(frame, &position);
            }
            if frame.frame_type() == "message_received" {
                followed.extend(frame.str("thread_id"));
            }
            if let Some(event) = frame.event() {
                if !followed.contains(event.thread) && reading.lacks.handshake.is_none() {
                    let came = format!("event {} of {}", event.seq, event.thread);
                    self.judgement
                        .blame("SEQ-6", "events of followed threads only", came, [frame.place]);
                }
                self.see(event.thread, event.seq, frame);
            }
        }
        self.judge_debts(reading);
    }

    fn stand_at(&mut self, frame: &Frame<'_>, position: &Position<'a>) {
        let asked = self.asked.iter().rposition(|(thread, _, _)| *thread == position.thread);
        let asked = asked.map(|index| self.asked.remove(index));
        let place = frame.place;
        let expectation = match (position.recovered, asked) {
            (true, Some((_, epoch, after))) => {
                if epoch != position.epoch {
                    let came = format!("it is granted for {}", position.epoch);
                    self.judgement
                        .blame("SEQ-3", format!("no resume of epoch {epoch} in another"), came, [place]);
                }
                if after > position.last_seq {
                    let came = format!("it is granted after {after} of {}", position.last_seq);
                    self.judgement
                        .blame("SEQ-3", "no resume from beyond the log's end", came, [place]);
                }
                let owed = (position.last_seq > after).then_some((position.last_seq, frame.at_us()));
                Expectation {
                    next: after + 1,
                    or: None,
                    clause: "SEQ-3",
                    told: place,
                    owed,
                }
            }
            (true, None) => {
                let came = format!("{} is said to be recovered", position.thread);
                self.judgement.blame(
                    "HSK-2",
                    "`recovered` only for a resume that was asked for",
                    came,
                    [place],
                );
                return;
            }
            (false, _) => {
                // Whoever followed already goes on where he was; the answer may count from its own position.
                let known = self.threads.get(position.thread).map(|known| known.next);
                let next = known.unwrap_or(position.last_seq + 1);
                Expectation {
                    next,
                    or: Some(position.last_seq + 1),
                    clause: "SEQ-1",
                    told: place,
                    owed: None,
                }
            }
        };
        self.threads.insert(position.thread, expectation);
    }

    fn see(&mut self, thread: &'a str, seq: u64, frame: &Frame<'_>) {
        let Some(expectation) = self.threads.get_mut(thread) else {
            let told = frame.place;
            self.threads.insert(
                thread,
                Expectation {
                    next: seq + 1,
                    or: None,
                    clause: "SEQ-1",
                    told,
                    owed: None,
                },
            );
            return;
        };
        if seq != expectation.next && Some(seq) != expectation.or {
            let what = if seq < expectation.next {
                "again"
            } else {
                "after a hole"
            };
            self.judgement.blame(
                expectation.clause,
                format!("seq {} of {thread}", expectation.next),
                format!("{seq} came, {what}"),
                [expectation.told, frame.place],
            );
        }
        expectation.told = frame.place;
        expectation.clause = "SEQ-1";
        expectation.or = None;
        expectation.next = expectation.next.max(seq + 1);
        if expectation.owed.is_some_and(|(last, _)| seq >= last) {
            expectation.owed = None;
        }
    }

    /// A granted resume whose events did not all come.
    fn judge_debts(&mut self, reading: &Reading<'_>) {
        for (thread, expectation) in &self.threads {
            let Some((last, since_us)) = expectation.owed else {
                continue;
            };
            let until_us = self.connection.until_us;
            if until_us.saturating_sub(since_us) > LAG_US && !reading.faulty_between(since_us, until_us) {
                let came = format!("{} is the next one of {thread} that is still missing", expectation.next);
                self.judgement
                    .blame("SEQ-3", format!("every event up to {last}"), came, [expectation.told]);
            } else {
                self.judgement.cannot_judge(
                    "SEQ-3",
                    format!("the connection ended while {thread} was being resumed"),
                );
            }
        }
    }
}

/// Threads that a connection follows because of what it sent, whatever the answer.
fn followed_by_sending<'a>(reading: &'a Reading<'_>, frame: &'a Frame<'_>) -> Vec<&'a str> {
    if frame.frame_type() != "stop_agent" {
        return Vec::new();
    }
    let run = frame
        .sent_field("run_id")
        .and_then(serde_json::Value::as_str)
        .unwrap_or_default();
    reading
        .events()
        .filter(|event| event.run == run)
        .map(|event| event.thread)
        .take(1)
        .collect()
}

/// SEQ-2: the same event is the same bytes, wherever and whenever it comes; an id names one event for good.
fn judge_copies(reading: &Reading<'_>, judgement: &mut Judgement) {
    let mut by_id: BTreeMap<String, (String, Place)> = BTreeMap::new();
    let mut by_seq: BTreeMap<(String, String, u64), (String, Place)> = BTreeMap::new();
    for connection in &reading.connections {
        let mut epochs: BTreeMap<&str, &str> = BTreeMap::new();
        for frame in connection.texts() {
            for position in frame.positions() {
                epochs.insert(position.thread, position.epoch);
            }
            for copy in copies(frame) {
                let Ok(json) = serde_json::from_str::<serde_json::Value>(copy) else {
                    continue;
                };
                let text = |field: &str| json.get(field).and_then(serde_json::Value::as_str);
                let (Some(id), Some(thread), Some(seq)) = (
                    text("event_id"),
                    text("thread_id"),
                    json.get("seq").and_then(serde_json::Value::as_u64),
                ) else {
                    continue;
                };
                let mut changed = None;
                let (first, place) = by_id
                    .entry(id.to_owned())
                    .or_insert_with(|| (copy.to_owned(), frame.place));
                if first != copy {
                    changed = Some((format!("event {id} came differently"), *place));
                } else if let Some(epoch) = epochs.get(thread) {
                    let key = (thread.to_owned(), (*epoch).to_owned(), seq);
                    let (first, place) = by_seq.entry(key).or_insert_with(|| (copy.to_owned(), frame.place));
                    if first != copy {
                        changed = Some((format!("seq {seq} of {thread} is another event"), *place));
                    }
                }
                if let Some((came, place)) = changed {
                    let expected = "every delivery of an event byte-identical to the first";
                    judgement.blame("SEQ-2", expected, came, [place, frame.place]);
                }
            }
        }
    }
}

/// The events that a frame holds, byte for byte: itself, or those of a history.
fn copies<'a>(frame: &'a Frame<'_>) -> Vec<&'a str> {
    #[derive(serde::Deserialize)]
    struct History<'a> {
        #[serde(borrow)]
        events: Vec<&'a RawValue>,
    }
    if frame.is_event() {
        return vec![frame.text()];
    }
    if frame.frame_type() != "thread_history" {
        return Vec::new();
    }
    serde_json::from_str::<History<'_>>(frame.text())
        .map(|history| history.events.into_iter().map(RawValue::get).collect())
        .unwrap_or_default()
}

/// A connection that has not seen the newest event which another one saw.
struct Laggard<'a> {
    connection: usize,
    thread: &'a str,
    has: u64,
    /// The newest event elsewhere: its seq, when and where it arrived.
    last: (u64, u64, Place),
    is_open: bool,
    waited_us: u64,
}

fn judge_followers(reading: &Reading<'_>, judgement: &mut Judgement) {
    for laggard in laggards(reading) {
        let since_us = laggard.last.1;
        if laggard.waited_us <= LAG_US {
            continue;
        }
        if reading.faulty_between(since_us, since_us + laggard.waited_us) {
            let reason = format!(
                "a fault of the test acted while connection {} waited",
                laggard.connection
            );
            judgement.cannot_judge("SEQ-6", reason);
        } else {
            judgement.blame(
                "SEQ-6",
                format!(
                    "event {} of {} on every connection that follows it",
                    laggard.last.0, laggard.thread
                ),
                format!("connection {} saw it up to {} only", laggard.connection, laggard.has),
                [laggard.last.2],
            );
        }
    }
}

/// After which event a connection asked to go on with a thread, by the newest request before `at_us`.
fn asked_after(connection: &ConnectionReading<'_>, thread: &str, at_us: u64) -> Option<u64> {
    connection
        .sent()
        .filter(|frame| frame.at_us() <= at_us)
        .flat_map(Frame::resume_points)
        .filter(|(resumed, _, _)| *resumed == thread)
        .map(|(_, _, after)| after)
        .last()
}

fn laggards<'a>(reading: &'a Reading<'a>) -> Vec<Laggard<'a>> {
    let mut newest: BTreeMap<&str, (u64, u64, Place)> = BTreeMap::new();
    for ((thread, _), log) in &thread_logs(reading) {
        let log: &ThreadLog<'_> = log;
        if let Some((seq, event)) = log.last_key_value() {
            newest.insert(thread, (*seq, event.frame.at_us(), event.place()));
        }
    }
    let mut laggards = Vec::new();
    for (index, connection) in reading.connections.iter().enumerate() {
        let mut has: BTreeMap<&str, u64> = BTreeMap::new();
        for frame in connection.texts() {
            for position in frame.positions() {
                // What lies before where it goes on is not owed.
                let seen = if position.recovered {
                    let asked = asked_after(connection, position.thread, frame.at_us());
                    asked.unwrap_or(position.oldest_seq.saturating_sub(1))
                } else {
                    position.last_seq
                };
                has.insert(position.thread, seen);
            }
            if let Some(event) = frame.event() {
                has.insert(event.thread, event.seq);
            }
        }
        for (thread, has) in has {
            let Some(last) = newest.get(thread).filter(|last| last.0 > has) else {
                continue;
            };
            laggards.push(Laggard {
                connection: index,
                thread,
                has,
                last: *last,
                is_open: connection.is_open_at_end(),
                waited_us: connection.until_us.saturating_sub(last.1),
            });
        }
    }
    laggards
}
