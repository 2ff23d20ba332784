//! No byte sequence makes reading panic, and the scanner agrees with serde_json on what is JSON.

use kingsguard_protocol::decode::{Envelope, RequestBody};
use kingsguard_protocol::http::{CreateThreadRequest, RegisterRequest, TicketRequest};
use kingsguard_protocol::{ClientMessage, DecodeError, ServerFrame};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::samples::{self, LIMITS};

/// Reads a text in every way that there is. Whatever is answered, it is an answer.
fn read_in_every_way(text: &str) -> Result<(), TestCaseError> {
    let decoded = ClientMessage::decode(text, &LIMITS);
    if let Ok(envelope) = Envelope::read_nested(text) {
        let _judged = envelope.into_message(&LIMITS);
    }
    let _judged = ClientMessage::decode_chat_body(text, &LIMITS);
    let _judged = RegisterRequest::decode(text);
    let _judged = TicketRequest::decode(text);
    let _judged = CreateThreadRequest::decode(text);
    let _judged = ServerFrame::decode(text);

    match decoded {
        Err(DecodeError::Json { line, column, .. }) => {
            prop_assert!(line >= 1 && line <= text.lines().count().max(1) + 1);
            prop_assert!(column >= 1 && column <= text.chars().count() + 1);
            prop_assert!(serde_json::from_str::<Box<serde_json::value::RawValue>>(text).is_err());
        }
        Err(DecodeError::Validation { pointer, expected, .. }) => {
            prop_assert!(pointer.is_empty() || pointer.starts_with('/'));
            prop_assert!(!expected.is_empty());
        }
        Err(DecodeError::UnknownType { .. }) => {}
        Ok(message) => {
            // What was accepted can be written and read again, and every JSON in it is a value.
            let written = serde_json::to_string(&message).map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(ClientMessage::decode(&written, &LIMITS), Ok(message));
            prop_assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        }
    }
    Ok(())
}

/// Pieces of JSON, put together as they come.
fn jumble() -> impl Strategy<Value = String> {
    let pieces: Vec<&str> = vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u",
        "\\ud83d",
        "\\ude00",
        "\\u0000",
        "\"a\"",
        "\"type\"",
        "\"type\":",
        "\"user_message\"",
        "\"content\":",
        "\"payload\":",
        "\"messages\":",
        "\"batch\"",
        "\"ping\"",
        "0",
        "-",
        "1",
        ".5",
        "e",
        "e9",
        "E+400",
        "null",
        "true",
        "false",
        " ",
        "\n",
        "\t",
        "é",
        "\u{1}",
        "{}",
        "[]",
        "{\"type\":\"ping\"}",
        "\"resume\":",
        "\"limit\":",
        "\"after\":",
    ];
    vec(select(pieces), 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_reading_panic(bytes in vec(any::<u8>(), 0..256)) {
        read_in_every_way(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn no_text_makes_reading_panic(text in any::<String>()) {
        read_in_every_way(&text)?;
    }

    #[test]
    fn no_jumble_of_json_makes_reading_panic(text in jumble()) {
        read_in_every_way(&text)?;
    }

    #[test]
    fn no_damaged_frame_makes_reading_panic(
        which in any::<Index>(),
        damages in vec((any::<Index>(), any::<u8>(), 0_u8..4), 1..6),
    ) {
        let messages = samples::client_messages();
        let mut bytes = serde_json::to_vec(&messages[which.index(messages.len())]).expect("a message is written");
        for (place, byte, damage) in damages {
            if bytes.is_empty() {
                break;
            }
            let at = place.index(bytes.len());
            match damage {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        read_in_every_way(&String::from_utf8_lossy(&bytes))?;
    }

    #[test]
    fn the_scanner_agrees_with_serde_json_on_what_is_json(text in jumble()) {
        // RawValue checks the form of JSON alone: it takes lone surrogates, large numbers and repeated keys, as the
        // scanner's first judgement does.
        let is_json = serde_json::from_str::<Box<serde_json::value::RawValue>>(&text).is_ok();
        let is_refused = matches!(ClientMessage::decode(&text, &LIMITS), Err(DecodeError::Json { .. }));
        prop_assert_eq!(is_json, !is_refused, "{}", text);
    }
}

/// Every frame of the samples, cut at every byte, and with every byte replaced by what may end or open something: by three
/// of these at each place, so that neighbours meet all of them.
#[test]
fn every_cut_and_every_replaced_byte_is_answered() {
    const REPLACEMENTS: [&str; 10] = ["\"", "{", "}", "[", "]", ",", ":", "\\", "0", "\u{0}"];
    for message in samples::client_messages() {
        let text = serde_json::to_string(&message).expect("a message is written");
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            let cut = ClientMessage::decode(&text[..at], &LIMITS);
            assert!(
                matches!(cut, Err(DecodeError::Json { .. })),
                "{} is read as {cut:?}",
                &text[..at]
            );
            for nth in 0..3 {
                let replacement = REPLACEMENTS[(3 * at + nth) % REPLACEMENTS.len()];
                let damaged = format!("{}{replacement}{}", &text[..at], &text[at + 1..]);
                read_in_every_way(&damaged).expect("an answer");
            }
        }
    }
}
