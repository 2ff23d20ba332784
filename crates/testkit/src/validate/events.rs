//! EVT: every event has its fields, of their types, not blank, and shows no credential.

use std::collections::BTreeMap;

use kingsguard_protocol::event::{RunStatus, ToolStatus};
use kingsguard_protocol::{ControlFrame, EventBody, EventId, ExecutionId, RunId, ServerFrame, ThreadId, UserId};
use serde_json::{Map, Value};

use super::Judgement;
use super::reading::{Frame, Reading};
use crate::recording::FrameKind;

/// Strings in parameters and results are cut here (EVT-8).
const STRING_CHARS_MAX: usize = 2_000;

/// More than this after the cut is no mark but more of the string.
const MARK_CHARS_MAX: usize = 100;

/// Words that make a key a credential's (EVT-8).
const SENSITIVE: [&str; 6] = ["password", "secret", "token", "api_key", "authorization", "credential"];

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    let mut causes: BTreeMap<&str, &str> = BTreeMap::new();
    for connection in &reading.connections {
        for frame in connection
            .texts()
            .filter(|frame| frame.frame_type() == "message_received")
        {
            if let (Some(run), Some(message)) = (frame.str("run_id"), frame.str("message_id")) {
                causes.entry(run).or_insert(message);
            }
        }
    }
    let brought = sensitive_values(reading);
    for connection in &reading.connections {
        for frame in connection.received() {
            match (frame.entry.kind, &frame.json) {
                (FrameKind::Binary, _) => {
                    judgement.blame("EVT-7", "text frames only", "a binary frame came", [frame.place]);
                }
                (FrameKind::Text, Some(Value::Object(fields))) if fields.get("type").is_some_and(Value::is_string) => {
                    judge_frame(frame, fields, &causes, &brought, judgement);
                }
                (FrameKind::Text, _) => {
                    judgement.blame(
                        "EVT-7",
                        "one JSON object with a string `type`",
                        "another text came",
                        [frame.place],
                    );
                }
                (FrameKind::Ping | FrameKind::Pong | FrameKind::Close, _) => {}
            }
        }
    }
}

fn judge_frame(
    frame: &Frame<'_>,
    fields: &Map<String, Value>,
    causes: &BTreeMap<&str, &str>,
    brought: &[String],
    judgement: &mut Judgement,
) {
    let frame_type = frame.frame_type();
    if EventBody::TYPES.contains(&frame_type) {
        let mut sheet = Sheet {
            frame,
            fields,
            judgement,
        };
        sheet.judge_header(causes);
        sheet.judge_body(frame_type, brought);
        return;
    }
    if ControlFrame::TYPES.contains(&frame_type) {
        if let Err(error) = ServerFrame::decode(frame.text()) {
            let clause = match frame_type {
                "connection_established" | "handshake_response" => "HSK-1",
                "handshake_complete" => "HSK-2",
                "server_shutdown" => "CON-4",
                "error" => "ERR-1",
                _ => "MSG-1",
            };
            let missing = frame
                .lacks
                .fields_of_frame(frame_type)
                .find(|(field, _)| !fields.contains_key(*field));
            if let Some((field, reason)) = missing {
                judgement.cannot_judge(
                    clause,
                    format!("the target has `{frame_type}` without `{field}`: {reason}"),
                );
                return;
            }
            let reason = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            judgement.blame(
                clause,
                format!("a `{frame_type}` as the contract has it"),
                reason,
                [frame.place],
            );
        }
        return;
    }
    let came = format!("`{frame_type}` came");
    judgement.report("EVT-7", "a type of the contract", came, [frame.place]);
}

/// One event, field by field.
struct Sheet<'a, 'j> {
    frame: &'a Frame<'a>,
    fields: &'a Map<String, Value>,
    judgement: &'j mut Judgement,
}

impl<'a> Sheet<'a, '_> {
    fn blame(&mut self, clause: &'static str, expected: impl Into<String>, field: &str) {
        if let Some(reason) = self.frame.lacks.field(self.frame.frame_type(), field) {
            self.judgement
                .cannot_judge(clause, format!("the target has no `{field}`: {reason}"));
            return;
        }
        let came = match self.fields.get(field) {
            Some(value) => format!("`{field}` is {}", shorten(value)),
            None => format!("`{field}` is missing"),
        };
        self.judgement.blame(clause, expected, came, [self.frame.place]);
    }

    /// A string that is there and not blank.
    fn text(&mut self, clause: &'static str, field: &str) -> Option<&'a str> {
        match self.fields.get(field).and_then(Value::as_str) {
            Some(text) if !text.trim().is_empty() => Some(text),
            _ => {
                self.blame(clause, format!("`{field}`, a string that is not blank"), field);
                None
            }
        }
    }

    fn count(&mut self, clause: &'static str, field: &str, least: u64) -> Option<u64> {
        match self.fields.get(field).and_then(Value::as_u64) {
            Some(number) if number >= least => Some(number),
            _ => {
                self.blame(clause, format!("`{field}`, an integer of at least {least}"), field);
                None
            }
        }
    }

    fn flag(&mut self, clause: &'static str, field: &str) -> Option<bool> {
        let flag = self.fields.get(field).and_then(Value::as_bool);
        if flag.is_none() {
            self.blame(clause, format!("`{field}`, true or false"), field);
        }
        flag
    }

    fn object(&mut self, clause: &'static str, field: &str) -> Option<&'a Map<String, Value>> {
        let object = self.fields.get(field).and_then(Value::as_object);
        if object.is_none() {
            self.blame(clause, format!("`{field}`, an object"), field);
        }
        object
    }

    fn id(&mut self, clause: &'static str, field: &str, is_well_formed: impl Fn(&str) -> bool) {
        if let Some(id) = self.text(clause, field)
            && !is_well_formed(id)
        {
            if let Some(reason) = &self.frame.lacks.id_form {
                let why = format!("the target has no ids of the contract's form: {reason}");
                self.judgement.cannot_judge(clause, why);
                return;
            }
            self.blame(clause, format!("`{field}`, its prefix and a UUIDv7"), field);
        }
    }

    /// A number between 0 and 1, where it is there.
    fn optional_progress(&mut self, clause: &'static str) {
        let good = match self.fields.get("progress") {
            None | Some(Value::Null) => true,
            Some(value) => value.as_f64().is_some_and(|progress| (0.0..=1.0).contains(&progress)),
        };
        if !good {
            self.blame(clause, "`progress` from 0 to 1, or none", "progress");
        }
    }

    /// `error` with code and message.
    fn failure(&mut self, clause: &'static str) {
        let error = self.fields.get("error");
        let good = ["error_code", "message"].iter().all(|field| {
            error
                .and_then(|error| error.get(field))
                .and_then(Value::as_str)
                .is_some_and(|text| !text.trim().is_empty())
        });
        if !good {
            self.blame(
                clause,
                "`error` with `error_code` and `message` where `success` is false",
                "error",
            );
        }
    }

    fn judge_header(&mut self, causes: &BTreeMap<&str, &str>) {
        self.id("EVT-7", "event_id", |id| EventId::from(id).is_well_formed());
        self.id("EVT-7", "user_id", |id| UserId::from(id).is_well_formed());
        self.id("EVT-7", "thread_id", |id| ThreadId::from(id).is_well_formed());
        self.id("EVT-7", "run_id", |id| RunId::from(id).is_well_formed());
        self.count("EVT-7", "seq", 1);
        self.text("EVT-7", "agent_name");
        if self.text("EVT-7", "timestamp").is_some() && self.frame.timestamp("timestamp").is_none() {
            self.blame("EVT-7", "`timestamp` in RFC 3339, UTC, milliseconds, `Z`", "timestamp");
        }
        let own_cause = self.text("EVT-7", "correlation_id");
        let run = self.fields.get("run_id").and_then(Value::as_str).unwrap_or_default();
        // The one event that names the message which stopped the run, not the one which caused it.
        let is_stop = self.fields.get("type").and_then(Value::as_str) == Some("agent_stopped");
        if let (Some(own), Some(cause), false) = (own_cause, causes.get(run), is_stop)
            && own != *cause
        {
            self.blame(
                "EVT-7",
                format!("`correlation_id` {cause}, the run's cause"),
                "correlation_id",
            );
        }
    }

    fn judge_body(&mut self, frame_type: &str, brought: &[String]) {
        match frame_type {
            "agent_started" => self.judge_started(),
            "agent_thinking" => self.judge_thinking(),
            "tool_executing" => {
                self.id("EVT-3", "execution_id", |id| ExecutionId::from(id).is_well_formed());
                self.text("EVT-3", "tool_name");
                self.text("EVT-3", "tool_purpose");
                if let Some(parameters) = self.object("EVT-3", "parameters") {
                    self.judge_redaction("parameters", parameters, brought);
                }
            }
            "tool_completed" => self.judge_tool_completed(brought),
            "agent_completed" => self.judge_completed(),
            "subagent_started" => {
                self.count("EVT-6", "step_number", 1);
            }
            "subagent_completed" => {
                self.count("EVT-6", "step_number", 1);
                self.flag("EVT-6", "success");
                self.count("EVT-6", "duration_ms", 0);
            }
            "partial_result" => {
                if !self.fields.get("content").is_some_and(Value::is_string) {
                    self.blame("EVT-6", "`content`, a string", "content");
                }
                self.count("EVT-6", "index", 0);
                self.flag("EVT-6", "final");
            }
            "final_report" => {
                let report = self.fields.get("report");
                let good = match report {
                    Some(Value::Object(_)) => true,
                    Some(Value::String(text)) => !text.trim().is_empty(),
                    _ => false,
                };
                if !good {
                    self.blame("EVT-6", "`report`, an object or text", "report");
                }
            }
            "progress_update" => {
                self.text("EVT-6", "message");
                self.optional_progress("EVT-6");
            }
            "agent_error" => {
                self.text("EVT-6", "error_code");
                self.text("EVT-6", "message");
                if !self
                    .fields
                    .get("recovery")
                    .and_then(Value::as_array)
                    .is_some_and(|all| all.iter().all(Value::is_string))
                {
                    self.blame("EVT-6", "`recovery`, a list of strings", "recovery");
                }
            }
            "agent_fallback" => {
                for field in ["from_agent", "to_agent", "reason"] {
                    self.text("EVT-6", field);
                }
            }
            "agent_stopped" => {
                self.text("EVT-6", "reason");
            }
            other => unreachable!("`{other}` is no event type of the contract"),
        }
    }

    fn judge_started(&mut self) {
        if self.fields.get("status").and_then(Value::as_str) != Some("started") {
            self.blame("EVT-1", "`status` \"started\"", "status");
        }
        self.text("EVT-1", "message");
        let Some(context) = self.object("EVT-1", "context") else {
            return;
        };
        let names = context.get("agent_names").and_then(Value::as_array);
        let named = names.is_some_and(|names| {
            !names.is_empty()
                && names
                    .iter()
                    .all(|name| name.as_str().is_some_and(|name| !name.trim().is_empty()))
        });
        if !named {
            self.blame("EVT-1", "`context.agent_names`, the planned agents", "context");
        }
        if context.get("input_chars").and_then(Value::as_u64).is_none() {
            self.blame("EVT-1", "`context.input_chars`, an integer", "context");
        }
    }

    fn judge_thinking(&mut self) {
        if let Some(reasoning) = self.text("EVT-2", "reasoning")
            && reasoning.trim().chars().count() < 10
        {
            self.blame("EVT-2", "`reasoning` of at least 10 characters", "reasoning");
        }
        let step = self.count("EVT-2", "step_number", 1);
        match self.fields.get("total_steps") {
            None | Some(Value::Null) => {}
            Some(total) if total.as_u64().is_some_and(|total| total >= step.unwrap_or(1)) => {}
            Some(_) => self.blame(
                "EVT-2",
                "`total_steps` of at least `step_number`, or none",
                "total_steps",
            ),
        }
        self.optional_progress("EVT-2");
    }

    fn judge_tool_completed(&mut self, brought: &[String]) {
        self.id("EVT-4", "execution_id", |id| ExecutionId::from(id).is_well_formed());
        self.text("EVT-4", "tool_name");
        self.count("EVT-4", "duration_ms", 0);
        let success = self.flag("EVT-4", "success");
        let status: Option<ToolStatus> = parse(self.fields.get("status"));
        match (status, success) {
            (None, _) => self.blame("EVT-4", "`status` success, error, timeout or cancelled", "status"),
            (Some(status), Some(success)) if (status == ToolStatus::Success) != success => {
                self.blame("EVT-4", "`status` success exactly where `success` is true", "status");
            }
            (Some(_), _) => {}
        }
        match success {
            Some(true) => {
                self.object("EVT-4", "results");
            }
            Some(false) => self.failure("EVT-4"),
            None => {}
        }
        if let Some(results) = self.fields.get("results").and_then(Value::as_object) {
            self.judge_redaction("results", results, brought);
        }
    }

    fn judge_completed(&mut self) {
        let success = self.flag("EVT-5", "success");
        let status: Option<RunStatus> = parse(self.fields.get("status"));
        match (status, success) {
            (None, _) => self.blame("EVT-5", "`status` completed, failed, cancelled or timed_out", "status"),
            (Some(status), Some(success)) if (status == RunStatus::Completed) != success => {
                self.blame("EVT-5", "`status` completed exactly where `success` is true", "status");
            }
            (Some(_), _) => {}
        }
        self.text("EVT-5", "final_response");
        self.text("EVT-5", "summary");
        self.count("EVT-5", "duration_ms", 0);
        if !self
            .fields
            .get("result")
            .is_some_and(|result| result.is_object() || result.is_string())
        {
            self.blame("EVT-5", "`result`, an object or text", "result");
        }
        let usage = self.object("EVT-5", "usage");
        let counted = usage.is_none_or(|usage| {
            ["input_tokens", "output_tokens", "cost_microusd"]
                .iter()
                .all(|field| usage.get(*field).and_then(Value::as_u64).is_some())
        });
        if !counted {
            self.blame(
                "EVT-5",
                "`usage` with `input_tokens`, `output_tokens` and `cost_microusd`",
                "usage",
            );
        }
        if !matches!(self.fields.get("error"), None | Some(Value::Null)) {
            self.failure("EVT-5");
        }
    }

    fn judge_redaction(&mut self, pointer: &str, object: &Map<String, Value>, brought: &[String]) {
        for (key, value) in object {
            let pointer = format!("{pointer}/{key}");
            if is_sensitive(key) && !is_redacted(key, value, brought) {
                let came = format!("`{pointer}` holds {}", value_kind(value));
                self.judgement.blame(
                    "EVT-8",
                    "a string that does not hold the value",
                    came,
                    [self.frame.place],
                );
                continue;
            }
            self.judge_value(&pointer, value, brought);
        }
    }

    fn judge_value(&mut self, pointer: &str, value: &Value, brought: &[String]) {
        match value {
            Value::Object(object) => self.judge_redaction(pointer, object, brought),
            Value::Array(values) => {
                for (index, value) in values.iter().enumerate() {
                    self.judge_value(&format!("{pointer}/{index}"), value, brought);
                }
            }
            Value::String(text) => {
                if let Some(mark) = beyond(text, STRING_CHARS_MAX) {
                    let is_mark = mark.chars().count() <= MARK_CHARS_MAX && mark.chars().any(|c| c.is_ascii_digit());
                    if !is_mark {
                        let came = format!("`{pointer}` has {} characters", text.chars().count());
                        let expected = "at most 2,000 characters and a mark that says how many were cut";
                        self.judgement.blame("EVT-8", expected, came, [self.frame.place]);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn beyond(text: &str, chars: usize) -> Option<&str> {
    text.char_indices().nth(chars).map(|(at, _)| &text[at..])
}

fn parse<T: serde::de::DeserializeOwned>(value: Option<&Value>) -> Option<T> {
    serde_json::from_value(value?.clone()).ok()
}

pub(super) fn is_sensitive(key: &str) -> bool {
    let key = key.to_lowercase();
    SENSITIVE.iter().any(|word| key.contains(word))
}

fn is_redacted(key: &str, value: &Value, brought: &[String]) -> bool {
    match value {
        // There is no value.
        Value::Null => true,
        Value::Number(_) => key.to_lowercase().ends_with("tokens"),
        Value::String(text) => !brought.iter().any(|secret| text.contains(secret.as_str())),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    }
}

/// What the test itself put under keys of credentials: these values must not come back in parameters and results.
fn sensitive_values(reading: &Reading<'_>) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    match value {
                        Value::String(text) if is_sensitive(key) && text.len() >= 4 => found.push(text.clone()),
                        other => collect(other, found),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    for frame in reading.connections.iter().flat_map(|connection| connection.sent()) {
        if let Some(json) = &frame.json {
            collect(json, &mut found);
        }
    }
    found.extend(
        reading
            .recording
            .facts
            .secrets
            .iter()
            .filter(|secret| secret.len() >= 8)
            .cloned(),
    );
    found
}

fn value_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "the value itself",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match beyond(&text, 120) {
        Some(_) => format!("{}…", text.chars().take(120).collect::<String>()),
        None => text,
    }
}
