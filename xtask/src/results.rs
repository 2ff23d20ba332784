//! What one invocation of nextest gave, seen three times over: the stream, the JUnit file and the test records.
//! They must agree; where they do not, the run cannot be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kingsguard_report::{TestOutcome, TestRecord};
use quick_junit::{Report, TestCaseStatus};

use crate::nextest::{End, Listed, TestId};

/// How one test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub end: End,
    pub duration: Duration,
    /// What it printed, when it failed.
    pub said: String,
}

/// Why an invocation ended before its last test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    Budget,
    Signal,
    /// The first failure, as asked.
    FailFast,
}

impl Cut {
    pub fn reason(self) -> &'static str {
        match self {
            Self::Budget => "the time budget was used up",
            Self::Signal => "interrupted by a signal",
            Self::FailFast => "stopped at the first failure, as asked",
        }
    }
}

/// All that one invocation gave.
#[derive(Debug, Default)]
pub struct WaveResults {
    pub ended: BTreeMap<TestId, Ended>,
    pub records: BTreeMap<TestId, TestRecord>,
    /// The process's exit code; none when a signal ended it.
    pub exit_code: Option<i32>,
    pub cut: Option<Cut>,
    /// JUnit's view: whether each test held.
    pub junit: Option<BTreeMap<TestId, bool>>,
    /// Lines of the stream that could not be read.
    pub unreadable: Vec<String>,
}

/// nextest's own exit codes that speak of tests.
const NEXTEST_PASSED: i32 = 0;
const NEXTEST_TESTS_FAILED: i32 = 100;

impl WaveResults {
    /// Contradictions between the sources, each as a sentence. Empty means that the results can be believed.
    pub fn contradictions(&self, expected: &[&Listed]) -> Vec<String> {
        let mut found = self.unreadable.clone();
        let known: BTreeSet<&TestId> = expected.iter().map(|listed| &listed.id).collect();
        for id in self.ended.keys().filter(|id| !known.contains(id)) {
            found.push(format!("{id} reported a result but was not selected"));
        }
        if self.cut.is_some() {
            // A run that was cut short is not expected to be complete; what is missing is counted as not run.
            return found;
        }
        for listed in expected
            .iter()
            .filter(|listed| !listed.ignored && !self.ended.contains_key(&listed.id))
        {
            found.push(format!("{} was selected but reported no result", listed.id));
        }
        let failed = self.ended.values().any(|ended| ended.end == End::Failed);
        match self.exit_code {
            Some(NEXTEST_PASSED) if !failed => {}
            Some(NEXTEST_TESTS_FAILED) if failed => {}
            Some(code) => found.push(format!(
                "nextest ended with {code} while its results say that {}",
                if failed { "tests failed" } else { "no test failed" }
            )),
            None => found.push("nextest was ended by a signal that this runner did not send".to_owned()),
        }
        found.extend(self.junit_contradictions());
        found.extend(self.record_contradictions());
        found
    }

    fn junit_contradictions(&self) -> Vec<String> {
        let Some(junit) = &self.junit else {
            return vec!["nextest wrote no JUnit file".to_owned()];
        };
        let mut found = Vec::new();
        for (id, ended) in self.ended.iter().filter(|(_, ended)| ended.end != End::Ignored) {
            match junit.get(id) {
                None => found.push(format!("{id} is missing in JUnit")),
                Some(held) if *held != (ended.end == End::Passed) => {
                    found.push(format!("{id}: the stream says {:?}, JUnit says held={held}", ended.end));
                }
                Some(_) => {}
            }
        }
        found.extend(
            junit
                .keys()
                .filter(|id| !self.ended.contains_key(id))
                .map(|id| format!("{id} is only in JUnit")),
        );
        found
    }

    /// A test that holds a test context and passed must say what it judged.
    fn record_contradictions(&self) -> Vec<String> {
        let silent = self
            .ended
            .iter()
            .filter(|(id, ended)| ended.end == End::Passed && id.leaves_a_record() && !self.records.contains_key(id));
        silent
            .map(|(id, _)| format!("{id} passed without leaving a record of what it judged"))
            .collect()
    }

    /// How a test ended in the eyes of nextest and of its own record; none for what was not executed.
    pub fn outcome(&self, id: &TestId) -> Option<TestOutcome> {
        let record = self.records.get(id);
        match (self.ended.get(id)?.end, record.map(|record| record.outcome)) {
            (End::Ignored, _) => None,
            (End::Failed, Some(TestOutcome::Invalid)) => Some(TestOutcome::Invalid),
            (End::Failed, _) => Some(TestOutcome::Failed),
            (End::Passed, None) => Some(TestOutcome::Passed),
            (End::Passed, Some(TestOutcome::NotJudged)) => Some(TestOutcome::NotJudged),
            (End::Passed, Some(TestOutcome::Passed)) if record.is_some_and(|record| record.violations.is_empty()) => {
                Some(TestOutcome::Passed)
            }
            (End::Passed, Some(_)) => Some(TestOutcome::Failed),
        }
    }
}

/// Reads the JUnit file that nextest wrote.
pub fn read_junit(path: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    Report::deserialize_from_str(&text).with_context(|| format!("reading {} as JUnit", path.display()))
}

/// Whether each test of a JUnit report held. Setup scripts are not tests.
pub fn junit_view(report: &Report) -> BTreeMap<TestId, bool> {
    let suites = report
        .test_suites
        .iter()
        .filter(|suite| !suite.name.as_str().starts_with('@'));
    let cases = suites.flat_map(|suite| suite.test_cases.iter().map(move |case| (suite, case)));
    cases
        .map(|(suite, case)| {
            let binary_id = suite.name.as_str().to_owned();
            let id = TestId {
                binary_id,
                name: case.name.as_str().to_owned(),
            };
            (id, matches!(case.status, TestCaseStatus::Success { .. }))
        })
        .collect()
}

/// Reads the records that tests left in a folder, by the test they are of.
pub fn read_records(folder: &Path) -> Result<BTreeMap<TestId, TestRecord>> {
    let mut records = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(records),
        Err(error) => return Err(error).with_context(|| format!("reading the records in {}", folder.display())),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let record: TestRecord =
            serde_json::from_str(&text).with_context(|| format!("reading {} as a test record", path.display()))?;
        let id = TestId {
            binary_id: format!("{}::{}", crate::category::SUITES, record.category),
            name: record.test.clone(),
        };
        records.insert(id, record);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-7");

    fn outcome(end: End, record: Option<TestOutcome>) -> Option<TestOutcome> {
        let id = TestId {
            binary_id: format!("{}::performance", crate::category::SUITES),
            name: "own::events".to_owned(),
        };
        let ended = Ended {
            end,
            duration: Duration::ZERO,
            said: String::new(),
        };
        let record = record.map(|outcome| TestRecord {
            test: id.name.clone(),
            category: "performance".to_owned(),
            clauses: Vec::new(),
            outcome,
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
            duration_ms: 0,
        });
        let results = WaveResults {
            ended: BTreeMap::from([(id.clone(), ended)]),
            records: record.map(|record| (id.clone(), record)).into_iter().collect(),
            ..WaveResults::default()
        };
        results.outcome(&id)
    }

    #[test]
    fn a_test_is_believed_only_where_nextest_and_its_record_agree() {
        use TestOutcome::{Failed, Invalid, NotJudged, Passed};
        assert_eq!(outcome(End::Passed, Some(Passed)), Some(Passed));
        assert_eq!(outcome(End::Passed, None), Some(Passed), "a unit test leaves no record");
        assert_eq!(outcome(End::Passed, Some(Failed)), Some(Failed));
        assert_eq!(
            outcome(End::Passed, Some(Invalid)),
            Some(Failed),
            "it should have panicked"
        );
        assert_eq!(outcome(End::Passed, Some(NotJudged)), Some(NotJudged));
        assert_eq!(
            outcome(End::Failed, Some(NotJudged)),
            Some(Failed),
            "it did not end as its record says"
        );
        assert_eq!(outcome(End::Failed, Some(Passed)), Some(Failed));
        assert_eq!(outcome(End::Failed, Some(Invalid)), Some(Invalid));
        assert_eq!(
            outcome(End::Failed, None),
            Some(Failed),
            "it did not get so far as to write one"
        );
        assert_eq!(outcome(End::Ignored, None), None);
    }
}
