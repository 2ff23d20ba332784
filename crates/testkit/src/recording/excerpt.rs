//! Frames of a recording for people: those at both ends of a broken rule, short in a failure message, whole in a replay.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Direction, Entry, FrameKind, Recording};
use crate::validate::Place;

/// More of a frame does not fit a failure message.
const SHORT_CHARS: usize = 240;

/// More of a string does not fit a page.
const STRING_CHARS: usize = 200;

/// More lines of a frame do not fit a page.
const PAGE_LINES: usize = 40;

/// The frames at both ends of a broken rule: the first and the last of those at fault, by time.
#[must_use]
pub fn ends(recording: &Recording, places: &[Place]) -> Vec<Place> {
    let mut known: Vec<(u64, Place)> = places
        .iter()
        .filter_map(|place| Some((entry(recording, *place)?.at_us, *place)))
        .collect();
    known.sort_unstable_by_key(|(at_us, place)| (*at_us, *place));
    known.dedup();
    match known.as_slice() {
        [] => Vec::new(),
        [(_, only)] => vec![*only],
        [(_, first), .., (_, last)] => vec![*first, *last],
    }
}

/// One line per frame: where it stands, which way it went, when, and the beginning of its text.
#[must_use]
pub fn short(recording: &Recording, places: &[Place]) -> Vec<String> {
    let line = |place: Place| {
        let entry = entry(recording, place)?;
        Some(format!("{}: {}", head(place, entry), cut(&said(entry), SHORT_CHARS)))
    };
    places.iter().copied().filter_map(line).collect()
}

/// The frames as indented JSON, long strings and long frames cut.
#[must_use]
pub fn pretty(recording: &Recording, places: &[Place]) -> String {
    let mut text = String::new();
    for place in places {
        let Some(entry) = entry(recording, *place) else {
            continue;
        };
        writeln!(text, "{}", head(*place, entry)).expect("memory takes it");
        let body = match serde_json::from_slice::<Value>(&entry.bytes) {
            Ok(mut json) if entry.kind == FrameKind::Text => {
                shorten_strings(&mut json);
                serde_json::to_string_pretty(&json).unwrap_or_default()
            }
            Ok(_) | Err(_) => cut(&said(entry), SHORT_CHARS),
        };
        let lines = body.lines().count();
        for line in body.lines().take(PAGE_LINES) {
            writeln!(text, "  {line}").expect("memory takes it");
        }
        if lines > PAGE_LINES {
            writeln!(text, "  … {} more lines", lines - PAGE_LINES).expect("memory takes it");
        }
    }
    text
}

/// What a frame says, in one line.
#[must_use]
pub fn said(entry: &Entry) -> String {
    match (entry.kind, entry.text()) {
        (FrameKind::Close, _) => match entry.close_code() {
            Some(code) => {
                let reason = String::from_utf8_lossy(&entry.bytes[2..]);
                format!("close {code} {}", reason.escape_debug()).trim_end().to_owned()
            }
            None => "close without a code".to_owned(),
        },
        (FrameKind::Text, Some(text)) => text.chars().map(|c| if c.is_control() { '·' } else { c }).collect(),
        (kind, Some(text)) if !text.is_empty() => format!("{} {:?}", word(kind), cut(text, SHORT_CHARS)),
        (kind, _) => format!("{} of {} bytes", word(kind), entry.bytes.len()),
    }
}

/// The text, or its beginning and how much is left.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}… ({} more)", &text[..at], text[at..].chars().count()),
        None => text.to_owned(),
    }
}

fn entry(recording: &Recording, place: Place) -> Option<&Entry> {
    recording.connections.get(place.connection)?.entries.get(place.frame)
}

fn head(place: Place, entry: &Entry) -> String {
    let way = match entry.direction {
        Direction::Sent => "sent",
        Direction::Received => "received",
    };
    format!("frame {place}, {way} at {:.3} s", entry.at_us as f64 / 1e6)
}

fn word(kind: FrameKind) -> &'static str {
    match kind {
        FrameKind::Text => "text",
        FrameKind::Binary => "binary",
        FrameKind::Ping => "ping",
        FrameKind::Pong => "pong",
        FrameKind::Close => "close",
    }
}

fn shorten_strings(json: &mut Value) {
    match json {
        Value::String(text) => *text = cut(text, STRING_CHARS),
        Value::Array(items) => items.iter_mut().for_each(shorten_strings),
        Value::Object(object) => object.values_mut().for_each(shorten_strings),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::recording::Connection;

    kingsguard_report::covers!("KIT-6");

    fn recording() -> Recording {
        let entry = |at_us, kind, bytes: &[u8]| Entry {
            at_us,
            wall: chrono::DateTime::default(),
            direction: Direction::Received,
            kind,
            bytes: bytes.to_vec(),
        };
        let long = format!(r#"{{"type":"partial_result","content":"{}"}}"#, "ä".repeat(300));
        Recording {
            connections: vec![Connection {
                entries: vec![
                    entry(1_500, FrameKind::Text, long.as_bytes()),
                    entry(2_000_000, FrameKind::Ping, b""),
                    entry(2_500_000, FrameKind::Close, b"\x03\xe9bye"),
                ],
                ..Connection::default()
            }],
            ..Recording::default()
        }
    }

    fn place(frame: usize) -> Place {
        Place { connection: 0, frame }
    }

    #[test]
    fn the_ends_of_a_rule_are_its_first_and_last_frame_by_time() {
        let recording = recording();
        assert_eq!(ends(&recording, &[place(2), place(1), place(0)]), [place(0), place(2)]);
        assert_eq!(ends(&recording, &[place(1), place(1), place(9)]), [place(1)]);
        assert_eq!(ends(&recording, &[]), []);
    }

    #[test]
    fn a_frame_is_told_in_one_line_with_its_place_and_time() {
        let lines = short(&recording(), &[place(0), place(1), place(2)]);
        assert!(
            lines[0].starts_with(r#"frame 0/0, received at 0.002 s: {"type":"partial_result""#),
            "{}",
            lines[0]
        );
        assert!(lines[0].ends_with("… (98 more)"), "{}", lines[0]);
        assert_eq!(lines[1], "frame 0/1, received at 2.000 s: ping of 0 bytes");
        assert_eq!(lines[2], "frame 0/2, received at 2.500 s: close 1001 bye");
    }

    #[test]
    fn a_frame_is_shown_whole_with_its_long_strings_cut() {
        let text = pretty(&recording(), &[place(0)]);
        assert!(text.contains("\n    \"content\": \"ää"), "{text}");
        assert!(text.contains("… (100 more)\""), "{text}");
    }
}
