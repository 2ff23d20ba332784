//! Who follows which thread on this node, and how far each log was delivered here.
//!
//! A feed exists while somebody follows its thread. It delivers a log without a hole: an event that is not the next one
//! waits until the missing ones were read from Postgres. So it does not matter whether an event came from this node's
//! writer or from another node, late, twice or not at all: the log decides.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::PoisonError;

use kingsguard_protocol::{EventBody, ThreadId};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::outbox::{Outbox, Overflow};
use super::writer::StoredEvents;
use crate::sabotage::{self, Fault};
use crate::sync::{Mutex, MutexGuard};
use crate::telemetry;

/// Frames that a feed keeps while a follower catches up, so that it can reach a fast log without asking Postgres again.
const RECENT_MAX: usize = 256;
/// Events that may wait for missing ones before them; beyond it the oldest gap is read from Postgres anyway.
const PENDING_MAX: usize = 1024;

/// Names one follower of one feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerId(u64);

#[derive(Debug)]
struct Follower {
    id: FollowerId,
    outbox: Outbox,
    /// A live follower gets events as they are delivered; one that catches up reads them by itself.
    live: bool,
}

#[derive(Debug, Default)]
struct Feed {
    /// The newest event delivered here; `None` until the log's end was read.
    position: Option<u64>,
    followers: Vec<Follower>,
    pending: BTreeMap<u64, Utf8Bytes>,
    recent: VecDeque<(u64, Utf8Bytes)>,
}

/// What a follower that catches up does next.
#[derive(Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// It is live now; these frames, already pushed, were the last it lacked.
    Live,
    /// Read the log from Postgres above where it stands.
    ReadLog,
    /// The follower was removed or replaced.
    Gone,
}

#[derive(Debug, Default)]
struct Feeds {
    by_thread: HashMap<ThreadId, Feed>,
    next_id: u64,
}

/// All feeds of this node.
#[derive(Debug, Default)]
pub struct Hub {
    feeds: Mutex<Feeds>,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, Feeds> {
        // Every change below leaves the feeds consistent before anything can panic.
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a follower that catches up from where it will be told; an earlier one of the same connection is replaced.
    /// From now on no event of the thread passes this node unnoticed.
    pub fn join(&self, thread: &ThreadId, outbox: &Outbox) -> FollowerId {
        let mut feeds = self.lock();
        feeds.next_id += 1;
        let id = FollowerId(feeds.next_id);
        let feed = feeds.by_thread.entry(thread.clone()).or_default();
        feed.followers.retain(|follower| !follower.outbox.is_same(outbox));
        feed.followers.push(Follower {
            id,
            outbox: outbox.clone(),
            live: false,
        });
        id
    }

    /// Whether a connection follows the thread: live, or catching up and live after that. Who catches up must not be joined
    /// again to follow live: what the replay has not brought yet would be lost (SEQ-1).
    #[must_use]
    pub fn is_followed_by(&self, thread: &ThreadId, outbox: &Outbox) -> bool {
        self.lock()
            .by_thread
            .get(thread)
            .is_some_and(|feed| feed.followers.iter().any(|f| f.outbox.is_same(outbox)))
    }

    /// Tells a feed where its log ended when it was read; a feed that knows better stays. Returns the feed's position.
    pub fn seed(&self, thread: &ThreadId, last_seq: u64) -> u64 {
        let mut feeds = self.lock();
        let Some(feed) = feeds.by_thread.get_mut(thread) else {
            return last_seq;
        };
        if feed.position.is_none() {
            feed.position = Some(last_seq);
            feed.flush();
        }
        feed.position.unwrap_or(last_seq)
    }

    /// Delivers an event. Returns `true` when events before it are missing here: then read them and call [`Hub::fill`].
    pub fn deliver(&self, thread: &ThreadId, seq: u64, frame: &Utf8Bytes) -> bool {
        let mut feeds = self.lock();
        let Some(feed) = feeds.by_thread.get_mut(thread) else {
            return false;
        };
        feed.accept(seq, frame)
    }

    /// Delivers what one commit made durable; gives the threads of which events are missing here, as
    /// [`Hub::deliver`] does.
    pub fn deliver_all(&self, batch: &[StoredEvents]) -> Vec<ThreadId> {
        let mut gaps = Vec::new();
        let mut feeds = self.lock();
        for StoredEvents {
            thread_id,
            first_seq,
            frames,
        } in batch
        {
            let Some(feed) = feeds.by_thread.get_mut(thread_id) else {
                continue;
            };
            if feed.accept_all(*first_seq, frames) {
                gaps.push(thread_id.clone());
            }
        }
        gaps
    }

    /// The newest event that a feed delivered; `None` when nobody follows.
    #[must_use]
    pub fn position(&self, thread: &ThreadId) -> Option<u64> {
        let feeds = self.lock();
        feeds.by_thread.get(thread).and_then(|feed| feed.position)
    }

    /// Delivers events read from the log, oldest first.
    pub fn fill(&self, thread: &ThreadId, events: impl IntoIterator<Item = (u64, Utf8Bytes)>) {
        let mut feeds = self.lock();
        let Some(feed) = feeds.by_thread.get_mut(thread) else {
            return;
        };
        for (seq, frame) in events {
            feed.accept(seq, &frame);
        }
    }

    /// Makes a follower that has everything up to `have` live, if what it lacks is at hand; pushes that first.
    pub fn catch_up(&self, thread: &ThreadId, id: FollowerId, have: u64) -> CatchUp {
        let mut feeds = self.lock();
        let Some(feed) = feeds.by_thread.get_mut(thread) else {
            return CatchUp::Gone;
        };
        let Some(position) = feed.position else {
            return CatchUp::ReadLog;
        };
        let Some(follower) = feed.followers.iter_mut().find(|follower| follower.id == id) else {
            return CatchUp::Gone;
        };
        let lacks = position != have;
        if lacks && feed.recent.front().is_none_or(|(oldest, _)| *oldest > have + 1) {
            return CatchUp::ReadLog;
        }
        for (_, frame) in feed.recent.iter().filter(|(seq, _)| *seq > have) {
            if replay(&follower.outbox, frame.clone()).is_err() {
                return CatchUp::Gone;
            }
        }
        follower.live = true;
        if feed.followers.iter().all(|follower| follower.live) {
            feed.recent = VecDeque::new();
        }
        CatchUp::Live
    }

    /// Removes one follower.
    pub fn leave(&self, thread: &ThreadId, id: FollowerId) {
        let mut feeds = self.lock();
        if let Some(feed) = feeds.by_thread.get_mut(thread) {
            feed.followers.retain(|follower| follower.id != id);
            if feed.followers.is_empty() {
                feeds.by_thread.remove(thread);
            }
        }
    }

    /// Removes a connection from the feeds of these threads.
    pub fn leave_all<'a>(&self, threads: impl IntoIterator<Item = &'a ThreadId>, outbox: &Outbox) {
        let mut feeds = self.lock();
        for thread in threads {
            if let Some(feed) = feeds.by_thread.get_mut(thread) {
                feed.followers.retain(|follower| !follower.outbox.is_same(outbox));
                if feed.followers.is_empty() {
                    feeds.by_thread.remove(thread);
                }
            }
        }
    }

    /// Ends the feed of a thread that is no more.
    pub fn remove(&self, thread: &ThreadId) {
        self.lock().by_thread.remove(thread);
    }

    /// Threads that somebody follows here.
    #[must_use]
    pub fn threads(&self) -> Vec<ThreadId> {
        self.lock().by_thread.keys().cloned().collect()
    }
}

impl Feed {
    /// Takes an event; `true` when events before it are missing.
    fn accept(&mut self, seq: u64, frame: &Utf8Bytes) -> bool {
        match self.position {
            Some(position) if seq <= position => false,
            Some(position) if seq == position + 1 => {
                self.push(seq, std::slice::from_ref(frame));
                self.flush();
                !self.pending.is_empty()
            }
            _ => {
                if self.pending.len() < PENDING_MAX {
                    self.pending.insert(seq, frame.clone());
                }
                self.position.is_some()
            }
        }
    }

    /// Takes events that follow one another; `true` when events before them are missing.
    fn accept_all(&mut self, first_seq: u64, frames: &[Utf8Bytes]) -> bool {
        if self.position == Some(first_seq - 1) && self.pending.is_empty() {
            self.push(first_seq, frames);
            return false;
        }
        let mut lacks = false;
        for (seq, frame) in (first_seq..).zip(frames) {
            lacks = self.accept(seq, frame);
        }
        lacks
    }

    /// Delivers what waited and is next now.
    fn flush(&mut self) {
        let Some(position) = self.position else { return };
        self.pending = self.pending.split_off(&(position + 1));
        while let Some(entry) = self.pending.first_entry()
            && Some(*entry.key()) == self.position.map(|position| position + 1)
        {
            let (seq, frame) = entry.remove_entry();
            self.push(seq, &[frame]);
        }
    }

    /// Delivers the next events, one behind the other.
    fn push(&mut self, first_seq: u64, frames: &[Utf8Bytes]) {
        let end = first_seq + frames.len() as u64;
        self.position = Some(end - 1);
        if sabotage::planted(Fault::DropAfterCommit) && (first_seq..end).contains(&sabotage::DROPPED_SEQ) {
            let (before, from) = frames.split_at(usize::try_from(sabotage::DROPPED_SEQ - first_seq).unwrap_or(0));
            self.send(first_seq, before);
            self.send(sabotage::DROPPED_SEQ + 1, from.get(1..).unwrap_or_default());
        } else {
            self.send(first_seq, frames);
        }
    }

    fn send(&mut self, first_seq: u64, frames: &[Utf8Bytes]) {
        // A slow reader is closed by its own queue; here it is only let go, so that it delays no one (SEQ-7).
        let mut receivers = 0;
        self.followers.retain(|follower| {
            let kept = !follower.live || follower.outbox.push_texts(frames).is_ok();
            receivers += u64::from(kept && follower.live);
            kept
        });
        if receivers > 0 {
            for alike in frames.chunk_by(|one, next| event_type_of(one) == event_type_of(next)) {
                telemetry::events_sent(event_type_of(&alike[0]), receivers * alike.len() as u64);
            }
        }
        if self.followers.iter().any(|follower| !follower.live) {
            self.recent.extend((first_seq..).zip(frames.iter().cloned()));
            self.recent.drain(..self.recent.len().saturating_sub(RECENT_MAX));
        } else if !self.recent.is_empty() {
            // Who caught up left before he was live. What is kept must reach to the newest event without a hole.
            self.recent = VecDeque::new();
        }
    }
}

/// Queues an event for one who lacks it, and counts it: a replayed event is sent like any other (OPS-2).
///
/// # Errors
/// The queue is at its bound.
pub fn replay(outbox: &Outbox, frame: Utf8Bytes) -> Result<(), Overflow> {
    let event_type = event_type_of(&frame);
    outbox.push_text(frame)?;
    telemetry::events_sent(event_type, 1);
    Ok(())
}

/// The type of a frame, which every frame of this backend begins with.
fn event_type_of(frame: &str) -> &'static str {
    let named = frame
        .strip_prefix(r#"{"type":""#)
        .and_then(|rest| rest.split('"').next());
    EventBody::TYPES
        .iter()
        .find(|event_type| Some(**event_type) == named)
        .copied()
        .unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::super::outbox::{OutboxReader, Outgoing};
    use super::*;

    async fn received(reader: &mut OutboxReader) -> Vec<String> {
        let mut batch = Vec::new();
        reader.next_batch(&mut batch).await.expect("the queue is large enough");
        batch
            .into_iter()
            .map(|outgoing| match outgoing {
                Outgoing::Text(text) => text.to_string(),
                Outgoing::Close(code, _) => format!("close {}", code.as_u16()),
            })
            .collect()
    }

    fn frame(seq: u64) -> Utf8Bytes {
        Utf8Bytes::from(seq.to_string())
    }

    fn live_follower(hub: &Hub, thread: &ThreadId, at: u64) -> (Outbox, OutboxReader) {
        let (outbox, reader) = Outbox::new(1000, 100_000);
        let id = hub.join(thread, &outbox);
        hub.seed(thread, at);
        assert_eq!(hub.catch_up(thread, id, at), CatchUp::Live);
        (outbox, reader)
    }

    #[tokio::test]
    async fn events_arrive_once_and_in_order_however_they_come() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (_outbox, mut reader) = live_follower(&hub, &thread, 3);
        assert!(!hub.deliver(&thread, 4, &frame(4)));
        assert!(hub.deliver(&thread, 7, &frame(7)), "5 and 6 are missing");
        assert!(!hub.deliver(&thread, 4, &frame(4)), "a repeat is dropped");
        hub.fill(&thread, [(5, frame(5)), (6, frame(6)), (7, frame(7))]);
        assert_eq!(received(&mut reader).await, ["4", "5", "6", "7"]);
    }

    #[tokio::test]
    async fn a_follower_that_catches_up_gets_what_came_meanwhile_once() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (outbox, mut reader) = Outbox::new(1000, 100_000);
        let id = hub.join(&thread, &outbox);
        hub.seed(&thread, 2);
        hub.deliver(&thread, 3, &frame(3));
        hub.deliver(&thread, 4, &frame(4));
        assert_eq!(hub.catch_up(&thread, id, 1), CatchUp::ReadLog, "2 is in Postgres only");
        assert_eq!(hub.catch_up(&thread, id, 3), CatchUp::Live);
        hub.deliver(&thread, 5, &frame(5));
        assert_eq!(received(&mut reader).await, ["4", "5"]);
    }

    #[tokio::test]
    async fn what_a_replay_reads_reaches_live_followers_too() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (_first, mut first_reader) = live_follower(&hub, &thread, 2);
        let (outbox, mut reader) = Outbox::new(1000, 100_000);
        let id = hub.join(&thread, &outbox);
        hub.fill(&thread, [(3, frame(3)), (4, frame(4))]);
        assert_eq!(hub.catch_up(&thread, id, 4), CatchUp::Live);
        hub.deliver(&thread, 4, &frame(4));
        hub.deliver(&thread, 5, &frame(5));
        assert_eq!(received(&mut first_reader).await, ["3", "4", "5"]);
        assert_eq!(received(&mut reader).await, ["5"]);
    }

    #[tokio::test]
    async fn a_slow_reader_delays_no_one() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (_quick, mut reader) = live_follower(&hub, &thread, 0);
        let (slow, mut slow_reader) = Outbox::new(1, 100);
        let id = hub.join(&thread, &slow);
        assert_eq!(hub.catch_up(&thread, id, 0), CatchUp::Live);
        for seq in 1..=3 {
            hub.deliver(&thread, seq, &frame(seq));
        }
        assert_eq!(received(&mut reader).await, ["1", "2", "3"]);
        assert!(slow_reader.next_batch(&mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn what_is_kept_for_one_who_left_makes_no_hole_for_the_next() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (_steady, _steady_reader) = live_follower(&hub, &thread, 2);
        let (left, _left_reader) = Outbox::new(1000, 100_000);
        let id = hub.join(&thread, &left);
        hub.deliver(&thread, 3, &frame(3));
        hub.leave(&thread, id);
        hub.deliver(&thread, 4, &frame(4));
        let (outbox, _reader) = Outbox::new(1000, 100_000);
        let id = hub.join(&thread, &outbox);
        assert_eq!(hub.catch_up(&thread, id, 2), CatchUp::ReadLog, "4 is not kept");
    }

    #[test]
    fn one_who_catches_up_counts_as_a_follower() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (outbox, _reader) = Outbox::new(1, 100);
        assert!(!hub.is_followed_by(&thread, &outbox));
        let id = hub.join(&thread, &outbox);
        assert!(hub.is_followed_by(&thread, &outbox));
        hub.leave(&thread, id);
        assert!(!hub.is_followed_by(&thread, &outbox));
    }

    #[test]
    fn a_feed_ends_with_its_last_follower() {
        let (hub, thread) = (Hub::default(), ThreadId::generate());
        let (outbox, _reader) = Outbox::new(1, 100);
        let id = hub.join(&thread, &outbox);
        assert_eq!(hub.threads(), std::slice::from_ref(&thread));
        hub.leave(&thread, id);
        assert_eq!(hub.threads(), []);
    }
}
