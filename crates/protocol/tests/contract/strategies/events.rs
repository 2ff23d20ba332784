//! Events.

use kingsguard_protocol::event::*;
use kingsguard_protocol::{ErrorCode, Event, EventBody, EventHeader};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{Named, failure, fraction, id, object, run_status, timestamp, usage, value};

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
