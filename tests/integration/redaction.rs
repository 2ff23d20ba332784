//! Frames made comparable: what differs in every run is hidden behind a word, after it was checked to be what the word
//! says.

use serde_json::{Map, Value, json};

use kingsguard_protocol::{ConnectionId, EventId, ExecutionId, MessageId, RunId, ThreadId, Timestamp, UserId};

/// A frame with ids, times and durations hidden.
///
/// # Panics
/// A field is not what its name says.
pub fn redacted(frame: &Value) -> Value {
    match frame {
        Value::Object(fields) => {
            let hidden: Map<String, Value> = fields
                .iter()
                .map(|(name, value)| (name.clone(), field(name, value)))
                .collect();
            Value::Object(hidden)
        }
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::String(text) => id_kind(text).map_or_else(|| frame.clone(), |kind| json!(kind)),
        Value::Null | Value::Bool(_) | Value::Number(_) => frame.clone(),
    }
}

fn field(name: &str, value: &Value) -> Value {
    match (name, value) {
        (
            "timestamp" | "created_at" | "updated_at" | "accepted_at" | "ended_at" | "expires_at",
            Value::String(text),
        ) => {
            assert!(
                text.parse::<Timestamp>().is_ok(),
                "`{name}` is RFC 3339, UTC, milliseconds, Z, not {text}"
            );
            json!("[time]")
        }
        ("duration_ms" | "tool_duration_ms" | "retry_after_ms" | "latency_ms", Value::Number(number)) => {
            assert!(number.is_u64(), "`{name}` is a count of milliseconds, not {number}");
            json!("[milliseconds]")
        }
        ("epoch" | "session_token" | "request_id" | "server_version" | "next_cursor", Value::String(text)) => {
            assert!(!text.trim().is_empty(), "`{name}` is blank");
            json!(format!("[{name}]"))
        }
        _ => redacted(value),
    }
}

/// Whether a text is an id of one kind.
type IsId = fn(&str) -> bool;

/// What a well-formed id of the contract is shown as.
fn id_kind(text: &str) -> Option<&'static str> {
    let kinds: [(&str, IsId); 7] = [
        ("user_", |text| UserId::from(text).is_well_formed()),
        ("thread_", |text| ThreadId::from(text).is_well_formed()),
        ("run_", |text| RunId::from(text).is_well_formed()),
        ("event_", |text| EventId::from(text).is_well_formed()),
        ("message_", |text| MessageId::from(text).is_well_formed()),
        ("connection_", |text| ConnectionId::from(text).is_well_formed()),
        ("execution_", |text| ExecutionId::from(text).is_well_formed()),
    ];
    let (prefix, _) = kinds
        .into_iter()
        .find(|(prefix, is_id)| text.starts_with(prefix) && is_id(text))?;
    Some(match prefix {
        "user_" => "[user]",
        "thread_" => "[thread]",
        "run_" => "[run]",
        "event_" => "[event]",
        "message_" => "[message]",
        "connection_" => "[connection]",
        _ => "[execution]",
    })
}
