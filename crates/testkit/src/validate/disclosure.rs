//! AUTH-8 and SEC-2: no credential and nothing of the backend's inside in any frame.

use super::Judgement;
use super::reading::Reading;
use crate::recording::credentials::CREDENTIAL_BYTES_MIN;

/// Texts that only a backend's inside says.
const INSIDE: [&str; 10] = [
    "panicked at ",
    "stack backtrace",
    "Traceback (most recent call",
    "RUST_BACKTRACE",
    "/rustc/",
    ".cargo/registry",
    "SQLSTATE",
    "error returned from database",
    "duplicate key value violates",
    "INSERT INTO ",
];

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    let facts = &reading.recording.facts;
    let secrets: Vec<&str> = facts
        .secrets
        .iter()
        .map(String::as_str)
        .filter(|secret| secret.len() >= CREDENTIAL_BYTES_MIN)
        .collect();
    let inside: Vec<&str> = INSIDE
        .into_iter()
        .chain(facts.internal_addresses.iter().map(String::as_str))
        .collect();
    for connection in &reading.connections {
        let mut said = String::new();
        for frame in &connection.frames {
            let text = frame.text();
            if !frame.is_received() {
                said.push_str(text);
                continue;
            }
            // A user's own text in his own history is not meant.
            let is_own = |word: &&str| text.contains(*word) && !said.contains(*word);
            if secrets.iter().any(is_own) {
                judgement.blame(
                    "AUTH-8",
                    "no credential in a frame",
                    "a credential in use came",
                    [frame.place],
                );
            }
            if let Some(word) = inside.iter().find(|word| is_own(word)) {
                let came = format!("`{}` came", word.trim());
                judgement.blame(
                    "SEC-2",
                    "nothing of the backend's inside in a frame",
                    came,
                    [frame.place],
                );
            }
        }
    }
}
