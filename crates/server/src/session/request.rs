//! What the session asks the connection to do, and what comes back.

use kingsguard_protocol::client::{ConfirmationStatus, ResumePoint, ThreadResume};
use kingsguard_protocol::control::{ContentIssue, RunState, ThreadCreated, ThreadHistory, UsagePeriod};
use kingsguard_protocol::event::RunUsage;
use kingsguard_protocol::http::{Secret, ThreadPage};
use kingsguard_protocol::{EventId, MessageId, RunId, ThreadId, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// One message's work.
#[derive(Debug)]
pub struct Task {
    /// The message's id, the client's own or made here: the `correlation_id` of the answer.
    pub cause: MessageId,
    /// The offered thread where this is its first use: make it first, then say so to the session.
    pub makes_thread: Option<ThreadId>,
    /// The JSON pointer of the one field whose value only the world can judge: an example's category, a list's cursor.
    pub judged_later: Option<String>,
    /// What to do.
    pub request: Request,
}

/// What a message asks for, with every thread named.
#[derive(Debug)]
pub enum Request {
    /// Nothing; it only counts against the limits.
    Nothing,
    /// A `pong`.
    Pong,
    /// A `heartbeat_ack`.
    HeartbeatAck,
    /// End the connection.
    Leave,
    /// Go on with a fresh token of the same user (AUTH-6).
    Authenticate { token: Secret },
    /// Follow these threads; send `handshake_complete` before their events (HSK-2).
    Acknowledge {
        /// The connection's own thread from then on. It is followed from now where `resume` does not have it.
        own: ThreadId,
        resume: Vec<ThreadResume>,
    },
    /// Accept a run; send `message_received` before its events (MSG-5).
    StartRun(StartRun),
    /// Accept a run over stored example data.
    StartExample {
        thread_id: ThreadId,
        content: String,
        category: String,
    },
    /// Follow the run's thread and end the run.
    StopRun { run_id: RunId, reason: Option<String> },
    /// One run as it stands, or all open ones.
    RunStates { run_id: Option<RunId> },
    /// Count what became of an event; an unknown one is ignored.
    Confirm {
        event_id: EventId,
        status: ConfirmationStatus,
    },
    /// Make a thread and follow it.
    CreateThread {
        title: Option<String>,
        metadata: Option<Box<RawValue>>,
    },
    /// A page of threads.
    ListThreads { limit: Option<u32>, cursor: Option<String> },
    /// Follow a thread; send `thread_switched` before its events.
    SwitchThread {
        thread_id: ThreadId,
        resume: Option<ResumePoint>,
    },
    /// Give a thread another title.
    RenameThread { thread_id: ThreadId, title: String },
    /// Delete a thread.
    DeleteThread { thread_id: ThreadId },
    /// A thread's events and messages.
    History {
        thread_id: ThreadId,
        limit: Option<u32>,
        before: Option<u64>,
    },
    /// What the agents keep about a thread.
    Context { thread_id: ThreadId },
    /// Tell the user's other connections.
    Typing { thread_id: ThreadId, typing: Typing },
    /// Tell all of the user's connections.
    Broadcast { content: String },
    /// A run's counts.
    Quality { run_id: RunId },
    /// Whether content would be accepted; this is the answer already.
    Validated {
        content_type: String,
        issues: Vec<ContentIssue>,
    },
    /// What the user's runs used.
    Usage { period: UsagePeriod },
}

/// A run to accept.
#[derive(Debug)]
pub struct StartRun {
    /// The thread of the run.
    pub thread_id: ThreadId,
    /// The agent; the supervisor where absent.
    pub agent_name: Option<String>,
    /// What the user says.
    pub content: String,
    /// What it refers to, the client's own JSON.
    pub references: Option<Box<RawValue>>,
    /// Stored with the message, the client's own JSON.
    pub metadata: Option<Box<RawValue>>,
    /// For the agent, the client's own JSON.
    pub context: Option<Box<RawValue>>,
}

/// What a user does at his keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typing {
    /// He types.
    Started,
    /// He stopped.
    Stopped,
}

impl Request {
    /// The thread that must be one of the user's; the thing that is judged before the limits are (ERR-1).
    #[must_use]
    pub fn thread(&self) -> Option<&ThreadId> {
        match self {
            Self::Acknowledge { own, .. } => Some(own),
            Self::StartRun(StartRun { thread_id, .. })
            | Self::StartExample { thread_id, .. }
            | Self::SwitchThread { thread_id, .. }
            | Self::RenameThread { thread_id, .. }
            | Self::DeleteThread { thread_id }
            | Self::History { thread_id, .. }
            | Self::Context { thread_id }
            | Self::Typing { thread_id, .. } => Some(thread_id),
            Self::Nothing
            | Self::Pong
            | Self::HeartbeatAck
            | Self::Leave
            | Self::Authenticate { .. }
            | Self::StopRun { .. }
            | Self::RunStates { .. }
            | Self::Confirm { .. }
            | Self::CreateThread { .. }
            | Self::ListThreads { .. }
            | Self::Broadcast { .. }
            | Self::Quality { .. }
            | Self::Validated { .. }
            | Self::Usage { .. } => None,
        }
    }

    /// The run that must be one of the user's.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Self::StopRun { run_id, .. } | Self::Quality { run_id } => Some(run_id),
            Self::RunStates { run_id } => run_id.as_ref(),
            _ => None,
        }
    }

    /// Whether it counts as a message that starts a run (LIM-1); all others count as frames.
    #[must_use]
    pub fn starts_run(&self) -> bool {
        matches!(self, Self::StartRun(_) | Self::StartExample { .. })
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Reply {
    /// Done; the message needs no answer, or its answer is a relayed notice or an event.
    Quiet,
    /// `message_received` was sent.
    Accepted,
    /// As asked.
    Pong,
    /// As asked.
    HeartbeatAck,
    /// The connection may live until then.
    Authenticated { expires_at: Timestamp },
    /// `handshake_complete` was sent.
    Acknowledged { own: ThreadId },
    /// Runs as they stand.
    Runs(Vec<RunState>),
    /// The thread was made; the connection follows it.
    Created(CreatedThread),
    /// A page of threads.
    Threads(ThreadPage),
    /// `thread_switched` was sent.
    Switched { own: ThreadId },
    /// The thread has this title now.
    Renamed { thread_id: ThreadId, title: String },
    /// The thread is no more.
    Deleted { thread_id: ThreadId },
    /// Events and messages; the session adds the `correlation_id`.
    History(ThreadHistory),
    /// What the agents keep.
    Context {
        thread_id: ThreadId,
        context: Map<String, Value>,
    },
    /// Counts and shares by name.
    Quality { run_id: RunId, metrics: Map<String, Value> },
    /// Whether content would be accepted.
    Validated {
        content_type: String,
        issues: Vec<ContentIssue>,
    },
    /// What the user's runs used.
    Usage {
        period: UsagePeriod,
        runs: u64,
        usage: RunUsage,
    },
    /// The connection is to end.
    Left,
}

/// A thread that was just made.
pub type CreatedThread = Box<ThreadCreated>;
