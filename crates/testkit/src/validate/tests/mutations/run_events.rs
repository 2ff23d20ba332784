//! Mutations of a run's events: what they hold (EVT), their order and pairs (ORD).

use rstest::rstest;
use serde_json::{Value, json};

use super::super::recordings::{Script, ada_thread, one_run, stamp};
use super::super::{assert_green, assert_red};
use super::{copy_behind, place, renumber, set, take_out, unset};
use crate::recording::FrameKind;

// ---- EVT ------------------------------------------------------------------------------------------------------------

#[rstest]
#[case::started_status("EVT-1", "agent_started", "/status", json!("begun"))]
#[case::started_message("EVT-1", "agent_started", "/message", json!(" "))]
#[case::started_agents("EVT-1", "agent_started", "/context/agent_names", json!([]))]
#[case::started_chars("EVT-1", "agent_started", "/context/input_chars", json!("21"))]
#[case::short_reasoning("EVT-2", "agent_thinking", "/reasoning", json!("thinking"))]
#[case::step_zero("EVT-2", "agent_thinking", "/step_number", json!(0))]
#[case::too_much_progress("EVT-2", "agent_thinking", "/progress", json!(1.5))]
#[case::fewer_steps_than_step("EVT-2", "agent_thinking", "/total_steps", json!(0))]
#[case::parameters_as_text("EVT-3", "tool_executing", "/parameters", json!("{}"))]
#[case::blank_purpose("EVT-3", "tool_executing", "/tool_purpose", json!(""))]
#[case::status_against_success("EVT-4", "tool_completed", "/status", json!("error"))]
#[case::unknown_tool_status("EVT-4", "tool_completed", "/status", json!("done"))]
#[case::results_as_list("EVT-4", "tool_completed", "/results", json!([]))]
#[case::empty_answer("EVT-5", "agent_completed", "/final_response", json!(""))]
#[case::no_usage("EVT-5", "agent_completed", "/usage", json!({}))]
#[case::failed_with_success("EVT-5", "agent_completed", "/status", json!("failed"))]
#[case::result_as_number("EVT-5", "agent_completed", "/result", json!(3))]
#[case::error_without_code("EVT-5", "agent_completed", "/error", json!({ "message": "x" }))]
#[case::blank_progress("EVT-6", "progress_update", "/message", json!(""))]
#[case::subagent_without_success("EVT-6", "subagent_completed", "/success", json!("yes"))]
#[case::blank_agent("EVT-7", "agent_thinking", "/agent_name", json!("  "))]
#[case::id_without_uuid("EVT-7", "agent_thinking", "/event_id", json!("event_1"))]
#[case::time_without_millis("EVT-7", "agent_thinking", "/timestamp", json!("2023-11-14T22:13:20Z"))]
#[case::foreign_cause("EVT-7", "agent_thinking", "/correlation_id", json!("another message"))]
#[case::password_as_list("EVT-8", "tool_executing", "/parameters/db_password", json!(["x"]))]
#[case::secret_number("EVT-8", "tool_completed", "/results/client_Secret", json!(42))]
#[case::uncut_string("EVT-8", "tool_completed", "/results/text", json!("x".repeat(2_500)))]
#[case::long_duration("ORD-7", "tool_completed", "/duration_ms", json!(200))]
#[case::long_run("ORD-7", "agent_completed", "/duration_ms", json!(1_000))]
#[case::greeting_without_version("HSK-1", "connection_established", "/server_version", json!(null))]
#[case::offer_without_token("HSK-1", "handshake_response", "/session_token", json!(null))]
#[case::small_messages("LIM-1", "connection_established", "/limits/message_bytes_max", json!(1_000))]
#[case::few_frames("LIM-1", "connection_established", "/limits/frames_per_second_max", json!(99))]
fn a_field_of_the_wrong_kind_turns_its_clause_red(
    #[case] clause: &'static str,
    #[case] frame_type: &str,
    #[case] pointer: &str,
    #[case] value: Value,
) {
    let mut recording = one_run();
    set(&mut recording, frame_type, pointer, value);
    assert_red(&recording, clause);
}

#[rstest]
#[case("EVT-1", "agent_started", "context")]
#[case("EVT-2", "agent_thinking", "reasoning")]
#[case("EVT-4", "tool_completed", "duration_ms")]
#[case("EVT-4", "tool_completed", "results")]
#[case("EVT-5", "agent_completed", "summary")]
#[case("EVT-5", "agent_completed", "duration_ms")]
#[case("EVT-6", "subagent_started", "step_number")]
#[case("EVT-7", "agent_completed", "user_id")]
#[case("EVT-7", "tool_executing", "agent_name")]
fn a_missing_field_turns_its_clause_red(#[case] clause: &'static str, #[case] frame_type: &str, #[case] field: &str) {
    let mut recording = one_run();
    unset(&mut recording, frame_type, field);
    // Without its step a subagent does not pair either.
    if (frame_type, field) == ("subagent_started", "step_number") {
        unset(&mut recording, "subagent_completed", field);
    }
    assert_red(&recording, clause);
}

#[test]
fn an_unknown_extra_field_is_tolerated() {
    let mut recording = one_run();
    set(&mut recording, "agent_thinking", "/mood", json!("good"));
    assert_green(&recording);
}

#[test]
fn an_unknown_type_is_reported_and_does_not_gate() {
    let mut recording = one_run();
    set(&mut recording, "progress_update", "/type", json!("daydream"));
    let judgement = super::super::judge(&recording);
    assert_eq!(judgement.recorded(kingsguard_report::Level::Must), []);
    assert_eq!(judgement.recorded(kingsguard_report::Level::Should).len(), 1);
}

#[test]
fn a_cut_string_with_its_mark_is_green() {
    let mut recording = one_run();
    let cut = format!("{}… [500 characters cut]", "x".repeat(2_000));
    set(&mut recording, "tool_completed", "/results/text", json!(cut));
    assert_green(&recording);
}

#[test]
fn a_secret_that_the_test_brought_must_not_come_back() {
    let mut recording = one_run();
    set(
        &mut recording,
        "user_message",
        "/metadata",
        json!({ "api_key": "sk-12345" }),
    );
    assert_green(&recording);
    set(
        &mut recording,
        "tool_executing",
        "/parameters/api_key",
        json!("sk-12345"),
    );
    assert_red(&recording, "EVT-8");
}

#[test]
fn text_that_is_no_object_turns_evt_7_red() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .receive_frame(FrameKind::Text, b"[]");
    assert_red(&script.wait(1).done(), "EVT-7");
}

// ---- ORD ------------------------------------------------------------------------------------------------------------

#[rstest]
#[case("ORD-1", "agent_started")]
#[case("ORD-2", "agent_thinking")]
#[case("ORD-3", "tool_executing")]
#[case("ORD-3", "tool_completed")]
#[case("ORD-5", "subagent_started")]
#[case("ORD-5", "subagent_completed")]
fn a_missing_event_turns_its_clause_red(#[case] clause: &'static str, #[case] frame_type: &str) {
    let mut recording = one_run();
    take_out(&mut recording, frame_type);
    assert_red(&recording, clause);
}

#[rstest]
#[case("ORD-1", "agent_started", "agent_thinking")]
#[case("ORD-3", "tool_executing", "tool_executing")]
#[case("ORD-3", "tool_completed", "subagent_completed")]
#[case("ORD-4", "agent_completed", "agent_completed")]
#[case("ORD-4", "progress_update", "agent_completed")]
#[case("ORD-5", "subagent_started", "subagent_started")]
fn an_event_too_many_turns_its_clause_red(
    #[case] clause: &'static str,
    #[case] frame_type: &str,
    #[case] behind: &str,
) {
    let mut recording = one_run();
    copy_behind(&mut recording, frame_type, behind);
    assert_red(&recording, clause);
}

#[test]
fn a_tool_that_ends_under_another_name_turns_ord_3_red() {
    let mut recording = one_run();
    set(&mut recording, "tool_completed", "/tool_name", json!("another_tool"));
    assert_red(&recording, "ORD-3");
}

#[test]
fn a_clock_that_goes_backwards_turns_ord_7_red() {
    let mut recording = one_run();
    set(&mut recording, "progress_update", "/timestamp", json!(stamp(0)));
    assert_red(&recording, "ORD-7");
}

#[test]
fn a_run_that_begins_with_another_event_turns_ord_1_red() {
    let mut recording = one_run();
    let (first, second) = (
        place(&recording, 0, "agent_started"),
        place(&recording, 0, "agent_thinking"),
    );
    let stamps = [first, second].map(|place| recording.connections[0].entries[place].at_us);
    recording.connections[0].entries.swap(first, second);
    for (place, at_us) in [first, second].into_iter().zip(stamps) {
        recording.connections[0].entries[place].at_us = at_us;
    }
    set(&mut recording, "agent_thinking", "/timestamp", json!(stamp(25)));
    set(&mut recording, "agent_started", "/timestamp", json!(stamp(25)));
    renumber(&mut recording);
    assert_red(&recording, "ORD-1");
}
