//! Why no executed test was about a clause: from the annotations at the tests, which tell who would have been.

use std::collections::BTreeMap;

use kingsguard_report::summary::REASONS_MAX;
use kingsguard_report::{ClauseVerdict, Outcome, Summary, TestSummary};

use crate::tidy::Covered;

/// Gives every clause that is not run its reasons.
pub fn explain(summary: &mut Summary, annotated: &Covered) {
    let Summary { clauses, tests, .. } = summary;
    for clause in clauses.iter_mut().filter(|one| one.verdict == ClauseVerdict::NotRun) {
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (file, names) in annotated.get(&clause.clause).into_iter().flatten() {
            let Some(category) = file.strip_prefix("tests/").and_then(|path| path.split('/').next()) else {
                // Beside the code: such a test judges that code and not the target.
                continue;
            };
            for name in names {
                *counts.entry((category, reason(tests, category, name))).or_default() += 1;
            }
        }
        let told = counts.into_iter().map(|((category, reason), count)| {
            let noun = if count == 1 { "test" } else { "tests" };
            format!("{count} {noun} of {category}: {reason}")
        });
        clause.reasons = told.take(REASONS_MAX).collect();
        if clause.reasons.is_empty() {
            clause.reasons.push("no test of the suites is about it".to_owned());
        }
    }
}

fn reason<'t>(tests: &'t [TestSummary], category: &str, name: &str) -> &'t str {
    // One case of a parametrised test has more behind the name of its function.
    let is_it = |test: &&TestSummary| test.category == category && test.test.split([':', ' ']).any(|part| part == name);
    match tests.iter().find(is_it) {
        None => "not selected",
        Some(test) if test.outcome == Outcome::NotRun => test.reason.as_deref().unwrap_or("not run"),
        Some(_) => "it left no record",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{suite_run, test};
    use kingsguard_report::Verdict;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-6");

    #[test]
    fn a_clause_that_was_not_run_says_which_tests_would_have_judged_it_and_why_they_did_not() {
        let mut summary = suite_run("run", Verdict::Passed);
        let mut own = test("e2e", "own::nodes::dies", Outcome::NotRun);
        own.reason = Some("needs a stack of its own".to_owned());
        summary.tests.push(own);
        summary.clauses[1].verdict = ClauseVerdict::Passed;
        let names = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect();
        let by_file = BTreeMap::from([
            ("tests/e2e/own/nodes.rs".to_owned(), names(&["dies"])),
            ("tests/stress/wire/crowd.rs".to_owned(), names(&["a", "b"])),
            ("crates/server/src/redact.rs".to_owned(), names(&["c"])),
        ]);
        let annotated = Covered::from([(summary.clauses[0].clause.clone(), by_file)]);
        explain(&mut summary, &annotated);
        let expected = [
            "1 test of e2e: needs a stack of its own",
            "2 tests of stress: not selected",
        ];
        assert_eq!(summary.clauses[0].reasons, expected);
        assert_eq!(summary.clauses[1].reasons, [""; 0]);
        assert_eq!(summary.clauses[2].reasons, ["no test of the suites is about it"]);
    }
}
