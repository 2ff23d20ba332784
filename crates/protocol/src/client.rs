//! What a client says (contract §8). Reading is in [`crate::decode`]; writing is `Serialize`, flat.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::control::UsagePeriod;
use crate::http::Secret;
use crate::raw::eq_by_text;
use crate::{Epoch, EventId, MessageId, RunId, ThreadId};

/// One client message: the envelope and what it asks for.
///
/// A client's own `run_id` and `timestamp` are accepted and nothing of them is taken on trust (MSG-0), so they are not
/// kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ClientMessage {
    /// The client's own id for it, any string of 1–128 characters; the backend makes one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<MessageId>,
    /// The thread meant; the connection's own where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<ThreadId>,
    /// What is asked for.
    #[serde(flatten)]
    pub body: ClientBody,
}

impl From<ClientBody> for ClientMessage {
    fn from(body: ClientBody) -> Self {
        Self {
            message_id: None,
            thread_id: None,
            body,
        }
    }
}

macro_rules! client_bodies {
    ($($(#[$doc:meta])* $name:ident($body:ident) = $text:literal $(| $alias:literal)*;)*) => {
        /// What a client asks for, named by `type`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
        #[serde(tag = "type")]
        pub enum ClientBody {
            $($(#[$doc])* #[serde(rename = $text)] $name($body),)*
        }

        /// Which kind of message a `type` names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ClientType {
            $($(#[$doc])* $name,)*
        }

        impl ClientType {
            /// Every message type of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind that a `type` names, by its name or an alias.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($text $(| $alias)* => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Its name and aliases, the name first.
            #[must_use]
            pub fn names(self) -> &'static [&'static str] {
                match self { $(Self::$name => &[$text $(, $alias)*]),* }
            }
        }

        impl ClientBody {
            /// Which kind of message this is.
            #[must_use]
            pub fn client_type(&self) -> ClientType {
                match self { $(Self::$name(_) => ClientType::$name),* }
            }
        }

        $(impl From<$body> for ClientBody {
            fn from(body: $body) -> Self {
                Self::$name(body)
            }
        })*
    };
}

client_bodies! {
    /// HSK-2.
    HandshakeAcknowledged(HandshakeAcknowledged) = "handshake_acknowledged";
    /// Starts a run.
    UserMessage(UserMessage) = "user_message" | "chat_message" | "chat" | "message" | "user_input";
    /// Starts a run with one agent.
    StartAgent(StartAgent) = "start_agent" | "execute_agent" | "agent_request";
    /// Ends a run.
    StopAgent(StopAgent) = "stop_agent";
    /// Asks for a run, or all open ones.
    AgentStatusRequest(AgentStatusRequest) = "agent_status_request";
    /// Says that an event arrived, or could not be used.
    Confirmation(Confirmation) = "confirmation";
    /// Makes a thread; the connection follows it and it becomes its own.
    CreateThread(CreateThread) = "create_thread";
    /// Asks for a page of threads.
    ListThreads(ListThreads) = "list_threads";
    /// Makes a thread the connection's own and follows it.
    SwitchThread(SwitchThread) = "switch_thread";
    /// Gives a thread another title.
    RenameThread(RenameThread) = "rename_thread";
    /// Deletes a thread.
    DeleteThread(DeleteThread) = "delete_thread";
    /// Asks for a thread's events and messages.
    GetThreadHistory(GetThreadHistory) = "get_thread_history";
    /// Asks for what the agents keep about a thread.
    GetAgentContext(GetAgentContext) = "get_agent_context";
    /// Asks for a `pong`.
    Ping(Ping) = "ping";
    /// Needs no answer.
    Pong(ClientPong) = "pong";
    /// Asks for a `heartbeat_ack`.
    Heartbeat(Heartbeat) = "heartbeat";
    /// Needs no answer.
    HeartbeatAck(HeartbeatAck) = "heartbeat_ack";
    /// Brings a fresh token of the same user (AUTH-6).
    Auth(Auth) = "auth";
    /// Relayed to the user's other connections.
    TypingStarted(TypingStarted) = "typing_started";
    /// Relayed to the user's other connections.
    TypingStopped(TypingStopped) = "typing_stopped";
    /// Relayed to all connections of the same user.
    Broadcast(Broadcast) = "broadcast";
    /// Starts a run over a stored example.
    ExampleMessage(ExampleMessage) = "example_message";
    /// Asks for a run's counts.
    GetQualityMetrics(GetQualityMetrics) = "get_quality_metrics";
    /// Asks whether content would be accepted.
    ValidateContent(ValidateContent) = "validate_content";
    /// Asks what the user's runs used.
    GetUsage(GetUsage) = "get_usage";
    /// Several messages, each answered as if sent alone, in order.
    Batch(Batch) = "batch";
    /// Asks for close 1000.
    Disconnect(Disconnect) = "disconnect";
}

impl ClientType {
    /// Whether the message is refused with `HANDSHAKE_REQUIRED` before the handshake (HSK-3).
    #[must_use]
    pub fn needs_handshake(self) -> bool {
        !matches!(
            self,
            Self::HandshakeAcknowledged
                | Self::Ping
                | Self::Pong
                | Self::Heartbeat
                | Self::HeartbeatAck
                | Self::Auth
                | Self::Disconnect
        )
    }

    /// Whether the message starts a run: these are limited by `messages_per_minute_max` (LIM-1).
    #[must_use]
    pub fn starts_run(self) -> bool {
        matches!(self, Self::UserMessage | Self::StartAgent | Self::ExampleMessage)
    }
}

/// Where a client was in a thread's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResumePoint {
    /// The incarnation of the log that `after` counts in.
    pub epoch: Epoch,
    /// The newest `seq` that the client has.
    pub after: u64,
}

/// Where a client was in one of its threads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ThreadResume {
    /// The thread.
    pub thread_id: ThreadId,
    /// Where in its log.
    #[serde(flatten)]
    pub point: ResumePoint,
}

/// HSK-2; the envelope's `thread_id` is the thread to follow, the offered one where absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HandshakeAcknowledged {
    /// Threads to go on with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(default)]
    pub resume: Vec<ThreadResume>,
}

/// A message of the user to the agents.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UserMessage {
    /// 1–8,000 Unicode code points.
    #[schemars(length(min = 1, max = 8_000))]
    pub content: String,
    /// What it refers to, stored as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<Value>>")]
    pub references: Option<Box<RawValue>>,
    /// Stored with the message, returned as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub metadata: Option<Box<RawValue>>,
}

eq_by_text!(UserMessage { content; references, metadata });

/// A request to one agent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct StartAgent {
    /// The agent.
    #[schemars(length(min = 1))]
    pub agent_name: String,
    /// 1–8,000 Unicode code points.
    #[schemars(length(min = 1, max = 8_000))]
    pub user_request: String,
    /// For the agent, stored as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub context: Option<Box<RawValue>>,
}

eq_by_text!(StartAgent { agent_name, user_request; context });

/// Ends a run with `agent_stopped` and `agent_completed` `cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StopAgent {
    /// The run.
    pub run_id: RunId,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Asks for a run, or all open ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AgentStatusRequest {
    /// The run; all open runs of the user where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
}

/// Says that an event arrived, or could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Confirmation {
    /// The event.
    pub event_id: EventId,
    /// What became of it.
    pub status: ConfirmationStatus,
}

/// What became of an event at the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmationStatus {
    /// It arrived.
    Confirmed,
    /// It could not be used.
    Failed,
}

/// Makes a thread.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct CreateThread {
    /// Its title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Stored with the thread, returned as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub metadata: Option<Box<RawValue>>,
}

eq_by_text!(CreateThread { title; metadata });

/// Asks for a page of threads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ListThreads {
    /// 1–100.
    #[schemars(range(min = 1, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// Makes the envelope's `thread_id`, which is required, the connection's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SwitchThread {
    /// Where to go on in its log; live only where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<ResumePoint>,
}

/// Gives the envelope's `thread_id`, which is required, another title.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RenameThread {
    /// The new title.
    pub title: String,
}

/// Asks for events and messages of the envelope's `thread_id`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GetThreadHistory {
    /// 1–100.
    #[schemars(range(min = 1, max = 100))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only events with a `seq` below this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// Brings a fresh token of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Auth {
    /// The JWT.
    pub token: Secret,
}

/// Relayed to all connections of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Broadcast {
    /// What to say.
    pub content: String,
}

/// Starts a run over a stored example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExampleMessage {
    /// 1–8,000 Unicode code points.
    #[schemars(length(min = 1, max = 8_000))]
    pub content: String,
    /// Which example data.
    pub category: String,
}

/// Asks for a run's counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GetQualityMetrics {
    /// The run.
    pub run_id: RunId,
}

/// Asks whether content would be accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ValidateContent {
    /// The content.
    pub content: String,
    /// What it is meant to be: `user_message`, `json`, `usage_csv`, …
    pub content_type: String,
}

/// Asks what the user's runs used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct GetUsage {
    /// How far back; the last 30 days where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<UsagePeriod>,
}

/// Several messages.
#[derive(Clone, Serialize, JsonSchema)]
pub struct Batch {
    /// 1–50 messages, none of them a `batch`. Each is read by itself, so that a bad one spoils no other.
    #[schemars(with = "Vec<Map<String, Value>>", length(min = 1, max = 50))]
    pub messages: Vec<Box<RawValue>>,
}

eq_by_text!(Batch { ; messages });

impl fmt::Debug for Batch {
    /// A message may bring a credential, and its text is not yet read (AUTH-8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} messages)", self.messages.len())
    }
}

/// Asks for close 1000.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Disconnect {
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

macro_rules! empty_bodies {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
        pub struct $name {})*
    };
}

empty_bodies! {
    /// Deletes the envelope's `thread_id`, which is required.
    DeleteThread;
    /// Asks for what the agents keep about the envelope's `thread_id`.
    GetAgentContext;
    /// Asks for a `pong`.
    Ping;
    /// Needs no answer.
    ClientPong;
    /// Asks for a `heartbeat_ack`.
    Heartbeat;
    /// Needs no answer.
    HeartbeatAck;
    /// Relayed to the user's other connections.
    TypingStarted;
    /// Relayed to the user's other connections.
    TypingStopped;
}
