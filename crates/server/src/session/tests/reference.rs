//! The session against a reference that is a table: for any order of messages, outages and refusals, the one answer to
//! each message is the one that the contract's order of judgement gives, and the connection closes when it must.

use std::collections::BTreeSet;

use kingsguard_protocol::client::ClientType;
use kingsguard_protocol::{CloseCode, ErrorCode, ThreadId};
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use serde_json::{Value, json};

use super::super::{Place, needs_handshake};
use super::{Model, RATE_LIMITED_MAX, Told, message_of};

/// Messages of one connection.
const STEPS: std::ops::Range<usize> = 1..50;
/// Connections.
const CASES: u32 = 256;

/// What a client sends, and what befalls the service meanwhile.
#[derive(Clone, Debug)]
struct Step {
    client_type: ClientType,
    thread: Option<&'static str>,
    outage: Option<ErrorCode>,
}

/// What a message must lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Error(ErrorCode),
    Answer(&'static str),
    Nothing,
}

/// What the contract lets one know of a connection.
#[derive(Clone, Debug)]
struct Conversation {
    is_open: bool,
    own: Option<ThreadId>,
    threads: BTreeSet<ThreadId>,
    offer_taken: bool,
    rate_limited_in_a_row: u64,
    closed: Option<CloseCode>,
    expected: Expected,
    /// The newest message came after the end: nobody carries it out.
    is_over: bool,
}

/// Which thread a message is about.
enum Meant {
    None,
    /// The thread named, or the connection's own.
    Own,
    /// The thread named, or the one that was offered.
    Offered,
    /// The thread named; the samples name one that does not exist.
    Named,
}

fn meant(client_type: ClientType) -> Meant {
    match client_type {
        ClientType::HandshakeAcknowledged => Meant::Offered,
        ClientType::UserMessage
        | ClientType::StartAgent
        | ClientType::ExampleMessage
        | ClientType::GetThreadHistory
        | ClientType::GetAgentContext
        | ClientType::TypingStarted
        | ClientType::TypingStopped => Meant::Own,
        ClientType::SwitchThread | ClientType::RenameThread | ClientType::DeleteThread => Meant::Named,
        ClientType::StopAgent
        | ClientType::AgentStatusRequest
        | ClientType::Confirmation
        | ClientType::CreateThread
        | ClientType::ListThreads
        | ClientType::Ping
        | ClientType::Pong
        | ClientType::Heartbeat
        | ClientType::HeartbeatAck
        | ClientType::Auth
        | ClientType::Broadcast
        | ClientType::GetQualityMetrics
        | ClientType::ValidateContent
        | ClientType::GetUsage
        | ClientType::Batch
        | ClientType::Disconnect => Meant::None,
    }
}

/// The answer when all goes well (contract §8).
fn answer_of(client_type: ClientType) -> Expected {
    Expected::Answer(match client_type {
        ClientType::HandshakeAcknowledged => "handshake_complete",
        ClientType::UserMessage | ClientType::StartAgent | ClientType::ExampleMessage => "message_received",
        ClientType::StopAgent => "agent_stopped",
        ClientType::AgentStatusRequest => "agent_status_update",
        ClientType::CreateThread => "thread_created",
        ClientType::ListThreads => "thread_list",
        ClientType::SwitchThread => "thread_switched",
        ClientType::RenameThread => "thread_renamed",
        ClientType::DeleteThread => "thread_deleted",
        ClientType::GetThreadHistory => "thread_history",
        ClientType::GetAgentContext => "agent_context",
        // The samples' batch holds one ping.
        ClientType::Ping | ClientType::Batch => "pong",
        ClientType::Heartbeat => "heartbeat_ack",
        ClientType::Auth => "auth_completed",
        ClientType::Broadcast => "broadcast",
        ClientType::GetQualityMetrics => "quality_metrics",
        ClientType::ValidateContent => "content_validation_result",
        ClientType::GetUsage => "usage_report",
        ClientType::Pong
        | ClientType::HeartbeatAck
        | ClientType::Confirmation
        | ClientType::TypingStarted
        | ClientType::TypingStopped
        | ClientType::Disconnect => return Expected::Nothing,
    })
}

impl Conversation {
    /// Judges a message in the contract's order: handshake, fields, outage, thing.
    fn judge(&mut self, step: &Step) -> Expected {
        if !self.is_open && needs_handshake(step.client_type) {
            return Expected::Error(ErrorCode::HandshakeRequired);
        }
        let named = step.thread.map(ThreadId::from);
        let offered = ThreadId::from("thread_offered");
        let thread = match meant(step.client_type) {
            Meant::None => None,
            Meant::Offered => Some(named.unwrap_or_else(|| offered.clone())),
            Meant::Named => Some(named.unwrap_or_else(|| "thread_other".into())),
            Meant::Own => match named.or_else(|| self.own.clone()) {
                Some(thread) => Some(thread),
                None => return Expected::Error(ErrorCode::ThreadNotFound),
            },
        };
        if let Some(code) = step.outage {
            return Expected::Error(code);
        }
        if thread.as_ref() == Some(&offered) && !self.offer_taken {
            self.offer_taken = true;
            self.threads.insert(offered);
        }
        if thread.as_ref().is_some_and(|thread| !self.threads.contains(thread)) {
            return Expected::Error(ErrorCode::ThreadNotFound);
        }
        match (step.client_type, thread) {
            (ClientType::HandshakeAcknowledged, thread) => (self.is_open, self.own) = (true, thread),
            (ClientType::SwitchThread, thread) => self.own = thread,
            (ClientType::CreateThread, _) => {
                self.threads.insert("thread_made".into());
                self.own = Some("thread_made".into());
            }
            (ClientType::DeleteThread, Some(deleted)) => {
                self.threads.remove(&deleted);
                self.own = self.own.take().filter(|own| *own != deleted);
            }
            (ClientType::Disconnect, _) => self.closed = Some(CloseCode::Normal),
            _ => {}
        }
        answer_of(step.client_type)
    }
}

impl ReferenceStateMachine for Conversation {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self {
            is_open: false,
            own: None,
            threads: ["thread_a", "thread_b"].map(ThreadId::from).into(),
            offer_taken: false,
            rate_limited_in_a_row: 0,
            closed: None,
            expected: Expected::Nothing,
            is_over: false,
        })
        .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let client_type = prop_oneof![
            8 => prop::sample::select(ClientType::ALL),
            2 => Just(ClientType::HandshakeAcknowledged),
            2 => Just(ClientType::DeleteThread),
        ];
        let thread = prop_oneof![
            3 => Just(None),
            2 => prop::sample::select(vec!["thread_a", "thread_b", "thread_offered", "thread_made", "thread_foreign"])
                .prop_map(Some),
        ];
        let outage = prop_oneof![
            6 => Just(None),
            1 => Just(Some(ErrorCode::DatabaseUnavailable)),
            2 => Just(Some(ErrorCode::RateLimited)),
        ];
        (client_type, thread, outage)
            .prop_map(|(client_type, thread, outage)| Step {
                client_type,
                thread,
                outage,
            })
            .boxed()
    }

    fn apply(mut conversation: Self, step: &Step) -> Self {
        conversation.is_over = conversation.closed.is_some();
        if conversation.is_over {
            return conversation;
        }
        conversation.expected = conversation.judge(step);
        if conversation.expected == Expected::Error(ErrorCode::RateLimited) {
            conversation.rate_limited_in_a_row += 1;
        } else {
            conversation.rate_limited_in_a_row = 0;
        }
        if conversation.rate_limited_in_a_row == RATE_LIMITED_MAX {
            conversation.closed = Some(CloseCode::RateLimit);
        }
        conversation
    }
}

struct Conversing;

impl StateMachineTest for Conversing {
    type SystemUnderTest = Model;
    type Reference = Conversation;

    fn init_test(_: &Conversation) -> Model {
        Model::new()
    }

    fn apply(mut model: Model, conversation: &Conversation, step: Step) -> Model {
        if conversation.is_over {
            return model;
        }
        let before = model.told.len();
        let mut message: Value = message_of(step.client_type);
        if let Some(thread) = step.thread {
            message["thread_id"] = json!(thread);
        }
        if step.client_type == ClientType::Batch {
            message["messages"] = json!([{"type": "ping", "message_id": "m-1"}]);
        }
        model.send(&message.to_string(), Place::Frame, step.outage);

        let answers: Vec<Expected> = model.told[before..]
            .iter()
            .filter_map(|told| match told {
                Told::Event => None,
                Told::Control("error", _) => model.refused_with.map(Expected::Error),
                Told::Control(frame_type, _) => Some(Expected::Answer(frame_type)),
            })
            .collect();
        let expected: Vec<Expected> = match &conversation.expected {
            Expected::Nothing => Vec::new(),
            expected => vec![expected.clone()],
        };
        assert_eq!(answers, expected, "{message}");
        assert_eq!(model.session.is_open(), conversation.is_open);
        assert_eq!(model.closed, conversation.closed);
        model
    }

    fn check_invariants(model: &Model, _: &Conversation) {
        let complete = Told::Control("handshake_complete", Some("m-1".into()));
        let first = |wanted: &Told| model.told.iter().position(|told| told == wanted);
        let (event, complete) = (first(&Told::Event), first(&complete));
        assert!(
            event.is_none() || complete < event,
            "an event before the handshake was complete"
        );
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_answered_as_the_reference_says(sequential STEPS => Conversing);
}
