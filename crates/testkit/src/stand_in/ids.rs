//! Ids that a client chose, in the place of those that were recorded.

use serde_json::Value;

/// Recorded ids, as JSON writes them, and what stands in their place.
#[derive(Debug, Default)]
pub(super) struct Ids {
    known: Vec<(String, String)>,
}

impl Ids {
    /// Notes where a client's frame has other ids than the one that was recorded in its place.
    pub(super) fn learn(&mut self, recorded: &[u8], came: &[u8]) {
        let parsed = (serde_json::from_slice(recorded), serde_json::from_slice(came));
        if let (Ok(recorded), Ok(came)) = parsed {
            self.compare(&recorded, &came);
        }
    }

    fn compare(&mut self, recorded: &Value, came: &Value) {
        match (recorded, came) {
            (Value::Object(recorded), Value::Object(came)) => {
                for (key, recorded) in recorded {
                    let Some(came) = came.get(key) else { continue };
                    match (recorded, came) {
                        (Value::String(_), Value::String(_)) if key.ends_with("_id") && recorded != came => {
                            self.known.push((recorded.to_string(), came.to_string()));
                        }
                        _ => self.compare(recorded, came),
                    }
                }
            }
            (Value::Array(recorded), Value::Array(came)) => {
                for (recorded, came) in recorded.iter().zip(came) {
                    self.compare(recorded, came);
                }
            }
            _ => {}
        }
    }

    /// A recorded frame's text as this client must see it; all else stays byte for byte.
    pub(super) fn put_into(&self, text: &str) -> String {
        let mut told = text.to_owned();
        for (recorded, came) in &self.known {
            if told.contains(recorded.as_str()) {
                told = told.replace(recorded.as_str(), came);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn ids_of_the_client_stand_in_what_it_is_told() {
        let mut ids = Ids::default();
        ids.learn(
            br#"{"type":"batch","messages":[{"message_id":"m1","content":"m1"}],"thread_id":"t"}"#,
            br#"{"type":"batch","messages":[{"message_id":"other","content":"x"}],"thread_id":"t"}"#,
        );
        let told = ids.put_into(r#"{ "correlation_id":"m1", "thread_id":"t", "final_response":"m1!" }"#);
        assert_eq!(
            told,
            r#"{ "correlation_id":"other", "thread_id":"t", "final_response":"m1!" }"#
        );
    }
}
