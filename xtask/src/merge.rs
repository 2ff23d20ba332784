//! `cargo xtask report merge`: the shards of one run, of several machines, as one report with one verdict.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use chrono::Utc;
use kingsguard_report::summary::REASONS_MAX;
use kingsguard_report::{CategorySummary, ClauseSummary, Summary};

use crate::exit::{Exit, Stop};
use crate::history::History;
use crate::results::read_junit;
use crate::verdict::{Facts, judge};
use crate::workspace::Workspace;
use crate::{baseline, console, junit, report, tally};

/// Merges, writes and says how it ended, with the exit code that one run of all would have.
pub fn run(workspace: &Workspace, runs: &[PathBuf], out: Option<&Path>) -> Result<Exit> {
    let unreadable = |error: anyhow::Error| {
        let next = "each RUN_DIR is a folder of target/reports, with summary.json and junit.xml of a run with --shard";
        Stop::usage(format!("{error:#}"), next)
    };
    let shards: Vec<Summary> = runs
        .iter()
        .map(|run| baseline::read(run))
        .collect::<Result<_>>()
        .map_err(unreadable)?;
    let name = format!(
        "merged-{}-{:04x}",
        Utc::now().format("%Y%m%d-%H%M%S"),
        std::process::id() & 0xffff
    );
    let mut summary = merge(name.clone(), &shards)?;
    let mut junit = junit::report(&name);
    for run in runs {
        junit::merge(&mut junit, &read_junit(&run.join("junit.xml")).map_err(unreadable)?);
    }
    let mut history = History::open_or_empty(&workspace.reports())?;
    report::compare(workspace, &mut summary, None, &history);
    let folder = out.map_or_else(|| workspace.reports().join(&name), Path::to_path_buf);
    report::write(workspace, &folder, &summary, &mut junit)?;
    if out.is_none() {
        report::publish(workspace, &summary, &mut history)?;
    }
    console::print(workspace, &summary, &folder);
    Exit::of(summary.exit_code).context("a verdict has one of the runner's exit codes")
}

/// One summary of all shards.
fn merge(name: String, shards: &[Summary]) -> Result<Summary> {
    let first = shards.first().context("at least one shard is merged")?;
    let mut facts = Facts {
        contradictions: incomplete(shards)?,
        ..Facts::default()
    };
    for shard in shards {
        add_facts(&mut facts, shard);
    }
    let mut tests: Vec<_> = shards.iter().flat_map(|shard| shard.tests.clone()).collect();
    tests.sort_by(|a, b| a.test.cmp(&b.test));
    let twice: BTreeSet<&str> = tests
        .windows(2)
        .filter(|pair| pair[0].test == pair[1].test)
        .map(|pair| pair[0].test.as_str())
        .collect();
    if let Some(test) = twice.first() {
        facts.contradictions.push(format!(
            "{} tests are in more than one shard, such as {test}",
            twice.len()
        ));
    }
    let answer = judge(&facts);
    let mut merged = Summary {
        verdict: answer.verdict,
        exit_code: answer.exit.code(),
        reason: answer.reason,
        suite_run: name,
        shard: None,
        merged_from: shards.iter().map(|shard| shard.suite_run.clone()).collect(),
        started: shards.iter().map(|shard| shard.started).min().unwrap_or(first.started),
        // Shards run beside each other: the whole takes what its slowest part takes.
        duration_ms: shards.iter().map(|shard| shard.duration_ms).max().unwrap_or_default(),
        build_ms: shards.iter().map(|shard| shard.build_ms).max().unwrap_or_default(),
        categories: categories(shards),
        clauses: clauses(shards),
        violations: shards.iter().flat_map(|shard| shard.violations.clone()).collect(),
        figures: Vec::new(),
        failures: shards.iter().flat_map(|shard| shard.failures.clone()).collect(),
        flaky: tally::flaky(&tests),
        slowest: tally::slowest(&tests),
        tests,
        comparison: None,
        contradictions: facts.contradictions,
        over_budget: facts.over_budget,
        ..first.clone()
    };
    for figure in shards.iter().flat_map(|shard| &shard.figures) {
        tally::take(&mut merged.figures, figure);
    }
    merged
        .violations
        .sort_by(|a, b| (a.level, &a.clause, &a.test).cmp(&(b.level, &b.clause, &b.test)));
    Ok(merged)
}

/// Why these are not all parts of one run: nothing may pass that nobody looked at.
fn incomplete(shards: &[Summary]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let (mut parts, mut wholes) = (Vec::new(), BTreeSet::new());
    for shard in shards {
        let part = shard.shard.as_deref().and_then(|text| text.split_once('/'));
        let part = part.and_then(|(part, of)| Some((part.parse::<u32>().ok()?, of.parse::<u32>().ok()?)));
        let Some((part, of)) = part else {
            let why = format!("{} is no shard of a run", shard.suite_run);
            return Err(Stop::usage(why, "merge runs that were made with --shard K/N").into());
        };
        parts.push(part);
        wholes.insert(of);
    }
    if wholes.len() > 1 {
        found.push(format!("the shards are parts of different wholes: of {wholes:?}"));
    }
    let of = wholes.last().copied().unwrap_or_default();
    for part in 1..=of {
        match parts.iter().filter(|one| **one == part).count() {
            0 => found.push(format!("shard {part}/{of} is missing")),
            1 => {}
            times => found.push(format!("shard {part}/{of} is there {times} times")),
        }
    }
    let same = |what: &str, of: fn(&Summary) -> String, found: &mut Vec<String>| {
        let seen: BTreeSet<String> = shards.iter().map(of).collect();
        if seen.len() > 1 {
            let seen: Vec<String> = seen.into_iter().collect();
            found.push(format!("the shards differ in their {what}: {}", seen.join(", ")));
        }
    };
    same("revision", |shard| shard.revision.clone(), &mut found);
    same("selection", |shard| shard.selection.join(" "), &mut found);
    same(
        "pattern",
        |shard| shard.pattern.clone().unwrap_or_else(|| "none".to_owned()),
        &mut found,
    );
    same("repetitions", |shard| shard.repeat.to_string(), &mut found);
    same("target", |shard| shard.target.clone(), &mut found);
    Ok(found)
}

/// What one shard adds to what the verdict is made of.
fn add_facts(facts: &mut Facts, shard: &Summary) {
    let sum = |count: fn(&CategorySummary) -> u32| shard.categories.iter().map(count).sum::<u32>() as usize;
    let (failed, invalid) = (sum(|one| one.failed), sum(|one| one.invalid));
    let executed = sum(|one| one.passed) + failed + invalid;
    facts.failed += failed;
    facts.invalid += invalid;
    facts.executed += executed;
    facts.selected += executed + sum(|one| one.not_run);
    let of_it = |text: &String| format!("{}: {text}", shard.shard.as_deref().unwrap_or(&shard.suite_run));
    facts.contradictions.extend(shard.contradictions.iter().map(of_it));
    facts.over_budget.extend(shard.over_budget.iter().map(of_it));
    let reason = of_it(shard.reason.as_ref().unwrap_or(&"gave no reason".to_owned()));
    let is = |exit: Exit| shard.exit_code == exit.code();
    if is(Exit::Interrupted) {
        facts.interrupted = true;
    } else if is(Exit::Services) {
        facts.services_missing = Some(reason);
    } else if is(Exit::Invalid) && invalid == 0 && shard.contradictions.is_empty() {
        facts.contradictions.push(reason);
    }
}

/// Counts add up; shards run beside each other, so the longest time stays.
fn categories(shards: &[Summary]) -> Vec<CategorySummary> {
    let mut merged: Vec<CategorySummary> = Vec::new();
    for category in shards.iter().flat_map(|shard| &shard.categories) {
        let Some(whole) = merged.iter_mut().find(|one| one.name == category.name) else {
            merged.push(category.clone());
            continue;
        };
        whole.passed += category.passed;
        whole.failed += category.failed;
        whole.invalid += category.invalid;
        whole.beyond_profile += category.beyond_profile;
        whole.warned += category.warned;
        whole.not_run += category.not_run;
        whole.not_judged += category.not_judged;
        whole.duration_ms = whole.duration_ms.max(category.duration_ms);
        whole.reason = match (whole.reason.take(), &category.reason) {
            (Some(known), Some(other)) if known != *other => Some(format!("{known}; {other}")),
            (known, other) => known.or_else(|| other.clone()),
        };
    }
    merged
}

fn clauses(shards: &[Summary]) -> Vec<ClauseSummary> {
    let mut merged: Vec<ClauseSummary> = Vec::new();
    for clause in shards.iter().flat_map(|shard| &shard.clauses) {
        let Some(whole) = merged.iter_mut().find(|one| one.clause == clause.clause) else {
            merged.push(clause.clone());
            continue;
        };
        whole.passed += clause.passed;
        whole.failed += clause.failed;
        whole.not_judged += clause.not_judged;
        whole.reasons.extend(clause.reasons.iter().cloned());
        whole.reasons.truncate(REASONS_MAX);
        whole.verdict = tally::verdict(whole.level, whole.passed, whole.failed, whole.not_judged);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{suite_run, test};
    use kingsguard_report::{ClauseVerdict, Outcome, Verdict};
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-9");

    /// The parts of a run of which each executed one test.
    fn shards(verdicts: &[Verdict]) -> Vec<Summary> {
        let of = verdicts.len();
        let shard = |(place, verdict): (usize, &Verdict)| {
            let mut shard = suite_run(&format!("run {place}"), *verdict);
            shard.shard = Some(format!("{}/{of}", place + 1));
            shard.tests = vec![test("e2e", &format!("wire::{place}"), shard.tests[0].outcome)];
            shard
        };
        verdicts.iter().enumerate().map(shard).collect()
    }

    fn answer(shards: &[Summary]) -> (u8, Verdict, Option<String>) {
        let merged = merge("merged".to_owned(), shards).expect("they are shards");
        (merged.exit_code, merged.verdict, merged.reason)
    }

    #[test]
    fn all_shards_that_passed_are_a_run_that_passed() {
        let merged = merge("merged".to_owned(), &shards(&[Verdict::Passed; 3])).expect("they are shards");
        assert_eq!(
            (merged.exit_code, merged.verdict, merged.reason),
            (0, Verdict::Passed, None)
        );
        assert_eq!((merged.tests.len(), merged.categories[0].passed), (3, 3));
        assert_eq!(merged.merged_from, ["run 0", "run 1", "run 2"]);
        assert_eq!(merged.shard, None);
    }

    #[test]
    fn a_missing_shard_makes_the_run_invalid_whatever_the_others_found_good() {
        let mut parts = shards(&[Verdict::Passed; 3]);
        parts.remove(1);
        let (exit, verdict, reason) = answer(&parts);
        assert_eq!((exit, verdict), (6, Verdict::Invalid));
        assert_eq!(
            reason.expect("a reason"),
            "the run cannot be believed: shard 2/3 is missing"
        );
    }

    #[test]
    fn one_shard_that_failed_is_a_run_that_failed() {
        let mut parts = shards(&[Verdict::Passed, Verdict::Failed, Verdict::Invalid]);
        assert_eq!(answer(&parts).0, 1);
        parts.remove(0);
        assert_eq!(
            answer(&parts).0,
            1,
            "a failed test is worth more than a shard that is missing"
        );
    }

    #[test]
    fn shards_of_different_runs_are_not_one_run() {
        type Change = fn(&mut Summary);
        let changes: [(Change, &str); 4] = [
            (|shard| shard.revision = "other".to_owned(), "revision"),
            (|shard| shard.selection = vec!["unit".to_owned()], "selection"),
            (
                |shard| shard.shard = Some("1/2".to_owned()),
                "shard 1/2 is there 2 times",
            ),
            (
                |shard| shard.tests[0].test = "kingsguard-tests::e2e wire::0".to_owned(),
                "more than one shard",
            ),
        ];
        for (change, why) in changes {
            let mut parts = shards(&[Verdict::Passed; 2]);
            change(&mut parts[1]);
            let (exit, _, reason) = answer(&parts);
            let reason = reason.expect("a reason");
            assert!(exit == 6 && reason.contains(why), "exit {exit}: {reason}");
        }
        let whole = merge("merged".to_owned(), &[suite_run("whole", Verdict::Passed)]);
        assert!(whole.is_err(), "a whole run is no shard");
    }

    #[test]
    fn a_shard_without_services_or_with_a_doubt_gives_its_reason_to_the_whole() {
        for (code, exit, said) in [
            (4, 4, "2/2: no Postgres"),
            (6, 6, "2/2: no Postgres"),
            (130, 130, "interrupted"),
        ] {
            let mut parts = shards(&[Verdict::Passed; 2]);
            (parts[1].exit_code, parts[1].reason) = (code, Some("no Postgres".to_owned()));
            let (found, verdict, reason) = answer(&parts);
            let reason = reason.expect("a reason");
            assert_eq!((found, verdict), (exit, Verdict::Invalid));
            assert!(reason.contains(said), "{reason}");
        }
    }

    #[test]
    fn a_clause_that_one_shard_found_broken_is_broken() {
        let mut parts = shards(&[Verdict::Passed, Verdict::Failed]);
        (parts[0].clauses[0].passed, parts[0].clauses[0].verdict) = (1, ClauseVerdict::Passed);
        (parts[1].clauses[0].failed, parts[1].clauses[0].verdict) = (1, ClauseVerdict::Failed);
        (parts[0].clauses[1].passed, parts[0].clauses[1].verdict) = (1, ClauseVerdict::Passed);
        let merged = merge("merged".to_owned(), &parts).expect("they are shards");
        let verdicts: Vec<ClauseVerdict> = merged.clauses.iter().take(3).map(|clause| clause.verdict).collect();
        assert_eq!(
            verdicts,
            [ClauseVerdict::Failed, ClauseVerdict::Passed, ClauseVerdict::NotRun]
        );
        assert_eq!(
            merged
                .tests
                .iter()
                .filter(|test| test.outcome == Outcome::Failed)
                .count(),
            1
        );
    }
}
