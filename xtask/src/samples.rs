//! Summaries for the runner's own tests.

use kingsguard_report::clause::CLAUSES;
use kingsguard_report::summary::SUMMARY_VERSION;
use kingsguard_report::{
    CategorySummary, ClauseSummary, ClauseVerdict, Machine, Outcome, Summary, TestSummary, Verdict,
};

/// A suite run of one category whose one test ended as the verdict says.
pub fn suite_run(name: &str, verdict: Verdict) -> Summary {
    let (outcome, exit_code) = match verdict {
        Verdict::Passed => (Outcome::Passed, 0),
        Verdict::Failed => (Outcome::Failed, 1),
        Verdict::Invalid => (Outcome::Invalid, 6),
    };
    let of = |one: Outcome| u32::from(one == outcome);
    let clauses = CLAUSES.iter().map(|clause| ClauseSummary {
        clause: clause.id.to_owned(),
        level: clause.level,
        verdict: ClauseVerdict::NotRun,
        passed: 0,
        failed: 0,
        not_judged: 0,
        reasons: Vec::new(),
    });
    Summary {
        version: SUMMARY_VERSION,
        verdict,
        exit_code,
        reason: (verdict != Verdict::Passed).then(|| "1 test did not hold".to_owned()),
        contradictions: Vec::new(),
        over_budget: Vec::new(),
        suite_run: name.to_owned(),
        selection: vec!["e2e".to_owned()],
        pattern: None,
        shard: None,
        merged_from: Vec::new(),
        repeat: 1,
        machine: Machine::default(),
        revision: "0123456789abcdef".to_owned(),
        seed: 7,
        provider: "processes".to_owned(),
        target: "own".to_owned(),
        environment: None,
        started: chrono::DateTime::UNIX_EPOCH,
        duration_ms: 1_500,
        build_ms: 500,
        categories: vec![CategorySummary {
            name: "e2e".to_owned(),
            priority: "high".to_owned(),
            passed: of(Outcome::Passed),
            failed: of(Outcome::Failed),
            invalid: of(Outcome::Invalid),
            beyond_profile: 0,
            warned: 0,
            not_run: 0,
            not_judged: 0,
            reason: None,
            duration_ms: 1_000,
        }],
        clauses: clauses.collect(),
        violations: Vec::new(),
        figures: Vec::new(),
        failures: Vec::new(),
        flaky: Vec::new(),
        tests: vec![test("e2e", "wire::one", outcome)],
        slowest: Vec::new(),
        comparison: None,
    }
}

/// A test that ran once.
pub fn test(category: &str, name: &str, outcome: Outcome) -> TestSummary {
    let of = |one: Outcome| u32::from(one == outcome);
    TestSummary {
        test: format!("kingsguard-tests::{category} {name}"),
        category: category.to_owned(),
        outcome,
        passed: of(Outcome::Passed),
        failed: of(Outcome::Failed),
        invalid: of(Outcome::Invalid),
        beyond_profile: 0,
        duration_ms: 10,
        clauses: Vec::new(),
        warned: Vec::new(),
        not_judged: Vec::new(),
        reason: None,
    }
}
