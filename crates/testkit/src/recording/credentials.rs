//! Credentials are never written (AUTH-8). The same text stands wherever the same credential stood, so that whether one was
//! disclosed is judged from a stored recording as it was judged at first.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kingsguard_report::recording::Facts;

/// Shorter texts could be anything: they are neither looked for nor hidden.
pub const CREDENTIAL_BYTES_MIN: usize = 8;

/// What stands in the place of each credential.
#[derive(Debug)]
pub struct Credentials {
    /// In the order of [`Facts::secrets`].
    places: Vec<String>,
    /// A credential in one of its forms and what stands in its place, the longest first: one may hold another.
    replaced: Vec<(String, String)>,
}

impl Credentials {
    /// Of everything that opened something in a test.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let (mut places, mut replaced) = (Vec::new(), Vec::new());
        let long_enough = facts
            .secrets
            .iter()
            .filter(|secret| secret.len() >= CREDENTIAL_BYTES_MIN);
        for (index, secret) in long_enough.enumerate() {
            let place = place(index, secret, &facts.internal_addresses);
            // As a string of JSON has it, and as a sub-protocol may carry it: they hide it too, and are no disclosure of it.
            let escaped = serde_json::Value::from(secret.as_str()).to_string();
            let escaped = escaped.trim_matches('"').to_owned();
            let encoded = URL_SAFE_NO_PAD.encode(secret);
            if escaped != *secret {
                replaced.push((escaped, format!("[escaped secret {index}]")));
            }
            replaced.push((encoded, format!("[encoded secret {index}]")));
            replaced.push((secret.clone(), place.clone()));
            places.push(place);
        }
        replaced.sort_by_key(|(secret, _)| std::cmp::Reverse(secret.len()));
        Self { places, replaced }
    }

    /// What stands in the place of each.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        self.places.clone()
    }

    /// The text without credentials.
    #[must_use]
    pub fn hide(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for (secret, place) in &self.replaced {
            if hidden.contains(secret.as_str()) {
                hidden = hidden.replace(secret.as_str(), place);
            }
        }
        hidden
    }

    /// The bytes without credentials; `None` where they hold none.
    #[must_use]
    pub fn hide_bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            let hidden = self.hide(text);
            return (hidden != text).then(|| hidden.into_bytes());
        }
        let mut hidden: Option<Vec<u8>> = None;
        for (secret, place) in &self.replaced {
            while let Some(at) = find(hidden.as_deref().unwrap_or(bytes), secret.as_bytes()) {
                let whole = hidden.get_or_insert_with(|| bytes.to_vec());
                whole.splice(at..at + secret.len(), place.bytes());
            }
        }
        hidden
    }
}

/// What stands in the place of a credential. An address of the backend's inside that it held still shows (SEC-2).
fn place(index: usize, secret: &str, internal_addresses: &[String]) -> String {
    let held: Vec<&str> = internal_addresses
        .iter()
        .map(String::as_str)
        .filter(|address| secret.contains(address))
        .collect();
    if held.is_empty() {
        format!("[secret {index}]")
    } else {
        format!("[secret {index} of {}]", held.join(" "))
    }
}

fn find(whole: &[u8], part: &[u8]) -> Option<usize> {
    whole.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    kingsguard_report::covers!("KIT-6");

    fn facts(secrets: &[&str]) -> Facts {
        Facts {
            secrets: secrets.iter().map(|secret| (*secret).to_owned()).collect(),
            internal_addresses: vec!["127.0.0.1:5432".into()],
            ..Facts::default()
        }
    }

    #[test]
    fn each_credential_has_its_place_in_every_form_and_short_texts_stay() {
        let credentials = Credentials::of(&facts(&["hunter2-hunter2", "short", "quo\"te and more"]));
        let encoded = URL_SAFE_NO_PAD.encode("hunter2-hunter2");
        assert_eq!(
            credentials.hide(&format!(
                "hunter2-hunter2 {encoded} short quo\"te and more quo\\\"te and more"
            )),
            "[secret 0] [encoded secret 0] short [secret 1] [escaped secret 1]"
        );
        assert_eq!(credentials.places(), ["[secret 0]", "[secret 1]"]);
    }

    #[test]
    fn an_address_of_the_inside_still_shows() {
        let credentials = Credentials::of(&facts(&["postgres://king:guard@127.0.0.1:5432/db"]));
        let hidden = credentials.hide("cannot reach postgres://king:guard@127.0.0.1:5432/db");
        assert_eq!(hidden, "cannot reach [secret 0 of 127.0.0.1:5432]");
    }

    #[test]
    fn what_was_hidden_once_is_hidden_the_same_way_again() {
        let once = Credentials::of(&facts(&["postgres://king:guard@127.0.0.1:5432/db", "hunter2-hunter2"])).places();
        let again = Facts {
            secrets: once.clone(),
            ..facts(&[])
        };
        assert_eq!(Credentials::of(&again).places(), once);
    }

    #[test]
    fn bytes_that_are_no_text_hold_none_either() {
        let credentials = Credentials::of(&facts(&["hunter2-hunter2"]));
        let hidden = credentials.hide_bytes(b"\xffhunter2-hunter2\xfe");
        assert_eq!(hidden.as_deref(), Some(b"\xff[secret 0]\xfe".as_slice()));
        assert_eq!(credentials.hide_bytes(b"\xff nothing"), None);
    }
}
