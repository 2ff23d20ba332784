//! An event before it has its place in the log.

use std::fmt::Write as _;
use std::time::Instant;

use kingsguard_protocol::{EventBody, EventId, MessageId, RunId, ThreadId, Timestamp, UserId};
use serde::Serialize;

use crate::store::events::{Fence, NewRunEnd};

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
    pub origin: Origin,
    pub event_id: EventId,
    pub event_type: &'static str,
    pub made_at: Timestamp,
    /// The same instant by the clock that never jumps.
    pub handed_in: Instant,
    /// The frame up to where `seq` and `timestamp` go.
    head: String,
    /// Set on a run's last event.
    pub end: Option<NewRunEnd>,
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
        origin: Origin,
        agent_name: &str,
        correlation_id: &MessageId,
        body: &EventBody,
        made_at: Timestamp,
        end: Option<NewRunEnd>,
    ) -> Result<Self, serde_json::Error> {
        let event_id = EventId::generate();
        let mut head = serde_json::to_string(&Head {
            body,
            event_id: &event_id,
            user_id: &origin.user_id,
            thread_id: &origin.thread_id,
            run_id: &origin.fence.run_id,
            agent_name,
            correlation_id,
        })?;
        head.pop(); // the closing brace: seq and timestamp follow
        Ok(Self {
            origin,
            event_id,
            event_type: body.event_type(),
            made_at,
            handed_in: Instant::now(),
            head,
            end,
        })
    }

    /// The whole frame at its place in the log.
    #[must_use]
    pub fn frame(&self, seq: u64, timestamp: Timestamp) -> String {
        let mut frame = String::with_capacity(self.head.len() + 64);
        frame.push_str(&self.head);
        write!(frame, ",\"seq\":{seq},\"timestamp\":\"{timestamp}\"}}").expect("writing to a string cannot fail");
        frame
    }
}

#[cfg(test)]
mod tests {
    use kingsguard_protocol::event::AgentThinking;
    use kingsguard_protocol::{Event, EventHeader};
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_frame_is_the_event_of_the_protocol() {
        let origin = Origin {
            user_id: UserId::generate(),
            thread_id: ThreadId::generate(),
            fence: Fence {
                run_id: RunId::generate(),
                fence: 1,
            },
        };
        let cause = MessageId::generate();
        let body = EventBody::from(AgentThinking {
            reasoning: "looking at \"spend\"\nby model".into(),
            step_number: 1,
            total_steps: None,
            progress: Some(0.5),
        });
        let draft =
            EventDraft::new(origin.clone(), "triage", &cause, &body, Timestamp::now(), None).expect("it is plain JSON");
        let timestamp = draft.made_at;
        let read: Event = serde_json::from_str(&draft.frame(7, timestamp)).expect("the frame reads as an event");
        let header = EventHeader {
            event_id: draft.event_id,
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
