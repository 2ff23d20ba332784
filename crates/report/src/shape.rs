//! Backends of another shape: their names for types and fields, and the object in which they wrap them.
//!
//! What goes out is put into the target's words, what comes in is read in the contract's. The capture keeps the bytes as
//! they were on the wire; clients and validators see this view of them. Nothing is added: a field that the target does not
//! send is missing here too.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Fields that stay at the root where a client message's others are wrapped.
const ENVELOPE: [&str; 4] = ["type", "message_id", "thread_id", "timestamp"];

/// Fields that hold whole frames.
const LISTS_OF_FRAMES: [&str; 2] = ["events", "messages"];

/// How a backend's frames differ from the contract's. Each name of the contract leads to the backend's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shape {
    /// Wraps the fields of what the target sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wrapper: Option<String>,
    /// Wraps the fields of what it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_wrapper: Option<String>,
    /// Types of frames.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, String>,
    /// Fields of all frames.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Fields of frames of one type, in the contract's word for it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields_of: BTreeMap<String, BTreeMap<String, String>>,
}

impl Shape {
    /// Whether it is the contract's own.
    #[must_use]
    pub fn is_contracts_own(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses names that cannot be told apart.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), String> {
        let of_types = self
            .fields_of
            .iter()
            .map(|(name, fields)| (format!("shape.fields_of.{name}"), fields));
        let tables = [
            ("shape.types".to_owned(), &self.types),
            ("shape.fields".to_owned(), &self.fields),
        ];
        for (table, names) in tables.into_iter().chain(of_types) {
            let distinct: BTreeSet<&String> = names.values().collect();
            if distinct.len() != names.len() {
                return Err(format!(
                    "`{table}` leads two names of the contract to one of the backend: give each its own"
                ));
            }
            if names.iter().any(|(name, theirs)| name.is_empty() || theirs.is_empty()) {
                return Err(format!("`{table}` has a blank name"));
            }
        }
        Ok(())
    }

    /// A frame of the target in the contract's words.
    #[must_use]
    pub fn read(&self, frame: Value) -> Value {
        let Value::Object(mut frame) = frame else { return frame };
        for wrapper in [&self.wrapper, &self.sent_wrapper].into_iter().flatten() {
            if let Some(Value::Object(inner)) = frame.get(wrapper).cloned() {
                frame.remove(wrapper);
                for (name, value) in inner {
                    frame.entry(name).or_insert(value);
                }
            }
        }
        let kind = frame.get(theirs(&self.fields, "type")).and_then(Value::as_str);
        let kind = kind.map(|kind| contracts(&self.types, kind).to_owned());
        let own = kind.as_ref().and_then(|kind| self.fields_of.get(kind));
        let mut read = Map::new();
        for (name, value) in frame {
            let name = match own.map(|own| contracts(own, &name)) {
                Some(known) if known != name => known.to_owned(),
                _ => contracts(&self.fields, &name).to_owned(),
            };
            let value = match (&value, LISTS_OF_FRAMES.contains(&name.as_str())) {
                (Value::Array(frames), true) => frames.iter().cloned().map(|frame| self.read(frame)).collect(),
                _ => value,
            };
            read.insert(name, value);
        }
        if let Some(kind) = kind {
            read.insert("type".into(), kind.into());
        }
        Value::Object(read)
    }

    /// A frame of the contract in the target's words.
    #[must_use]
    pub fn write(&self, frame: Value) -> Value {
        let Value::Object(frame) = frame else { return frame };
        let kind = frame.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        let own = self.fields_of.get(&kind);
        let (mut root, mut wrapped) = (Map::new(), Map::new());
        for (name, value) in frame {
            let value = match (name.as_str(), value) {
                ("type", Value::String(kind)) => theirs(&self.types, &kind).into(),
                (name, Value::Array(frames)) if LISTS_OF_FRAMES.contains(&name) => {
                    frames.into_iter().map(|frame| self.write(frame)).collect()
                }
                (_, value) => value,
            };
            let place = if self.sent_wrapper.is_some() && !ENVELOPE.contains(&name.as_str()) {
                &mut wrapped
            } else {
                &mut root
            };
            let known = own.and_then(|own| own.get(&name)).or_else(|| self.fields.get(&name));
            place.insert(known.unwrap_or(&name).clone(), value);
        }
        if let Some(wrapper) = &self.sent_wrapper {
            root.insert(wrapper.clone(), Value::Object(wrapped));
        }
        Value::Object(root)
    }

    /// The text of a frame in the contract's words; `None` where nothing differs or it is no JSON.
    #[must_use]
    pub fn read_text(&self, text: &str) -> Option<String> {
        if self.is_contracts_own() {
            return None;
        }
        Some(self.read(serde_json::from_str(text).ok()?).to_string())
    }

    /// The text of a frame in the target's words; `None` where nothing differs or it is no JSON.
    #[must_use]
    pub fn write_text(&self, text: &str) -> Option<String> {
        if self.is_contracts_own() {
            return None;
        }
        Some(self.write(serde_json::from_str(text).ok()?).to_string())
    }
}

fn theirs<'n>(names: &'n BTreeMap<String, String>, name: &'n str) -> &'n str {
    names.get(name).map_or(name, String::as_str)
}

fn contracts<'n>(names: &'n BTreeMap<String, String>, theirs: &'n str) -> &'n str {
    names
        .iter()
        .find(|(_, known)| *known == theirs)
        .map_or(theirs, |(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    fn names(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(own, theirs)| ((*own).to_owned(), (*theirs).to_owned()))
            .collect()
    }

    /// The shape of the suite that was replaced, more or less.
    fn shape() -> Shape {
        Shape {
            wrapper: Some("data".into()),
            sent_wrapper: Some("payload".into()),
            types: names(&[("agent_started", "agent.started"), ("user_message", "chat.message")]),
            fields: names(&[("type", "event_type"), ("seq", "sequence_number")]),
            fields_of: BTreeMap::from([(
                "tool_completed".into(),
                names(&[("results", "result"), ("duration_ms", "took")]),
            )]),
        }
    }

    #[test]
    fn what_comes_is_read_in_the_contracts_words() {
        let came = json!({ "event_type": "agent.started", "run_id": "r", "data": { "sequence_number": 1, "run_id": "other" } });
        assert_eq!(
            shape().read(came),
            json!({ "type": "agent_started", "run_id": "r", "seq": 1 }),
            "the root counts where both have a field"
        );
        let tool = json!({ "event_type": "tool_completed", "data": { "result": {}, "took": 3 } });
        assert_eq!(
            shape().read(tool),
            json!({ "type": "tool_completed", "results": {}, "duration_ms": 3 })
        );
        let end = json!({ "event_type": "agent_completed", "data": { "result": {} } });
        assert_eq!(shape().read(end)["result"], json!({}), "another type keeps its field");
        let history = json!({ "event_type": "thread_history", "events": [{ "event_type": "agent.started" }] });
        assert_eq!(shape().read(history)["events"], json!([{ "type": "agent_started" }]));
        assert_eq!(shape().read(json!([1])), json!([1]));
    }

    #[test]
    fn what_goes_out_is_put_into_the_targets_words_and_reads_back() {
        let message = json!({ "type": "user_message", "message_id": "m", "content": "Hello" });
        let written = shape().write(message.clone());
        assert_eq!(
            written,
            json!({ "event_type": "chat.message", "message_id": "m", "payload": { "content": "Hello" } })
        );
        assert_eq!(shape().read(written), message);
    }

    #[test]
    fn the_contracts_own_shape_changes_nothing() {
        let own = Shape::default();
        let frame = json!({ "type": "agent_started", "payload": { "type": "x" }, "events": [{ "seq": 1 }] });
        assert_eq!(
            (own.read(frame.clone()), own.write(frame.clone())),
            (frame.clone(), frame)
        );
        assert_eq!(own.read_text("{\"type\":\"x\"}"), None, "and makes no text of its own");
    }

    #[test]
    fn two_names_for_one_are_refused() {
        let shape = Shape {
            fields: names(&[("seq", "n"), ("run_id", "n")]),
            ..Shape::default()
        };
        let error = shape.check().expect_err("they cannot be told apart");
        assert!(error.contains("`shape.fields` leads two names"), "{error}");
    }
}
