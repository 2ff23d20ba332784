//! How good a run was, counted from its own events (`get_quality_metrics`).

use kingsguard_protocol::event::{RunStatus, ToolStatus};
use kingsguard_protocol::{Event, EventBody};
use serde_json::{Map, Value, json};

/// Counts and shares of one run. A figure that its events do not tell yet is absent.
#[must_use]
pub fn of_run(events: &[Event]) -> Map<String, Value> {
    let mut figures = Map::new();
    let (mut thoughts, mut tools, mut succeeded, mut tool_ms, mut errors, mut fallbacks) = (0, 0, 0, 0, 0, 0);
    for event in events {
        match &event.body {
            EventBody::AgentThinking(_) => thoughts += 1,
            EventBody::ToolCompleted(tool) => {
                tools += 1;
                succeeded += u64::from(tool.status == ToolStatus::Success);
                tool_ms += tool.duration_ms;
            }
            EventBody::AgentError(_) => errors += 1,
            EventBody::AgentFallback(_) => fallbacks += 1,
            EventBody::AgentCompleted(completed) => {
                figures.insert("status".to_owned(), json!(completed.status.as_str()));
                figures.insert(
                    "is_complete".to_owned(),
                    json!(completed.status == RunStatus::Completed && completed.success),
                );
                figures.insert("duration_ms".to_owned(), json!(completed.duration_ms));
                figures.insert(
                    "final_response_chars".to_owned(),
                    json!(completed.final_response.chars().count()),
                );
            }
            EventBody::AgentStarted(_)
            | EventBody::ToolExecuting(_)
            | EventBody::SubagentStarted(_)
            | EventBody::SubagentCompleted(_)
            | EventBody::PartialResult(_)
            | EventBody::FinalReport(_)
            | EventBody::ProgressUpdate(_)
            | EventBody::AgentStopped(_) => {}
        }
    }
    for (name, count) in [
        ("events", events.len() as u64),
        ("thoughts", thoughts),
        ("tools", tools),
        ("tools_succeeded", succeeded),
        ("tool_duration_ms", tool_ms),
        ("errors", errors),
        ("fallbacks", fallbacks),
    ] {
        figures.insert(name.to_owned(), json!(count));
    }
    if tools > 0 {
        figures.insert("tool_success_share".to_owned(), json!(succeeded as f64 / tools as f64));
    }
    figures
}

#[cfg(test)]
mod tests {
    use kingsguard_protocol::event::{AgentThinking, Failure, ToolCompleted};
    use kingsguard_protocol::{ErrorCode, EventHeader, EventId, ExecutionId, RunId, ThreadId, Timestamp, UserId};
    use pretty_assertions::assert_eq;

    use super::*;

    fn event(seq: u64, body: impl Into<EventBody>) -> Event {
        Event {
            header: EventHeader {
                event_id: EventId::generate(),
                seq,
                timestamp: Timestamp::now(),
                user_id: UserId::generate(),
                thread_id: ThreadId::generate(),
                run_id: RunId::generate(),
                agent_name: "supervisor".to_owned(),
                correlation_id: "m-1".into(),
            },
            body: body.into(),
        }
    }

    fn tool(status: ToolStatus) -> ToolCompleted {
        let success = status == ToolStatus::Success;
        ToolCompleted {
            execution_id: ExecutionId::generate(),
            tool_name: "spend_by_model".to_owned(),
            success,
            status,
            results: None,
            error: (!success).then(|| Failure {
                error_code: ErrorCode::ToolFailed,
                message: "The tool failed.".to_owned(),
            }),
            duration_ms: 30,
        }
    }

    #[test]
    fn figures_are_counted_from_the_events() {
        let thinking = AgentThinking {
            reasoning: "Looking at your records".to_owned(),
            step_number: 1,
            total_steps: None,
            progress: None,
        };
        let events = [
            event(1, thinking),
            event(2, tool(ToolStatus::Success)),
            event(3, tool(ToolStatus::Error)),
        ];
        let expected = json!({
            "events": 3, "thoughts": 1, "tools": 2, "tools_succeeded": 1, "tool_duration_ms": 60,
            "errors": 0, "fallbacks": 0, "tool_success_share": 0.5,
        });
        assert_eq!(Value::Object(of_run(&events)), expected);
    }
}
