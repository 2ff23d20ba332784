//! One value of each wire type, every optional field present, for tests that look at shapes.

use kingsguard_protocol::client::*;
use kingsguard_protocol::control::*;
use kingsguard_protocol::event::*;
use kingsguard_protocol::http::{MessageRole, ThreadMessage, ThreadSummary};
use kingsguard_protocol::{
    ClientBody, ClientMessage, ControlFrame, ErrorCode, ErrorFrame, Event, EventBody, EventHeader, Limits, Timestamp,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

pub const LIMITS: Limits = Limits {
    message_bytes_max: 5 * 1024 * 1024,
    content_chars_max: 8_000,
    connections_per_user_max: 10,
    connections_per_address_max: 100,
    messages_per_minute_max: 60,
    messages_burst_max: 20,
    frames_per_second_max: 100,
    threads_per_user_max: 100,
    queue_frames_max: 1_000,
    queue_bytes_max: 1_000_000,
    logins_per_minute_max: 10,
};

fn timestamp() -> Timestamp {
    "2026-01-31T08:15:30.250Z".parse().expect("an instant")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

fn failure() -> Failure {
    Failure {
        error_code: ErrorCode::ToolFailed,
        message: "The date 2026-13-45 does not exist. Name another.".to_owned(),
    }
}

fn usage() -> RunUsage {
    RunUsage {
        input_tokens: 120,
        output_tokens: 40,
        cost_microusd: 900,
    }
}

pub fn events() -> Vec<Event> {
    let bodies: Vec<EventBody> = vec![
        AgentStarted {
            status: StartedStatus::Started,
            message: "Looking at your spend.".to_owned(),
            context: StartedContext {
                agent_names: vec!["triage".to_owned(), "data".to_owned()],
                thread_title: Some("January".to_owned()),
                input_chars: 22,
            },
        }
        .into(),
        AgentThinking {
            reasoning: "The question asks for spend by model.".to_owned(),
            step_number: 1,
            total_steps: Some(4),
            progress: Some(0.25),
        }
        .into(),
        ToolExecuting {
            execution_id: "execution_1".into(),
            tool_name: "spend_by_model".to_owned(),
            parameters: object(json!({"from": "2026-01-01", "api_key": "[redacted]"})),
            tool_purpose: "Adds up what each model cost.".to_owned(),
        }
        .into(),
        ToolCompleted {
            execution_id: "execution_1".into(),
            tool_name: "spend_by_model".to_owned(),
            success: false,
            status: ToolStatus::Error,
            results: Some(object(json!({"rows": 3}))),
            error: Some(failure()),
            duration_ms: 12,
        }
        .into(),
        AgentCompleted {
            status: RunStatus::TimedOut,
            success: false,
            final_response: "You spent 4.20 dollars.".to_owned(),
            result: json!({"cost_microusd": 4_200_000}),
            summary: "Spend of January.".to_owned(),
            duration_ms: 900,
            usage: usage(),
            error: Some(failure()),
        }
        .into(),
        SubagentStarted { step_number: 2 }.into(),
        SubagentCompleted {
            step_number: 2,
            success: true,
            duration_ms: 45,
        }
        .into(),
        PartialResult {
            content: "You spent".to_owned(),
            index: 0,
            is_final: false,
        }
        .into(),
        FinalReport {
            report: json!("All models."),
        }
        .into(),
        ProgressUpdate {
            message: "Still reading records.".to_owned(),
            progress: Some(0.5),
        }
        .into(),
        AgentError {
            error_code: ErrorCode::AgentFailed,
            message: "The data agent found no records.".to_owned(),
            recovery: vec!["fallback".to_owned()],
        }
        .into(),
        AgentFallback {
            from_agent: "data".to_owned(),
            to_agent: "data_helper".to_owned(),
            reason: "no records".to_owned(),
        }
        .into(),
        AgentStopped {
            reason: "stopped by the user".to_owned(),
        }
        .into(),
    ];
    bodies
        .into_iter()
        .map(|body| Event {
            header: EventHeader {
                event_id: "event_1".into(),
                seq: 7,
                timestamp: timestamp(),
                user_id: "user_1".into(),
                thread_id: "thread_1".into(),
                run_id: "run_1".into(),
                agent_name: "supervisor".to_owned(),
                correlation_id: "message_1".into(),
            },
            body,
        })
        .collect()
}

fn position() -> ThreadPosition {
    ThreadPosition {
        thread_id: "thread_1".into(),
        epoch: "epoch_1".into(),
        recovered: true,
        oldest_seq: 1,
        last_seq: 9,
    }
}

fn error() -> ErrorFrame {
    ErrorFrame {
        error_code: ErrorCode::ValidationError,
        message: "The field `/content` must be a string of 1–8,000 characters.".to_owned(),
        details: object(json!({"pointer": "/content", "expected": "a string of 1–8,000 characters"})),
        recovery: ErrorCode::ValidationError.recovery(),
        retry_after_ms: Some(1_000),
        correlation_id: Some("message_1".into()),
        timestamp: timestamp(),
    }
}

pub fn control_frames() -> Vec<ControlFrame> {
    let correlation_id = || "message_1".into();
    let timestamp = timestamp();
    let pong = Pong {
        correlation_id: correlation_id(),
        timestamp,
    };
    let typing = TypingNotice {
        thread_id: "thread_1".into(),
        connection_id: "connection_1".into(),
        correlation_id: correlation_id(),
        timestamp,
    };
    let mut frames = opening_frames();
    frames.extend(thread_frames());
    frames.extend([
        ControlFrame::Pong(pong.clone()),
        ControlFrame::HeartbeatAck(pong),
        ControlFrame::AuthCompleted(AuthCompleted {
            expires_at: timestamp,
            correlation_id: correlation_id(),
            timestamp,
        }),
        ControlFrame::TypingStarted(typing.clone()),
        ControlFrame::TypingStopped(typing),
        ControlFrame::Broadcast(BroadcastNotice {
            content: "hello".to_owned(),
            connection_id: "connection_1".into(),
            correlation_id: correlation_id(),
            timestamp,
        }),
        ControlFrame::QualityMetrics(QualityMetrics {
            run_id: "run_1".into(),
            metrics: object(json!({"events": 9})),
            correlation_id: correlation_id(),
            timestamp,
        }),
        ControlFrame::ContentValidationResult(ContentValidationResult {
            valid: false,
            content_type: "json".to_owned(),
            issues: vec![ContentIssue {
                pointer: "/a".to_owned(),
                expected: "a list".to_owned(),
            }],
            correlation_id: correlation_id(),
            timestamp,
        }),
        ControlFrame::UsageReport(UsageReport {
            period: UsagePeriod::Month,
            runs: 2,
            usage: usage(),
            correlation_id: Some(correlation_id()),
            timestamp,
        }),
        ControlFrame::ServerShutdown(ServerShutdown {
            reason: ShutdownReason::Restart,
            drain_deadline_ms: 30_000,
            timestamp,
        }),
        ControlFrame::Error(error()),
    ]);
    frames
}

fn opening_frames() -> Vec<ControlFrame> {
    let timestamp = timestamp();
    vec![
        ControlFrame::ConnectionEstablished(ConnectionEstablished {
            connection_id: "connection_1".into(),
            server_version: "0.1.0".to_owned(),
            protocol_version: "1".to_owned(),
            heartbeat_interval_ms: 30_000,
            limits: LIMITS,
            timestamp,
        }),
        ControlFrame::HandshakeResponse(HandshakeResponse {
            thread_id: "thread_1".into(),
            run_id: "run_1".into(),
            request_id: "request_1".to_owned(),
            session_token: "session_1".to_owned(),
            timestamp,
            message: "Acknowledge to begin.".to_owned(),
        }),
        ControlFrame::HandshakeComplete(HandshakeComplete {
            threads: vec![position()],
            correlation_id: Some("message_1".into()),
            timestamp,
        }),
        ControlFrame::MessageReceived(MessageReceived {
            message_id: "message_1".into(),
            run_id: "run_1".into(),
            thread_id: "thread_1".into(),
            correlation_id: "message_1".into(),
            timestamp,
        }),
        ControlFrame::AgentStatusUpdate(AgentStatusUpdate {
            runs: vec![RunState {
                run_id: "run_1".into(),
                thread_id: "thread_1".into(),
                status: RunPhase::Running,
                agent_name: "supervisor".to_owned(),
                accepted_at: timestamp,
                ended_at: Some(timestamp),
                usage: usage(),
            }],
            correlation_id: "message_1".into(),
            timestamp,
        }),
    ]
}

fn thread_frames() -> Vec<ControlFrame> {
    let timestamp = timestamp();
    let metadata = || raw(r#"{"n":123456789012345678901234567890,"f":1.0}"#);
    let event = events().into_iter().next().expect("an event");
    vec![
        ControlFrame::ThreadCreated(ThreadCreated {
            thread_id: "thread_1".into(),
            title: Some("January".to_owned()),
            metadata: metadata(),
            epoch: "epoch_1".into(),
            correlation_id: "message_1".into(),
            timestamp,
        }),
        ControlFrame::ThreadList(ThreadList {
            threads: vec![ThreadSummary {
                thread_id: "thread_1".into(),
                title: Some("January".to_owned()),
                metadata: metadata(),
                last_seq: 9,
                created_at: timestamp,
                updated_at: timestamp,
            }],
            next_cursor: Some("cursor_1".to_owned()),
            correlation_id: "message_1".into(),
            timestamp,
        }),
        ControlFrame::ThreadSwitched(ThreadSwitched {
            position: position(),
            correlation_id: Some("message_1".into()),
            timestamp,
        }),
        ControlFrame::ThreadRenamed(ThreadRenamed {
            thread_id: "thread_1".into(),
            title: "February".to_owned(),
            correlation_id: "message_1".into(),
            timestamp,
        }),
        ControlFrame::ThreadDeleted(ThreadDeleted {
            thread_id: "thread_1".into(),
            correlation_id: "message_1".into(),
            timestamp,
        }),
        ControlFrame::ThreadHistory(ThreadHistory {
            thread_id: "thread_1".into(),
            events: vec![raw(&serde_json::to_string(&event).expect("an event is written"))],
            messages: vec![ThreadMessage {
                message_id: "message_1".into(),
                role: MessageRole::User,
                content: "How can I spend less?".to_owned(),
                metadata: metadata(),
                timestamp,
            }],
            has_more: true,
            correlation_id: Some("message_1".into()),
            timestamp,
        }),
        ControlFrame::AgentContext(AgentContext {
            thread_id: "thread_1".into(),
            context: object(json!({"memory": {"runs": 2}})),
            correlation_id: "message_1".into(),
            timestamp,
        }),
    ]
}

pub fn client_messages() -> Vec<ClientMessage> {
    let point = || ResumePoint {
        epoch: "epoch_1".into(),
        after: 7,
    };
    let bodies: Vec<ClientBody> = vec![
        HandshakeAcknowledged {
            resume: vec![ThreadResume {
                thread_id: "thread_1".into(),
                point: point(),
            }],
        }
        .into(),
        UserMessage {
            content: "How can I spend less?".to_owned(),
            references: Some(raw(r#"["message_0"]"#)),
            metadata: Some(raw(r#"{"n":123456789012345678901234567890}"#)),
        }
        .into(),
        StartAgent {
            agent_name: "data".to_owned(),
            user_request: "Add up January.".to_owned(),
            context: Some(raw(r#"{"month":1}"#)),
        }
        .into(),
        StopAgent {
            run_id: "run_1".into(),
            reason: Some("too long".to_owned()),
        }
        .into(),
        AgentStatusRequest {
            run_id: Some("run_1".into()),
        }
        .into(),
        Confirmation {
            event_id: "event_1".into(),
            status: ConfirmationStatus::Confirmed,
        }
        .into(),
        CreateThread {
            title: Some("January".to_owned()),
            metadata: Some(raw("{}")),
        }
        .into(),
        ListThreads {
            limit: Some(100),
            cursor: Some("cursor_1".to_owned()),
        }
        .into(),
        SwitchThread { resume: Some(point()) }.into(),
        RenameThread {
            title: "February".to_owned(),
        }
        .into(),
        DeleteThread {}.into(),
        GetThreadHistory {
            limit: Some(1),
            before: Some(9),
        }
        .into(),
        GetAgentContext {}.into(),
        Ping {}.into(),
        ClientPong {}.into(),
        Heartbeat {}.into(),
        HeartbeatAck {}.into(),
        Auth {
            token: "header.claims.signature".into(),
        }
        .into(),
        TypingStarted {}.into(),
        TypingStopped {}.into(),
        Broadcast {
            content: "hello".to_owned(),
        }
        .into(),
        ExampleMessage {
            content: "Which model is cheapest?".to_owned(),
            category: "spend".to_owned(),
        }
        .into(),
        GetQualityMetrics { run_id: "run_1".into() }.into(),
        ValidateContent {
            content: "{}".to_owned(),
            content_type: "json".to_owned(),
        }
        .into(),
        GetUsage {
            period: Some(UsagePeriod::Day),
        }
        .into(),
        Batch {
            messages: vec![raw(r#"{"type":"ping"}"#)],
        }
        .into(),
        Disconnect {
            reason: Some("done".to_owned()),
        }
        .into(),
    ];
    bodies
        .into_iter()
        .map(|body| ClientMessage {
            message_id: Some("message_1".into()),
            thread_id: Some("thread_1".into()),
            body,
        })
        .collect()
}
