//! The earlier run that a suite run is compared with, and the comparison.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kingsguard_report::summary::SUMMARY_VERSION;
use kingsguard_report::{Change, Comparison, Outcome, Summary};

use crate::exit::Stop;
use crate::history::History;
use crate::workspace::Workspace;

/// Tests whose change of time a comparison names.
const TESTS_NAMED: usize = 10;

/// A test's time must change by this much to be named: less is the machine's mood.
const TEST_CHANGE_MS_MIN: u64 = 100;

/// The last passed run of the same selection; none where there is none, or where its report was cleared away.
pub fn last_passed(workspace: &Workspace, summary: &Summary, history: &History) -> Option<Summary> {
    let name = history.last_passed(summary).unwrap_or_else(|error| {
        eprintln!("remark: no comparison with an earlier run: {error:#}");
        None
    });
    read(&workspace.reports().join(name?)).ok()
}

/// A run by its name under `target/reports`, its folder, or its `summary.json`.
pub fn named(workspace: &Workspace, asked: &str) -> Result<Summary> {
    let by_name = workspace.reports().join(asked);
    let path = if by_name.exists() {
        by_name
    } else {
        workspace.root.join(asked)
    };
    read(&path).map_err(|error| {
        Stop::usage(
            format!("there is no baseline `{asked}`: {error:#}"),
            "cargo xtask history lists the runs; --baseline takes a run's name, its folder, or a summary.json",
        )
        .into()
    })
}

/// The summary in a folder of reports, or of this file.
pub fn read(path: &Path) -> Result<Summary> {
    let file = if path.is_dir() {
        path.join("summary.json")
    } else {
        path.to_owned()
    };
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).with_context(|| format!("reading {} as JSON", file.display()))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    ensure!(
        version == Some(u64::from(SUMMARY_VERSION)),
        "{} has version {}, this runner reads version {SUMMARY_VERSION}",
        file.display(),
        version.map_or_else(|| "none".to_owned(), |version| version.to_string())
    );
    serde_json::from_value(value).with_context(|| format!("reading {} as a summary", file.display()))
}

/// This run beside the baseline.
pub fn compare(before: &Summary, now: &Summary) -> Comparison {
    // Of one repetition each.
    let once = |summary: &Summary, ms: u64| ms as f64 / f64::from(summary.repeat.max(1));
    let net = |summary: &Summary| once(summary, summary.duration_ms.saturating_sub(summary.build_ms));
    let categories = now.categories.iter().filter_map(|category| {
        let ran = |one: &kingsguard_report::CategorySummary| one.outcome() != Outcome::NotRun;
        let earlier = before.categories.iter().find(|one| one.name == category.name)?;
        (ran(earlier) && ran(category)).then(|| {
            Change::new(
                &category.name,
                "ms",
                once(before, earlier.duration_ms),
                once(now, category.duration_ms),
            )
        })
    });
    let figures = now.figures.iter().filter_map(|figure| {
        let earlier = before
            .figures
            .iter()
            .find(|one| one.id == figure.id && one.unit == figure.unit)?;
        Some(Change::new(&figure.id, &figure.unit, earlier.value, figure.value))
    });
    Comparison {
        suite_run: before.suite_run.clone(),
        revision: before.revision.clone(),
        started: before.started,
        same_machine: before.machine == now.machine,
        duration: Change::new("suite run", "ms", net(before), net(now)),
        categories: categories.collect(),
        figures: figures.collect(),
        tests: changed_tests(before, now),
    }
}

fn changed_tests(before: &Summary, now: &Summary) -> Vec<Change> {
    let earlier: std::collections::BTreeMap<&str, u64> = before
        .tests
        .iter()
        .filter(|test| test.outcome == Outcome::Passed)
        .map(|test| (test.test.as_str(), test.duration_ms))
        .collect();
    let passed = now.tests.iter().filter(|test| test.outcome == Outcome::Passed);
    let mut changed: Vec<(u64, Change)> = passed
        .filter_map(|test| {
            let before = *earlier.get(test.test.as_str())?;
            let by = before.abs_diff(test.duration_ms);
            let change = || Change::new(&test.test, "ms", before as f64, test.duration_ms as f64);
            (by >= TEST_CHANGE_MS_MIN).then(|| (by, change()))
        })
        .collect();
    changed.sort_by_key(|(by, _)| std::cmp::Reverse(*by));
    changed
        .into_iter()
        .take(TESTS_NAMED)
        .map(|(_, change)| change)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{suite_run, test};
    use kingsguard_report::{Figure, Verdict};
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-7");

    #[test]
    fn what_both_runs_have_is_compared_and_nothing_else() {
        let (mut before, mut now) = (suite_run("before", Verdict::Passed), suite_run("now", Verdict::Passed));
        before.figures = vec![Figure::new("rate", 200.0, "1/s"), Figure::new("gone", 1.0, "ms")];
        now.figures = vec![Figure::new("rate", 100.0, "1/s"), Figure::new("new", 1.0, "ms")];
        (now.categories[0].duration_ms, now.repeat) = (6_000, 2);
        for (summary, slow, steady) in [(&mut before, 500, 40), (&mut now, 1_500, 60)] {
            summary.tests = vec![
                test("e2e", "slow", Outcome::Passed),
                test("e2e", "steady", Outcome::Passed),
            ];
            (summary.tests[0].duration_ms, summary.tests[1].duration_ms) = (slow, steady);
        }
        now.tests.push(test("e2e", "new", Outcome::Passed));
        let comparison = compare(&before, &now);
        assert_eq!(comparison.suite_run, "before");
        assert!(comparison.same_machine);
        assert_eq!(comparison.figures, [Change::new("rate", "1/s", 200.0, 100.0)]);
        assert_eq!(comparison.categories, [Change::new("e2e", "ms", 1_000.0, 3_000.0)]);
        let slow = "kingsguard-tests::e2e slow";
        assert_eq!(comparison.tests, [Change::new(slow, "ms", 500.0, 1_500.0)]);
        assert_eq!(comparison.tests[0].ratio, Some(3.0));
    }

    #[test]
    fn a_summary_of_another_version_is_refused_with_both_versions() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("summary.json"), r#"{"version": 1, "flaky": ["a"]}"#).expect("writable");
        let error = format!("{:#}", read(folder.path()).expect_err("of another version"));
        assert!(error.contains("has version 1, this runner reads version 2"), "{error}");
    }
}
