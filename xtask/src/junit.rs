//! One JUnit file of a whole suite run, from those of its invocations.

use quick_junit::Report;

/// An empty report.
pub fn report(suite_run: &str) -> Report {
    Report::new(format!("kingsguard {suite_run}"))
}

/// Adds what one invocation reported; setup scripts are not tests and stay out.
pub fn add(whole: &mut Report, part: &Report) {
    for suite in part
        .test_suites
        .iter()
        .filter(|suite| !suite.name.as_str().starts_with('@'))
    {
        whole.add_test_suite(suite.clone());
    }
    if whole.timestamp.is_none() {
        whole.timestamp = part.timestamp;
    }
    whole.time = Some(whole.time.unwrap_or_default() + part.time.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

    kingsguard_report::covers!("RUN-7");

    #[test]
    fn parts_become_one_report_that_counts_all_their_tests() {
        let mut whole = report("r");
        for name in ["a", "b"] {
            let mut part = Report::new("nextest-run");
            let mut suite = TestSuite::new(name);
            suite.add_test_case(TestCase::new("x", TestCaseStatus::success()));
            suite.add_test_case(TestCase::new("y", TestCaseStatus::non_success(NonSuccessKind::Failure)));
            part.add_test_suite(suite);
            part.add_test_suite(TestSuite::new("@setup-script:services"));
            add(&mut whole, &part);
        }
        assert_eq!((whole.tests, whole.failures, whole.test_suites.len()), (4, 2, 2));
        let read = Report::deserialize_from_str(&whole.to_string().expect("xml")).expect("what it wrote");
        assert_eq!((read.tests, read.failures), (4, 2));
    }
}
