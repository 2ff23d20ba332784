//! JSON bodies of HTTP requests are refused like frames: pointer and what was expected.

use std::fmt::Debug;

use kingsguard_protocol::decode::RequestBody;
use kingsguard_protocol::http::{
    CreateThreadRequest, LoginRequest, RefreshRequest, RegisterRequest, RenameThreadRequest, TicketRequest, UsageRecord,
};
use kingsguard_protocol::{ClientBody, ClientMessage, DecodeError};
use pretty_assertions::assert_eq;
use proptest::option;
use proptest::prelude::*;

use crate::samples::LIMITS;
use crate::strategies::filled;

#[track_caller]
fn check<T: RequestBody + Debug>(text: &str, pointer: &str, expected: &str) {
    let refused = DecodeError::Validation {
        pointer: pointer.to_owned(),
        expected: expected.to_owned(),
        correlation_id: None,
    };
    assert_eq!(T::decode(text).map(|_| ()), Err(refused), "{text}");
}

#[test]
fn a_registration_names_address_and_password() {
    let password = "a string of 12–128 characters";
    let email = "an e-mail address";
    check::<RegisterRequest>("[]", "", "an object");
    check::<RegisterRequest>("{}", "/email", email);
    for bad in ["7", "\"\"", "\"ada\"", "\"@b\"", "\"a@\"", "\"a@b@c\"", "\"a b@c\""] {
        check::<RegisterRequest>(&format!(r#"{{"email":{bad},"password":"x"}}"#), "/email", email);
    }
    let long = format!(r#"{{"email":"{}@b.c","password":"x"}}"#, "a".repeat(251));
    check::<RegisterRequest>(&long, "/email", email);
    check::<RegisterRequest>(r#"{"email":"a@b.c"}"#, "/password", password);
    let with_password =
        |password: &str| format!(r#"{{"email":"a@b.c","password":"{password}","name":null,"more":[]}}"#);
    check::<RegisterRequest>(&with_password(&"é".repeat(11)), "/password", password);
    check::<RegisterRequest>(&with_password(&"é".repeat(129)), "/password", password);
    check::<RegisterRequest>(&with_password("\\u0000"), "/password", "text without U+0000");
    check::<RegisterRequest>(
        r#"{"email":"a@b.c","password":"twelve chars","name":""}"#,
        "/name",
        "a string of 1–256 characters",
    );
    for length in [12, 128] {
        let request = RegisterRequest::decode(&with_password(&"é".repeat(length))).expect("a good registration");
        assert_eq!(request.password.reveal().chars().count(), length);
    }
}

#[test]
fn a_login_takes_any_password_so_that_a_wrong_one_is_judged_as_such() {
    check::<LoginRequest>(r#"{"email":"a@b.c"}"#, "/password", "a string of 1–1,024 characters");
    check::<LoginRequest>(
        r#"{"email":"a@b.c","password":7}"#,
        "/password",
        "a string of 1–1,024 characters",
    );
    let request = LoginRequest::decode(r#"{"email":"a@b.c","password":"short"}"#).expect("a good login");
    assert_eq!(request.password.reveal(), "short");
}

#[test]
fn the_other_bodies_ask_for_their_fields() {
    check::<RefreshRequest>("{}", "/refresh_token", "a string of 1–4,096 characters");
    check::<RenameThreadRequest>("{}", "/title", "a string of 1–256 characters");
    check::<RenameThreadRequest>(
        r#"{"title":"\t"}"#,
        "/title",
        "a string of 1–256 characters that is not blank",
    );
    check::<CreateThreadRequest>(r#"{"metadata":[]}"#, "/metadata", "an object");
    check::<CreateThreadRequest>(
        r#"{"metadata":{"a":1,"a":2}}"#,
        "/metadata/a",
        "a key that its object has only once",
    );
    for ttl in ["29", "3601", "-1", "30.5", "\"60\"", "99999999999999999999"] {
        check::<TicketRequest>(
            &format!(r#"{{"ttl_seconds":{ttl}}}"#),
            "/ttl_seconds",
            "an integer of 30–3,600",
        );
    }
    check::<TicketRequest>(r#"{"single_use":"yes"}"#, "/single_use", "true or false");
    for ttl in [30, 3_600] {
        let request = TicketRequest::decode(&format!(r#"{{"ttl_seconds":{ttl}}}"#)).expect("a good request");
        assert_eq!(request.ttl_seconds, Some(ttl));
    }
}

#[test]
fn a_body_whose_fields_are_all_optional_may_be_absent() {
    assert_eq!(TicketRequest::decode(""), Ok(TicketRequest::default()));
    assert_eq!(CreateThreadRequest::decode(" \n"), Ok(CreateThreadRequest::default()));
    assert!(matches!(
        LoginRequest::decode(""),
        Err(DecodeError::Json { line: 1, column: 1, .. })
    ));
}

#[test]
fn a_usage_record_is_judged_field_by_field() {
    let row = |change: &str| {
        let mut row = serde_json::json!({
            "timestamp": "2026-01-31T08:15:30", "model": "m", "input_tokens": 1, "output_tokens": 2, "latency_ms": 3
        });
        let change: serde_json::Value = serde_json::from_str(change).expect("JSON");
        for (key, value) in change.as_object().expect("an object") {
            row[key] = value.clone();
        }
        row.to_string()
    };
    let count = "an integer of 0–1,000,000,000,000";
    let text = "a string of 1–256 characters";
    let date = "a date and time such as 2026-01-31T08:15:30Z";
    for bad in ["null", "7", "\"2026-13-45\"", "\"\""] {
        check::<UsageRecord>(&row(&format!(r#"{{"timestamp":{bad}}}"#)), "/timestamp", date);
    }
    check::<UsageRecord>(&row(r#"{"model":null}"#), "/model", text);
    for field in ["input_tokens", "output_tokens", "latency_ms"] {
        for bad in ["null", "-1", "1.5", "\"1\"", "1000000000001"] {
            check::<UsageRecord>(&row(&format!(r#"{{"{field}":{bad}}}"#)), &format!("/{field}"), count);
        }
    }
    check::<UsageRecord>(&row(r#"{"cost_microusd":-1}"#), "/cost_microusd", count);
    check::<UsageRecord>(&row(r#"{"feature":7}"#), "/feature", text);
    check::<UsageRecord>(&row(r#"{"prompt_hash":""}"#), "/prompt_hash", text);
    check::<UsageRecord>(&row(r#"{"success":"yes"}"#), "/success", "true or false");
    check::<UsageRecord>("7", "", "an object");

    // What failed has no latency.
    let record = UsageRecord::decode(&row(r#"{"latency_ms":null,"success":false,"more":{}}"#)).expect("a good row");
    assert_eq!((record.latency_ms, record.success), (None, Some(false)));
    let full = row(
        r#"{"timestamp":"2026-01-31T08:15:30.250Z","feature":"f","cost_microusd":0,"prompt_hash":"p","success":true}"#,
    );
    let record = UsageRecord::decode(&full).expect("a good row");
    assert_eq!(
        UsageRecord::decode(&serde_json::to_string(&record).expect("written")),
        Ok(record)
    );
}

#[test]
fn a_chat_body_is_a_user_message_with_or_without_its_type() {
    let read = |text: &str| ClientMessage::decode_chat_body(text, &LIMITS);
    for text in [
        r#"{"content":"hi"}"#,
        r#"{"message":"hi","type":null}"#,
        r#"{"type":"chat","payload":{"text":"hi"}}"#,
    ] {
        let message = read(text).expect("a good body");
        assert!(
            matches!(&message.body, ClientBody::UserMessage(body) if body.content == "hi"),
            "{message:?}"
        );
    }
    let refused = |pointer: &str, expected: &str| {
        Err(DecodeError::Validation {
            pointer: pointer.to_owned(),
            expected: expected.to_owned(),
            correlation_id: Some("m".into()),
        })
    };
    assert_eq!(
        read(r#"{"type":"ping","message_id":"m","content":"x"}"#),
        refused("/type", "`user_message`, or absent")
    );
    assert_eq!(
        read(r#"{"type":7,"message_id":"m","content":"x"}"#),
        refused("/type", "`user_message`, or absent")
    );
    assert_eq!(
        read(r#"{"message_id":"m"}"#),
        refused("/content", "a string of 1–8,000 characters")
    );
    assert_eq!(
        read(r#"{"message_id":"m","payload":[],"content":"x"}"#),
        refused("/payload", "an object")
    );
}

proptest! {
    #[test]
    fn bodies_are_read_as_they_were_written(
        name in option::of(filled()),
        password in "[a-zA-Z0-9é ]{12,128}",
        token in filled(),
        ttl_seconds in option::of(30_u64..=3_600),
        single_use in option::of(any::<bool>()),
    ) {
        fn again<T: RequestBody + serde::Serialize>(body: &T) -> Result<T, DecodeError> {
            T::decode(&serde_json::to_string(body).expect("a body is written"))
        }
        let register = RegisterRequest {
            email: "ada@example.org".to_owned(),
            password: password.as_str().into(),
            name: name.clone(),
        };
        prop_assert_eq!(again(&register), Ok(register));
        let login = LoginRequest { email: "ada@example.org".to_owned(), password: password.into() };
        prop_assert_eq!(again(&login), Ok(login));
        let refresh = RefreshRequest { refresh_token: token.as_str().into() };
        prop_assert_eq!(again(&refresh), Ok(refresh));
        let ticket = TicketRequest { ttl_seconds, single_use };
        prop_assert_eq!(again(&ticket), Ok(ticket));
        let create = CreateThreadRequest { title: name, metadata: None };
        prop_assert_eq!(again(&create), Ok(create));
        let rename = RenameThreadRequest { title: token };
        prop_assert_eq!(again(&rename), Ok(rename));
    }
}
