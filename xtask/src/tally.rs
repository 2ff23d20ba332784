//! From results of invocations to the numbers of the summary.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kingsguard_report::{CategorySummary, Failure, Figure, SlowTest, TestOutcome, Violation};

use crate::category::Category;
use crate::nextest::{Listed, TestId};
use crate::results::WaveResults;

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
    invalid: u32,
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
    slowest: BTreeMap<TestId, (Duration, &'static str)>,
    /// How often each test held and did not.
    repeats: BTreeMap<TestId, (u32, u32)>,
    /// Clauses that tests were about and could not judge.
    pub not_judged: BTreeSet<String>,
}

impl Tally {
    pub fn new(categories: impl Iterator<Item = &'static Category>) -> Self {
        let rows = categories.map(|category| Row {
            category,
            passed: 0,
            failed: 0,
            invalid: 0,
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
    pub fn not_run(&mut self, category: &Category, tests: usize, reason: &str) {
        let row = self.row(category);
        row.not_run += u32::try_from(tests).unwrap_or(u32::MAX);
        row.reasons.insert(reason.to_owned());
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
                self.not_run(category, 1, reason);
                continue;
            };
            let seen = self.repeats.entry(listed.id.clone()).or_default();
            match outcome {
                TestOutcome::Passed => seen.0 += 1,
                TestOutcome::Failed => seen.1 += 1,
                TestOutcome::Invalid => {}
            }
            let row = self.row(category);
            *match outcome {
                TestOutcome::Passed => &mut row.passed,
                TestOutcome::Failed => &mut row.failed,
                TestOutcome::Invalid => &mut row.invalid,
            } += 1;
            if let Some(ended) = results.ended.get(&listed.id) {
                row.duration += ended.duration;
                let slow = self
                    .slowest
                    .entry(listed.id.clone())
                    .or_insert((Duration::ZERO, category.name));
                slow.0 = slow.0.max(ended.duration);
            }
            self.add_record(listed, results);
            if outcome != TestOutcome::Passed {
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
        self.not_judged.extend(
            claimed
                .iter()
                .map(|one| format!("{}: {} ({})", one.clause, one.reason, listed.id)),
        );
        let row = self.row(listed.category);
        row.warned += u32::try_from(record.warned.len()).unwrap_or(u32::MAX);
        row.not_judged += u32::try_from(claimed.len()).unwrap_or(u32::MAX);
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

    /// Whether a category has a failed test.
    pub fn has_failed(&self, name: &str) -> bool {
        self.rows.iter().any(|row| row.category.name == name && row.failed > 0)
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
            reason: (!row.reasons.is_empty()).then(|| row.reasons.iter().cloned().collect::<Vec<_>>().join("; ")),
            duration_ms: u64::try_from(row.duration.as_millis()).unwrap_or(u64::MAX),
        });
        rows.collect()
    }

    pub fn slowest(&self) -> Vec<SlowTest> {
        let mut tests: Vec<_> = self.slowest.iter().collect();
        tests.sort_by_key(|(_, (duration, _))| std::cmp::Reverse(*duration));
        let tests = tests
            .into_iter()
            .take(SLOWEST)
            .map(|(id, (duration, category))| SlowTest {
                test: id.to_string(),
                category: (*category).to_owned(),
                duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            });
        tests.collect()
    }

    /// Tests that passed in one repetition and failed in another.
    pub fn flaky(&self) -> Vec<String> {
        let mixed = self.repeats.iter().filter(|(_, (held, broke))| *held > 0 && *broke > 0);
        mixed
            .map(|(id, (held, broke))| format!("{id} ({held} passed, {broke} failed)"))
            .collect()
    }

    /// MUST first, then by clause.
    pub fn sorted_violations(&self) -> Vec<Violation> {
        let mut violations = self.violations.clone();
        violations.sort_by(|a, b| (a.level, &a.clause, &a.test).cmp(&(b.level, &b.clause, &b.test)));
        violations
    }
}

/// Counts of several tests add up, of a largest time the largest stays; every other figure stands for itself.
fn take(figures: &mut Vec<Figure>, figure: &Figure) {
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
            let figure = Figure {
                id: id.to_owned(),
                value,
                unit: unit.to_owned(),
                yardstick: None,
                ratio: None,
            };
            take(&mut figures, &figure);
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
    fn the_gist_of_a_panic_leaves_the_backtrace_out() {
        let said = "\nrunning 1 test\n\nthread 'a' panicked at src/lib.rs:1:2:\nexpected 3\n  found 4\nstack backtrace:\n 0: x";
        assert_eq!(
            gist(said),
            "thread 'a' panicked at src/lib.rs:1:2:\nexpected 3\n  found 4"
        );
        assert_eq!(gist("time limit exceeded"), "time limit exceeded");
    }
}
