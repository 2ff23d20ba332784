//! Control frames.

use kingsguard_protocol::control::*;
use kingsguard_protocol::http::{MessageRole, ThreadMessage, ThreadSummary};
use kingsguard_protocol::{ControlFrame, ErrorCode, ErrorFrame, Limits, MessageId, Recovery};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Named, id, object, raw_object, run_status, timestamp, usage};

fn position() -> impl Strategy<Value = ThreadPosition> {
    (id(), id(), any::<(bool, u64, u64)>()).prop_map(|(thread_id, epoch, (recovered, oldest_seq, last_seq))| {
        ThreadPosition {
            thread_id,
            epoch,
            recovered,
            oldest_seq,
            last_seq,
        }
    })
}

fn run_state() -> impl Strategy<Value = RunState> {
    let phase = prop_oneof![
        Just(RunPhase::Queued),
        Just(RunPhase::Running),
        run_status().prop_map(RunPhase::from)
    ];
    (
        id(),
        id(),
        phase,
        any::<String>(),
        timestamp(),
        option::of(timestamp()),
        usage(),
    )
        .prop_map(
            |(run_id, thread_id, status, agent_name, accepted_at, ended_at, usage)| RunState {
                run_id,
                thread_id,
                status,
                agent_name,
                accepted_at,
                ended_at,
                usage,
            },
        )
}

fn thread_summary() -> impl Strategy<Value = ThreadSummary> {
    (
        id(),
        option::of(any::<String>()),
        raw_object(),
        any::<u64>(),
        timestamp(),
        timestamp(),
    )
        .prop_map(
            |(thread_id, title, metadata, last_seq, created_at, updated_at)| ThreadSummary {
                thread_id,
                title,
                metadata,
                last_seq,
                created_at,
                updated_at,
            },
        )
}

fn thread_message() -> impl Strategy<Value = ThreadMessage> {
    let role = select(&[MessageRole::User, MessageRole::Assistant][..]);
    (id(), role, any::<String>(), raw_object(), timestamp()).prop_map(
        |(message_id, role, content, metadata, timestamp)| ThreadMessage {
            message_id,
            role,
            content,
            metadata,
            timestamp,
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    any::<[u64; 11]>().prop_map(|numbers| Limits {
        message_bytes_max: numbers[0],
        content_chars_max: numbers[1],
        connections_per_user_max: numbers[2],
        connections_per_address_max: numbers[3],
        messages_per_minute_max: numbers[4],
        messages_burst_max: numbers[5],
        frames_per_second_max: numbers[6],
        threads_per_user_max: numbers[7],
        queue_frames_max: numbers[8],
        queue_bytes_max: numbers[9],
        logins_per_minute_max: numbers[10],
    })
}

fn error() -> impl Strategy<Value = ErrorFrame> {
    let recovery = [
        Recovery::Retry,
        Recovery::RetryAfter,
        Recovery::Reauthenticate,
        Recovery::Reconnect,
        Recovery::FixRequest,
        Recovery::None,
    ];
    (
        select(ErrorCode::ALL),
        any::<String>(),
        object(),
        select(recovery.to_vec()),
        option::of(any::<u64>()),
        option::of(id()),
        timestamp(),
    )
        .prop_map(
            |(error_code, message, details, recovery, retry_after_ms, correlation_id, timestamp)| ErrorFrame {
                error_code,
                message,
                details,
                recovery,
                retry_after_ms,
                correlation_id,
                timestamp,
            },
        )
}

pub fn control_frames() -> Vec<Named<ControlFrame>> {
    let text = any::<String>;
    let said = || (id::<MessageId>(), timestamp());
    let pong = || {
        said().prop_map(|(correlation_id, timestamp)| Pong {
            correlation_id,
            timestamp,
        })
    };
    let typing = || {
        (id(), id(), said()).prop_map(|(thread_id, connection_id, (correlation_id, timestamp))| TypingNotice {
            thread_id,
            connection_id,
            correlation_id,
            timestamp,
        })
    };
    let frames: Vec<BoxedStrategy<ControlFrame>> = vec![
        (id(), text(), text(), any::<u64>(), limits(), timestamp())
            .prop_map(
                |(connection_id, server_version, protocol_version, heartbeat_interval_ms, limits, timestamp)| {
                    ControlFrame::ConnectionEstablished(ConnectionEstablished {
                        connection_id,
                        server_version,
                        protocol_version,
                        heartbeat_interval_ms,
                        limits,
                        timestamp,
                    })
                },
            )
            .boxed(),
        (id(), id(), text(), text(), timestamp(), text())
            .prop_map(|(thread_id, run_id, request_id, session_token, timestamp, message)| {
                ControlFrame::HandshakeResponse(HandshakeResponse {
                    thread_id,
                    run_id,
                    request_id,
                    session_token,
                    timestamp,
                    message,
                })
            })
            .boxed(),
        (vec(position(), 0..3), option::of(id()), timestamp())
            .prop_map(|(threads, correlation_id, timestamp)| {
                ControlFrame::HandshakeComplete(HandshakeComplete {
                    threads,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (id(), id(), id(), said())
            .prop_map(|(message_id, run_id, thread_id, (correlation_id, timestamp))| {
                ControlFrame::MessageReceived(MessageReceived {
                    message_id,
                    run_id,
                    thread_id,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (vec(run_state(), 0..3), said())
            .prop_map(|(runs, (correlation_id, timestamp))| {
                ControlFrame::AgentStatusUpdate(AgentStatusUpdate {
                    runs,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (id(), option::of(text()), raw_object(), id(), said())
            .prop_map(|(thread_id, title, metadata, epoch, (correlation_id, timestamp))| {
                ControlFrame::ThreadCreated(ThreadCreated {
                    thread_id,
                    title,
                    metadata,
                    epoch,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (vec(thread_summary(), 0..3), option::of(text()), said())
            .prop_map(|(threads, next_cursor, (correlation_id, timestamp))| {
                ControlFrame::ThreadList(ThreadList {
                    threads,
                    next_cursor,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (position(), option::of(id()), timestamp())
            .prop_map(|(position, correlation_id, timestamp)| {
                ControlFrame::ThreadSwitched(ThreadSwitched {
                    position,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (id(), text(), said())
            .prop_map(|(thread_id, title, (correlation_id, timestamp))| {
                ControlFrame::ThreadRenamed(ThreadRenamed {
                    thread_id,
                    title,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (id(), said())
            .prop_map(|(thread_id, (correlation_id, timestamp))| {
                ControlFrame::ThreadDeleted(ThreadDeleted {
                    thread_id,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (
            id(),
            vec(raw_object(), 0..3),
            vec(thread_message(), 0..3),
            any::<bool>(),
            option::of(id()),
            timestamp(),
        )
            .prop_map(|(thread_id, events, messages, has_more, correlation_id, timestamp)| {
                ControlFrame::ThreadHistory(ThreadHistory {
                    thread_id,
                    events,
                    messages,
                    has_more,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (id(), object(), said())
            .prop_map(|(thread_id, context, (correlation_id, timestamp))| {
                ControlFrame::AgentContext(AgentContext {
                    thread_id,
                    context,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        pong().prop_map(ControlFrame::Pong).boxed(),
        pong().prop_map(ControlFrame::HeartbeatAck).boxed(),
        (timestamp(), said())
            .prop_map(|(expires_at, (correlation_id, timestamp))| {
                ControlFrame::AuthCompleted(AuthCompleted {
                    expires_at,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        typing().prop_map(ControlFrame::TypingStarted).boxed(),
        typing().prop_map(ControlFrame::TypingStopped).boxed(),
        (text(), id(), said())
            .prop_map(|(content, connection_id, (correlation_id, timestamp))| {
                ControlFrame::Broadcast(BroadcastNotice {
                    content,
                    connection_id,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (id(), object(), said())
            .prop_map(|(run_id, metrics, (correlation_id, timestamp))| {
                ControlFrame::QualityMetrics(QualityMetrics {
                    run_id,
                    metrics,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (any::<bool>(), text(), vec(any::<(String, String)>(), 0..3), said())
            .prop_map(|(valid, content_type, issues, (correlation_id, timestamp))| {
                let issue = |(pointer, expected)| ContentIssue { pointer, expected };
                ControlFrame::ContentValidationResult(ContentValidationResult {
                    valid,
                    content_type,
                    issues: issues.into_iter().map(issue).collect(),
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (
            select(UsagePeriod::ALL.to_vec()),
            any::<u64>(),
            usage(),
            option::of(id()),
            timestamp(),
        )
            .prop_map(|(period, runs, usage, correlation_id, timestamp)| {
                ControlFrame::UsageReport(UsageReport {
                    period,
                    runs,
                    usage,
                    correlation_id,
                    timestamp,
                })
            })
            .boxed(),
        (
            select(&[ShutdownReason::Stop, ShutdownReason::Restart][..]),
            any::<u64>(),
            timestamp(),
        )
            .prop_map(|(reason, drain_deadline_ms, timestamp)| {
                ControlFrame::ServerShutdown(ServerShutdown {
                    reason,
                    drain_deadline_ms,
                    timestamp,
                })
            })
            .boxed(),
        error().prop_map(ControlFrame::Error).boxed(),
    ];
    ControlFrame::TYPES.iter().copied().zip(frames).collect()
}
