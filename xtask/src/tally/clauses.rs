//! What the records of tests show about each clause of the contract.

use std::collections::BTreeMap;

use kingsguard_report::clause::{CLAUSES, Clause};
use kingsguard_report::summary::REASONS_MAX;
use kingsguard_report::{ClauseSummary, ClauseVerdict, Level, TestOutcome, TestRecord};

/// Counts by clause. A record that names a clause which is not of the contract is of another build; it counts for nothing.
#[derive(Debug, Default)]
pub struct ClauseTally(BTreeMap<String, Counts>);

#[derive(Debug, Default)]
struct Counts {
    passed: u32,
    failed: u32,
    not_judged: u32,
    reasons: Vec<String>,
}

impl ClauseTally {
    /// One repetition of one test, with its outcome in the eyes of the runner.
    pub fn add(&mut self, record: &TestRecord, outcome: TestOutcome) {
        for clause in CLAUSES {
            let breach = record
                .violations
                .iter()
                .chain(&record.warned)
                .find(|one| one.clause == clause.id);
            let is_about = record.clauses.iter().any(|one| one == clause.id);
            let message = record.message.as_deref().unwrap_or("said nothing");
            if let Some(breach) = breach {
                self.broken(clause, record, &breach.message);
            } else if !is_about {
                continue;
            } else if outcome == TestOutcome::Invalid {
                self.not_judged(clause, record, message);
            } else if outcome == TestOutcome::Failed && record.outcome == TestOutcome::Passed {
                self.not_judged(clause, record, "it failed after its judgement");
            } else if outcome == TestOutcome::Failed && record.blames(clause.id) {
                self.broken(clause, record, message);
            } else if let Some(gap) = record.not_judged.iter().find(|one| one.clause == clause.id) {
                self.not_judged(clause, record, &gap.reason);
            } else {
                self.0.entry(clause.id.to_owned()).or_default().passed += 1;
            }
        }
    }

    fn broken(&mut self, clause: &Clause, record: &TestRecord, why: &str) {
        let counts = self.0.entry(clause.id.to_owned()).or_default();
        counts.failed += 1;
        counts.tell(record, why);
    }

    fn not_judged(&mut self, clause: &Clause, record: &TestRecord, why: &str) {
        let counts = self.0.entry(clause.id.to_owned()).or_default();
        counts.not_judged += 1;
        counts.tell(record, why);
    }

    /// Every clause of the contract, in its order.
    pub fn summaries(&self) -> Vec<ClauseSummary> {
        let none = Counts::default();
        let summary = |clause: &Clause| {
            let counts = self.0.get(clause.id).unwrap_or(&none);
            ClauseSummary {
                clause: clause.id.to_owned(),
                level: clause.level,
                verdict: verdict(clause.level, counts.passed, counts.failed, counts.not_judged),
                passed: counts.passed,
                failed: counts.failed,
                not_judged: counts.not_judged,
                reasons: counts.reasons.clone(),
            }
        };
        CLAUSES.iter().map(summary).collect()
    }
}

impl Counts {
    fn tell(&mut self, record: &TestRecord, why: &str) {
        let reason = format!("{} {}: {why}", record.category, record.test);
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

/// One breach outweighs all that held; one judgement outweighs all that could not be judged.
pub fn verdict(level: Level, passed: u32, failed: u32, not_judged: u32) -> ClauseVerdict {
    match (failed, level, passed, not_judged) {
        (1.., Level::Must, _, _) => ClauseVerdict::Failed,
        (1.., Level::Should, _, _) => ClauseVerdict::Warned,
        (0, _, 1.., _) => ClauseVerdict::Passed,
        (0, _, 0, 1..) => ClauseVerdict::NotJudged,
        (0, _, 0, 0) => ClauseVerdict::NotRun,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kingsguard_report::{NotJudged, RecordedViolation};
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-6", "PROOF-3");

    fn record(clauses: &[&str]) -> TestRecord {
        TestRecord {
            test: "wire::a".to_owned(),
            category: "e2e".to_owned(),
            clauses: clauses.iter().map(|&id| id.to_owned()).collect(),
            outcome: TestOutcome::Passed,
            message: None,
            violations: Vec::new(),
            warned: Vec::new(),
            not_judged: Vec::new(),
            figures: Vec::new(),
            frames_judged: 1,
            checks: 1,
            evidence: None,
            repeat: String::new(),
            sabotage_happened: None,
            seed: 1,
            started: String::new(),
            duration_ms: 1,
        }
    }

    fn breach(clause: &str, level: Level) -> RecordedViolation {
        RecordedViolation {
            clause: clause.to_owned(),
            level,
            message: format!("{clause} broke"),
            sentence: String::new(),
            expected: String::new(),
            came: String::new(),
            frames: Vec::new(),
        }
    }

    fn verdicts(tally: &ClauseTally) -> BTreeMap<String, ClauseVerdict> {
        let summaries = tally.summaries().into_iter();
        let said = summaries.filter(|one| one.verdict != ClauseVerdict::NotRun);
        said.map(|one| (one.clause, one.verdict)).collect()
    }

    fn expected(of: &[(&str, ClauseVerdict)]) -> BTreeMap<String, ClauseVerdict> {
        of.iter().map(|(id, verdict)| ((*id).to_owned(), *verdict)).collect()
    }

    #[test]
    fn a_clause_that_no_executed_test_is_about_is_not_run() {
        let summaries = ClauseTally::default().summaries();
        assert_eq!(summaries.len(), CLAUSES.len());
        assert!(summaries.iter().all(|one| one.verdict == ClauseVerdict::NotRun));
    }

    #[test]
    fn one_breach_outweighs_every_test_that_held() {
        let mut tally = ClauseTally::default();
        tally.add(&record(&["SEQ-1", "ORD-1"]), TestOutcome::Passed);
        let mut broken = record(&["ISO-1"]);
        (broken.outcome, broken.message) = (TestOutcome::Failed, Some("SEQ-1 (MUST): a hole".to_owned()));
        broken.violations.push(breach("SEQ-1", Level::Must));
        broken.warned.push(breach("CON-5", Level::Should));
        tally.add(&broken, TestOutcome::Failed);
        assert_eq!(
            verdicts(&tally),
            expected(&[
                ("CON-5", ClauseVerdict::Warned),
                ("ISO-1", ClauseVerdict::Passed),
                ("ORD-1", ClauseVerdict::Passed),
                ("SEQ-1", ClauseVerdict::Failed),
            ])
        );
    }

    #[test]
    fn a_claim_that_did_not_hold_breaks_what_the_test_is_about() {
        let mut failed = record(&["ISO-1", "ISO-2"]);
        (failed.outcome, failed.message) = (TestOutcome::Failed, Some("claim does not hold: x".to_owned()));
        let mut tally = ClauseTally::default();
        tally.add(&failed, TestOutcome::Failed);
        let both = [("ISO-1", ClauseVerdict::Failed), ("ISO-2", ClauseVerdict::Failed)];
        assert_eq!(verdicts(&tally), expected(&both));
        let told: Vec<_> = tally.summaries().into_iter().flat_map(|one| one.reasons).collect();
        assert_eq!(told, ["e2e wire::a: claim does not hold: x"; 2]);
    }

    #[test]
    fn what_fell_short_or_could_not_be_seen_is_not_judged() {
        let mut invalid = record(&["TIM-1"]);
        (invalid.outcome, invalid.message) = (TestOutcome::Invalid, Some("no processor was free".to_owned()));
        let mut blind = record(&["SEQ-2"]);
        blind.not_judged.push(NotJudged {
            clause: "SEQ-2".to_owned(),
            reason: "nothing was replayed".to_owned(),
            claimed: true,
        });
        let mut tally = ClauseTally::default();
        tally.add(&invalid, TestOutcome::Invalid);
        tally.add(&blind, TestOutcome::Passed);
        tally.add(&record(&["ORD-1"]), TestOutcome::Failed);
        let expected = expected(&[
            ("ORD-1", ClauseVerdict::NotJudged),
            ("SEQ-2", ClauseVerdict::NotJudged),
            ("TIM-1", ClauseVerdict::NotJudged),
        ]);
        assert_eq!(verdicts(&tally), expected);
        tally.add(&record(&["SEQ-2"]), TestOutcome::Passed);
        assert_eq!(
            verdicts(&tally)["SEQ-2"],
            ClauseVerdict::Passed,
            "one judgement is enough"
        );
    }
}
