//! The published schemas say what the types write.

use std::collections::BTreeSet;

use kingsguard_protocol::schema::schemas;
use serde::Serialize;
use serde_json::Value;

use crate::samples;

fn schema(name: &str) -> Value {
    let named = schemas().into_iter().find(|named| named.name == name);
    named.expect("a published schema").schema.to_value()
}

fn keys(properties: &Value) -> BTreeSet<String> {
    properties
        .as_object()
        .map(|map| map.keys().cloned().collect())
        .unwrap_or_default()
}

fn words(list: &Value) -> BTreeSet<String> {
    let words = list.as_array().into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Properties and required names of one `type`: those of the whole, of its choice, and of what the choice refers to.
fn of_type(schema: &Value, frame_type: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let choices = schema["oneOf"].as_array().expect("one choice for each type");
    let choice = choices
        .iter()
        .find(|choice| choice["properties"]["type"]["const"] == frame_type)
        .unwrap_or_else(|| panic!("no choice for {frame_type}"));
    let reference = choice["$ref"]
        .as_str()
        .map(|reference| reference.trim_start_matches('#'));
    let body = reference
        .and_then(|pointer| schema.pointer(pointer))
        .cloned()
        .unwrap_or_default();
    let mut properties = BTreeSet::new();
    let mut required = BTreeSet::new();
    for part in [schema, choice, &body] {
        properties.extend(keys(&part["properties"]));
        required.extend(words(&part["required"]));
    }
    (properties, required)
}

fn check(schema: &Value, frame: &impl Serialize) {
    let written = serde_json::to_value(frame).expect("a frame is written");
    let frame_type = written["type"].as_str().expect("a type");
    let (properties, required) = of_type(schema, frame_type);
    // The samples have every optional field, so what is written is exactly what is described.
    assert_eq!(keys(&written), properties, "{frame_type}");
    assert!(required.is_subset(&properties), "{frame_type}");
}

#[test]
fn the_schemas_describe_every_field_that_is_written() {
    let event = schema("event");
    samples::events().iter().for_each(|frame| check(&event, frame));
    let control = schema("control_frame");
    samples::control_frames()
        .iter()
        .for_each(|frame| check(&control, frame));
    let client = schema("client_message");
    samples::client_messages()
        .iter()
        .for_each(|frame| check(&client, frame));
}

#[test]
fn what_the_contract_asks_for_is_required() {
    let required = |name: &str, frame_type: &str| of_type(&schema(name), frame_type).1.into_iter().collect::<Vec<_>>();
    assert_eq!(
        required("event", "tool_completed"),
        [
            "agent_name",
            "correlation_id",
            "duration_ms",
            "event_id",
            "execution_id",
            "run_id",
            "seq",
            "status",
            "success",
            "thread_id",
            "timestamp",
            "tool_name",
            "type",
            "user_id"
        ]
    );
    assert_eq!(required("client_message", "user_message"), ["content", "type"]);
    assert_eq!(required("client_message", "handshake_acknowledged"), ["type"]);
    assert_eq!(
        required("client_message", "rename_thread"),
        ["thread_id", "title", "type"]
    );
    assert_eq!(
        required("control_frame", "error"),
        ["details", "error_code", "message", "recovery", "timestamp", "type"]
    );
}

#[test]
fn a_schema_never_offers_null() {
    for named in schemas() {
        let text = serde_json::to_string(&named.schema).expect("a schema is written");
        assert!(
            !text.contains("\"null\"") && !text.contains(":null"),
            "{}: {text}",
            named.name
        );
    }
}
