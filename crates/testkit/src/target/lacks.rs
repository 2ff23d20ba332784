//! What a profile may say that its backend's wire lacks, and which clauses nothing can be said about then.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
pub use kingsguard_report::lacks::Lacks;
use serde_json::Value;

/// Without these no event has its place: a backend that lacks one can be named otherwise (`shape`), and not judged.
const INDISPENSABLE: [&str; 2] = ["type", "run_id"];

/// Refuses what the contract does not know, and what no judgement can do without.
pub(super) fn check(lacks: &Lacks) -> Result<()> {
    for (name, reason) in lacks.all() {
        ensure!(
            !reason.trim().is_empty(),
            "`lacks.{name}` is blank: say why the backend does not have it"
        );
    }
    let frames = Frames::of_the_contract();
    for field in lacks.fields.keys() {
        ensure!(
            !INDISPENSABLE.contains(&field.as_str()),
            "`lacks.fields` names {field:?}, without which nothing can be judged: `shape.fields` gives it another name"
        );
        ensure!(
            frames.header.contains(field),
            "`lacks.fields` names {field:?}, which is no field of every event: take one of {}, or name the frame that lacks \
             it in `lacks.fields_of`",
            listed(&frames.header)
        );
    }
    for (frame_type, fields) in &lacks.fields_of {
        let known = frames.own.get(frame_type);
        let Some(known) = known else {
            anyhow::bail!(
                "`lacks.fields_of` names {frame_type:?}, which is no frame of the contract: use its word, docs/contract.md has \
                 all of them"
            );
        };
        for field in fields.keys() {
            ensure!(
                known.contains(field),
                "`lacks.fields_of.{frame_type}` names {field:?}, which is no field of its own: take one of {}",
                listed(known)
            );
        }
    }
    Ok(())
}

fn listed(names: &[String]) -> String {
    names.join(", ")
}

/// The fields of the contract's frames, as their published schemas have them.
struct Frames {
    /// Of every event, without the indispensable ones.
    header: Vec<String>,
    /// By type.
    own: BTreeMap<String, Vec<String>>,
}

impl Frames {
    fn of_the_contract() -> Self {
        let mut frames = Self {
            header: Vec::new(),
            own: BTreeMap::new(),
        };
        for named in kingsguard_protocol::schema::schemas() {
            let schema = named.schema.as_value();
            match named.name {
                "event" => frames.header = names(schema),
                "control_frame" => {}
                _ => continue,
            }
            for choice in schema["oneOf"].as_array().into_iter().flatten() {
                let frame_type = choice["properties"]["type"]["const"].as_str();
                let body = choice["$ref"]
                    .as_str()
                    .and_then(|path| schema.pointer(path.trim_start_matches('#')));
                if let (Some(frame_type), Some(body)) = (frame_type, body) {
                    frames.own.insert(frame_type.to_owned(), names(body));
                }
            }
        }
        frames.header.retain(|field| !INDISPENSABLE.contains(&field.as_str()));
        frames
    }
}

fn names(schema: &Value) -> Vec<String> {
    let fields = schema["properties"].as_object();
    fields.into_iter().flatten().map(|(field, _)| field.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(lacks: Value) -> String {
        let lacks: Lacks = serde_json::from_value(lacks).expect("it is well formed");
        check(&lacks).expect_err("it is refused").to_string()
    }

    #[test]
    fn what_the_contract_has_may_be_lacking() {
        let lacks = serde_json::json!({
            "handshake": "x", "fields": { "seq": "x", "correlation_id": "x" },
            "fields_of": { "agent_completed": { "usage": "x" }, "error": { "recovery": "x" } },
        });
        check(&serde_json::from_value(lacks).expect("it is well formed")).expect("it is accepted");
    }

    #[test]
    fn a_wrong_name_is_refused_with_what_to_do() {
        for (lacks, said) in [
            (
                serde_json::json!({ "handshake": " " }),
                "`lacks.handshake` is blank: say why",
            ),
            (
                serde_json::json!({ "fields": { "run_id": "x" } }),
                "`shape.fields` gives it another name",
            ),
            (
                serde_json::json!({ "fields": { "colour": "x" } }),
                "take one of agent_name, correlation_id",
            ),
            (serde_json::json!({ "fields": { "usage": "x" } }), "`lacks.fields_of`"),
            (
                serde_json::json!({ "fields_of": { "fly": { "a": "x" } } }),
                "no frame of the contract",
            ),
            (
                serde_json::json!({ "fields_of": { "agent_thinking": { "usage": "x" } } }),
                "no field of its own: take one of",
            ),
        ] {
            let why = refused(lacks);
            assert!(why.contains(said), "{why}");
        }
    }
}
