//! Control frames: what a backend says outside of a thread's log (contract §2, §3, §8).

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::event::{RunStatus, RunUsage};
use crate::frame::FrameType;
use crate::http::{ThreadMessage, ThreadSummary};
use crate::raw::eq_by_text;
use crate::{ConnectionId, Epoch, ErrorFrame, Limits, MessageId, RunId, ThreadId, Timestamp};

macro_rules! control_frames {
    ($($(#[$doc:meta])* $name:ident($body:ident) = $text:literal;)*) => {
        /// A frame outside of the log, named by `type`. It has no `seq`.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        #[serde(tag = "type")]
        pub enum ControlFrame {
            $($(#[$doc])* #[serde(rename = $text)] $name($body),)*
        }

        impl ControlFrame {
            /// Every control frame type of the contract, as `type` has it.
            pub const TYPES: &'static [&'static str] = &[$($text),*];

            /// The frame's `type`.
            #[must_use]
            pub fn frame_type(&self) -> &'static str {
                match self { $(Self::$name(_) => $text),* }
            }

            /// Reads the fields of a frame of this `type` from the whole frame's text; `None` of a type that the
            /// contract does not know.
            pub(crate) fn read_body(frame_type: &str, text: &str) -> Option<serde_json::Result<Self>> {
                match frame_type {
                    $($text => Some(serde_json::from_str(text).map(Self::$name)),)*
                    _ => None,
                }
            }
        }
    };
}

/// Read from text in two steps: what serde derives for tagged enums goes through a buffer that cannot keep JSON as the
/// text it was.
impl<'de> Deserialize<'de> for ControlFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let frame = Box::<RawValue>::deserialize(deserializer)?;
        let frame_type = FrameType::read(frame.get()).map_err(de::Error::custom)?;
        Self::read_body(&frame_type, frame.get())
            .ok_or_else(|| de::Error::unknown_variant(&frame_type, Self::TYPES))?
            .map_err(de::Error::custom)
    }
}

control_frames! {
    /// HSK-1: the first frame of a connection.
    ConnectionEstablished(ConnectionEstablished) = "connection_established";
    /// HSK-1: the second frame of a connection.
    HandshakeResponse(HandshakeResponse) = "handshake_response";
    /// HSK-2: the frame after `handshake_acknowledged`.
    HandshakeComplete(HandshakeComplete) = "handshake_complete";
    /// MSG-5: a message that starts a run is durable.
    MessageReceived(MessageReceived) = "message_received";
    /// Answers `agent_status_request`.
    AgentStatusUpdate(AgentStatusUpdate) = "agent_status_update";
    /// Answers `create_thread`.
    ThreadCreated(ThreadCreated) = "thread_created";
    /// Answers `list_threads`.
    ThreadList(ThreadList) = "thread_list";
    /// Answers `switch_thread`.
    ThreadSwitched(ThreadSwitched) = "thread_switched";
    /// Answers `rename_thread`.
    ThreadRenamed(ThreadRenamed) = "thread_renamed";
    /// Answers `delete_thread`.
    ThreadDeleted(ThreadDeleted) = "thread_deleted";
    /// Answers `get_thread_history`.
    ThreadHistory(ThreadHistory) = "thread_history";
    /// Answers `get_agent_context`.
    AgentContext(AgentContext) = "agent_context";
    /// Answers `ping`.
    Pong(Pong) = "pong";
    /// Answers `heartbeat`.
    HeartbeatAck(Pong) = "heartbeat_ack";
    /// Answers `auth`.
    AuthCompleted(AuthCompleted) = "auth_completed";
    /// Another connection of the same user types.
    TypingStarted(TypingNotice) = "typing_started";
    /// Another connection of the same user stopped typing.
    TypingStopped(TypingNotice) = "typing_stopped";
    /// A `broadcast` of the same user.
    Broadcast(BroadcastNotice) = "broadcast";
    /// Answers `get_quality_metrics`.
    QualityMetrics(QualityMetrics) = "quality_metrics";
    /// Answers `validate_content`.
    ContentValidationResult(ContentValidationResult) = "content_validation_result";
    /// Answers `get_usage`.
    UsageReport(UsageReport) = "usage_report";
    /// CON-4: the backend is about to stop.
    ServerShutdown(ServerShutdown) = "server_shutdown";
    /// A refusal or failure.
    Error(ErrorFrame) = "error";
}

/// HSK-1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConnectionEstablished {
    /// Names this connection.
    pub connection_id: ConnectionId,
    /// The backend's version.
    pub server_version: String,
    /// The contract's version.
    pub protocol_version: String,
    /// How often the backend pings, in milliseconds (CON-2).
    pub heartbeat_interval_ms: u64,
    /// What holds on this connection (LIM-1).
    pub limits: Limits,
    /// When it was established.
    pub timestamp: Timestamp,
}

/// HSK-1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandshakeResponse {
    /// A thread that this connection may use: its own thread until it chooses another.
    pub thread_id: ThreadId,
    /// Reserved for the connection's first run, or without meaning.
    pub run_id: RunId,
    /// Names this handshake.
    pub request_id: String,
    /// Names this session; opens nothing by itself.
    pub session_token: String,
    /// When it was said.
    pub timestamp: Timestamp,
    /// What to do next, for people.
    pub message: String,
}

/// HSK-2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HandshakeComplete {
    /// Where each followed thread stands.
    pub threads: Vec<ThreadPosition>,
    /// The `message_id` of the acknowledgement, where it had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<MessageId>,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Where a thread's log stands, as seen by one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadPosition {
    /// The thread.
    pub thread_id: ThreadId,
    /// The present incarnation of its log.
    pub epoch: Epoch,
    /// Whether a resume was granted: every event above `after` follows.
    pub recovered: bool,
    /// The oldest event that can still be resumed from; 1 of an empty log.
    pub oldest_seq: u64,
    /// The newest event; 0 of an empty log.
    pub last_seq: u64,
}

/// MSG-5: answers a message that starts a run; of a repeat it names the first run (SEQ-8).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageReceived {
    /// The message's id, the client's own or made here.
    pub message_id: MessageId,
    /// The run it starts.
    pub run_id: RunId,
    /// The thread it belongs to.
    pub thread_id: ThreadId,
    /// The same as `message_id`.
    pub correlation_id: MessageId,
    /// When it became durable.
    pub timestamp: Timestamp,
}

/// Answers `agent_status_request`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStatusUpdate {
    /// The run that was asked for, or all runs of the user that are not ended.
    pub runs: Vec<RunState>,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// One run as it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunState {
    /// The run.
    pub run_id: RunId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// `queued`, `running`, or how it ended.
    pub status: RunPhase,
    /// The agent that was asked.
    pub agent_name: String,
    /// When the message was accepted.
    pub accepted_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What it used so far.
    pub usage: RunUsage,
}

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// Accepted; a run of the same thread is before it.
    Queued,
    /// Under way.
    Running,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Stopped by the user.
    Cancelled,
    /// Ended by its deadline.
    TimedOut,
}

impl RunPhase {
    /// Whether the run goes on.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }

    /// The phase as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => RunStatus::Completed.as_str(),
            Self::Failed => RunStatus::Failed.as_str(),
            Self::Cancelled => RunStatus::Cancelled.as_str(),
            Self::TimedOut => RunStatus::TimedOut.as_str(),
        }
    }
}

impl From<RunStatus> for RunPhase {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Completed => Self::Completed,
            RunStatus::Failed => Self::Failed,
            RunStatus::Cancelled => Self::Cancelled,
            RunStatus::TimedOut => Self::TimedOut,
        }
    }
}

/// Answers `create_thread`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThreadCreated {
    /// The new thread.
    pub thread_id: ThreadId,
    /// Its title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the client stored with it, as it was.
    #[schemars(with = "Map<String, Value>")]
    pub metadata: Box<RawValue>,
    /// The incarnation of its log.
    pub epoch: Epoch,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was made.
    pub timestamp: Timestamp,
}

eq_by_text!(ThreadCreated { thread_id, title, epoch, correlation_id, timestamp; metadata });

/// Answers `list_threads`, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadList {
    /// One page of the user's threads.
    pub threads: Vec<ThreadSummary>,
    /// Asks for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Answers `switch_thread`; its events follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadSwitched {
    /// The thread, its epoch and where its log stands.
    #[serde(flatten)]
    pub position: ThreadPosition,
    /// The `message_id` of the request; absent where a stream tells of a refused resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<MessageId>,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Answers `rename_thread`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadRenamed {
    /// The thread.
    pub thread_id: ThreadId,
    /// Its new title.
    pub title: String,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was renamed.
    pub timestamp: Timestamp,
}

/// Answers `delete_thread`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadDeleted {
    /// The thread that is no more.
    pub thread_id: ThreadId,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was deleted.
    pub timestamp: Timestamp,
}

/// Answers `get_thread_history`; `GET /api/threads/{id}/messages` answers the same without `type`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThreadHistory {
    /// The thread.
    pub thread_id: ThreadId,
    /// Events, newest last, byte for byte as they were first sent.
    #[schemars(with = "Vec<crate::Event>")]
    pub events: Vec<Box<RawValue>>,
    /// What was said by the user and answered by the agents, newest last.
    pub messages: Vec<ThreadMessage>,
    /// Whether older events exist.
    pub has_more: bool,
    /// The `message_id` of the request; absent over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<MessageId>,
    /// When it was said.
    pub timestamp: Timestamp,
}

eq_by_text!(ThreadHistory { thread_id, messages, has_more, correlation_id, timestamp; events });

/// Answers `get_agent_context`: what the agents keep about a thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentContext {
    /// The thread.
    pub thread_id: ThreadId,
    /// What the agents keep: object by name.
    pub context: Map<String, Value>,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Answers `ping` and `heartbeat`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pong {
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Answers `auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthCompleted {
    /// Until when the connection may now live.
    pub expires_at: Timestamp,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Relayed to the other connections of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypingNotice {
    /// The thread that is typed in.
    pub thread_id: ThreadId,
    /// The connection that types.
    pub connection_id: ConnectionId,
    /// The `message_id` of the relayed message.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Relayed to all connections of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BroadcastNotice {
    /// What was said.
    pub content: String,
    /// The connection that said it.
    pub connection_id: ConnectionId,
    /// The `message_id` of the relayed message.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Answers `get_quality_metrics`: counted from the run's own events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QualityMetrics {
    /// The run.
    pub run_id: RunId,
    /// Counts and shares by name.
    pub metrics: Map<String, Value>,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Answers `validate_content`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContentValidationResult {
    /// Whether the content would be accepted.
    pub valid: bool,
    /// The type it was judged as.
    pub content_type: String,
    /// Why not, where it would not.
    pub issues: Vec<ContentIssue>,
    /// The `message_id` of the request.
    pub correlation_id: MessageId,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// One reason why content would be refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ContentIssue {
    /// Where: a JSON pointer, or a line.
    pub pointer: String,
    /// What was expected there.
    pub expected: String,
}

/// Answers `get_usage`: what the user's runs used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageReport {
    /// `day`, `week`, `month` or `all`.
    pub period: UsagePeriod,
    /// Runs that ended in the period.
    pub runs: u64,
    /// Tokens and cost of these runs.
    pub usage: RunUsage,
    /// The `message_id` of the request; absent over HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<MessageId>,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// How far back a usage report looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsagePeriod {
    /// The last 24 hours.
    Day,
    /// The last 7 days.
    Week,
    /// The last 30 days.
    #[default]
    Month,
    /// Everything.
    All,
}

impl UsagePeriod {
    /// Every period.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::All];

    /// The period as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::All => "all",
        }
    }
}

/// CON-4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerShutdown {
    /// Why.
    pub reason: ShutdownReason,
    /// How long running runs may go on, in milliseconds.
    pub drain_deadline_ms: u64,
    /// When it was said.
    pub timestamp: Timestamp,
}

/// Why a backend shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ShutdownReason {
    /// It stops: connections close with 1001.
    Stop,
    /// It restarts: connections close with 1012.
    Restart,
}
