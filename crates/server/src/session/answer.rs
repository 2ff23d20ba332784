//! The frames that answer messages: each carries the message's id as `correlation_id` (MSG-1).

use kingsguard_protocol::control::{
    AgentContext, AgentStatusUpdate, AuthCompleted, BroadcastNotice, ConnectionEstablished, ContentValidationResult,
    HandshakeComplete, HandshakeResponse, MessageReceived, Pong, QualityMetrics, ThreadDeleted, ThreadList,
    ThreadPosition, ThreadRenamed, ThreadSwitched, TypingNotice, UsageReport,
};
use kingsguard_protocol::{ConnectionId, ControlFrame, MessageId, PROTOCOL_VERSION, RunId, ThreadId, Timestamp};

use super::Facts;
use super::request::{Reply, Typing};

/// The first two frames of a connection (HSK-1).
#[must_use]
pub fn greeting(facts: &Facts, heartbeat_interval_ms: u64, server_version: &str) -> [ControlFrame; 2] {
    let timestamp = Timestamp::now();
    [
        ControlFrame::ConnectionEstablished(ConnectionEstablished {
            connection_id: facts.connection_id.clone(),
            server_version: server_version.to_owned(),
            protocol_version: PROTOCOL_VERSION.to_owned(),
            heartbeat_interval_ms,
            limits: facts.limits,
            timestamp,
        }),
        ControlFrame::HandshakeResponse(HandshakeResponse {
            thread_id: facts.offered.clone(),
            run_id: RunId::generate(),
            request_id: format!("request_{}", uuid::Uuid::now_v7()),
            session_token: format!("session_{}", uuid::Uuid::now_v7()),
            timestamp,
            message: "Send handshake_acknowledged to begin, or to resume threads.".to_owned(),
        }),
    ]
}

/// Answers `handshake_acknowledged` (HSK-2).
#[must_use]
pub fn handshake_complete(threads: Vec<ThreadPosition>, cause: MessageId) -> ControlFrame {
    ControlFrame::HandshakeComplete(HandshakeComplete {
        threads,
        correlation_id: Some(cause),
        timestamp: Timestamp::now(),
    })
}

/// Answers `switch_thread`.
#[must_use]
pub fn thread_switched(position: ThreadPosition, cause: MessageId) -> ControlFrame {
    ControlFrame::ThreadSwitched(ThreadSwitched {
        position,
        correlation_id: Some(cause),
        timestamp: Timestamp::now(),
    })
}

/// Answers a message that starts a run, or names the run of its first arrival (MSG-5, SEQ-8).
#[must_use]
pub fn message_received(
    message_id: MessageId,
    run_id: RunId,
    thread_id: ThreadId,
    accepted_at: Timestamp,
) -> ControlFrame {
    ControlFrame::MessageReceived(MessageReceived {
        correlation_id: message_id.clone(),
        message_id,
        run_id,
        thread_id,
        timestamp: accepted_at,
    })
}

/// What the user's other connections are told when he types.
#[must_use]
pub fn typing(typing: Typing, thread_id: ThreadId, connection_id: ConnectionId, cause: MessageId) -> ControlFrame {
    let notice = TypingNotice {
        thread_id,
        connection_id,
        correlation_id: cause,
        timestamp: Timestamp::now(),
    };
    match typing {
        Typing::Started => ControlFrame::TypingStarted(notice),
        Typing::Stopped => ControlFrame::TypingStopped(notice),
    }
}

/// What all of the user's connections are told, the one that said it too: that is its answer.
#[must_use]
pub fn broadcast(content: String, connection_id: ConnectionId, cause: MessageId) -> ControlFrame {
    ControlFrame::Broadcast(BroadcastNotice {
        content,
        connection_id,
        correlation_id: cause,
        timestamp: Timestamp::now(),
    })
}

/// The answer that a reply still needs.
pub(super) fn to(reply: Reply, cause: MessageId) -> Option<ControlFrame> {
    let timestamp = Timestamp::now();
    Some(match reply {
        Reply::Quiet | Reply::Accepted | Reply::Acknowledged { .. } | Reply::Switched { .. } | Reply::Left => {
            return None;
        }
        Reply::Pong => ControlFrame::Pong(Pong {
            correlation_id: cause,
            timestamp,
        }),
        Reply::HeartbeatAck => ControlFrame::HeartbeatAck(Pong {
            correlation_id: cause,
            timestamp,
        }),
        Reply::Authenticated { expires_at } => ControlFrame::AuthCompleted(AuthCompleted {
            expires_at,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Runs(runs) => ControlFrame::AgentStatusUpdate(AgentStatusUpdate {
            runs,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Created(created) => ControlFrame::ThreadCreated(*created),
        Reply::Threads(page) => ControlFrame::ThreadList(ThreadList {
            threads: page.threads,
            next_cursor: page.next_cursor,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Renamed { thread_id, title } => ControlFrame::ThreadRenamed(ThreadRenamed {
            thread_id,
            title,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Deleted { thread_id } => ControlFrame::ThreadDeleted(ThreadDeleted {
            thread_id,
            correlation_id: cause,
            timestamp,
        }),
        Reply::History(mut history) => {
            history.correlation_id = Some(cause);
            ControlFrame::ThreadHistory(history)
        }
        Reply::Context { thread_id, context } => ControlFrame::AgentContext(AgentContext {
            thread_id,
            context,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Quality { run_id, metrics } => ControlFrame::QualityMetrics(QualityMetrics {
            run_id,
            metrics,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Validated { content_type, issues } => ControlFrame::ContentValidationResult(ContentValidationResult {
            valid: issues.is_empty(),
            content_type,
            issues,
            correlation_id: cause,
            timestamp,
        }),
        Reply::Usage { period, runs, usage } => ControlFrame::UsageReport(UsageReport {
            period,
            runs,
            usage,
            correlation_id: Some(cause),
            timestamp,
        }),
    })
}
