//! An event before it has its place in the log.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use kingsguard_protocol::{EventBody, EventId, MessageId, RunId, ThreadId, Timestamp, UserId};
use serde::Serialize;

use crate::store::events::Fence;

/// Whose event it is: what is the same for all events of a run.
#[derive(Clone, Debug)]
pub struct Origin {
    pub user_id: UserId,
    pub thread_id: ThreadId,
    pub fence: Fence,
}

/// An event without `seq`, written out already so that the log's writer only adds the place.
#[derive(Debug)]
pub struct EventDraft {
    pub event_type: &'static str,
    pub made_at: Timestamp,
    /// The same instant by the clock that never jumps.
    pub handed_in: Instant,
    /// When the log has it, which is later where the clock went backwards; [`EventDraft::place`] tells.
    pub placed_at: Timestamp,
    /// The frame up to where `seq` and `timestamp` go, and from [`EventDraft::place`] on the whole frame.
    frame: String,
    /// Bytes of the frame up to there.
    head_bytes: usize,
    /// The timestamp of this event, for the one that closes what it opens.
    opens: Option<Moment>,
    /// The timestamp of the event that opened what this one closes, and where in `frame` the duration stands.
    closes: Option<(Moment, Range<usize>)>,
}

/// What most frames fit into, so that they are written without growing.
const FRAME_BYTES: usize = 768;
/// Room for what [`EventDraft::place`] adds.
const TAIL_BYTES: usize = 64;

/// The timestamp that an event has in the log. The log may move it, so that time never goes back in a thread; whoever measures
/// from it measures from what is written (ORD-7).
#[derive(Clone, Debug)]
pub struct Moment {
    unix_ms: Arc<AtomicI64>,
}

impl Moment {
    #[must_use]
    pub fn at(timestamp: Timestamp) -> Self {
        let unix_ms = Arc::new(AtomicI64::new(timestamp.as_unix_ms()));
        Self { unix_ms }
    }

    fn move_to(&self, timestamp: Timestamp) {
        self.unix_ms.store(timestamp.as_unix_ms(), Ordering::Relaxed);
    }

    /// The milliseconds from it to a later instant; 0 where the clock went backwards.
    #[must_use]
    pub fn ms_until(&self, later: Timestamp) -> u64 {
        u64::try_from(later.as_unix_ms() - self.unix_ms.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// The part of [`kingsguard_protocol::EventHeader`] that does not depend on the place.
#[derive(Serialize)]
struct Head<'a> {
    #[serde(flatten)]
    body: &'a EventBody,
    event_id: &'a EventId,
    user_id: &'a UserId,
    thread_id: &'a ThreadId,
    run_id: &'a RunId,
    agent_name: &'a str,
    correlation_id: &'a MessageId,
}

impl EventDraft {
    /// Makes an event that happened at `made_at`, which is now.
    ///
    /// # Errors
    /// A value in the body cannot be written as JSON.
    pub fn new(
        origin: &Origin,
        agent_name: &str,
        correlation_id: &MessageId,
        body: &EventBody,
        made_at: Timestamp,
    ) -> Result<Self, serde_json::Error> {
        let event_id = EventId::generate();
        let mut frame = Vec::with_capacity(FRAME_BYTES);
        let head = Head {
            body,
            event_id: &event_id,
            user_id: &origin.user_id,
            thread_id: &origin.thread_id,
            run_id: &origin.fence.run_id,
            agent_name,
            correlation_id,
        };
        serde_json::to_writer(&mut frame, &head)?;
        frame.pop(); // the closing brace: seq and timestamp follow
        let head_bytes = frame.len();
        frame.reserve(TAIL_BYTES);
        let frame = String::from_utf8(frame).expect("JSON is UTF-8");
        Ok(Self {
            event_type: body.event_type(),
            made_at,
            handed_in: Instant::now(),
            placed_at: made_at,
            frame,
            head_bytes,
            opens: None,
            closes: None,
        })
    }

    /// Says that this event opens something, and where its timestamp is to be kept.
    #[must_use]
    pub fn opening(mut self, moment: Option<Moment>) -> Self {
        self.opens = moment;
        self
    }

    /// Says that this event closes what was opened at a moment: its `duration_ms` is what lies between the two timestamps.
    #[must_use]
    pub fn closing(mut self, moment: Option<Moment>) -> Self {
        // The body's own field is the last of its name: only what is inside of results and texts comes before it.
        const FIELD: &str = "\"duration_ms\":";
        self.closes = moment.and_then(|moment| {
            let from = self.frame.rfind(FIELD)? + FIELD.len();
            let digits = self.frame[from..].bytes().take_while(u8::is_ascii_digit).count();
            Some((moment, from..from + digits))
        });
        self
    }

    /// Gives it its place in the log, or another one. Events are placed in the order of their log.
    pub fn place(&mut self, seq: u64, at: Timestamp) {
        self.placed_at = at;
        self.frame.truncate(self.head_bytes);
        if let Some(moment) = &self.opens {
            moment.move_to(at);
        }
        if let Some((opened, digits)) = &mut self.closes {
            let duration_ms = opened.ms_until(at).to_string();
            self.frame.replace_range(digits.clone(), &duration_ms);
            digits.end = digits.start + duration_ms.len();
            self.head_bytes = self.frame.len();
        }
        write!(self.frame, ",\"seq\":{seq},\"timestamp\":\"{at}\"}}").expect("writing to a string cannot fail");
    }

    /// The whole frame at its place in the log.
    #[must_use]
    pub fn frame(&self) -> &str {
        &self.frame
    }

    /// The same, given away.
    #[must_use]
    pub fn into_frame(self) -> String {
        self.frame
    }
}

#[cfg(test)]
mod tests {
    use kingsguard_protocol::event::{AgentThinking, ToolCompleted, ToolStatus};
    use kingsguard_protocol::{Event, EventHeader, ExecutionId};
    use pretty_assertions::assert_eq;

    use super::*;

    fn origin() -> Origin {
        Origin {
            user_id: UserId::generate(),
            thread_id: ThreadId::generate(),
            fence: Fence {
                run_id: RunId::generate(),
                fence: 1,
            },
        }
    }

    fn draft(body: &EventBody, made_at: Timestamp) -> EventDraft {
        // A client may call its message anything.
        let cause = MessageId::from("\"duration_ms\":7");
        EventDraft::new(&origin(), "triage", &cause, body, made_at).expect("it is plain JSON")
    }

    #[test]
    fn a_duration_is_what_lies_between_the_timestamps_that_the_log_gave() {
        let at = |ms: i64| Timestamp::from_unix_ms(1_700_000_000_000 + ms).expect("in range");
        let results = serde_json::json!({ "slowest": { "duration_ms": 3 }, "text": "\"duration_ms\":4" });
        let body = EventBody::from(ToolCompleted {
            execution_id: ExecutionId::generate(),
            tool_name: "watch_usage".into(),
            success: true,
            status: ToolStatus::Success,
            results: results.as_object().cloned(),
            error: None,
            duration_ms: 1,
        });
        let moment = Moment::at(at(0));
        let thought = EventBody::from(AgentThinking {
            reasoning: "looking at it".into(),
            step_number: 1,
            total_steps: None,
            progress: None,
        });
        let mut opened = draft(&thought, at(0)).opening(Some(moment.clone()));
        let mut closed = draft(&body, at(100)).closing(Some(moment));
        let mut duration = |seq, at| {
            closed.place(seq, at);
            let event: Event = serde_json::from_str(closed.frame()).expect("the frame reads as an event");
            let EventBody::ToolCompleted(tool) = event.body else {
                panic!("expected tool_completed")
            };
            assert_eq!(tool.results, results.as_object().cloned());
            tool.duration_ms
        };
        // The log moved the beginning by 40 ms and the end by 80: both were behind another run's events.
        opened.place(1, at(40));
        assert_eq!(duration(2, at(180)), 140);
        // The batch was refused and is placed anew.
        opened.place(3, at(60));
        assert_eq!(duration(4, at(180)), 120);
        assert_eq!(duration(5, at(65)), 5, "fewer digits than before");
    }

    #[test]
    fn the_frame_is_the_event_of_the_protocol() {
        let origin = origin();
        let cause = MessageId::generate();
        let body = EventBody::from(AgentThinking {
            reasoning: "looking at \"spend\"\nby model".into(),
            step_number: 1,
            total_steps: None,
            progress: Some(0.5),
        });
        let timestamp = Timestamp::now();
        let mut draft = EventDraft::new(&origin, "triage", &cause, &body, timestamp).expect("it is plain JSON");
        draft.place(1_000_000, timestamp);
        draft.place(7, timestamp);
        let read: Event = serde_json::from_str(draft.frame()).expect("the frame reads as an event");
        let header = EventHeader {
            event_id: read.header.event_id.clone(), // the draft made it
            seq: 7,
            timestamp,
            user_id: origin.user_id,
            thread_id: origin.thread_id,
            run_id: origin.fence.run_id,
            agent_name: "triage".into(),
            correlation_id: cause,
        };
        assert_eq!(read, Event { header, body });
    }
}
