//! What is written is read as it was.

use std::fmt::Debug;

use kingsguard_protocol::client::ClientType;
use kingsguard_protocol::{ClientMessage, ServerFrame, Timestamp, UserId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde::Serialize;
use serde_json::Value;

use crate::samples::LIMITS;
use crate::strategies::{self, Named};

/// Arbitrary values of each type.
const CASES: u32 = 48;

fn for_each<T: Debug>(named: Vec<Named<T>>, check: impl Fn(&T) -> Result<(), TestCaseError>) {
    for (name, strategy) in named {
        let config = Config {
            cases: CASES,
            failure_persistence: None,
            ..Config::default()
        };
        if let Err(error) = TestRunner::new(config).run(&strategy, |value| check(&value)) {
            panic!("{name}: {error}");
        }
    }
}

fn written(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a frame is written")
}

fn read(text: &str) -> Result<ClientMessage, TestCaseError> {
    ClientMessage::decode(text, &LIMITS).map_err(|error| TestCaseError::fail(format!("{text}: {error}")))
}

#[test]
fn every_event_is_read_as_it_was_written() {
    for_each(strategies::events(), |event| {
        let text = written(event);
        let frame = ServerFrame::decode(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error:?}")))?;
        prop_assert_eq!(&frame, &ServerFrame::Event(Box::new(event.clone())));
        // A replay is byte-identical (SEQ-2).
        let ServerFrame::Event(again) = frame else {
            return Err(TestCaseError::fail("no event"));
        };
        prop_assert_eq!(written(&again), text);
        Ok(())
    });
}

#[test]
fn every_control_frame_is_read_as_it_was_written() {
    for_each(strategies::control_frames(), |control| {
        let text = written(control);
        let frame = ServerFrame::decode(&text).map_err(|error| TestCaseError::fail(format!("{text}: {error:?}")))?;
        prop_assert_eq!(frame, ServerFrame::Control(Box::new(control.clone())));
        Ok(())
    });
}

#[test]
fn every_client_message_is_read_as_it_was_written() {
    for_each(strategies::client_messages(), |message| {
        prop_assert_eq!(&read(&written(message))?, message);
        Ok(())
    });
}

/// The same message, with all but its type in `payload`. Kept JSON passes through numbers here, so it is compared as
/// what its text then says.
#[test]
fn every_client_message_is_read_from_its_payload() {
    for_each(strategies::client_messages(), |message| {
        let Ok(Value::Object(mut fields)) = serde_json::from_str(&written(message)) else {
            return Err(TestCaseError::fail("no object"));
        };
        let flat = read(&Value::Object(fields.clone()).to_string())?;
        let message_type = fields.remove("type").unwrap_or_default();
        let in_payload = serde_json::json!({ "type": message_type, "payload": fields }).to_string();
        prop_assert_eq!(read(&in_payload)?, flat.clone());
        // `null` at the root does not hide what stands in the payload.
        let nulls = serde_json::json!({
            "type": message_type, "payload": fields, "thread_id": null, "message_id": null, "content": null
        });
        prop_assert_eq!(read(&nulls.to_string())?, flat);
        Ok(())
    });
}

#[test]
fn every_alias_means_the_same() {
    for_each(strategies::client_messages(), |message| {
        let text = written(message);
        let names = message.body.client_type().names();
        for alias in names {
            let named = text.replacen(&format!(r#""type":"{}""#, names[0]), &format!(r#""type":"{alias}""#), 1);
            prop_assert_eq!(&read(&named)?, message);
        }
        if message.body.client_type() == ClientType::UserMessage {
            for alias in ["text", "message"] {
                let named = text.replacen(r#""content":"#, &format!(r#""{alias}":"#), 1);
                prop_assert_eq!(&read(&named)?, message);
            }
        }
        Ok(())
    });
}

#[test]
fn a_refusal_is_the_same_with_blanks_between() {
    for_each(strategies::client_messages(), |message| {
        let Ok(value) = serde_json::from_str::<Value>(&written(message)) else {
            return Err(TestCaseError::fail("no JSON"));
        };
        let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
        let judged = |text: &str| ClientMessage::decode(text, &LIMITS).map(|message| message.body.client_type());
        prop_assert_eq!(judged(&pretty), judged(&value.to_string()));
        Ok(())
    });
}

proptest! {
    #[test]
    fn an_instant_is_read_as_it_was_written(unix_ms in -62_135_596_800_000_i64..253_402_300_800_000) {
        let at = Timestamp::from_unix_ms(unix_ms).expect("a year up to 9999");
        let text = at.to_string();
        prop_assert_eq!(text.parse::<Timestamp>(), Ok(at));
        prop_assert_eq!(Timestamp::parse_lenient(&text), Ok(at));
        prop_assert_eq!(at.as_unix_ms(), unix_ms);
        // Clients leave out the zone.
        prop_assert_eq!(Timestamp::parse_lenient(text.trim_end_matches('Z')), Ok(at));
    }
}

#[test]
fn only_one_form_of_an_instant_is_a_backends() {
    for text in [
        "2026-01-31T08:15:30Z",
        "2026-01-31T08:15:30.250+00:00",
        "2026-01-31T08:15:30.250123Z",
        "2026-01-31",
    ] {
        assert!(text.parse::<Timestamp>().is_err(), "{text}");
    }
}

#[test]
fn ids_that_are_made_are_well_formed_and_rise() {
    let ids: Vec<UserId> = (0..100).map(|_| UserId::generate()).collect();
    assert!(ids.iter().all(UserId::is_well_formed));
    assert!(ids.is_sorted());
    let id = ids[0].as_str();
    for text in [
        "user_",
        &id.replace('-', ""),
        &id.to_uppercase(),
        &id.replace("user_", "run_"),
        "user_00000000-0000-4000-8000-000000000000",
    ] {
        assert!(!UserId::from(text).is_well_formed(), "{text}");
    }
}
