//! What nothing can be said about, because the target's wire lacks what only could show it.

use super::Judgement;
use super::reading::Reading;

/// Clauses that need the whole handshake.
const HANDSHAKE: &[&str] = &["HSK-1", "HSK-2", "HSK-3", "HSK-4", "CON-2", "LIM-1", "SEQ-3", "SEQ-6"];

/// Clauses that need `message_received`.
const ACKNOWLEDGEMENT: &[&str] = &["MSG-1", "TIM-1"];

/// Clauses that need a field of frames, beside that it is there.
const FIELDS: &[(&str, &[&str])] = &[
    ("seq", &["SEQ-1", "SEQ-2", "SEQ-3", "SEQ-6"]),
    ("thread_id", &["SEQ-1", "SEQ-2", "SEQ-3", "SEQ-6"]),
    ("event_id", &["SEQ-2"]),
    ("correlation_id", &["MSG-1"]),
    ("timestamp", &["ORD-7", "TIM-4"]),
    ("duration_ms", &["ORD-7"]),
];

pub(super) fn list(reading: &Reading<'_>, judgement: &mut Judgement) {
    if reading.received_frames() == 0 {
        return;
    }
    let lacks = reading.lacks;
    let mut cannot = |clauses: &[&'static str], what: &str, reason: &str| {
        for clause in clauses {
            judgement.cannot_judge(clause, format!("the target has no {what}: {reason}"));
        }
    };
    if let Some(reason) = &lacks.handshake {
        cannot(HANDSHAKE, "handshake", reason);
    }
    if let Some(reason) = &lacks.acknowledgement {
        cannot(ACKNOWLEDGEMENT, "`message_received`", reason);
    }
    let own = lacks.fields_of.values().flatten();
    for (field, reason) in lacks.fields.iter().chain(own) {
        for (_, clauses) in FIELDS.iter().filter(|(needed, _)| needed == field) {
            cannot(clauses, &format!("`{field}`"), reason);
        }
    }
}
