//! One good message of every client type, by every name and in both forms (contract §8).

use kingsguard_protocol::client::ClientType;
use kingsguard_testkit::prelude::*;

/// What messages name.
#[derive(Debug)]
pub struct Given {
    pub thread_id: ThreadId,
    pub run_id: RunId,
    pub token: String,
}

impl Given {
    /// Things of a user who has no run yet.
    pub fn of(user: &SimulatedUser, thread_id: &ThreadId) -> Self {
        Self {
            thread_id: thread_id.clone(),
            run_id: RunId::generate(),
            token: user.access_token(),
        }
    }
}

/// The fields of a good message, without its envelope.
pub fn fields(kind: ClientType, given: &Given) -> Value {
    let Given {
        thread_id,
        run_id,
        token,
    } = given;
    match kind {
        ClientType::HandshakeAcknowledged => json!({ "thread_id": thread_id }),
        ClientType::UserMessage => json!({ "content": "What did I spend?" }),
        ClientType::StartAgent => json!({ "agent_name": "triage", "user_request": "What did I spend?" }),
        ClientType::StopAgent => json!({ "run_id": run_id, "reason": "enough" }),
        ClientType::AgentStatusRequest | ClientType::GetQualityMetrics => json!({ "run_id": run_id }),
        ClientType::Confirmation => json!({ "event_id": "event_unknown", "status": "confirmed" }),
        ClientType::CreateThread => json!({ "title": "Costs", "metadata": { "colour": "red" } }),
        ClientType::ListThreads => json!({ "limit": 10 }),
        ClientType::SwitchThread
        | ClientType::DeleteThread
        | ClientType::GetAgentContext
        | ClientType::TypingStarted
        | ClientType::TypingStopped => json!({ "thread_id": thread_id }),
        ClientType::RenameThread => json!({ "thread_id": thread_id, "title": "Spending" }),
        ClientType::GetThreadHistory => json!({ "thread_id": thread_id, "limit": 5 }),
        ClientType::Ping | ClientType::Pong | ClientType::Heartbeat | ClientType::HeartbeatAck => json!({}),
        ClientType::Auth => json!({ "token": token }),
        ClientType::Broadcast => json!({ "content": "Hello, all of me" }),
        ClientType::ExampleMessage => json!({ "content": "What did I spend?", "category": "cost" }),
        ClientType::ValidateContent => json!({ "content": "What did I spend?", "content_type": "user_message" }),
        ClientType::GetUsage => json!({ "period": "day" }),
        ClientType::Batch => json!({ "messages": [{ "type": "ping", "message_id": "message_in_batch" }] }),
        ClientType::Disconnect => json!({ "reason": "done" }),
    }
}

/// The message with its fields at the root.
pub fn at_root(kind: ClientType, name: &str, message_id: &MessageId, given: &Given) -> Value {
    let mut message = fields(kind, given);
    message["type"] = json!(name);
    message["message_id"] = json!(message_id);
    message
}

/// The message with its fields in `payload`.
pub fn in_payload(kind: ClientType, name: &str, message_id: &MessageId, given: &Given) -> Value {
    json!({ "type": name, "message_id": message_id, "payload": fields(kind, given) })
}

/// A control frame's type, or the code of an error.
pub fn answer_name(frame: &ControlFrame) -> String {
    match frame {
        ControlFrame::Error(error) => error.error_code.to_string(),
        other => other.frame_type().to_owned(),
    }
}
