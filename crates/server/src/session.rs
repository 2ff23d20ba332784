//! What one connection means: a pure state machine from client messages to requests and from their results to answers.
//!
//! It knows no socket, no database, no clock that ticks and no other connection. The connection gives it every text that
//! a client sent ([`Session::receive`]), carries out the [`Task`] that comes back, and gives the result back
//! ([`Session::conclude`]); what it then gets is what the client is told.
//!
//! ERR-1's order of judgement is spread over the two: JSON, envelope, type, handshake and fields are judged in
//! [`Session::receive`]; the thing and the limits need the world, so the connection judges them while it carries out the
//! task, in that order.
//!
//! A connection that has not acknowledged the handshake is a [`Greeted`], one that has is an [`Open`]: only the latter
//! has a method that turns a message into work on threads and runs (HSK-3).

pub mod answer;
pub mod content;
pub mod greeted;
pub mod open;
pub mod request;

use kingsguard_protocol::client::ClientType;
use kingsguard_protocol::decode::{DecodeError, Envelope};
use kingsguard_protocol::{ClientBody, CloseCode, ConnectionId, ControlFrame, ErrorCode, Limits, MessageId, ThreadId};
use serde_json::value::RawValue;

use crate::error::ApiError;

pub use self::greeted::Greeted;
pub use self::open::{Open, OwnThread};
pub use self::request::{Reply, Request, StartRun, Task};

/// What does not change while a connection lives.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Names the connection.
    pub connection_id: ConnectionId,
    /// The thread that the handshake offers. It is made when it is first used (HSK-1).
    pub offered: ThreadId,
    /// What was stated in `connection_established`.
    pub limits: Limits,
    /// RATE_LIMITED answers in a row after which the connection is closed with 4429.
    pub rate_limited_max: u64,
}

/// Where a message stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It was a frame of its own.
    Frame,
    /// It was in a `batch`.
    Batch,
}

/// What is to be done about a message that was not refused.
#[derive(Debug)]
pub enum Received {
    /// Carry it out and give the result to [`Session::conclude`].
    Task(Task),
    /// Receive each of these in order, as [`Place::Batch`], the next when the one before is concluded.
    Batch(Vec<Box<RawValue>>),
}

/// What a client is told, and whether the connection goes on.
#[derive(Debug, Default)]
pub struct Conclusion {
    /// The answer; `None` where the message needs none, or where it was sent with the task.
    pub answer: Option<ControlFrame>,
    /// The close frame after the answer.
    pub close: Option<(CloseCode, &'static str)>,
}

/// One connection's conversation.
#[derive(Debug)]
pub struct Session {
    facts: Facts,
    state: State,
    offer: Offer,
    rate_limited_in_a_row: u64,
}

#[derive(Debug)]
enum State {
    Greeted(Greeted),
    Open(Open),
}

/// Whether the offered thread has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offer {
    Reserved,
    Taken,
}

impl Session {
    /// A connection whose client has been greeted and has not acknowledged yet.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            state: State::Greeted(Greeted),
            offer: Offer::Reserved,
            rate_limited_in_a_row: 0,
        }
    }

    /// What does not change while the connection lives.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the handshake is complete. It never becomes incomplete again.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Judges a message up to its fields.
    ///
    /// # Errors
    /// How the message is refused: the one answer to it.
    pub fn receive(&mut self, text: &str, place: Place) -> Result<Received, Box<Conclusion>> {
        let read = match place {
            Place::Frame => Envelope::read(text),
            Place::Batch => Envelope::read_nested(text),
        };
        let envelope = read.map_err(|error| self.misread(error))?;
        let cause = envelope.message_id.clone();
        if !self.is_open() && needs_handshake(envelope.client_type) {
            return Err(self.refuse(ApiError::new(ErrorCode::HandshakeRequired), cause));
        }
        let judged_later = match envelope.client_type {
            ClientType::ExampleMessage => Some("category"),
            ClientType::ListThreads => Some("cursor"),
            _ => None,
        }
        .map(|field| envelope.pointer_of(field));
        let message = envelope
            .into_message(&self.facts.limits)
            .map_err(|error| self.misread(error))?;
        let body = match message.body {
            ClientBody::Batch(batch) => return Ok(Received::Batch(batch.messages)),
            body => body,
        };
        let request = match &self.state {
            State::Greeted(greeted) => greeted.request(body, message.thread_id, &self.facts),
            State::Open(open) => open.request(body, message.thread_id, &self.facts),
        };
        let request = request.map_err(|error| self.refuse(error, cause.clone()))?;
        let makes_thread = match request.thread() {
            Some(thread) if *thread == self.facts.offered && self.offer == Offer::Reserved => Some(thread.clone()),
            _ => None,
        };
        Ok(Received::Task(Task {
            cause: cause.unwrap_or_else(MessageId::generate),
            makes_thread,
            judged_later,
            request,
        }))
    }

    /// The offered thread was made: it is a thread like any other from now on.
    pub fn offer_taken(&mut self) {
        self.offer = Offer::Taken;
    }

    /// Changes what the task's result changes, and says what the client is told.
    #[must_use]
    pub fn conclude(&mut self, cause: MessageId, result: Result<Reply, ApiError>) -> Conclusion {
        let reply = match result {
            Ok(reply) => reply,
            Err(error) => return *self.refuse(error, Some(cause)),
        };
        self.rate_limited_in_a_row = 0;
        match &reply {
            Reply::Acknowledged { own } => self.state = State::Open(Open::new(own.clone())),
            Reply::Created(created) => self.choose(created.thread_id.clone()),
            Reply::Switched { own } => self.choose(own.clone()),
            Reply::Deleted { thread_id } => {
                if let State::Open(open) = &mut self.state {
                    open.forget(thread_id);
                }
            }
            Reply::Quiet
            | Reply::Accepted
            | Reply::Pong
            | Reply::HeartbeatAck
            | Reply::Authenticated { .. }
            | Reply::Runs(_)
            | Reply::Threads(_)
            | Reply::Renamed { .. }
            | Reply::History(_)
            | Reply::Context { .. }
            | Reply::Quality { .. }
            | Reply::Validated { .. }
            | Reply::Usage { .. }
            | Reply::Left => {}
        }
        let close = matches!(reply, Reply::Left).then_some((CloseCode::Normal, "goodbye"));
        Conclusion {
            answer: answer::to(reply, cause),
            close,
        }
    }

    fn choose(&mut self, own: ThreadId) {
        if let State::Open(open) = &mut self.state {
            open.choose(own);
        }
    }

    fn misread(&mut self, error: DecodeError) -> Box<Conclusion> {
        let cause = match &error {
            DecodeError::Json { .. } => None,
            DecodeError::Validation { correlation_id, .. } | DecodeError::UnknownType { correlation_id, .. } => {
                correlation_id.clone()
            }
        };
        self.refuse(error.into(), cause)
    }

    /// Exactly one error for a refused message (ERR-1), and close 4429 once RATE_LIMITED was said too often in a row.
    fn refuse(&mut self, error: ApiError, cause: Option<MessageId>) -> Box<Conclusion> {
        if error.code == ErrorCode::RateLimited {
            self.rate_limited_in_a_row += 1;
        } else {
            self.rate_limited_in_a_row = 0;
        }
        let close = (self.rate_limited_in_a_row >= self.facts.rate_limited_max)
            .then_some((CloseCode::RateLimit, "went on after repeated RATE_LIMITED"));
        Box::new(Conclusion {
            answer: Some(error.into_control(cause)),
            close,
        })
    }
}

/// Which messages need the handshake first (HSK-3).
fn needs_handshake(client_type: ClientType) -> bool {
    match client_type {
        ClientType::HandshakeAcknowledged
        | ClientType::Ping
        | ClientType::Pong
        | ClientType::Heartbeat
        | ClientType::HeartbeatAck
        | ClientType::Auth
        | ClientType::Disconnect => false,
        ClientType::UserMessage
        | ClientType::StartAgent
        | ClientType::StopAgent
        | ClientType::AgentStatusRequest
        | ClientType::Confirmation
        | ClientType::CreateThread
        | ClientType::ListThreads
        | ClientType::SwitchThread
        | ClientType::RenameThread
        | ClientType::DeleteThread
        | ClientType::GetThreadHistory
        | ClientType::GetAgentContext
        | ClientType::TypingStarted
        | ClientType::TypingStopped
        | ClientType::Broadcast
        | ClientType::ExampleMessage
        | ClientType::GetQualityMetrics
        | ClientType::ValidateContent
        | ClientType::GetUsage
        | ClientType::Batch => true,
    }
}

#[cfg(test)]
mod tests;
