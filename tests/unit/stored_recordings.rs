//! A recording of the reference backend, stored as JSON lines, is green; each change to it turns exactly its clause red.

use std::collections::BTreeSet;

use kingsguard_testkit::recording::{Direction, Entry, FrameKind, Recording, UserFacts};
use kingsguard_testkit::validate::judge;
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::{Value, json};

kingsguard_testkit::covers!("KIT-6", "KIT-4");

/// One user brings records, asks one question, reads the answer and leaves.
const QUESTION_AND_ANSWER: &str = include_str!("../fixtures/recordings/version_1/question_and_answer.jsonl");

fn recorded() -> Recording {
    Recording::read_from(QUESTION_AND_ANSWER.as_bytes()).expect("the recording is as the kit writes it")
}

fn received(entry: &Entry) -> Option<Value> {
    let is_text = (entry.direction, entry.kind) == (Direction::Received, FrameKind::Text);
    is_text.then(|| serde_json::from_slice(&entry.bytes).expect("the backend sent JSON"))
}

fn is_of(entry: &Entry, frame_type: &str) -> bool {
    received(entry).is_some_and(|frame| frame["type"] == frame_type)
}

fn entries(recording: &mut Recording) -> &mut Vec<Entry> {
    &mut recording.connections[0].entries
}

/// Changes every received frame of a type.
fn edit(recording: &mut Recording, frame_type: &str, change: impl Fn(&mut Value)) {
    let mut found = false;
    for entry in entries(recording).iter_mut().filter(|entry| is_of(entry, frame_type)) {
        let mut frame = received(entry).expect("just looked at");
        change(&mut frame);
        entry.bytes = frame.to_string().into_bytes();
        found = true;
    }
    assert!(found, "the recording has no {frame_type}");
}

fn set(recording: &mut Recording, frame_type: &str, pointer: &str, value: &Value) {
    edit(recording, frame_type, |frame| {
        *frame.pointer_mut(pointer).expect("the field is there") = value.clone();
    });
}

/// Gives the events that are left numbers without a hole.
fn renumber(recording: &mut Recording) {
    let mut seq = 0;
    for entry in entries(recording) {
        if let Some(mut frame) = received(entry).filter(|frame| frame.get("seq").is_some()) {
            seq += 1;
            frame["seq"] = json!(seq);
            entry.bytes = frame.to_string().into_bytes();
        }
    }
}

fn take_out(recording: &mut Recording, frame_type: &str) {
    entries(recording).retain(|entry| !is_of(entry, frame_type));
    renumber(recording);
}

/// Puts a copy of the first frame of a type, as another event, right before the last event.
fn copy_before_the_end(recording: &mut Recording, frame_type: &str) {
    let entries = entries(recording);
    let mut copy = entries
        .iter()
        .find(|entry| is_of(entry, frame_type))
        .expect("the recording has it")
        .clone();
    let end = entries
        .iter()
        .position(|entry| is_of(entry, "agent_completed"))
        .expect("the recording has an end");
    let last = received(&entries[end - 1]).expect("events come before the end");
    let mut frame = received(&copy).expect("it is an event");
    frame["event_id"] = json!("event_01a1faeb-0000-7000-8000-000000000000");
    frame["timestamp"] = last["timestamp"].clone();
    copy.at_us = entries[end - 1].at_us;
    copy.bytes = frame.to_string().into_bytes();
    entries.insert(end, copy);
    renumber(recording);
}

/// Everything from the first frame of a type on happens later.
fn delay(recording: &mut Recording, frame_type: &str, ms: u64) {
    let entries = entries(recording);
    let from = entries
        .iter()
        .position(|entry| is_of(entry, frame_type))
        .expect("the recording has it");
    for entry in &mut entries[from..] {
        entry.at_us += ms * 1_000;
    }
    recording.ended_us += ms * 1_000;
}

fn broken(recording: &Recording) -> BTreeSet<&'static str> {
    judge(recording).broken()
}

#[test]
fn a_recording_of_the_reference_backend_is_green_and_was_judged() {
    let judgement = judge(&recorded());
    assert_eq!(judgement.violations, []);
    assert_eq!(judgement.frames_judged, 26);
}

#[test]
fn a_recording_that_was_read_is_written_as_it_was() {
    let mut written = Vec::new();
    recorded().write_to(&mut written).expect("memory takes it");
    let again = Recording::read_from(written.as_slice()).expect("it was just written");
    assert_eq!(again, recorded());
}

#[rstest]
#[case::started("EVT-1", "agent_started", "/context/agent_names", json!("triage"))]
#[case::started_status("EVT-1", "agent_started", "/status", json!("begun"))]
#[case::thinking("EVT-2", "agent_thinking", "/reasoning", json!("hm"))]
#[case::step("EVT-2", "agent_thinking", "/step_number", json!(0))]
#[case::executing("EVT-3", "tool_executing", "/tool_purpose", json!(" "))]
#[case::parameters("EVT-3", "tool_executing", "/parameters", json!([]))]
#[case::completed("EVT-4", "tool_completed", "/status", json!("fine"))]
#[case::results("EVT-4", "tool_completed", "/results", Value::Null)]
#[case::answer("EVT-5", "agent_completed", "/final_response", json!(""))]
#[case::usage("EVT-5", "agent_completed", "/usage/cost_microusd", json!("cheap"))]
#[case::success("EVT-5", "agent_completed", "/success", json!(false))]
#[case::part("EVT-6", "partial_result", "/content", json!(7))]
#[case::cause("ERR-1", "message_received", "/correlation_id", json!(""))]
fn a_wrong_field_turns_its_clause_red(
    #[case] clause: &'static str,
    #[case] frame_type: &str,
    #[case] pointer: &str,
    #[case] value: Value,
) {
    let mut recording = recorded();
    set(&mut recording, frame_type, pointer, &value);
    assert!(
        broken(&recording).contains(clause),
        "{clause} is not among {:?}",
        broken(&recording)
    );
}

#[rstest]
#[case::start("ORD-1", "agent_started")]
#[case::thoughts("ORD-2", "agent_thinking")]
#[case::tool_ends("ORD-3", "tool_completed")]
#[case::tool_starts("ORD-3", "tool_executing")]
#[case::subagent_ends("ORD-5", "subagent_completed")]
fn what_is_missing_turns_its_clause_red(#[case] clause: &'static str, #[case] frame_type: &str) {
    let mut recording = recorded();
    take_out(&mut recording, frame_type);
    assert!(
        broken(&recording).contains(clause),
        "{clause} is not among {:?}",
        broken(&recording)
    );
}

#[rstest]
#[case::start("ORD-1", "agent_started")]
#[case::end("ORD-4", "agent_completed")]
#[case::tool_end("ORD-3", "tool_completed")]
#[case::subagent_end("ORD-5", "subagent_completed")]
fn what_comes_twice_turns_exactly_its_clause_red(#[case] clause: &'static str, #[case] frame_type: &str) {
    let mut recording = recorded();
    copy_before_the_end(&mut recording, frame_type);
    assert_eq!(broken(&recording), BTreeSet::from([clause]));
}

#[test]
fn a_hole_and_a_repeat_in_the_numbers_turn_seq_1_red() {
    let mut hole = recorded();
    entries(&mut hole).retain(|entry| !is_of(entry, "final_report"));
    assert_eq!(broken(&hole), BTreeSet::from(["SEQ-1"]));
    let mut late = recorded();
    edit(&mut late, "agent_completed", |frame| frame["seq"] = json!(30));
    assert_eq!(broken(&late), BTreeSet::from(["SEQ-1"]));
}

#[rstest]
#[case::accepted("TIM-1", "message_received", 700)]
#[case::begun("TIM-1", "agent_started", 1_500)]
#[case::silent("TIM-2", "tool_completed", 6_000)]
fn lateness_turns_exactly_its_clause_red(#[case] clause: &'static str, #[case] frame_type: &str, #[case] ms: u64) {
    let mut recording = recorded();
    delay(&mut recording, frame_type, ms);
    assert_eq!(broken(&recording), BTreeSet::from([clause]));
}

#[test]
fn beyond_normal_load_lateness_is_not_judged_and_says_so() {
    let mut recording = recorded();
    delay(&mut recording, "message_received", 700);
    recording.facts.beyond_normal_load = true;
    let judgement = judge(&recording);
    assert_eq!(judgement.violations, []);
    assert!(judgement.not_judged.iter().any(|(clause, _)| *clause == "TIM-1"));
}

#[test]
fn an_event_of_another_user_turns_iso_1_red() {
    let mut recording = recorded();
    let other = json!("user_01a1faeb-0000-7000-8000-00000000000e");
    recording.facts.users.push(UserFacts {
        user_id: other.as_str().map(str::to_owned),
        ..UserFacts::default()
    });
    set(&mut recording, "partial_result", "/user_id", &other);
    assert!(broken(&recording).contains("ISO-1"), "{:?}", broken(&recording));
}

#[test]
fn a_credential_under_its_key_turns_evt_8_red() {
    let mut recording = recorded();
    // It is known for one because the user brought it under such a key.
    let brought = json!({ "api_key": "hunter2hunter2" });
    for entry in entries(&mut recording) {
        if (entry.direction, entry.kind) == (Direction::Sent, FrameKind::Text) {
            let mut frame: Value = serde_json::from_slice(&entry.bytes).expect("the test sent JSON");
            if frame["type"] == "user_message" {
                frame["metadata"] = brought.clone();
                entry.bytes = frame.to_string().into_bytes();
            }
        }
    }
    assert_eq!(broken(&recording), BTreeSet::new());
    edit(&mut recording, "tool_executing", |frame| {
        frame["parameters"]["api_key"] = json!("hunter2hunter2")
    });
    assert!(broken(&recording).contains("EVT-8"), "{:?}", broken(&recording));
}

#[test]
fn a_time_that_runs_backwards_turns_ord_7_red() {
    let mut recording = recorded();
    set(
        &mut recording,
        "final_report",
        "/timestamp",
        &json!("2026-01-01T00:00:00.000Z"),
    );
    assert_eq!(broken(&recording), BTreeSet::from(["ORD-7"]));
}
