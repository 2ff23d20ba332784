//! `cargo xtask history`: earlier runs, which tests fail now and then, and which became slow.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{History, Run, TestRun};
use crate::cli::HistoryArgs;
use crate::exit::{Exit, Stop};
use crate::workspace::Workspace;

/// Tests that each list names.
const TESTS_NAMED: usize = 10;

/// Runs in which a test must have been for its trend to mean something.
const TREND_RUNS_MIN: usize = 4;

/// A test is told as slower where its newer half of runs took this much longer than its older half, and by so many ms.
const SLOWER_RATIO_MIN: f64 = 1.5;
const SLOWER_MS_MIN: u64 = 100;

/// All that is told.
#[derive(Debug, Serialize)]
struct Told {
    runs: Vec<Run>,
    /// Tests that both passed and failed in these runs.
    flaky: Vec<Flaky>,
    /// Tests that take longer than they did.
    slower: Vec<Slower>,
    /// What was asked of one test, run by run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tests: Vec<TestRun>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Flaky {
    test: String,
    failed: u32,
    of: u32,
    rate: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Slower {
    test: String,
    /// Medians of the older and the newer half of its runs.
    before_ms: u64,
    now_ms: u64,
    ratio: f64,
}

pub fn run(workspace: &Workspace, args: &HistoryArgs) -> Result<Exit> {
    let history = History::open(&workspace.reports())?;
    let seen = history.tests(args.test.as_deref().unwrap_or_default(), args.limit)?;
    let told = Told {
        runs: history.runs(args.limit)?,
        flaky: flaky(&seen),
        slower: slower(&seen),
        tests: if args.test.is_some() { seen } else { Vec::new() },
    };
    if told.runs.is_empty() {
        return Err(Stop::new(
            Exit::Nothing,
            "no suite run was made in this tree yet",
            "cargo xtask test quick",
        )
        .into());
    }
    if let Some(name) = args.test.as_ref().filter(|_| told.tests.is_empty()) {
        let why = format!(
            "no test whose name contains `{name}` ran in the last {} runs",
            told.runs.len()
        );
        return Err(Stop::new(Exit::Nothing, why, "cargo xtask history --limit 500, or another --test").into());
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&told)?);
    } else if args.test.is_some() {
        print_tests(&told);
    } else {
        print_runs(&told);
    }
    Ok(Exit::Passed)
}

/// By test, newest run first.
fn by_test(seen: &[TestRun]) -> BTreeMap<&str, Vec<&TestRun>> {
    let mut tests: BTreeMap<&str, Vec<&TestRun>> = BTreeMap::new();
    for one in seen {
        tests.entry(&one.test).or_default().push(one);
    }
    tests
}

/// The most often failing first.
fn flaky(seen: &[TestRun]) -> Vec<Flaky> {
    let mut mixed: Vec<Flaky> = by_test(seen)
        .into_iter()
        .filter_map(|(test, runs)| {
            let failed: u32 = runs.iter().map(|run| run.failed).sum();
            let passed: u32 = runs.iter().map(|run| run.passed).sum();
            (failed > 0 && passed > 0).then(|| Flaky {
                test: test.to_owned(),
                failed,
                of: failed + passed,
                rate: f64::from(failed) / f64::from(failed + passed),
            })
        })
        .collect();
    mixed.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    mixed
}

/// The most slowed down first.
fn slower(seen: &[TestRun]) -> Vec<Slower> {
    let trend = |(test, runs): (&str, Vec<&TestRun>)| {
        if runs.len() < TREND_RUNS_MIN {
            return None;
        }
        let (newer, older) = runs.split_at(runs.len() / 2);
        let (now_ms, before_ms) = (median(newer), median(older));
        let ratio = now_ms as f64 / before_ms.max(1) as f64;
        (ratio >= SLOWER_RATIO_MIN && now_ms >= before_ms + SLOWER_MS_MIN).then(|| Slower {
            test: test.to_owned(),
            before_ms,
            now_ms,
            ratio,
        })
    };
    let mut found: Vec<Slower> = by_test(seen).into_iter().filter_map(trend).collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.now_ms - one.before_ms));
    found
}

fn median(runs: &[&TestRun]) -> u64 {
    let mut times: Vec<u64> = runs.iter().map(|run| run.duration_ms).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn print_runs(told: &Told) {
    println!(
        "{:<28} {:<12} {:>8} {:>7} {:>7}  selection",
        "run", "verdict", "time", "passed", "failed"
    );
    for run in &told.runs {
        let seconds = run.duration_ms as f64 / 1000.0;
        let why = run
            .reason
            .as_ref()
            .map(|reason| format!("  ({reason})"))
            .unwrap_or_default();
        println!(
            "{:<28} {:<12} {seconds:>6.1} s {:>7} {:>7}  {}{why}",
            run.suite_run, run.verdict, run.passed, run.failed, run.selection
        );
    }
    print_trends(told);
}

fn print_tests(told: &Told) {
    let mut last = "";
    for run in &told.tests {
        if run.test != last {
            println!("{}", run.test);
            last = &run.test;
        }
        let word = match (run.failed, run.invalid) {
            (0, 0) => "passed".to_owned(),
            (0, _) => "invalid run".to_owned(),
            (failed, _) if run.passed == 0 => format!("failed {failed}×"),
            (failed, _) => format!("failed {failed} of {}", failed + run.passed),
        };
        let seconds = run.duration_ms as f64 / 1000.0;
        let revision = run.revision.get(..10).unwrap_or(&run.revision);
        println!("  {:<28} {word:<16} {seconds:>7.2} s  {revision}", run.suite_run);
    }
    print_trends(told);
}

fn print_trends(told: &Told) {
    for one in told.flaky.iter().take(TESTS_NAMED) {
        println!("FLAKY  failed in {} of {}  {}", one.failed, one.of, one.test);
    }
    for one in told.slower.iter().take(TESTS_NAMED) {
        println!(
            "SLOWER {:.2} s, was {:.2} s ({:.1} times)  {}",
            one.now_ms as f64 / 1000.0,
            one.before_ms as f64 / 1000.0,
            one.ratio,
            one.test
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-7");

    /// Runs of one test, newest first.
    fn runs(name: &str, of: &[(u32, u32, u64)]) -> Vec<TestRun> {
        let one = |(passed, failed, duration_ms): &(u32, u32, u64)| TestRun {
            test: name.to_owned(),
            suite_run: "r".to_owned(),
            started: "s".to_owned(),
            revision: "abc".to_owned(),
            passed: *passed,
            failed: *failed,
            invalid: 0,
            duration_ms: *duration_ms,
        };
        of.iter().map(one).collect()
    }

    #[test]
    fn a_test_that_fails_now_and_then_is_named_with_its_rate() {
        let mut seen = runs("always fails", &[(0, 1, 1), (0, 1, 1)]);
        seen.extend(runs("mixed", &[(1, 0, 1), (0, 1, 1), (1, 0, 1), (1, 0, 1)]));
        let expected = Flaky {
            test: "mixed".to_owned(),
            failed: 1,
            of: 4,
            rate: 0.25,
        };
        assert_eq!(flaky(&seen), [expected]);
    }

    #[test]
    fn a_test_whose_newer_runs_take_longer_is_slower() {
        let mut seen = runs("steady", &[(1, 0, 500); 4]);
        seen.extend(runs("slower", &[(1, 0, 900), (1, 0, 800), (1, 0, 300), (1, 0, 400)]));
        seen.extend(runs("seen too rarely", &[(1, 0, 900), (1, 0, 100)]));
        seen.extend(runs("quick anyway", &[(1, 0, 30), (1, 0, 30), (1, 0, 10), (1, 0, 10)]));
        let expected = Slower {
            test: "slower".to_owned(),
            before_ms: 400,
            now_ms: 900,
            ratio: 2.25,
        };
        assert_eq!(slower(&seen), [expected]);
    }
}
