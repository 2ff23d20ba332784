//! From results of invocations to the numbers of the summary.

mod clauses;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kingsguard_report::{
    CategorySummary, ClauseSummary, Failure, Figure, FlakyTest, Outcome, SlowTest, TestOutcome, TestSummary, Violation,
};

use crate::category::Category;
use crate::nextest::{Listed, TestId};
use crate::results::WaveResults;
use crate::tally::clauses::ClauseTally;

pub use clauses::verdict;

/// Slowest tests that a report names.
const SLOWEST: usize = 10;

/// Lines of a failed test's output that a report repeats.
const LINES_SHOWN: usize = 12;

/// One category, while it is counted.
#[derive(Debug)]
pub struct Row {
    pub category: &'static Category,
    passed: u32,
    failed: u32,
    /// Of these, the ones of earlier rounds.
    failed_before: u32,
    invalid: u32,
    beyond_profile: u32,
    warned: u32,
    not_run: u32,
    not_judged: u32,
    reasons: BTreeSet<String>,
    duration: Duration,
}

impl Row {
    fn executed(&self) -> usize {
        (self.passed + self.failed + self.invalid) as usize
    }
}

/// Everything counted so far.
#[derive(Debug, Default)]
pub struct Tally {
    rows: Vec<Row>,
    pub violations: Vec<Violation>,
    pub figures: Vec<Figure>,
    pub failures: Vec<Failure>,
    tests: BTreeMap<TestId, TestSummary>,
    clauses: ClauseTally,
}

impl Tally {
    pub fn new(categories: impl Iterator<Item = &'static Category>) -> Self {
        let rows = categories.map(|category| Row {
            category,
            passed: 0,
            failed: 0,
            failed_before: 0,
            invalid: 0,
            beyond_profile: 0,
            warned: 0,
            not_run: 0,
            not_judged: 0,
            reasons: BTreeSet::new(),
            duration: Duration::ZERO,
        });
        Self {
            rows: rows.collect(),
            ..Self::default()
        }
    }

    fn row(&mut self, category: &Category) -> &mut Row {
        let place = self.rows.iter().position(|row| row.category.name == category.name);
        let place = place.expect("a tally holds every category of its plan");
        &mut self.rows[place]
    }

    /// Tests that were selected and not executed, and why.
    pub fn not_run<'l>(&mut self, tests: impl IntoIterator<Item = &'l Listed>, reason: &str) {
        for listed in tests {
            let row = self.row(listed.category);
            row.not_run += 1;
            row.reasons.insert(reason.to_owned());
            let test = self.test(listed);
            if test.outcome == Outcome::NotRun {
                test.reason = Some(reason.to_owned());
            }
        }
    }

    fn test(&mut self, listed: &Listed) -> &mut TestSummary {
        let fresh = || TestSummary {
            test: listed.id.to_string(),
            category: listed.category.name.to_owned(),
            outcome: Outcome::NotRun,
            passed: 0,
            failed: 0,
            invalid: 0,
            beyond_profile: 0,
            duration_ms: 0,
            clauses: Vec::new(),
            warned: Vec::new(),
            not_judged: Vec::new(),
            reason: None,
        };
        self.tests.entry(listed.id.clone()).or_insert_with(fresh)
    }

    /// What one invocation gave for the tests that were expected of it.
    pub fn add(&mut self, expected: &[&Listed], results: &WaveResults, repeat: impl Fn(&TestId) -> String) {
        for listed in expected {
            let category = listed.category;
            let Some(outcome) = results.outcome(&listed.id) else {
                let reason = match (listed.ignored, results.cut) {
                    (true, _) => "ignored in the source",
                    (false, Some(cut)) => cut.reason(),
                    (false, None) => "reported no result",
                };
                self.not_run([*listed], reason);
                continue;
            };
            let row = self.row(category);
            *match outcome {
                TestOutcome::Passed => &mut row.passed,
                TestOutcome::Failed => &mut row.failed,
                TestOutcome::Invalid => &mut row.invalid,
                TestOutcome::NotJudged => &mut row.beyond_profile,
            } += 1;
            let duration = results.ended.get(&listed.id).map(|ended| ended.duration);
            row.duration += duration.unwrap_or_default();
            let test = self.test(listed);
            test.duration_ms = test.duration_ms.max(milliseconds(duration.unwrap_or_default()));
            count(test, outcome);
            if let Some(record) = results.records.get(&listed.id) {
                self.clauses.add(record, outcome);
            }
            if outcome == TestOutcome::NotJudged {
                let record = results.records.get(&listed.id);
                self.test(listed).reason = record.and_then(|record| record.message.clone());
            }
            self.add_record(listed, results);
            if !matches!(outcome, TestOutcome::Passed | TestOutcome::NotJudged) {
                self.add_failure(listed, results, repeat(&listed.id));
            }
        }
    }

    fn add_record(&mut self, listed: &Listed, results: &WaveResults) {
        let Some(record) = results.records.get(&listed.id) else {
            return;
        };
        let evidence = record.evidence.clone().unwrap_or_default();
        for violation in record.violations.iter().chain(&record.warned) {
            self.violations.push(Violation {
                clause: violation.clause.clone(),
                level: violation.level,
                test: listed.id.to_string(),
                message: violation.message.clone(),
                evidence: evidence.clone(),
            });
        }
        record.figures.iter().for_each(|figure| take(&mut self.figures, figure));
        let claimed: Vec<_> = record.not_judged.iter().filter(|one| one.claimed).collect();
        let row = self.row(listed.category);
        row.warned += u32::try_from(record.warned.len()).unwrap_or(u32::MAX);
        row.not_judged += u32::try_from(claimed.len()).unwrap_or(u32::MAX);
        let test = self.test(listed);
        test.clauses.clone_from(&record.clauses);
        for (clauses, found) in [
            (
                &mut test.warned,
                record.warned.iter().map(|one| &one.clause).collect::<Vec<_>>(),
            ),
            (&mut test.not_judged, claimed.iter().map(|one| &one.clause).collect()),
        ] {
            clauses.extend(found.into_iter().cloned());
            clauses.sort_unstable();
            clauses.dedup();
        }
    }

    fn add_failure(&mut self, listed: &Listed, results: &WaveResults, repeat: String) {
        let record = results.records.get(&listed.id);
        let said = results
            .ended
            .get(&listed.id)
            .map(|ended| ended.said.as_str())
            .unwrap_or_default();
        let message = record
            .and_then(|record| record.message.clone())
            .unwrap_or_else(|| gist(said));
        self.test(listed).reason = message.lines().next().map(str::to_owned);
        self.failures.push(Failure {
            test: listed.id.to_string(),
            category: listed.category.name.to_owned(),
            message,
            evidence: record.and_then(|record| record.evidence.clone()).unwrap_or_default(),
            repeat,
        });
    }

    /// Time of a category that ran alone in its waves, which is not the sum of its tests'.
    pub fn set_duration(&mut self, category: &Category, duration: Duration) {
        self.row(category).duration = duration;
    }

    pub fn duration(&self, category: &Category) -> Duration {
        let row = self.rows.iter().find(|row| row.category.name == category.name);
        row.map(|row| row.duration).unwrap_or_default()
    }

    /// Begins a repetition: what failed in those before keeps nothing of it from running.
    pub fn begin_round(&mut self) {
        for row in &mut self.rows {
            row.failed_before = row.failed;
        }
    }

    /// Whether a test of a category failed in this round.
    pub fn has_failed_in_round(&self, name: &str) -> bool {
        let mut rows = self.rows.iter();
        rows.any(|row| row.category.name == name && row.failed > row.failed_before)
    }

    pub fn executed(&self) -> usize {
        self.rows.iter().map(Row::executed).sum()
    }

    pub fn executed_of(&self, name: &str) -> usize {
        let rows = self.rows.iter().filter(|row| row.category.name == name);
        rows.map(Row::executed).sum()
    }

    pub fn failed(&self) -> usize {
        self.rows.iter().map(|row| row.failed as usize).sum()
    }

    /// Tests that ended as invalid runs.
    pub fn invalid(&self) -> usize {
        self.rows.iter().map(|row| row.invalid as usize).sum()
    }

    pub fn categories(&self) -> Vec<CategorySummary> {
        let rows = self.rows.iter().map(|row| CategorySummary {
            name: row.category.name.to_owned(),
            priority: row.category.priority.to_string(),
            passed: row.passed,
            failed: row.failed,
            invalid: row.invalid,
            warned: row.warned,
            not_run: row.not_run,
            not_judged: row.not_judged,
            beyond_profile: row.beyond_profile,
            reason: (!row.reasons.is_empty()).then(|| row.reasons.iter().cloned().collect::<Vec<_>>().join("; ")),
            duration_ms: milliseconds(row.duration),
        });
        rows.collect()
    }

    /// Every selected test.
    pub fn tests(&self) -> Vec<TestSummary> {
        self.tests.values().cloned().collect()
    }

    /// Every clause of the contract.
    pub fn clauses(&self) -> Vec<ClauseSummary> {
        self.clauses.summaries()
    }

    /// MUST first, then by clause.
    pub fn sorted_violations(&self) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        violations.sort_by(|a, b| (a.level, &a.clause, &a.test).cmp(&(b.level, &b.clause, &b.test)));
        violations
    }
}

/// One more repetition of a test.
fn count(test: &mut TestSummary, outcome: TestOutcome) {
    *match outcome {
        TestOutcome::Passed => &mut test.passed,
        TestOutcome::Failed => &mut test.failed,
        TestOutcome::Invalid => &mut test.invalid,
        TestOutcome::NotJudged => &mut test.beyond_profile,
    } += 1;
    test.outcome = match (test.failed, test.invalid, test.passed) {
        (1.., _, _) => Outcome::Failed,
        (0, 1.., _) => Outcome::Invalid,
        (0, 0, 1..) => Outcome::Passed,
        (0, 0, 0) => Outcome::NotJudged,
    };
}

/// The slowest tests, slowest first.
pub fn slowest(tests: &[TestSummary]) -> Vec<SlowTest> {
    let mut ran: Vec<&TestSummary> = tests.iter().filter(|test| test.outcome != Outcome::NotRun).collect();
    ran.sort_by_key(|test| std::cmp::Reverse(test.duration_ms));
    let slow = ran.into_iter().take(SLOWEST).map(|test| SlowTest {
        test: test.test.clone(),
        category: test.category.clone(),
        duration_ms: test.duration_ms,
    });
    slow.collect()
}

/// Tests that passed in one repetition and failed in another, with the rate of failing.
pub fn flaky(tests: &[TestSummary]) -> Vec<FlakyTest> {
    let mixed = tests.iter().filter(|test| test.passed > 0 && test.failed > 0);
    let named = mixed.map(|test| FlakyTest {
        test: test.test.clone(),
        category: test.category.clone(),
        failed: test.failed,
        of: test.passed + test.failed,
        rate: f64::from(test.failed) / f64::from(test.passed + test.failed),
    });
    named.collect()
}

pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Counts of several tests add up, of a largest time the largest stays; every other figure stands for itself.
pub fn take(figures: &mut Vec<Figure>, figure: &Figure) {
    let known = figures.iter_mut().find(|known| known.id == figure.id);
    match known {
        Some(known) if figure.unit == "count" => known.value += figure.value,
        Some(known) if figure.id.ends_with("_max_ms") => known.value = known.value.max(figure.value),
        Some(_) | None => figures.push(figure.clone()),
    }
}

/// The lines of an output that say what went wrong: from the panic on, without the backtrace.
fn gist(said: &str) -> String {
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    let from = lines.iter().position(|line| line.contains("panicked at")).unwrap_or(0);
    let lines = lines[from..]
        .iter()
        .take_while(|line| !line.starts_with("stack backtrace") && !line.starts_with("note:"));
    lines.copied().take(LINES_SHOWN).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-6");

    #[test]
    fn counts_add_up_the_largest_time_stays_and_others_stand_beside_each_other() {
        let mut figures = Vec::new();
        for (id, value, unit) in [
            ("faults", 2.0, "count"),
            ("faults", 3.0, "count"),
            ("healing_max_ms", 7.0, "ms"),
            ("healing_max_ms", 5.0, "ms"),
            ("rate", 1.0, "1/s"),
            ("rate", 2.0, "1/s"),
        ] {
            take(&mut figures, &Figure::new(id, value, unit));
        }
        let values: Vec<(&str, f64)> = figures
            .iter()
            .map(|figure| (figure.id.as_str(), figure.value))
            .collect();
        assert_eq!(
            values,
            [("faults", 5.0), ("healing_max_ms", 7.0), ("rate", 1.0), ("rate", 2.0)]
        );
    }

    #[test]
    fn what_failed_in_one_round_keeps_nothing_of_the_next_from_running() {
        let unit = crate::category::category("unit").expect("there is such a category");
        let mut tally = Tally::new([unit].into_iter());
        tally.begin_round();
        tally.row(unit).failed = 1;
        assert!(tally.has_failed_in_round("unit"));
        tally.begin_round();
        assert!(!tally.has_failed_in_round("unit"));
        assert_eq!(tally.failed(), 1);
    }

    #[test]
    fn a_test_that_fails_in_three_of_a_hundred_repetitions_is_flaky_and_one_that_always_fails_is_not() {
        let test = |name: &str| TestSummary {
            test: name.to_owned(),
            category: "e2e".to_owned(),
            outcome: Outcome::NotRun,
            passed: 0,
            failed: 0,
            invalid: 0,
            beyond_profile: 0,
            duration_ms: 0,
            clauses: Vec::new(),
            warned: Vec::new(),
            not_judged: Vec::new(),
            reason: None,
        };
        let (mut mixed, mut broken) = (test("mixed"), test("broken"));
        for round in 0..100 {
            let outcome = if round % 40 == 7 {
                TestOutcome::Failed
            } else {
                TestOutcome::Passed
            };
            count(&mut mixed, outcome);
            count(&mut broken, TestOutcome::Failed);
        }
        assert_eq!((mixed.outcome, broken.outcome), (Outcome::Failed, Outcome::Failed));
        let named = flaky(&[mixed, broken, test("not run")]);
        let rates: Vec<_> = named
            .iter()
            .map(|one| (one.test.as_str(), one.failed, one.of, one.rate))
            .collect();
        assert_eq!(rates, [("mixed", 3, 100, 0.03)]);
    }

    #[test]
    fn the_gist_of_a_panic_leaves_the_backtrace_out() {
        let said = "\nrunning 1 test\n\nthread 'a' panicked at src/lib.rs:1:2:\nexpected 3\n  found 4\nstack backtrace:\n 0: x";
        assert_eq!(
            gist(said),
            "thread 'a' panicked at src/lib.rs:1:2:\nexpected 3\n  found 4"
        );
        assert_eq!(gist("time limit exceeded"), "time limit exceeded");
    }
}
