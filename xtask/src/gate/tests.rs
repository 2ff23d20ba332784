//! What the gate answers to which summaries.

use chrono::Utc;
use kingsguard_report::summary::SUMMARY_VERSION;
use kingsguard_report::{Machine, Verdict};
use pretty_assertions::assert_eq;

use super::*;

kingsguard_report::covers!("RUN-13", "PROOF-3");

/// A summary that ended with an exit code and says something of clauses.
fn summary(exit: Exit, clauses: &[(&str, ClauseVerdict)]) -> Summary {
    let clauses = clauses
        .iter()
        .map(|(id, verdict)| ClauseSummary {
            clause: (*id).to_owned(),
            level: Clause::named(id).level,
            verdict: *verdict,
            passed: 0,
            failed: 0,
            not_judged: 0,
            reasons: vec!["as it was".to_owned()],
        })
        .collect();
    Summary {
        version: SUMMARY_VERSION,
        verdict: Verdict::Passed,
        exit_code: exit.code(),
        reason: (exit != Exit::Passed).then(|| exit.meaning().to_owned()),
        contradictions: Vec::new(),
        over_budget: Vec::new(),
        suite_run: format!("run-{}", exit.code()),
        selection: vec!["gate".to_owned()],
        pattern: None,
        shard: None,
        merged_from: Vec::new(),
        repeat: 1,
        machine: Machine::default(),
        revision: "abc".to_owned(),
        seed: 1,
        provider: "none".to_owned(),
        target: "own".to_owned(),
        environment: None,
        started: Utc::now(),
        duration_ms: 1,
        build_ms: 0,
        categories: Vec::new(),
        clauses,
        violations: Vec::new(),
        figures: Vec::new(),
        failures: Vec::new(),
        flaky: Vec::new(),
        tests: Vec::new(),
        comparison: None,
        slowest: Vec::new(),
    }
}

/// The answer, and the clauses of its reasons.
fn said(summaries: &[Summary]) -> (Answer, Vec<Option<String>>) {
    let gate = answer(summaries);
    (
        gate.answer,
        gate.reasons.into_iter().map(|reason| reason.clause).collect(),
    )
}

#[test]
fn it_goes_only_where_every_must_clause_was_judged_and_kept() {
    use ClauseVerdict::{Failed, NotJudged, NotRun, Passed, Warned};
    let about = |id: &str| vec![Some(id.to_owned())];
    for (second, expected) in [
        (Passed, (Answer::Go, Vec::new())),
        (NotRun, (Answer::Unknown, about("SEQ-2"))),
        (NotJudged, (Answer::Unknown, about("SEQ-2"))),
        (Failed, (Answer::NoGo, about("SEQ-2"))),
    ] {
        let run = summary(Exit::Passed, &[("SEQ-1", Passed), ("SEQ-2", second)]);
        assert_eq!(said(&[run]), expected, "{second:?}");
    }
    let should = summary(Exit::Passed, &[("SEQ-1", Passed), ("CON-5", Warned)]);
    assert_eq!(
        said(&[should]),
        (Answer::Go, Vec::new()),
        "a SHOULD clause does not gate"
    );
}

#[test]
fn a_run_that_says_nothing_about_any_clause_is_no_reason_to_go() {
    assert_eq!(said(&[summary(Exit::Passed, &[])]), (Answer::Unknown, Vec::new()));
}

#[test]
fn a_run_that_did_not_pass_is_never_a_reason_to_go() {
    let clauses = [("SEQ-1", ClauseVerdict::Passed)];
    for exit in Exit::ALL {
        let expected = match exit {
            Exit::Passed => Answer::Go,
            Exit::Failed => Answer::NoGo,
            _ => Answer::Unknown,
        };
        assert_eq!(answer(&[summary(exit, &clauses)]).answer, expected, "{exit:?}");
    }
}

#[test]
fn what_another_run_of_the_release_judged_is_judged_and_what_it_found_broken_is_broken() {
    use ClauseVerdict::{Failed, NotRun, Passed};
    let own = summary(Exit::Passed, &[("SEQ-1", Passed), ("SEQ-9", NotRun)]);
    let other = |verdict| summary(Exit::Passed, &[("SEQ-1", NotRun), ("SEQ-9", verdict)]);
    assert_eq!(said(&[own.clone(), other(Passed)]).0, Answer::Go);
    assert_eq!(said(&[own.clone(), other(NotRun)]).0, Answer::Unknown);
    assert_eq!(said(&[own, other(Failed)]).0, Answer::NoGo);
}

#[test]
fn people_are_told_the_answer_its_reasons_and_what_comes_next() {
    let run = summary(Exit::Passed, &[("SEQ-1", ClauseVerdict::Failed)]);
    let text = told(&answer(&[run]));
    for part in [
        "NO-GO for own",
        "1 broken",
        "SEQ-1",
        "as it was",
        Clause::named("SEQ-1").sentence,
        "next:",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let run = summary(Exit::Passed, &[("SEQ-1", ClauseVerdict::Passed)]);
    assert!(told(&answer(&[run])).contains("take it back when"));
}

#[test]
fn every_rollback_criterion_stands_on_a_clause() {
    for criterion in rollback() {
        assert!(Clause::find(&criterion.clause).is_some(), "{criterion:?}");
    }
}
