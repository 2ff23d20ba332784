//! One JUnit file of a whole suite run: those of its invocations, and what the runner knows beyond them (clauses, evidence,
//! tests that were not run), in the same words as every other report.

use kingsguard_report::{Outcome, Summary, TestOutcome, TestRecord, TestSummary};
use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use crate::nextest::TestId;
use crate::results::WaveResults;

/// The suite that holds no test and says what came of all of them.
const VERDICT: &str = "verdict";

/// An empty report.
pub fn report(suite_run: &str) -> Report {
    Report::new(format!("kingsguard {suite_run}"))
}

/// Adds what one invocation reported; setup scripts are not tests and stay out.
pub fn add(whole: &mut Report, part: &Report, results: &WaveResults) {
    for suite in part
        .test_suites
        .iter()
        .filter(|suite| !suite.name.as_str().starts_with('@'))
    {
        let mut judged = TestSuite::new(suite.name.as_str());
        (judged.timestamp, judged.time) = (suite.timestamp, suite.time);
        judged.add_test_cases(suite.test_cases.iter().map(|case| {
            let id = TestId {
                binary_id: suite.name.as_str().to_owned(),
                name: case.name.as_str().to_owned(),
            };
            judged_case(case, results.outcome(&id), results.records.get(&id))
        }));
        whole.add_test_suite(judged);
    }
    add_times(whole, part);
}

/// Adds the finished report of a shard; what is said of that part alone stays out.
pub fn merge(whole: &mut Report, part: &Report) {
    let suites = part.test_suites.iter().filter(|suite| suite.name.as_str() != VERDICT);
    for suite in suites {
        let mut tests = TestSuite::new(suite.name.as_str());
        (tests.timestamp, tests.time) = (suite.timestamp, suite.time);
        let executed = |case: &&TestCase| !matches!(case.status, TestCaseStatus::Skipped { .. });
        tests.add_test_cases(suite.test_cases.iter().filter(executed).cloned());
        if tests.tests > 0 {
            whole.add_test_suite(tests);
        }
    }
    add_times(whole, part);
}

fn add_times(whole: &mut Report, part: &Report) {
    if whole.timestamp.is_none() {
        whole.timestamp = part.timestamp;
    }
    whole.time = Some(whole.time.unwrap_or_default() + part.time.unwrap_or_default());
}

/// A case with the runner's view of it: nextest sees neither a machine that fell short nor a record that disagrees.
fn judged_case(case: &TestCase, outcome: Option<TestOutcome>, record: Option<&TestRecord>) -> TestCase {
    let mut case = case.clone();
    let held = matches!(case.status, TestCaseStatus::Success { .. });
    match (outcome, &mut case.status) {
        (Some(TestOutcome::Invalid), status) => {
            *status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type(Outcome::Invalid.word());
        }
        (Some(TestOutcome::NotJudged), status) => {
            *status = TestCaseStatus::skipped();
            status.set_type(Outcome::NotJudged.word());
        }
        (Some(TestOutcome::Failed), status) if held => {
            *status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("it passed, and its record tells of a failure");
        }
        (Some(_) | None, _) => {}
    }
    let Some(record) = record else { return case };
    if let Some(message) = &record.message {
        case.status.set_message(message.as_str());
    }
    let mut tell = |name: &str, value: &str| {
        case.add_property(Property::new(name, value));
    };
    record.clauses.iter().for_each(|clause| tell("clause", clause));
    for (name, found) in [("failed", &record.violations), ("warned", &record.warned)] {
        for breach in found {
            tell(name, &format!("{}: {}", breach.clause, breach.message));
        }
    }
    for gap in record.not_judged.iter().filter(|gap| gap.claimed) {
        tell("not judged", &format!("{}: {}", gap.clause, gap.reason));
    }
    if record.outcome != TestOutcome::Passed {
        tell("repeat", &record.repeat);
        record.evidence.iter().for_each(|folder| tell("evidence", folder));
    }
    case
}

/// Adds what the summary knows: tests that were not run, each with its reason, and the verdict on everything and on each
/// clause.
pub fn conclude(whole: &mut Report, summary: &Summary) {
    let mut suites: Vec<TestSuite> = Vec::new();
    for test in summary.tests.iter().filter(|test| test.outcome == Outcome::NotRun) {
        let (suite, case) = skipped(test);
        match suites.iter_mut().find(|known| known.name.as_str() == suite) {
            Some(known) => known,
            None => {
                suites.push(TestSuite::new(suite));
                suites.last_mut().expect("one was just added")
            }
        }
        .add_test_case(case);
    }
    whole.add_test_suites(suites);
    let mut verdict = TestSuite::new(VERDICT);
    verdict.add_property(Property::new("verdict", summary.verdict.word()));
    for reason in summary
        .reason
        .iter()
        .chain(&summary.contradictions)
        .chain(&summary.over_budget)
    {
        verdict.add_property(Property::new("reason", reason.as_str()));
    }
    for clause in &summary.clauses {
        let said = [clause.verdict.word().to_owned(), clause.reasons.join("; ")];
        let said = said.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
        verdict.add_property(Property::new(format!("clause {}", clause.clause), said.join(": ")));
    }
    whole.add_test_suite(verdict);
}

fn skipped(test: &TestSummary) -> (&str, TestCase) {
    let (suite, name) = test.test.split_once(' ').unwrap_or((&test.category, &test.test));
    let mut case = TestCase::new(name, TestCaseStatus::skipped());
    case.set_classname(suite);
    let reason = test.reason.as_deref().unwrap_or("for no known reason");
    case.status.set_type(Outcome::NotRun.word()).set_message(reason);
    (suite, case)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-7");

    fn part() -> Report {
        let mut part = Report::new("nextest-run");
        let mut suite = TestSuite::new("kingsguard-tests::e2e");
        suite.add_test_case(TestCase::new("wire::held", TestCaseStatus::success()));
        suite.add_test_case(TestCase::new(
            "wire::fell_short",
            TestCaseStatus::non_success(NonSuccessKind::Failure),
        ));
        part.add_test_suite(suite);
        part.add_test_suite(TestSuite::new("@setup-script:services"));
        part
    }

    /// What nextest and a record say of the test that fell short.
    fn fell_short() -> WaveResults {
        let id = TestId {
            binary_id: "kingsguard-tests::e2e".to_owned(),
            name: "wire::fell_short".to_owned(),
        };
        let record = serde_json::json!({
            "test": id.name, "category": "e2e", "clauses": ["TIM-1"], "outcome": "invalid", "message": "no processor was free",
            "violations": [], "warned": [], "not_judged": [], "figures": [], "frames_judged": 1, "checks": 1,
            "repeat": "cargo nextest run", "seed": 1, "started": "", "duration_ms": 1,
        });
        let mut results = WaveResults::default();
        results.ended.insert(
            id.clone(),
            crate::results::Ended {
                end: crate::nextest::End::Failed,
                duration: std::time::Duration::ZERO,
                said: String::new(),
            },
        );
        let record = serde_json::from_value(record).expect("it has every field");
        results.records.insert(id, record);
        results
    }

    #[test]
    fn parts_become_one_report_that_counts_all_their_tests() {
        let mut whole = report("r");
        for _ in 0..2 {
            add(&mut whole, &part(), &WaveResults::default());
        }
        assert_eq!((whole.tests, whole.failures, whole.test_suites.len()), (4, 2, 2));
        let read = Report::deserialize_from_str(&whole.to_string().expect("xml")).expect("what it wrote");
        assert_eq!((read.tests, read.failures), (4, 2));
    }

    #[test]
    fn a_machine_that_fell_short_is_an_error_and_not_a_failure_and_names_its_clauses() {
        let mut whole = report("r");
        add(&mut whole, &part(), &fell_short());
        assert_eq!((whole.tests, whole.failures, whole.errors), (2, 0, 1));
        let xml = whole.to_string().expect("xml");
        for words in [
            "type=\"invalid run\"",
            "no processor was free",
            "name=\"clause\" value=\"TIM-1\"",
        ] {
            assert!(xml.contains(words), "{words} is not in\n{xml}");
        }
    }

    #[test]
    fn a_test_that_was_not_run_is_skipped_with_its_reason() {
        let test: TestSummary = serde_json::from_value(serde_json::json!({
            "test": "kingsguard-tests::e2e own::a", "category": "e2e", "outcome": "not_run", "passed": 0, "failed": 0,
            "invalid": 0, "duration_ms": 0, "clauses": [], "warned": [], "not_judged": [], "reason": "unit failed",
        }))
        .expect("it has every field");
        let (suite, case) = skipped(&test);
        let mut expected = TestCaseStatus::skipped();
        expected.set_type("not run").set_message("unit failed");
        assert_eq!(
            (suite, case.name.as_str(), case.status),
            ("kingsguard-tests::e2e", "own::a", expected)
        );
    }

    #[test]
    fn a_test_that_could_not_judge_the_target_is_skipped_though_it_ended_well() {
        let case = judged_case(
            &TestCase::new("x", TestCaseStatus::success()),
            Some(TestOutcome::NotJudged),
            None,
        );
        let mut expected = TestCaseStatus::skipped();
        expected.set_type("not judged");
        assert_eq!(case.status, expected);
    }
}
