//! What a capture cannot show is neither passed nor blamed.

use proptest::prelude::*;
use serde_json::json;

use super::recordings::{ADA, Script, ada_thread, one_run, resumed_run, two_followers};
use super::{assert_green, judge};
use crate::recording::{EndingKind, Entry, FaultFacts, Recording, Stall, Wait};
use crate::validate::under_way;

fn assert_not_judged(recording: &Recording, clause: &str) {
    let judgement = assert_green(recording);
    let named = judgement.not_judged.iter().any(|(known, _)| *known == clause);
    assert!(named, "{clause} is not among {:?}", judgement.not_judged);
}

#[test]
fn a_run_that_is_still_open_is_not_judged() {
    let mut recording = one_run();
    recording.connections[0].entries.pop();
    assert_not_judged(&recording, "ORD-4");
    assert!(under_way(&recording).is_some_and(|what| what.contains("has not ended")));
}

#[test]
fn a_tool_that_is_still_running_is_not_judged() {
    let mut recording = one_run();
    let entries = &mut recording.connections[0].entries;
    entries.truncate(entries.len() - 4);
    assert_not_judged(&recording, "ORD-3");
}

#[test]
fn a_run_whose_first_events_came_over_a_damaged_connection_is_not_judged() {
    let mut recording = resumed_run();
    let cut = &mut recording.connections[0];
    let is_first = |entry: &&Entry| String::from_utf8_lossy(&entry.bytes).contains("\"agent_started\"");
    cut.damaged_us = cut.entries.iter().find(is_first).map(|entry| entry.at_us);
    assert!(cut.damaged_us.is_some());
    assert_not_judged(&recording, "ORD-1");
}

#[test]
fn a_run_that_a_repeated_message_is_answered_with_began_where_nobody_looked() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send(json!({ "type": "user_message", "message_id": "message 1", "content": "How can I spend less?" }))
        .wait(10)
        .end(EndingKind::CutByTest);
    script.recording.connections[0].damaged_us = Some(script.now_ms * 1_000);
    script.connect(0).resume(&ada_thread(), 1, 1).run(ADA, 1, 1);
    let entries = &mut script.recording.connections[1].entries;
    entries.retain(|entry| !String::from_utf8_lossy(&entry.bytes).contains("\"agent_started\""));
    assert_not_judged(&script.done(), "ORD-1");
}

#[test]
fn an_end_that_a_fault_of_the_test_kept_back_is_not_judged() {
    let mut recording = one_run();
    recording.facts.run_deadline_ms = 1_000;
    recording.connections[0].entries.pop();
    recording.ended_us += 2_000_000;
    recording.facts.faults.push(FaultFacts {
        what: "partition before Postgres".into(),
        injected_us: recording.ended_us - 1_500_000,
        lifted_us: None,
        happened: 1,
    });
    assert_not_judged(&recording, "TIM-4");
}

#[test]
fn an_answer_that_a_cut_took_away_is_not_judged() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send(json!({ "type": "ping", "message_id": "p" }))
        .wait(20);
    assert_not_judged(&script.end(EndingKind::CutByTest).done(), "ERR-1");
}

#[test]
fn an_answer_that_a_stall_of_the_test_kept_back_is_not_judged() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send(json!({ "type": "ping", "message_id": "p" }))
        .wait(12_000);
    script.recording.facts.stalls.push(Stall {
        at_us: script.now_ms * 1_000,
        late_us: 11_900_000,
    });
    assert_not_judged(&script.done(), "ERR-1");
}

#[test]
fn an_answer_on_an_open_connection_is_under_way() {
    let mut script = Script::new();
    script
        .connect(0)
        .handshake(&ada_thread())
        .send(json!({ "type": "ping", "message_id": "p" }))
        .wait(20);
    assert!(under_way(&script.done()).is_some_and(|what| what.contains("no answer")));
    assert_eq!(under_way(&one_run()), None);
}

#[test]
fn a_follower_that_is_about_to_catch_up_is_under_way() {
    let mut recording = two_followers();
    recording.connections[1].entries.pop();
    recording.ended_us -= 4_900_000;
    assert!(under_way(&recording).is_some_and(|what| what.contains("has seen")));
    assert_green(&recording);
}

#[test]
fn a_run_whose_beginning_nobody_followed_is_not_judged() {
    let mut recording = resumed_run();
    recording.connections.remove(0);
    assert_not_judged(&recording, "ORD-1");
}

#[test]
fn a_run_with_a_hole_between_two_connections_is_not_judged() {
    let mut recording = resumed_run();
    // The second connection came back live and never asked for what it had missed.
    let mut script = Script::new();
    script.recording = recording.clone();
    recording.connections.truncate(1);
    script.recording.connections.truncate(1);
    script.wait(300).connect(0).greet("thread_x");
    let position = json!({
        "thread_id": ada_thread(), "epoch": "epoch_1", "recovered": false, "oldest_seq": 1, "last_seq": 6
    });
    script
        .send(json!({ "type": "handshake_acknowledged", "message_id": "live", "thread_id": ada_thread() }))
        .receive(json!({ "type": "handshake_complete", "threads": [position], "correlation_id": "live" }))
        .event(ADA, 1, 7, json!({ "type": "progress_update", "message": "on it goes" }));
    assert_not_judged(&script.done(), "ORD-3");
}

#[test]
fn times_across_a_stall_of_the_test_are_not_judged() {
    let mut script = Script::new();
    script.connect(0).wait(1_500).handshake(&ada_thread());
    script.recording.facts.stalls.push(Stall {
        at_us: 1_400_000,
        late_us: 900_000,
    });
    assert_not_judged(&script.done(), "HSK-1");
}

#[test]
fn what_the_machine_kept_waiting_is_not_held_against_a_backend_and_no_more_than_that() {
    let late = |waited_us| {
        let mut script = Script::new();
        script.connect(0).wait(1_500).handshake(&ada_thread());
        script.recording.facts.waits.push(Wait {
            from_us: 400_000,
            until_us: 1_400_000,
            waited_us,
        });
        script.done()
    };
    assert_not_judged(&late(500_000), "HSK-1");
    super::assert_red(&late(499_000), "HSK-1");
}

#[test]
fn a_connection_that_was_cut_at_once_is_not_judged() {
    assert_not_judged(
        &Script::new().connect(0).wait(10).end(EndingKind::CutByTest).done(),
        "HSK-1",
    );
}

#[test]
fn a_refused_upgrade_is_no_connection() {
    let mut script = Script::new();
    script.connect(0);
    script.recording.connections[0].status = Some(401);
    script.recording.connections[0].upgraded_us = None;
    script.recording.connections[0].selected_protocol = None;
    assert_green(&script.wait(20_000).done());
}

proptest! {
    /// Cutting the connection anywhere shows less and blames nobody.
    #[test]
    fn a_cut_anywhere_blames_nobody(kept in 0usize..16) {
        let mut recording = one_run();
        let entries = &mut recording.connections[0].entries;
        entries.truncate(kept.min(entries.len()));
        let at_us = entries.last().map_or(0, |entry| entry.at_us);
        recording.connections[0].ending = Some(crate::recording::Ending { at_us, how: EndingKind::CutByTest });
        let judgement = judge(&recording);
        prop_assert_eq!(judgement.violations.len(), 0, "{:?}", judgement.violations);
    }

    /// No bytes make a validator panic.
    #[test]
    fn any_bytes_can_be_judged(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..14) {
        let mut recording = one_run();
        let entries = &mut recording.connections[0].entries;
        let at = at.min(entries.len() - 1);
        entries[at].bytes = bytes;
        prop_assert!(judge(&recording).frames_judged <= 16);
    }

    /// Nor does any JSON in the place of any field.
    #[test]
    fn any_field_can_be_anything(at in 0usize..14, nth in 0usize..12, kind in 0usize..5) {
        let mut recording = one_run();
        let entries = &mut recording.connections[0].entries;
        let at = at.min(entries.len() - 1);
        let mut json: serde_json::Value = serde_json::from_slice(&entries[at].bytes).expect("the frame is JSON");
        let values = [json!(null), json!(-1), json!("x"), json!([1]), json!({ "a": 1 })];
        let fields = json.as_object_mut().expect("frames are objects");
        let field = fields.keys().nth(nth % fields.len()).expect("there is one").clone();
        fields.insert(field, values[kind].clone());
        entries[at].bytes = json.to_string().into_bytes();
        prop_assert!(judge(&recording).frames_judged <= 16);
    }
}
