//! How every frame looks on the wire, byte for byte, kept as snapshots for review.

use kingsguard_protocol::client::ClientType;
use kingsguard_protocol::{CloseCode, ControlFrame, ErrorCode, EventBody};
use pretty_assertions::assert_eq;
use serde::Serialize;

use crate::samples;

fn pretty(frame: &impl Serialize) -> String {
    serde_json::to_string_pretty(frame).expect("a frame is written")
}

#[test]
fn every_event_looks_as_it_did() {
    let events = samples::events();
    let types: Vec<&str> = events.iter().map(|event| event.body.event_type()).collect();
    assert_eq!(types, EventBody::TYPES);
    for event in events {
        insta::assert_snapshot!(format!("event_{}", event.body.event_type()), pretty(&event));
    }
}

#[test]
fn every_control_frame_looks_as_it_did() {
    let frames = samples::control_frames();
    let types: Vec<&str> = frames.iter().map(ControlFrame::frame_type).collect();
    assert_eq!(types, ControlFrame::TYPES);
    for frame in frames {
        insta::assert_snapshot!(format!("control_{}", frame.frame_type()), pretty(&frame));
    }
}

#[test]
fn every_client_message_looks_as_it_did() {
    let messages = samples::client_messages();
    let types: Vec<ClientType> = messages.iter().map(|message| message.body.client_type()).collect();
    assert_eq!(types, ClientType::ALL);
    for message in messages {
        let name = message.body.client_type().names()[0];
        insta::assert_snapshot!(format!("client_{name}"), pretty(&message));
    }
}

#[test]
fn every_error_code_keeps_its_status_and_recovery() {
    let lines: Vec<String> = ErrorCode::ALL
        .iter()
        .map(|code| format!("{} {} {}", code, code.http_status(), pretty(&code.recovery())))
        .collect();
    insta::assert_snapshot!("error_codes", lines.join("\n"));
    for code in ErrorCode::ALL {
        assert_eq!(pretty(code), format!("\"{code}\""));
    }
}

#[test]
fn every_close_code_keeps_its_number() {
    let numbers = CloseCode::ALL.map(CloseCode::as_u16);
    assert_eq!(
        numbers,
        [
            1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1013, 4401, 4408, 4409, 4429
        ]
    );
    for code in CloseCode::ALL {
        assert_eq!(CloseCode::try_from(code.as_u16()), Ok(code));
    }
    assert!(CloseCode::try_from(1005).is_err());
}

#[test]
fn no_credential_shows_when_a_message_is_debugged() {
    for message in samples::client_messages() {
        assert!(
            !format!("{message:?}").contains("header.claims.signature"),
            "{message:?}"
        );
    }
    let text = r#"{"type":"batch","messages":[{"type":"auth","token":"header.claims.signature"}]}"#;
    let envelope = kingsguard_protocol::decode::Envelope::read(text).expect("a good envelope");
    assert!(!format!("{envelope:?}").contains("signature"));
    let message = envelope.into_message(&samples::LIMITS).expect("a good batch");
    assert!(!format!("{message:?}").contains("signature"));
}
