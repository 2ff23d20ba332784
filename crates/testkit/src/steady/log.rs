//! What a client keeps of one thread, and what it does with each event: pure, so that every path can be tested.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kingsguard_protocol::client::ResumePoint;
use kingsguard_protocol::control::ThreadPosition;
use kingsguard_protocol::{Epoch, Event};
use serde::Deserialize;

/// How many live events may wait while history is fetched. Beyond it the client resumes in place of waiting on.
const AHEAD_MAX: usize = 10_000;

/// One event of a thread, as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedEvent {
    /// Its place in the thread's log.
    pub seq: u64,
    /// Its own bytes.
    pub text: String,
    /// Its meaning; `None` of an event type that this client does not know, which keeps its place all the same (EVT-7).
    pub event: Option<Event>,
}

impl LoggedEvent {
    /// Reads an event; `None` of what has no place in a log.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Place {
            seq: u64,
        }
        let place: Place = serde_json::from_str(text).ok()?;
        Some(Self {
            seq: place.seq,
            text: text.to_owned(),
            event: serde_json::from_str(text).ok(),
        })
    }
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the next one of the log.
    New,
    /// The client has it already.
    Repeat,
    /// Something before it is missing: the client resumes after what it has.
    Gap,
    /// It waits for history that is being fetched.
    Waits,
}

/// What the position that a backend tells means for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The resume is granted: everything that is missing follows.
    Resumed,
    /// Nothing is missing.
    Whole,
    /// What is missing must be fetched from the history.
    Behind,
    /// The backend's log ends before the client's. That breaks SEQ-2; the client keeps what it has.
    WentBack,
}

/// One incarnation of a thread's log, as a client has it.
#[derive(Clone, Debug, Default)]
pub struct FollowedThread {
    epoch: Option<Epoch>,
    /// The newest `seq` up to which everything is here or known to be missing.
    after: u64,
    events: Vec<LoggedEvent>,
    missing: Vec<RangeInclusive<u64>>,
    /// What came before its turn, while history is fetched.
    ahead: BTreeMap<u64, LoggedEvent>,
    /// Below which `seq` history is to be fetched next.
    fetch_before: Option<u64>,
    earlier_epochs: Vec<(Epoch, Vec<LoggedEvent>)>,
}

impl FollowedThread {
    /// From where the thread can be resumed; `None` before a backend told its epoch.
    #[must_use]
    pub fn resume_point(&self) -> Option<ResumePoint> {
        Some(ResumePoint {
            epoch: self.epoch.clone()?,
            after: self.after,
        })
    }

    /// The events of the present epoch, in order.
    #[must_use]
    pub fn events(&self) -> &[LoggedEvent] {
        &self.events
    }

    /// Places of the present epoch that no backend could give any more.
    #[must_use]
    pub fn missing(&self) -> &[RangeInclusive<u64>] {
        &self.missing
    }

    /// Logs that were replaced by one of a later epoch, oldest first.
    #[must_use]
    pub fn earlier_epochs(&self) -> &[(Epoch, Vec<LoggedEvent>)] {
        &self.earlier_epochs
    }

    /// Below which `seq` history is to be fetched; `None` where nothing is missing.
    #[must_use]
    pub fn fetch_before(&self) -> Option<u64> {
        self.fetch_before
    }

    /// Takes the position that a backend tells (HSK-2, SEQ-3).
    pub fn stand_at(&mut self, position: &ThreadPosition) -> Standing {
        self.fetch_before = None;
        self.ahead.clear();
        if position.recovered {
            return Standing::Resumed;
        }
        if self.epoch.as_ref() != Some(&position.epoch) {
            // Another incarnation: earlier `seq` may mean something else, so nothing of them is carried over.
            let events = std::mem::take(&mut self.events);
            if let Some(epoch) = self.epoch.replace(position.epoch.clone()) {
                self.earlier_epochs.push((epoch, events));
            }
            self.after = 0;
            self.missing.clear();
        }
        if position.last_seq < self.after {
            return Standing::WentBack;
        }
        if position.last_seq == self.after {
            return Standing::Whole;
        }
        self.fetch_before = Some(position.last_seq + 1);
        Standing::Behind
    }

    /// Takes an event that arrived.
    pub fn take(&mut self, event: LoggedEvent) -> Taken {
        if event.seq <= self.after {
            return Taken::Repeat;
        }
        if self.fetch_before.is_some() {
            if self.ahead.len() >= AHEAD_MAX {
                return Taken::Gap;
            }
            self.ahead.insert(event.seq, event);
            return Taken::Waits;
        }
        if event.seq > self.after + 1 {
            return Taken::Gap;
        }
        self.after = event.seq;
        self.events.push(event);
        Taken::New
    }

    /// Takes a page of history; says whether everything that the backend still has is here now.
    pub fn take_history(&mut self, page: Vec<LoggedEvent>, has_more: bool) -> bool {
        let Some(before) = self.fetch_before else {
            return true;
        };
        let oldest = page.iter().map(|event| event.seq).min().unwrap_or(before);
        for event in page {
            if event.seq > self.after {
                self.ahead.insert(event.seq, event);
            }
        }
        if has_more && oldest > self.after + 1 && oldest < before {
            self.fetch_before = Some(oldest);
            return false;
        }
        self.fetch_before = None;
        for (seq, event) in std::mem::take(&mut self.ahead) {
            if seq > self.after + 1 {
                self.missing.push(self.after + 1..=seq - 1);
            }
            self.after = seq;
            self.events.push(event);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use kingsguard_protocol::ThreadId;
    use pretty_assertions::assert_eq;

    use super::*;

    fn event(seq: u64) -> LoggedEvent {
        LoggedEvent {
            seq,
            text: String::new(),
            event: None,
        }
    }

    fn position(epoch: &str, recovered: bool, last_seq: u64) -> ThreadPosition {
        ThreadPosition {
            thread_id: ThreadId::from("thread_1"),
            epoch: Epoch::from(epoch),
            recovered,
            oldest_seq: 1,
            last_seq,
        }
    }

    fn seqs(thread: &FollowedThread) -> Vec<u64> {
        thread.events().iter().map(|event| event.seq).collect()
    }

    fn following(epoch: &str, last: u64) -> FollowedThread {
        let mut thread = FollowedThread::default();
        assert_eq!(thread.stand_at(&position(epoch, false, 0)), Standing::Whole);
        for seq in 1..=last {
            assert_eq!(thread.take(event(seq)), Taken::New);
        }
        thread
    }

    #[test]
    fn a_repeat_is_dropped_and_a_gap_is_not_taken() {
        let mut thread = following("a", 3);
        assert_eq!(thread.take(event(2)), Taken::Repeat);
        assert_eq!(thread.take(event(5)), Taken::Gap);
        assert_eq!(thread.take(event(4)), Taken::New);
        assert_eq!(seqs(&thread), [1, 2, 3, 4]);
        let point = ResumePoint {
            epoch: Epoch::from("a"),
            after: 4,
        };
        assert_eq!(thread.resume_point(), Some(point));
    }

    #[test]
    fn a_granted_resume_goes_on_where_the_client_was() {
        let mut thread = following("a", 3);
        assert_eq!(thread.stand_at(&position("a", true, 5)), Standing::Resumed);
        assert_eq!((thread.take(event(4)), thread.take(event(5))), (Taken::New, Taken::New));
        assert_eq!(seqs(&thread), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_refused_resume_fetches_what_is_missing_page_by_page_while_live_events_wait() {
        let mut thread = following("a", 2);
        assert_eq!(thread.stand_at(&position("a", false, 7)), Standing::Behind);
        assert_eq!(thread.fetch_before(), Some(8));
        assert_eq!(thread.take(event(8)), Taken::Waits);
        assert!(!thread.take_history(vec![event(6), event(7)], true));
        assert_eq!(thread.fetch_before(), Some(6));
        assert!(thread.take_history(vec![event(1), event(2), event(3), event(4), event(5)], false));
        assert_eq!(seqs(&thread), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(thread.missing(), []);
        assert_eq!(thread.take(event(9)), Taken::New);
    }

    #[test]
    fn what_no_history_has_any_more_is_known_to_be_missing() {
        let mut thread = following("a", 2);
        assert_eq!(thread.stand_at(&position("a", false, 7)), Standing::Behind);
        assert!(thread.take_history(vec![event(6), event(7)], false));
        assert_eq!(seqs(&thread), [1, 2, 6, 7]);
        assert_eq!(thread.missing(), [3..=5]);
    }

    #[test]
    fn another_epoch_begins_anew_and_keeps_what_was_apart() {
        let mut thread = following("a", 2);
        assert_eq!(thread.stand_at(&position("b", false, 1)), Standing::Behind);
        assert!(thread.take_history(vec![event(1)], false));
        assert_eq!(seqs(&thread), [1]);
        assert_eq!(thread.earlier_epochs(), [(Epoch::from("a"), vec![event(1), event(2)])]);
    }

    #[test]
    fn a_log_that_ends_before_the_client_s_went_back() {
        let mut thread = following("a", 3);
        assert_eq!(thread.stand_at(&position("a", false, 2)), Standing::WentBack);
        assert_eq!(seqs(&thread), [1, 2, 3]);
    }

    #[test]
    fn an_event_of_an_unknown_type_keeps_its_place() {
        let unknown = LoggedEvent::read(r#"{"type":"agent_dreamt","seq":4}"#);
        assert_eq!(unknown.as_ref().map(|event| event.seq), Some(4));
        assert_eq!(unknown.and_then(|event| event.event), None);
        assert_eq!(LoggedEvent::read(r#"{"type":"pong"}"#), None);
    }
}
