//! A target whose wire lacks much is judged by what is left: it can fail, and nothing is claimed of what is missing.

use rstest::rstest;
use serde_json::{Value, json};

use super::recordings::{Script, stamp};
use super::{assert_green, assert_red, judge};
use crate::recording::{EndingKind, Recording};

/// Names of what such a recording cannot show.
const MISSING: [&str; 9] = [
    "SEQ-1", "SEQ-2", "SEQ-3", "SEQ-6", "HSK-1", "HSK-2", "HSK-3", "HSK-4", "TIM-1",
];

fn began() -> Script {
    let mut script = Script::new();
    let facts = &mut script.recording.facts;
    facts.shape = serde_json::from_value(json!({
        "wrapper": "payload", "sent_wrapper": "payload",
        "fields_of": {
            "tool_completed": { "results": "result", "duration_ms": "execution_time_ms" },
            "agent_completed": { "final_response": "result", "summary": "message", "duration_ms": "execution_time_ms" }
        }
    }))
    .expect("it is a shape");
    facts.lacks = serde_json::from_value(json!({
        "handshake": "none", "acknowledgement": "none", "id_form": "another", "timestamp_form": "another",
        "fields": { "seq": "none", "event_id": "none", "user_id": "none", "thread_id": "none", "correlation_id": "none" },
        "fields_of": {
            "agent_started": { "context": "another" },
            "tool_executing": { "execution_id": "none", "tool_purpose": "none" },
            "tool_completed": { "execution_id": "none", "success": "none", "status": "another" },
            "agent_completed": { "success": "none", "result": "none", "usage": "none" }
        }
    }))
    .expect("it is well formed");
    script.connect(0);
    script
}

impl Script {
    fn ask(&mut self) -> &mut Self {
        self.send(json!({ "type": "user_message", "payload": { "content": "Hello" } }))
            .wait(10)
    }

    fn told(&mut self, event_type: &str, payload: Value) -> &mut Self {
        self.told_of("thread_1_run_1", event_type, payload)
    }

    fn told_of(&mut self, run: &str, event_type: &str, payload: Value) -> &mut Self {
        let timestamp = stamp(self.now_ms).replace('Z', "123+00:00");
        self.receive(json!({
            "type": event_type, "run_id": run, "agent_name": "supervisor", "timestamp": timestamp, "payload": payload
        }))
    }

    fn started(&mut self) -> &mut Self {
        self.told(
            "agent_started",
            json!({ "status": "started", "message": "It begins.", "context": {} }),
        )
    }

    fn thought(&mut self) -> &mut Self {
        self.told(
            "agent_thinking",
            json!({ "reasoning": "What can be said to that?", "step_number": 1 }),
        )
    }

    fn executing(&mut self) -> &mut Self {
        self.told("tool_executing", json!({ "tool_name": "search", "parameters": {} }))
            .wait(20)
    }

    fn executed(&mut self) -> &mut Self {
        let ended = json!({ "tool_name": "search", "result": {}, "execution_time_ms": 20, "status": "completed" });
        self.told("tool_completed", ended)
    }

    fn completed(&mut self) -> &mut Self {
        self.told(
            "agent_completed",
            json!({ "status": "completed", "result": "Hello.", "message": "It ends.", "execution_time_ms": 20 }),
        )
    }
}

/// One whole run with two calls of a tool, one after the other.
fn one_run() -> Recording {
    let mut script = began();
    script
        .ask()
        .started()
        .thought()
        .executing()
        .executed()
        .executing()
        .executed();
    script.completed().wait(10).done()
}

#[test]
fn a_whole_run_is_green_and_what_is_missing_is_listed_with_the_reason() {
    let judgement = assert_green(&one_run());
    for clause in MISSING {
        let listed = judgement.not_judged.iter().find(|(known, _)| *known == clause);
        assert!(listed.is_some(), "{clause} is not among {:?}", judgement.not_judged);
    }
    let usage = ("EVT-5", "the target has no `usage`: none".to_owned());
    assert!(judgement.not_judged.contains(&usage), "{:?}", judgement.not_judged);
    let judged = [
        "ORD-1", "ORD-2", "ORD-3", "ORD-4", "ORD-7", "EVT-8", "ISO-1", "TIM-2", "TIM-4", "AUTH-3",
    ];
    let left = judgement
        .not_judged
        .iter()
        .filter(|(clause, _)| judged.contains(clause));
    assert_eq!(left.count(), 0, "{:?}", judgement.not_judged);
}

/// Takes out the nth received frame of a type, or puts a copy behind it.
fn changed(event_type: &str, nth: usize, doubled: bool) -> Recording {
    let mut recording = one_run();
    let entries = &mut recording.connections[0].entries;
    let of_type = |text: &str| text.contains(&format!("\"type\":\"{event_type}\""));
    let places: Vec<usize> = (0..entries.len())
        .filter(|place| entries[*place].text().is_some_and(of_type))
        .collect();
    let place = places[nth];
    if doubled {
        let copy = entries[place].clone();
        entries.insert(place, copy);
    } else {
        entries.remove(place);
    }
    recording
}

#[rstest]
#[case::no_beginning("agent_started", 0, false, "ORD-1")]
#[case::two_beginnings("agent_started", 0, true, "ORD-1")]
#[case::no_thought("agent_thinking", 0, false, "ORD-2")]
#[case::the_first_end_of_a_tool("tool_completed", 0, false, "ORD-3")]
#[case::the_last_end_of_a_tool("tool_completed", 1, false, "ORD-3")]
#[case::a_beginning_of_a_tool("tool_executing", 1, false, "ORD-3")]
#[case::two_ends_of_a_tool("tool_completed", 0, true, "ORD-3")]
#[case::two_ends("agent_completed", 0, true, "ORD-4")]
fn one_change_breaks_one_clause(
    #[case] event_type: &str,
    #[case] nth: usize,
    #[case] doubled: bool,
    #[case] clause: &'static str,
) {
    assert_red(&changed(event_type, nth, doubled), clause);
}

#[test]
fn a_run_that_does_not_end_is_blamed_for_its_silence() {
    let mut script = began();
    assert_red(&script.ask().started().thought().wait(6_000).done(), "TIM-2");
}

#[test]
fn a_run_that_goes_on_after_its_end_breaks_ord_4() {
    let mut script = began();
    assert_red(
        &script.ask().started().thought().completed().thought().wait(10).done(),
        "ORD-4",
    );
}

#[test]
fn a_field_that_is_not_said_to_be_lacking_is_missed() {
    let mut script = began();
    script
        .ask()
        .started()
        .told("agent_thinking", json!({ "step_number": 1 }));
    assert_red(&script.completed().wait(10).done(), "EVT-2");
}

#[test]
fn another_users_words_break_iso_1() {
    let mut script = began();
    let thought = json!({ "reasoning": "canaryofbob asked for it", "step_number": 1 });
    script.ask().started().told("agent_thinking", thought);
    assert_red(&script.completed().wait(10).done(), "ISO-1");
}

#[test]
fn a_wrong_duration_breaks_ord_7() {
    let mut script = began();
    script
        .ask()
        .started()
        .thought()
        .executing()
        .wait(500)
        .executed()
        .completed();
    let judgement = judge(&script.wait(10).done());
    assert!(judgement.violations.iter().all(|one| one.clause.id == "ORD-7"));
    assert_eq!(judgement.violations.len(), 2, "of the tool and of the run");
}

#[test]
fn a_tool_that_overlaps_itself_is_judged_by_number_alone() {
    let overlapping = |ends: usize| {
        let mut script = began();
        script.ask().started().thought().executing().executing();
        (0..ends).for_each(|_| {
            script.executed();
        });
        script.completed().wait(10).done()
    };
    let judgement = assert_green(&overlapping(2));
    assert!(judgement.not_judged.iter().any(|(clause, _)| *clause == "ORD-3"));
    assert_red(&overlapping(1), "ORD-3");
    assert_red(&overlapping(3), "ORD-3");
}

#[test]
fn a_run_that_began_before_the_connection_is_not_judged_by_its_beginning() {
    let mut script = began();
    script.thought().completed().wait(10).end(EndingKind::CutByTest);
    let judgement = assert_green(&script.done());
    assert!(judgement.not_judged.iter().any(|(clause, _)| *clause == "ORD-1"));
    // Nor where it may be the run of another connection's message.
    let mut script = began();
    script.ask().started().thought().connect(0).ask().thought().completed();
    script.told_of(
        "thread_1_run_2",
        "agent_started",
        json!({ "status": "started", "message": "m", "context": {} }),
    );
    assert_green(&script.wait(10).done());
}

#[test]
fn two_connections_of_a_user_are_logs_of_their_own() {
    let mut script = began();
    script.connect(0).on(0).ask();
    for step in [Script::started, Script::thought, Script::completed] {
        step(script.on(0));
        step(script.on(1));
    }
    assert_green(&script.wait(10).done());
}

#[test]
fn an_answer_without_a_name_belongs_to_the_first_request_that_it_may_answer() {
    let mut script = began();
    script
        .send(json!({ "type": "ping" }))
        .send(json!({ "type": "ping" }))
        .receive(json!({ "type": "pong" }));
    let once = script.wait(11_000).done();
    assert_red(&once, "ERR-1");
    let twice = script.receive(json!({ "type": "pong" })).wait(10).done();
    assert_green(&twice);
}
