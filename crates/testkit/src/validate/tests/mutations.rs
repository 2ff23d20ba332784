//! One minimal change per rule.

use rstest::rstest;
use serde_json::{Value, json};

use super::recordings::{ADA, BOB, Script, ada_thread, id, one_run, resumed_run, stamp, two_followers, two_users};
use super::{assert_green, assert_red};
use crate::recording::{EndingKind, FrameKind, Recording};

kingsguard_report::covers!("KIT-4");

mod run_events;

/// The first frame of a type on a connection.
fn place(recording: &Recording, connection: usize, frame_type: &str) -> usize {
    recording.connections[connection]
        .entries
        .iter()
        .position(|entry| {
            let json: Value = serde_json::from_slice(&entry.bytes).unwrap_or_default();
            json.get("type").and_then(Value::as_str) == Some(frame_type)
        })
        .unwrap_or_else(|| panic!("no {frame_type} in the recording"))
}

/// Changes the first frame of a type.
fn edit(recording: &mut Recording, connection: usize, frame_type: &str, change: impl FnOnce(&mut Value)) {
    let place = place(recording, connection, frame_type);
    let entry = &mut recording.connections[connection].entries[place];
    let mut json: Value = serde_json::from_slice(&entry.bytes).expect("the frame is JSON");
    change(&mut json);
    entry.bytes = json.to_string().into_bytes();
}

fn set(recording: &mut Recording, frame_type: &str, pointer: &str, value: Value) {
    edit(recording, 0, frame_type, |json| {
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
        let parent = json
            .pointer_mut(parent)
            .and_then(Value::as_object_mut)
            .expect("the parent is an object");
        parent.insert(field.to_owned(), value);
    });
}

fn unset(recording: &mut Recording, frame_type: &str, field: &str) {
    edit(recording, 0, frame_type, |json| {
        json.as_object_mut()
            .expect("frames are objects")
            .remove(field)
            .expect("the field is there");
    });
}

/// Takes an event out of connection 0 and closes the gap in `seq`, so that only its absence is at fault.
fn take_out(recording: &mut Recording, frame_type: &str) {
    let place = place(recording, 0, frame_type);
    recording.connections[0].entries.remove(place);
    renumber(recording);
}

fn renumber(recording: &mut Recording) {
    let mut next = 1;
    for entry in &mut recording.connections[0].entries {
        let Ok(mut json) = serde_json::from_slice::<Value>(&entry.bytes) else {
            continue;
        };
        if json.get("seq").is_some() {
            json["seq"] = json!(next);
            json["event_id"] = json!(id("event_", 1_000 + next));
            next += 1;
            entry.bytes = json.to_string().into_bytes();
        }
    }
}

/// Puts a copy of an event behind another one and closes ranks.
fn copy_behind(recording: &mut Recording, frame_type: &str, behind: &str) {
    let from = place(recording, 0, frame_type);
    let to = place(recording, 0, behind);
    let mut copy = recording.connections[0].entries[from].clone();
    let behind = &recording.connections[0].entries[to];
    copy.at_us = behind.at_us;
    let at: Value = serde_json::from_slice(&behind.bytes).expect("the frame is JSON");
    let mut json: Value = serde_json::from_slice(&copy.bytes).expect("the frame is JSON");
    json["timestamp"] = at["timestamp"].clone();
    copy.bytes = json.to_string().into_bytes();
    recording.connections[0].entries.insert(to + 1, copy);
    renumber(recording);
}

// ---- SEQ ------------------------------------------------------------------------------------------------------------

#[test]
fn a_hole_turns_seq_1_red() {
    let mut recording = one_run();
    let place = place(&recording, 0, "progress_update");
    recording.connections[0].entries.remove(place);
    assert_red(&recording, "SEQ-1");
}

#[test]
fn a_repeat_turns_seq_1_red() {
    let mut recording = one_run();
    let place = place(&recording, 0, "progress_update");
    let again = recording.connections[0].entries[place].clone();
    recording.connections[0].entries.insert(place, again);
    assert_red(&recording, "SEQ-1");
}

#[test]
fn a_log_that_does_not_begin_at_1_turns_seq_1_red() {
    let recording = Script::new()
        .connect(0)
        .handshake(&ada_thread())
        .run(ADA, 1, 2)
        .wait(10)
        .done();
    assert_red(&recording, "SEQ-1");
}

#[test]
fn a_changed_replay_turns_seq_2_red() {
    let mut recording = two_followers();
    edit(&mut recording, 1, "progress_update", |json| {
        json["message"] = json!("another message")
    });
    assert_red(&recording, "SEQ-2");
}

#[test]
fn a_replay_with_other_spaces_turns_seq_2_red() {
    let mut recording = two_followers();
    let place = place(&recording, 1, "progress_update");
    recording.connections[1].entries[place].bytes.push(b' ');
    assert_red(&recording, "SEQ-2");
}

#[test]
fn a_changed_event_in_a_history_turns_seq_2_red() {
    let mut script = Script::new();
    script.connect(0).handshake(&ada_thread()).run(ADA, 1, 1);
    let place = place(&script.recording, 0, "agent_thinking");
    let event = String::from_utf8(script.recording.connections[0].entries[place].bytes.clone()).expect("text");
    let mut history = |event: &str| {
        script.send(json!({ "type": "get_thread_history", "message_id": "h", "thread_id": ada_thread() }));
        let text = format!(
            r#"{{"type":"thread_history","thread_id":"{}","events":[{event}],"messages":[],"has_more":false,"correlation_id":"h","timestamp":"{}"}}"#,
            ada_thread(),
            stamp(200)
        );
        script.receive_frame(FrameKind::Text, text.as_bytes()).done()
    };
    assert_green(&history(&event));
    assert_red(&history(&event.replace("Spend by", "Cost by")), "SEQ-2");
}

#[test]
fn a_resume_that_skips_an_event_turns_seq_3_red() {
    let mut recording = resumed_run();
    let place = place(&recording, 1, "tool_completed");
    recording.connections[1].entries.remove(place);
    assert_red(&recording, "SEQ-3");
}

#[test]
fn a_resume_that_repeats_an_event_turns_seq_3_red() {
    let mut recording = resumed_run();
    let fourth = recording.connections[0]
        .entries
        .last()
        .expect("it received events")
        .clone();
    let place = place(&recording, 1, "tool_completed");
    recording.connections[1].entries.insert(place, fourth);
    assert_red(&recording, "SEQ-3");
}

#[test]
fn a_resume_granted_for_another_epoch_turns_seq_3_red() {
    let mut recording = resumed_run();
    edit(&mut recording, 1, "handshake_acknowledged", |json| {
        json["resume"][0]["epoch"] = json!("epoch_0")
    });
    assert_red(&recording, "SEQ-3");
}

#[test]
fn a_granted_resume_that_brings_nothing_turns_seq_3_red() {
    let mut script = Script::new();
    script.connect(0).resume(&ada_thread(), 4, 8).wait(4_000);
    assert_red(&script.done(), "SEQ-3");
}

#[test]
fn recovered_without_a_resume_turns_hsk_2_red() {
    let mut recording = one_run();
    edit(&mut recording, 0, "handshake_complete", |json| {
        json["threads"][0]["recovered"] = json!(true)
    });
    assert_red(&recording, "HSK-2");
}

#[test]
fn a_follower_that_misses_the_end_turns_seq_6_red() {
    let mut recording = two_followers();
    recording.connections[1].entries.pop();
    assert_red(&recording, "SEQ-6");
}

#[test]
fn events_of_a_thread_that_is_not_followed_turn_seq_6_red() {
    let mut script = Script::new();
    script.connect(0).handshake(&id("thread_", 5));
    script.event(ADA, 1, 1, json!({
        "type": "agent_started", "status": "started", "message": "m", "context": { "agent_names": ["a"], "input_chars": 1 }
    }));
    assert_red(&script.done(), "SEQ-6");
}

// ---- HSK, AUTH, CON -------------------------------------------------------------------------------------------------

#[test]
fn an_offer_before_the_greeting_turns_hsk_1_red() {
    let mut recording = one_run();
    recording.connections[0].entries.swap(0, 1);
    assert_red(&recording, "HSK-1");
}

#[test]
fn a_late_greeting_turns_hsk_1_red() {
    let mut script = Script::new();
    script.connect(0).wait(1_100).handshake(&ada_thread());
    assert_red(&script.done(), "HSK-1");
}

#[test]
fn no_greeting_turns_hsk_1_red() {
    assert_red(&Script::new().connect(0).wait(1_100).done(), "HSK-1");
}

#[test]
fn another_frame_after_the_acknowledgement_turns_hsk_2_red() {
    let mut recording = one_run();
    let place = place(&recording, 0, "handshake_complete");
    let mut early = recording.connections[0].entries[place].clone();
    early.bytes = json!({ "type": "mystery", "timestamp": stamp(5) })
        .to_string()
        .into_bytes();
    recording.connections[0].entries.insert(place, early);
    let judgement = super::judge(&recording);
    let must = judgement.recorded(kingsguard_report::Level::Must);
    assert_eq!(
        must.iter().map(|one| one.clause.as_str()).collect::<Vec<_>>(),
        ["HSK-2"]
    );
}

#[test]
fn an_acknowledged_thread_without_position_turns_hsk_2_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .greet(&ada_thread())
        .send(json!({ "type": "handshake_acknowledged", "message_id": "ack" }))
        .receive(json!({ "type": "handshake_complete", "threads": [], "correlation_id": "ack" }));
    assert_red(&script.done(), "HSK-2");
}

#[test]
fn an_event_before_the_acknowledgement_turns_hsk_3_red() {
    let mut recording = two_followers();
    let event = place(&recording, 1, "agent_started");
    let entry = recording.connections[1].entries[event].clone();
    let acknowledgement = place(&recording, 1, "handshake_acknowledged");
    recording.connections[1].entries.insert(acknowledgement, entry);
    let judgement = super::judge(&recording);
    assert!(judgement.broken().contains("HSK-3"), "{:?}", judgement.broken());
}

#[test]
fn work_before_the_handshake_turns_hsk_3_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .greet(&ada_thread())
        .send(json!({ "type": "list_threads", "message_id": "l" }))
        .receive(json!({ "type": "thread_list", "threads": [], "correlation_id": "l" }));
    assert_red(&script.done(), "HSK-3");
}

#[test]
fn an_unacknowledged_connection_that_stays_turns_hsk_4_red() {
    assert_red(
        &Script::new().connect(0).greet(&ada_thread()).wait(10_600).done(),
        "HSK-4",
    );
}

#[test]
fn close_4408_before_its_deadline_turns_hsk_4_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .greet(&ada_thread())
        .wait(5_000)
        .end(EndingKind::ClosedByBackend { code: Some(4408) });
    assert_red(&script.done(), "HSK-4");
}

#[test]
fn close_4408_at_its_deadline_is_green() {
    let mut script = Script::new();
    script
        .connect(0)
        .greet(&ada_thread())
        .wait(10_000)
        .end(EndingKind::ClosedByBackend { code: Some(4408) });
    assert_green(&script.done());
}

#[rstest]
#[case::not_offered(vec!["jwt.T"], "jwt.U")]
#[case::not_the_carrier(vec!["chat", "jwt.T"], "chat")]
fn another_sub_protocol_turns_auth_3_red(#[case] offered: Vec<&str>, #[case] selected: &str) {
    let mut recording = one_run();
    recording.connections[0].offered_protocols = offered.into_iter().map(str::to_owned).collect();
    recording.connections[0].selected_protocol = Some(selected.to_owned());
    assert_red(&recording, "AUTH-3");
}

#[test]
fn no_sub_protocol_is_green() {
    let mut recording = one_run();
    recording.connections[0].selected_protocol = None;
    assert_green(&recording);
}

#[rstest]
#[case::of_the_rfc(EndingKind::Breach { reason: "masked frame from a server".into() })]
#[case::of_the_close_codes(EndingKind::ClosedByBackend { code: Some(4999) })]
fn a_breach_of_the_protocol_turns_con_1_red(#[case] how: EndingKind) {
    let mut script = Script::new();
    script.connect(0).handshake(&ada_thread()).end(how);
    assert_red(&script.done(), "CON-1");
}

#[test]
fn a_ping_without_pong_turns_con_2_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send_frame(FrameKind::Ping, b"x")
        .wait(5_100);
    assert_red(&script.done(), "CON-2");
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send_frame(FrameKind::Ping, b"x")
        .receive_frame(FrameKind::Pong, b"x");
    assert_green(&script.wait(5_100).done());
}

#[test]
fn no_heartbeat_turns_con_2_red() {
    let mut script = Script::new();
    script.connect(0).handshake(&ada_thread()).wait(61_000);
    assert_red(&script.done(), "CON-2");
    let mut script = Script::new();
    script.connect(0).handshake(&ada_thread());
    for _ in 0..3 {
        script.wait(30_000).receive_frame(FrameKind::Ping, b"");
    }
    assert_green(&script.done());
}

#[test]
fn binary_data_that_is_not_closed_with_1003_turns_con_3_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send_frame(FrameKind::Binary, &[0, 1]);
    script.end(EndingKind::ClosedByBackend { code: Some(1002) });
    assert_red(&script.done(), "CON-3");
}

#[test]
fn a_drain_that_closes_as_a_restart_turns_con_4_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .receive(json!({ "type": "server_shutdown", "reason": "stop", "drain_deadline_ms": 10_000 }))
        .end(EndingKind::ClosedByBackend { code: Some(1012) });
    assert_red(&script.done(), "CON-4");
}

#[test]
fn close_4401_without_its_error_turns_auth_6_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .end(EndingKind::ClosedByBackend { code: Some(4401) });
    assert_red(&script.done(), "AUTH-6");
}

// ---- ISO, disclosure ------------------------------------------------------------------------------------------------

#[test]
fn a_foreign_event_turns_iso_1_red() {
    let mut recording = two_users();
    let bobs = place(&recording, 1, "progress_update");
    let mut entry = recording.connections[1].entries[bobs].clone();
    entry.at_us += 1;
    recording.connections[0].entries.push(entry);
    let judgement = super::judge(&recording);
    // It is also an event of a thread that Ada does not follow.
    assert_eq!(judgement.broken().into_iter().collect::<Vec<_>>(), ["ISO-1", "SEQ-6"]);
}

#[rstest]
#[case::id(BOB)]
#[case::canary("so canaryofbob is it")]
#[case::address("bob.0190@example.test")]
fn a_foreign_word_turns_iso_1_red(#[case] word: &str) {
    let mut recording = two_users();
    set(&mut recording, "progress_update", "/message", json!(word));
    assert_red(&recording, "ISO-1");
}

#[test]
fn a_foreign_id_that_one_said_oneself_may_be_quoted_back() {
    let mut recording = two_users();
    set(&mut recording, "user_message", "/content", json!(id("thread_", 2)));
    set(
        &mut recording,
        "progress_update",
        "/message",
        json!(format!("no thread {}", id("thread_", 2))),
    );
    assert_green(&recording);
}

#[test]
fn a_credential_in_a_frame_turns_auth_8_red() {
    let mut recording = one_run();
    recording.facts.secrets.push("eyJhbGciOiJIUzI1NiJ9.x.y".into());
    set(
        &mut recording,
        "progress_update",
        "/message",
        json!("with eyJhbGciOiJIUzI1NiJ9.x.y"),
    );
    assert_red(&recording, "AUTH-8");
}

#[rstest]
#[case("thread 'main' panicked at src/main.rs:1")]
#[case("error returned from database: relation")]
#[case("connecting to 127.0.0.1:5432 failed")]
fn the_inside_in_a_frame_turns_sec_2_red(#[case] word: &str) {
    let mut recording = one_run();
    recording.facts.internal_addresses.push("127.0.0.1:5432".into());
    set(&mut recording, "progress_update", "/message", json!(word));
    assert_red(&recording, "SEC-2");
}

// ---- ERR, MSG -------------------------------------------------------------------------------------------------------

/// A connection that sends one message and gets `answers`, then stays for a while.
fn exchange(sent: &str, answers: &[Value]) -> Recording {
    let mut script = Script::new();
    script.connect(0).handshake(&ada_thread()).send_text(sent).wait(5);
    for answer in answers {
        script.receive(answer.clone());
    }
    script.wait(11_000).done()
}

fn error(code: &str, details: Value, cause: Option<&str>) -> Value {
    let mut error = json!({
        "type": "error", "error_code": code, "message": "do something", "details": details, "recovery": "fix_request"
    });
    if let Some(cause) = cause {
        error["correlation_id"] = json!(cause);
    }
    error
}

fn pong(cause: &str) -> Value {
    json!({ "type": "pong", "correlation_id": cause })
}

const PING: &str = r#"{"type":"ping","message_id":"p"}"#;

#[test]
fn answered_requests_are_green() {
    assert_green(&exchange(PING, &[pong("p")]));
    assert_green(&exchange(
        "{",
        &[error("JSON_PARSE_ERROR", json!({ "line": 1, "column": 1 }), None)],
    ));
    let unknown = error("UNKNOWN_MESSAGE_TYPE", json!({ "message_type": "x" }), Some("u"));
    assert_green(&exchange(r#"{"type":"x","message_id":"u"}"#, &[unknown]));
    let invalid = error(
        "VALIDATION_ERROR",
        json!({ "pointer": "/content", "expected": "text" }),
        Some("v"),
    );
    assert_green(&exchange(r#"{"type":"user_message","message_id":"v"}"#, &[invalid]));
    assert_green(&exchange(r#"{"type":"ping"}"#, &[pong("message_made_by_the_backend")]));
    let batch = r#"{"type":"batch","messages":[{"type":"ping","message_id":"a"},{"type":"ping","message_id":"b"}]}"#;
    assert_green(&exchange(batch, &[pong("a"), pong("b")]));
}

#[rstest]
#[case::none(PING, vec![])]
#[case::two(PING, vec![pong("p"), pong("p")])]
#[case::an_answer_and_an_error(PING, vec![pong("p"), error("RATE_LIMITED", json!({}), Some("p"))])]
#[case::unasked(PING, vec![pong("p"), pong("q")])]
#[case::an_error_for_nothing(PING, vec![pong("p"), error("CONFLICT", json!({}), None)])]
fn an_answer_too_many_or_too_few_turns_err_1_red(#[case] sent: &str, #[case] answers: Vec<Value>) {
    assert_red(&exchange(sent, &answers), "ERR-1");
}

#[rstest]
#[case::of_another_type(PING, vec![json!({ "type": "heartbeat_ack", "correlation_id": "p" })])]
#[case::without_id(PING, vec![error("RATE_LIMITED", json!({}), None)])]
fn the_wrong_answer_turns_msg_1_red(#[case] sent: &str, #[case] answers: Vec<Value>) {
    assert_red(&exchange(sent, &answers), "MSG-1");
}

#[rstest]
#[case::without_its_name("MSG-2", r#"{"type":"x","message_id":"u"}"#, error("UNKNOWN_MESSAGE_TYPE", json!({}), Some("u")))]
#[case::as_another("MSG-2", r#"{"type":"x","message_id":"u"}"#, error("CONFLICT", json!({}), Some("u")))]
#[case::without_its_line("MSG-3", "{", error("JSON_PARSE_ERROR", json!({ "column": 1 }), None))]
#[case::without_its_pointer("MSG-4", r#"{"type":"user_message","message_id":"v"}"#,
    error("VALIDATION_ERROR", json!({ "expected": "text" }), Some("v")))]
fn a_refusal_that_says_too_little_turns_its_clause_red(
    #[case] clause: &'static str,
    #[case] sent: &str,
    #[case] answer: Value,
) {
    assert_red(&exchange(sent, &[answer]), clause);
}

#[test]
fn an_error_without_its_fields_turns_err_1_red() {
    let mut bad = error("CONFLICT", json!({}), Some("p"));
    bad.as_object_mut().expect("it is an object").remove("recovery");
    assert_red(&exchange(PING, &[bad]), "ERR-1");
}

#[test]
fn close_4429_without_warnings_turns_err_1_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .end(EndingKind::ClosedByBackend { code: Some(4429) });
    assert_red(&script.done(), "ERR-1");
}

// ---- TIM, LIM -------------------------------------------------------------------------------------------------------

/// Lets time pass before the first frame of a type, for everything from there on.
fn delay(recording: &mut Recording, frame_type: &str, ms: u64) {
    let place = place(recording, 0, frame_type);
    for entry in &mut recording.connections[0].entries[place..] {
        entry.at_us += ms * 1_000;
        let Ok(mut json) = serde_json::from_slice::<Value>(&entry.bytes) else {
            continue;
        };
        if let Some(at) = json
            .get("timestamp")
            .and_then(Value::as_str)
            .and_then(|at| at.parse::<kingsguard_protocol::Timestamp>().ok())
        {
            let later = kingsguard_protocol::Timestamp::from_unix_ms(at.as_unix_ms() + ms as i64).expect("in range");
            json["timestamp"] = json!(later.to_string());
            if json["type"] == "agent_completed" && frame_type != "agent_started" && frame_type != "message_received" {
                json["duration_ms"] = json!(json["duration_ms"].as_u64().unwrap_or(0) + ms);
            }
            entry.bytes = json.to_string().into_bytes();
        }
    }
    recording.ended_us += ms * 1_000;
}

#[rstest]
#[case("TIM-1", "message_received", 501)]
#[case("TIM-1", "agent_started", 1_001)]
#[case("TIM-2", "progress_update", 5_001)]
fn lateness_turns_its_clause_red(#[case] clause: &'static str, #[case] frame_type: &str, #[case] ms: u64) {
    let mut recording = one_run();
    delay(&mut recording, frame_type, ms);
    assert_red(&recording, clause);
}

#[test]
fn a_run_beyond_its_deadline_turns_tim_4_red() {
    let mut recording = one_run();
    recording.facts.run_deadline_ms = 1_000;
    delay(&mut recording, "progress_update", 1_200);
    assert_red(&recording, "TIM-4");
}

#[test]
fn a_run_that_never_ends_turns_tim_4_red() {
    let mut recording = one_run();
    recording.facts.run_deadline_ms = 1_000;
    recording.connections[0].entries.pop();
    recording.ended_us += 2_000_000;
    assert_red(&recording, "TIM-4");
}

#[test]
fn a_limit_that_the_test_lowered_is_not_judged_by_the_contract() {
    let mut recording = one_run();
    set(
        &mut recording,
        "connection_established",
        "/limits/message_bytes_max",
        json!(1_000),
    );
    recording.facts.settings.push("KINGSGUARD_MESSAGE_BYTES_MAX".into());
    assert_green(&recording);
}

#[test]
fn a_refusal_before_the_limit_turns_lim_1_red() {
    let sent = r#"{"type":"user_message","message_id":"m","content":"hello"}"#;
    assert_red(&exchange(sent, &[error("RATE_LIMITED", json!({}), Some("m"))]), "LIM-1");
}
