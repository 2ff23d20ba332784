//! Arbitrary values of every wire type. Numbers with a fraction are such that binary and decimal agree: the contract
//! promises double precision, and JSON readers may differ in the last digit.

use kingsguard_protocol::client::*;
use kingsguard_protocol::control::*;
use kingsguard_protocol::event::*;
use kingsguard_protocol::http::{MessageRole, ThreadMessage, ThreadSummary};
use kingsguard_protocol::{
    ClientBody, ClientMessage, ControlFrame, Epoch, ErrorCode, ErrorFrame, Event, EventBody, EventHeader, Limits,
    MessageId, Recovery, ThreadId, Timestamp,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// A strategy and the type that it makes.
pub type Named<T> = (&'static str, BoxedStrategy<T>);

pub fn id<T: From<String> + std::fmt::Debug + 'static>() -> BoxedStrategy<T> {
    "[a-z]{1,9}_[0-9a-f-]{0,36}|.{1,8}"
        .prop_filter("PostgreSQL text holds no NUL", |text| !text.contains('\0'))
        .prop_map(T::from)
        .boxed()
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0_i64..253_402_300_799_999).prop_map(|unix_ms| Timestamp::from_unix_ms(unix_ms).expect("a year up to 9999"))
}

fn fraction() -> impl Strategy<Value = f64> {
    (0_u32..=64).prop_map(|part| f64::from(part) / 64.0)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-z~/]{0,6}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("[a-z~/]{0,6}", value(), 0..4).prop_map(|map| map.into_iter().collect())
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value is JSON")
}

/// An object as text, with an integer that no machine word holds.
fn raw_object() -> impl Strategy<Value = Box<RawValue>> {
    prop_oneof![
        object().prop_map(|map| raw(&Value::Object(map))),
        "[1-9][0-9]{20,60}"
            .prop_map(|digits| RawValue::from_string(format!("{{ \"n\" : [{digits}, -{digits}] }}")).expect("JSON")),
    ]
    // What a client may not send (SEC-1) is no value to come back.
    .prop_filter("no escaped NUL", |raw| !raw.get().contains("\\u0000"))
}

fn raw_list() -> impl Strategy<Value = Box<RawValue>> {
    vec(value(), 0..4)
        .prop_map(|list| raw(&Value::from(list)))
        .prop_filter("no escaped NUL", |raw| !raw.get().contains("\\u0000"))
}

/// Text that a client may send where it must not be blank.
pub fn filled() -> impl Strategy<Value = String> {
    ".{1,24}".prop_filter("not blank, no NUL", |text| {
        !text.trim().is_empty() && !text.contains('\0')
    })
}

fn failure() -> impl Strategy<Value = Failure> {
    (select(ErrorCode::ALL), any::<String>()).prop_map(|(error_code, message)| Failure { error_code, message })
}

fn usage() -> impl Strategy<Value = RunUsage> {
    any::<[u64; 3]>().prop_map(|[input_tokens, output_tokens, cost_microusd]| RunUsage {
        input_tokens,
        output_tokens,
        cost_microusd,
    })
}

fn header() -> impl Strategy<Value = EventHeader> {
    (id(), 1..u64::MAX, timestamp(), id(), id(), id(), any::<String>(), id()).prop_map(
        |(event_id, seq, timestamp, user_id, thread_id, run_id, agent_name, correlation_id)| EventHeader {
            event_id,
            seq,
            timestamp,
            user_id,
            thread_id,
            run_id,
            agent_name,
            correlation_id,
        },
    )
}

pub fn events() -> Vec<Named<Event>> {
    let text = any::<String>;
    let bodies: Vec<BoxedStrategy<EventBody>> = vec![
        (text(), vec(text(), 0..3), option::of(text()), any::<u64>())
            .prop_map(|(message, agent_names, thread_title, input_chars)| AgentStarted {
                status: StartedStatus::Started,
                message,
                context: StartedContext {
                    agent_names,
                    thread_title,
                    input_chars,
                },
            })
            .prop_map_into()
            .boxed(),
        (text(), any::<u32>(), option::of(any::<u32>()), option::of(fraction()))
            .prop_map(|(reasoning, step_number, total_steps, progress)| AgentThinking {
                reasoning,
                step_number,
                total_steps,
                progress,
            })
            .prop_map_into()
            .boxed(),
        (id(), text(), object(), text())
            .prop_map(|(execution_id, tool_name, parameters, tool_purpose)| ToolExecuting {
                execution_id,
                tool_name,
                parameters,
                tool_purpose,
            })
            .prop_map_into()
            .boxed(),
        (
            id(),
            text(),
            any::<bool>(),
            tool_status(),
            option::of(object()),
            option::of(failure()),
            any::<u64>(),
        )
            .prop_map(
                |(execution_id, tool_name, success, status, results, error, duration_ms)| ToolCompleted {
                    execution_id,
                    tool_name,
                    success,
                    status,
                    results,
                    error,
                    duration_ms,
                },
            )
            .prop_map_into()
            .boxed(),
        (
            run_status(),
            any::<bool>(),
            text(),
            value(),
            text(),
            any::<u64>(),
            usage(),
            option::of(failure()),
        )
            .prop_map(
                |(status, success, final_response, result, summary, duration_ms, usage, error)| AgentCompleted {
                    status,
                    success,
                    final_response,
                    result,
                    summary,
                    duration_ms,
                    usage,
                    error,
                },
            )
            .prop_map_into()
            .boxed(),
        any::<u32>()
            .prop_map(|step_number| SubagentStarted { step_number })
            .prop_map_into()
            .boxed(),
        any::<(u32, bool, u64)>()
            .prop_map(|(step_number, success, duration_ms)| SubagentCompleted {
                step_number,
                success,
                duration_ms,
            })
            .prop_map_into()
            .boxed(),
        any::<(String, u32, bool)>()
            .prop_map(|(content, index, is_final)| PartialResult {
                content,
                index,
                is_final,
            })
            .prop_map_into()
            .boxed(),
        value()
            .prop_map(|report| FinalReport { report })
            .prop_map_into()
            .boxed(),
        (text(), option::of(fraction()))
            .prop_map(|(message, progress)| ProgressUpdate { message, progress })
            .prop_map_into()
            .boxed(),
        (select(ErrorCode::ALL), text(), vec(text(), 0..3))
            .prop_map(|(error_code, message, recovery)| AgentError {
                error_code,
                message,
                recovery,
            })
            .prop_map_into()
            .boxed(),
        any::<[String; 3]>()
            .prop_map(|[from_agent, to_agent, reason]| AgentFallback {
                from_agent,
                to_agent,
                reason,
            })
            .prop_map_into()
            .boxed(),
        text()
            .prop_map(|reason| AgentStopped { reason })
            .prop_map_into()
            .boxed(),
    ];
    EventBody::TYPES
        .iter()
        .zip(bodies)
        .map(|(name, body)| {
            (
                *name,
                (header(), body)
                    .prop_map(|(header, body)| Event { header, body })
                    .boxed(),
            )
        })
        .collect()
}

fn tool_status() -> impl Strategy<Value = ToolStatus> {
    select(
        &[
            ToolStatus::Success,
            ToolStatus::Error,
            ToolStatus::Timeout,
            ToolStatus::Cancelled,
        ][..],
    )
}

fn run_status() -> impl Strategy<Value = RunStatus> {
    select(
        &[
            RunStatus::Completed,
            RunStatus::Failed,
            RunStatus::Cancelled,
            RunStatus::TimedOut,
        ][..],
    )
}

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

fn resume_point() -> impl Strategy<Value = ResumePoint> {
    (id::<Epoch>(), 0..=i64::MAX.unsigned_abs()).prop_map(|(epoch, after)| ResumePoint { epoch, after })
}

fn thread_resume() -> impl Strategy<Value = Vec<ThreadResume>> {
    proptest::collection::hash_map(id::<ThreadId>(), resume_point(), 0..4).prop_map(|resume| {
        let entry = |(thread_id, point)| ThreadResume { thread_id, point };
        resume.into_iter().map(entry).collect()
    })
}

pub fn client_messages() -> Vec<Named<ClientMessage>> {
    let limit = || option::of(1_u32..=100);
    let bodies: Vec<BoxedStrategy<ClientBody>> = vec![
        thread_resume()
            .prop_map(|resume| HandshakeAcknowledged { resume })
            .prop_map_into()
            .boxed(),
        (filled(), option::of(raw_list()), option::of(raw_object()))
            .prop_map(|(content, references, metadata)| UserMessage {
                content,
                references,
                metadata,
            })
            .prop_map_into()
            .boxed(),
        (filled(), filled(), option::of(raw_object()))
            .prop_map(|(agent_name, user_request, context)| StartAgent {
                agent_name,
                user_request,
                context,
            })
            .prop_map_into()
            .boxed(),
        (id(), option::of(filled()))
            .prop_map(|(run_id, reason)| StopAgent { run_id, reason })
            .prop_map_into()
            .boxed(),
        option::of(id())
            .prop_map(|run_id| AgentStatusRequest { run_id })
            .prop_map_into()
            .boxed(),
        (
            id(),
            select(&[ConfirmationStatus::Confirmed, ConfirmationStatus::Failed][..]),
        )
            .prop_map(|(event_id, status)| Confirmation { event_id, status })
            .prop_map_into()
            .boxed(),
        (option::of(filled()), option::of(raw_object()))
            .prop_map(|(title, metadata)| CreateThread { title, metadata })
            .prop_map_into()
            .boxed(),
        (limit(), option::of(filled()))
            .prop_map(|(limit, cursor)| ListThreads { limit, cursor })
            .prop_map_into()
            .boxed(),
        option::of(resume_point())
            .prop_map(|resume| SwitchThread { resume })
            .prop_map_into()
            .boxed(),
        filled()
            .prop_map(|title| RenameThread { title })
            .prop_map_into()
            .boxed(),
        Just(DeleteThread {}.into()).boxed(),
        (limit(), option::of(0..=i64::MAX.unsigned_abs()))
            .prop_map(|(limit, before)| GetThreadHistory { limit, before })
            .prop_map_into()
            .boxed(),
        Just(GetAgentContext {}.into()).boxed(),
        Just(Ping {}.into()).boxed(),
        Just(ClientPong {}.into()).boxed(),
        Just(Heartbeat {}.into()).boxed(),
        Just(HeartbeatAck {}.into()).boxed(),
        filled()
            .prop_map(|token| Auth { token: token.into() })
            .prop_map_into()
            .boxed(),
        Just(TypingStarted {}.into()).boxed(),
        Just(TypingStopped {}.into()).boxed(),
        filled()
            .prop_map(|content| Broadcast { content })
            .prop_map_into()
            .boxed(),
        (filled(), filled())
            .prop_map(|(content, category)| ExampleMessage { content, category })
            .prop_map_into()
            .boxed(),
        id().prop_map(|run_id| GetQualityMetrics { run_id })
            .prop_map_into()
            .boxed(),
        (filled(), filled())
            .prop_map(|(content, content_type)| ValidateContent { content, content_type })
            .prop_map_into()
            .boxed(),
        option::of(select(UsagePeriod::ALL.to_vec()))
            .prop_map(|period| GetUsage { period })
            .prop_map_into()
            .boxed(),
        vec(raw_object(), 1..5)
            .prop_map(|messages| Batch { messages })
            .prop_map_into()
            .boxed(),
        option::of(filled())
            .prop_map(|reason| Disconnect { reason })
            .prop_map_into()
            .boxed(),
    ];
    ClientType::ALL
        .iter()
        .zip(bodies)
        .map(|(client_type, body)| {
            // Where the envelope must name a thread, it does.
            let names_thread = matches!(
                client_type,
                ClientType::SwitchThread | ClientType::RenameThread | ClientType::DeleteThread
            );
            let thread_id = if names_thread {
                id().prop_map(Some).boxed()
            } else {
                option::of(id()).boxed()
            };
            let message = (option::of(id()), thread_id, body).prop_map(|(message_id, thread_id, body)| ClientMessage {
                message_id,
                thread_id,
                body,
            });
            (client_type.names()[0], message.boxed())
        })
        .collect()
}
