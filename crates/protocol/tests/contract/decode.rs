//! Text, JSON, envelope and type of a client's frame: what is refused, with its exact pointer and what was expected there,
//! and what is tolerated.

use kingsguard_protocol::client::{ClientBody, ClientType};
use kingsguard_protocol::decode::Envelope;
use kingsguard_protocol::{ClientMessage, DecodeError};
use pretty_assertions::assert_eq;

use crate::samples::LIMITS;

pub fn decode(text: &str) -> Result<ClientMessage, DecodeError> {
    ClientMessage::decode(text, &LIMITS)
}

pub fn read(text: &str) -> ClientMessage {
    decode(text).unwrap_or_else(|error| panic!("{text} is refused: {error}"))
}

/// Pointer and expectation of a refused frame.
fn refused(text: &str) -> (String, String) {
    match decode(text) {
        Err(DecodeError::Validation { pointer, expected, .. }) => (pointer, expected),
        other => panic!("{text} is not refused for a field: {other:?}"),
    }
}

#[track_caller]
pub fn check(text: &str, pointer: &str, expected: &str) {
    assert_eq!(refused(text), (pointer.to_owned(), expected.to_owned()), "{text}");
}

#[track_caller]
fn check_syntax(text: &str, line: usize, column: usize) {
    match decode(text) {
        Err(DecodeError::Json { line: l, column: c, .. }) => assert_eq!((l, c), (line, column), "{text}"),
        other => panic!("{text} is read as JSON: {other:?}"),
    }
}

pub fn content(text: &str) -> String {
    match read(text).body {
        ClientBody::UserMessage(message) => message.content,
        other => panic!("{text} is read as {other:?}"),
    }
}

#[test]
fn text_that_is_no_json_is_refused_with_line_and_column() {
    check_syntax("", 1, 1);
    check_syntax("   ", 1, 4);
    check_syntax("{", 1, 2);
    check_syntax(r#"{"type": "ping""#, 1, 16);
    check_syntax("{\"type\": \"ping\",\n  \"x\": nul}", 2, 8);
    check_syntax("{\"ü\": \"ü\", x}", 1, 12);
    check_syntax(r#"{"type":"ping"} x"#, 1, 17);
    check_syntax(r#"{"type":"ping",}"#, 1, 16);
    check_syntax("[1,]", 1, 4);
    check_syntax("{\"a\":\"tab\there\"}", 1, 10);
    check_syntax(r#"{"a":"\x"}"#, 1, 8);
    check_syntax(r#"{"a":"\u12G4"}"#, 1, 11);
    check_syntax(r#"{"a":01}"#, 1, 7);
    check_syntax(r#"{"a":1.}"#, 1, 8);
    check_syntax(r#"{"a":-}"#, 1, 7);
    check_syntax(r#"{'a':1}"#, 1, 2);
    check_syntax("NaN", 1, 1);
}

#[test]
fn json_is_judged_before_anything_else() {
    // A lone surrogate, a repeated key and deep nesting stand before the place that is no JSON.
    check_syntax(r#"{"a":"\ud800","a":1,"b":}"#, 1, 25);
    check_syntax(&"[".repeat(10_000), 1, 10_001);
}

#[test]
fn what_is_no_object_is_refused() {
    for text in ["[]", "1", "\"ping\"", "null", "true", r#"[{"type":"ping"}]"#] {
        check(text, "", "an object");
    }
}

#[test]
fn the_envelope_is_judged_before_the_type() {
    check("{}", "/type", "a string");
    check(r#"{"type":null}"#, "/type", "a string");
    check(r#"{"type":7}"#, "/type", "a string");
    check(r#"{"payload":{"type":"ping"}}"#, "/type", "a string");
    check(r#"{"type":"nope","payload":[]}"#, "/payload", "an object");
    check(r#"{"type":"nope","payload":"x"}"#, "/payload", "an object");
    check(
        r#"{"type":"nope","message_id":7}"#,
        "/message_id",
        "a string of 1–128 characters",
    );
    check(
        r#"{"type":"nope","message_id":""}"#,
        "/message_id",
        "a string of 1–128 characters",
    );
    check(r#"{"type":"nope","thread_id":{}}"#, "/thread_id", "a string");
    check(
        r#"{"type":"nope","payload":{"thread_id":7}}"#,
        "/payload/thread_id",
        "a string",
    );
    let date = "a date and time such as 2026-01-31T08:15:30Z";
    check(r#"{"type":"nope","timestamp":"yesterday"}"#, "/timestamp", date);
    check(r#"{"type":"nope","timestamp":1769847330000}"#, "/timestamp", date);
}

#[test]
fn an_unknown_type_is_named() {
    let unknown = |message_type: &str, id: Option<&str>| {
        Err(DecodeError::UnknownType {
            message_type: message_type.to_owned(),
            correlation_id: id.map(Into::into),
        })
    };
    let judged = |text: &str| decode(text).map(|_| ());
    assert_eq!(
        judged(r#"{"type":"nope","message_id":"m1"}"#),
        unknown("nope", Some("m1"))
    );
    assert_eq!(judged(r#"{"type":""}"#), unknown("", None));
    assert_eq!(judged(r#"{"type":"PING"}"#), unknown("PING", None));
    // What is sent by a backend is not what a client says.
    assert_eq!(judged(r#"{"type":"agent_started"}"#), unknown("agent_started", None));
}

#[test]
fn a_refusal_carries_the_message_id_wherever_it_can_be_read() {
    let refused = |text: &str| match decode(text) {
        Err(DecodeError::Validation { correlation_id, .. }) => correlation_id,
        other => panic!("{text}: {other:?}"),
    };
    let own = Some("m1".into());
    assert_eq!(refused(r#"{"message_id":"m1"}"#), own);
    assert_eq!(refused(r#"{"type":"user_message","message_id":"m1"}"#), own);
    assert_eq!(refused(r#"{"type":"user_message","payload":{"message_id":"m1"}}"#), own);
    assert_eq!(refused(r#"{"type":"ping","message_id":"m1","x":1,"x":2}"#), own);
    assert_eq!(refused(r#"{"type":"ping","message_id":"m\u0000"}"#), None);
    assert_eq!(refused(r#"{"type":"ping","message_id":"\ud800"}"#), None);
}

#[test]
fn fields_stand_at_the_root_or_in_payload() {
    assert_eq!(content(r#"{"type":"user_message","content":"hi"}"#), "hi");
    assert_eq!(content(r#"{"type":"user_message","payload":{"content":"hi"}}"#), "hi");
    assert_eq!(
        content(r#"{"type":"user_message","content":"root","payload":{"content":"inner"}}"#),
        "root"
    );
    assert_eq!(
        content(r#"{"type":"user_message","content":null,"payload":{"content":"inner"}}"#),
        "inner"
    );
    assert_eq!(
        content(r#"{"payload":{"content":"first"},"type":"user_message"}"#),
        "first"
    );
    assert_eq!(content(r#"{"type":"user_message","content":"x","payload":null}"#), "x");
    assert_eq!(
        content(r#"{"\u0074ype":"user_message","cont\u0065nt":"escaped keys"}"#),
        "escaped keys"
    );
    let message = read(r#"{"type":"user_message","payload":{"content":"hi","message_id":"m","thread_id":"t"}}"#);
    assert_eq!(message.message_id, Some("m".into()));
    assert_eq!(message.thread_id, Some("t".into()));
    // One level, no more.
    check(
        r#"{"type":"user_message","payload":{"payload":{"content":"x"}}}"#,
        "/payload/content",
        "a string of 1–8,000 characters",
    );
}

#[test]
fn what_the_contract_tolerates_is_read() {
    let message = read(
        r#"{"type":"user_message","payload":{"content":"hi","thread_id":null,"run_id":{"my":["own"]},"references":null,
            "metadata":null},"message_id":null,"timestamp":"2026-01-31T08:15:30.123456","user":7,"run_id":42,"x":null}"#,
    );
    assert_eq!((message.message_id, message.thread_id), (None, None));
    let ClientBody::UserMessage(body) = message.body else {
        panic!("read as {:?}", message.body)
    };
    assert_eq!(body.content, "hi");
    assert!(body.references.is_none() && body.metadata.is_none());
    for timestamp in [
        "2026-01-31T08:15:30Z",
        "2026-01-31T08:15:30",
        "2026-01-31T08:15:30.1",
        "2026-01-31T08:15:30.123456789+05:30",
        "2026-01-31T08:15:30+0530",
        "2026-01-31 08:15:30",
    ] {
        read(&format!(r#"{{"type":"ping","timestamp":"{timestamp}"}}"#));
    }
}

#[test]
fn every_name_and_alias_of_a_type_is_read() {
    for client_type in ClientType::ALL {
        for name in client_type.names() {
            let text = format!(r#"{{"type":"{name}"}}"#);
            let envelope = Envelope::read(&text).expect("a known type");
            assert_eq!(envelope.client_type, *client_type);
        }
    }
    for alias in ["user_message", "chat_message", "chat", "message", "user_input"] {
        assert_eq!(content(&format!(r#"{{"type":"{alias}","message":"hi"}}"#)), "hi");
    }
    for alias in ["content", "text", "message"] {
        assert_eq!(content(&format!(r#"{{"type":"chat","{alias}":"hi"}}"#)), "hi");
        assert_eq!(
            content(&format!(r#"{{"type":"chat","payload":{{"{alias}":"hi"}}}}"#)),
            "hi"
        );
        check(
            &format!(r#"{{"type":"chat","payload":{{"{alias}":7}}}}"#),
            &format!("/payload/{alias}"),
            "a string of 1–8,000 characters",
        );
    }
}

#[test]
fn content_has_1_to_8000_code_points_and_is_not_blank() {
    let message = |content: &str| format!(r#"{{"type":"user_message","content":"{content}"}}"#);
    let expected = "a string of 1–8,000 characters";
    assert_eq!(content(&message(&"🙂".repeat(8_000))).chars().count(), 8_000);
    check(&message(&"🙂".repeat(8_001)), "/content", expected);
    check(&message(""), "/content", expected);
    check(
        &message(" \\n\\t"),
        "/content",
        "a string of 1–8,000 characters that is not blank",
    );
    check(r#"{"type":"user_message"}"#, "/content", expected);
    check(r#"{"type":"user_message","content":["x"]}"#, "/content", expected);
    check(
        r#"{"type":"start_agent","agent_name":"data"}"#,
        "/user_request",
        expected,
    );
    check(r#"{"type":"broadcast","content":""}"#, "/content", expected);
    check(r#"{"type":"example_message","category":"x"}"#, "/content", expected);
}

#[test]
fn a_long_thread_id_is_read_and_left_to_the_look_up() {
    let thread_id = "x".repeat(10_000);
    let message = read(&format!(r#"{{"type":"get_thread_history","thread_id":"{thread_id}"}}"#));
    assert_eq!(message.thread_id, Some(thread_id.into()));
}

#[test]
fn a_message_id_has_1_to_128_characters() {
    let message = |length| format!(r#"{{"type":"ping","message_id":"{}"}}"#, "é".repeat(length));
    assert_eq!(read(&message(128)).message_id, Some("é".repeat(128).into()));
    check(&message(129), "/message_id", "a string of 1–128 characters");
}

#[test]
fn nesting_is_bounded_and_never_exhausts_the_stack() {
    let nested = |levels: usize| {
        format!(
            r#"{{"type":"user_message","content":"x","metadata":{{"a":{}{}}}}}"#,
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    read(&nested(62));
    let expected = "at most 64 levels of objects and arrays";
    check(&nested(63), &format!("/metadata/a{}", "/0".repeat(62)), expected);
    check(&nested(10_000), &format!("/metadata/a{}", "/0".repeat(62)), expected);
    check(&nested(2_000_000), &format!("/metadata/a{}", "/0".repeat(62)), expected);
    let objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    check(&objects, &"/a".repeat(64), expected);
}

#[test]
fn a_repeated_key_is_refused_in_any_place() {
    let expected = "a key that its object has only once";
    check(r#"{"type":"ping","type":"ping"}"#, "/type", expected);
    check(r#"{"type":"ping","x":1,"x":1}"#, "/x", expected);
    check(
        r#"{"type":"ping","x":{"a/b":[0,{"~k":1,"\u007ek":2}]}}"#,
        "/x/a~1b/1/~0k",
        expected,
    );
    read(r#"{"type":"ping","x":{"x":{"x":1}},"y":[{"x":1},{"x":2}]}"#);
}

#[test]
fn lone_surrogates_and_nul_are_refused_in_any_place() {
    let surrogate = "text without lone surrogates";
    let nul = "text without U+0000";
    for lone in [
        r"\ud83d",
        r"\uDE00",
        r"\ud83dx",
        r"\ud83d\u0041",
        r"\ude00\ud83d",
        r"\ud83d\ud83d\ude00",
        r"\ud83d\n",
    ] {
        check(
            &format!(r#"{{"type":"user_message","content":"{lone}"}}"#),
            "/content",
            surrogate,
        );
        check(&format!(r#"{{"type":"ping","x":{{"{lone}":1}}}}"#), "/x", surrogate);
    }
    assert_eq!(content(r#"{"type":"user_message","content":"\ud83d\ude00"}"#), "😀");
    check(r#"{"type":"user_message","content":"a\u0000b"}"#, "/content", nul);
    check(
        r#"{"type":"user_message","content":"x","metadata":{"a":["\u0000"]}}"#,
        "/metadata/a/0",
        nul,
    );
    check(r#"{"type":"ping","a\u0000":1}"#, "", nul);
    assert_eq!(
        content(r#"{"type":"user_message","content":"\\u0000 \\ud800"}"#),
        r"\u0000 \ud800"
    );
}

#[test]
fn a_number_that_no_double_holds_is_refused_and_a_large_integer_kept() {
    let expected = "a number that a double can hold";
    check(r#"{"type":"ping","x":1e400}"#, "/x", expected);
    check(
        &format!(r#"{{"type":"ping","x":[-1{}]}}"#, "0".repeat(400)),
        "/x/0",
        expected,
    );
    let metadata = r#"{"n": 123456789012345678901234567890, "f":1.0, "e":1E+2, "s":"\u0041\/"}"#;
    let text =
        format!(r#"{{"type":"user_message","content":"x","references":[9007199254740993],"metadata": {metadata} }}"#);
    let ClientBody::UserMessage(message) = read(&text).body else {
        panic!("no user message")
    };
    assert_eq!(message.metadata.as_ref().map(|raw| raw.get()), Some(metadata));
    assert_eq!(
        message.references.as_ref().map(|raw| raw.get()),
        Some("[9007199254740993]")
    );
}

#[test]
fn a_batch_holds_1_to_50_messages() {
    let expected = "a list of 1–50 messages";
    check(r#"{"type":"batch"}"#, "/messages", expected);
    check(r#"{"type":"batch","messages":[]}"#, "/messages", expected);
    check(
        r#"{"type":"batch","payload":{"messages":{}}}"#,
        "/payload/messages",
        expected,
    );
    let batch = |count: usize| format!(r#"{{"type":"batch","messages":[{}]}}"#, vec!["{}"; count].join(","));
    read(&batch(50));
    check(&batch(51), "/messages", expected);
}

#[test]
fn a_bad_message_of_a_batch_spoils_no_other() {
    let inner = [
        r#"{"type":"ping"}"#.to_owned(),
        r#"{"type":"user_message","content":"\ud800"}"#.to_owned(),
        r#"{"type":"ping","type":"ping"}"#.to_owned(),
        r#"{"type":"batch","messages":[{"type":"ping"}]}"#.to_owned(),
        "7".to_owned(),
        r#"{"type":"nope","message_id":"m5"}"#.to_owned(),
        r#"{"type":"user_message","payload":{}}"#.to_owned(),
        format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        r#""\u0000""#.to_owned(),
    ];
    let refused = |pointer: &str, expected: &str| {
        Err(DecodeError::Validation {
            pointer: pointer.to_owned(),
            expected: expected.to_owned(),
            correlation_id: None,
        })
    };
    let wanted = [
        Ok(()),
        refused("/content", "text without lone surrogates"),
        refused("/type", "a key that its object has only once"),
        refused("/type", "a message other than `batch`"),
        refused("", "an object"),
        Err(DecodeError::UnknownType {
            message_type: "nope".to_owned(),
            correlation_id: Some("m5".into()),
        }),
        refused("/payload/content", "a string of 1–8,000 characters"),
        refused("", "an object"),
        refused("", "an object"),
    ];
    let joined = inner.join(",");
    for text in [
        format!(r#"{{"type":"batch","messages":[{joined}]}}"#),
        format!(r#"{{"payload":{{"messages":[{joined}]}},"type":"batch"}}"#),
    ] {
        let ClientBody::Batch(batch) = read(&text).body else {
            panic!("no batch")
        };
        let judged: Vec<_> = batch
            .messages
            .iter()
            .map(|raw| Envelope::read_nested(raw.get())?.into_message(&LIMITS).map(|_| ()))
            .collect();
        assert_eq!(judged, wanted);
    }
    // Outside of the messages a batch is judged like any other.
    check(
        r#"{"type":"batch","messages":[{"type":"ping"}],"x":"\ud800"}"#,
        "/x",
        "text without lone surrogates",
    );
    // And what is no batch has no messages.
    check(
        r#"{"type":"ping","messages":["\ud800"]}"#,
        "/messages/0",
        "text without lone surrogates",
    );
}

#[test]
fn the_handshake_can_be_judged_between_type_and_fields() {
    let text = r#"{"type":"user_message","message_id":"m","thread_id":"t"}"#;
    let envelope = Envelope::read(text).expect("a good envelope");
    assert_eq!(envelope.client_type, ClientType::UserMessage);
    assert_eq!(envelope.message_id, Some("m".into()));
    assert_eq!(envelope.thread_id, Some("t".into()));
    assert!(envelope.client_type.needs_handshake());
    let free: Vec<&str> = ClientType::ALL
        .iter()
        .filter(|client_type| !client_type.needs_handshake())
        .map(|client_type| client_type.names()[0])
        .collect();
    let wanted = [
        "handshake_acknowledged",
        "ping",
        "pong",
        "heartbeat",
        "heartbeat_ack",
        "auth",
        "disconnect",
    ];
    assert_eq!(free, wanted);
}

#[test]
fn a_long_key_does_not_swell_the_error() {
    let key = "k".repeat(1_000_000);
    check(
        &format!(r#"{{"type":"ping","x":{{"{key}":"\u0000"}}}}"#),
        "/x",
        "text without U+0000",
    );
}
