//! What a backend's wire lacks, each with the reason: what only that could show is *not judged*, and told so.
//!
//! Nothing is put in the place of what is missing. The capture stays as it came, and so does what clients read of it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a backend never sends, or sends in a form of its own. Each entry holds the reason, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lacks {
    /// The handshake: a connection takes messages as soon as it is open, and events may come at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake: Option<String>,
    /// `message_received`: a message's run shows by its first event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgement: Option<String>,
    /// The contract's form of ids: they are texts of any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_form: Option<String>,
    /// The contract's form of timestamps: they are RFC 3339 in any other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp_form: Option<String>,
    /// Fields of all frames, in the contract's words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// Fields of frames of one type, in the contract's words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields_of: BTreeMap<String, BTreeMap<String, String>>,
}

impl Lacks {
    /// Whether the wire is whole.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Why frames of this type have no such field, or none that means what the contract's does.
    #[must_use]
    pub fn field(&self, frame_type: &str, field: &str) -> Option<&str> {
        let own = self.fields_of.get(frame_type).and_then(|own| own.get(field));
        own.or_else(|| self.fields.get(field)).map(String::as_str)
    }

    /// The first field that frames of this type lack beside those that all frames lack, with the reason.
    #[must_use]
    pub fn own_field(&self, frame_type: &str) -> Option<(&str, &str)> {
        let (field, reason) = self.fields_of.get(frame_type)?.first_key_value()?;
        Some((field, reason))
    }

    /// Every field that frames of this type lack, with the reason.
    pub fn fields_of_frame(&self, frame_type: &str) -> impl Iterator<Item = (&str, &str)> {
        let own = self.fields_of.get(frame_type).into_iter().flatten();
        own.chain(&self.fields)
            .map(|(field, reason)| (field.as_str(), reason.as_str()))
    }

    /// Everything that is lacking, as the profile names it, with the reason.
    pub fn all(&self) -> impl Iterator<Item = (String, &str)> {
        let whole = [
            ("handshake", &self.handshake),
            ("acknowledgement", &self.acknowledgement),
            ("id_form", &self.id_form),
            ("timestamp_form", &self.timestamp_form),
        ];
        let whole = whole
            .into_iter()
            .filter_map(|(name, reason)| Some((name.to_owned(), reason.as_deref()?)));
        let fields = self
            .fields
            .iter()
            .map(|(field, reason)| (format!("fields.{field}"), reason.as_str()));
        let own = self.fields_of.iter().flat_map(|(frame_type, fields)| {
            fields
                .iter()
                .map(move |(field, reason)| (format!("fields_of.{frame_type}.{field}"), reason.as_str()))
        });
        whole.chain(fields).chain(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_field_is_lacking_in_all_frames_or_in_those_of_one_type() {
        let lacks: Lacks = serde_json::from_value(serde_json::json!({
            "acknowledgement": "it answers by events",
            "fields": { "seq": "it counts nothing" },
            "fields_of": { "agent_completed": { "usage": "it counts no tokens" } },
        }))
        .expect("it is well formed");
        assert_eq!(lacks.field("agent_started", "seq"), Some("it counts nothing"));
        assert_eq!(lacks.field("agent_completed", "usage"), Some("it counts no tokens"));
        assert_eq!(lacks.field("agent_started", "usage"), None);
        assert_eq!(
            lacks.own_field("agent_completed"),
            Some(("usage", "it counts no tokens"))
        );
        assert_eq!(lacks.own_field("agent_started"), None);
        let names: Vec<String> = lacks.all().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            ["acknowledgement", "fields.seq", "fields_of.agent_completed.usage"]
        );
        assert!(!lacks.is_nothing() && Lacks::default().is_nothing());
    }
}
