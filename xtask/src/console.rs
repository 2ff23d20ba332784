//! What a person reads at the end of a suite run.

use std::collections::BTreeMap;
use std::path::Path;

use kingsguard_report::{Change, ClauseSummary, ClauseVerdict, Level, Outcome, Summary};

use crate::exit::Exit;
use crate::workspace::Workspace;

/// Slowest tests that the console names; the file has more.
const SLOWEST_SHOWN: usize = 5;

/// Clauses that were not run and that the console names.
const NOT_RUN_SHOWN: usize = 10;

/// Changes since the baseline that the console names, and from which ratio on; the page has all.
const CHANGES_SHOWN: usize = 5;
const CHANGE_MIN: f64 = 1.5;

pub fn print(workspace: &Workspace, summary: &Summary, folder: &Path) {
    println!();
    for failure in &summary.failures {
        println!("FAILED {}", failure.test);
        for line in failure.message.lines() {
            println!("    {line}");
        }
        if !failure.evidence.is_empty() {
            println!("    evidence: {}", failure.evidence);
        }
        println!("    again:    {}", failure.repeat);
    }
    for violation in &summary.violations {
        let level = match violation.level {
            Level::Must => "BROKEN",
            Level::Should => "remark",
        };
        println!(
            "{level} {} by {}: {}",
            violation.clause, violation.test, violation.message
        );
    }
    for line in &summary.contradictions {
        println!("CONTRADICTION {line}");
    }
    let not_judged = summary
        .clauses
        .iter()
        .filter(|one| one.not_judged > 0 && one.failed == 0);
    for clause in not_judged {
        println!("NOT JUDGED {}: {}", clause.clause, clause.reasons.join("; "));
    }
    let not_run: Vec<_> = of_verdict(summary, ClauseVerdict::NotRun).collect();
    // Where most of the contract was not asked for, the count below says it.
    if not_run.len() <= NOT_RUN_SHOWN {
        for clause in not_run {
            println!("NOT RUN {}: {}", clause.clause, clause.reasons.join("; "));
        }
    }
    for (reason, tests) in beyond_profile(summary) {
        println!("NOT JUDGED {} tests: {reason}", tests.len());
        for test in tests {
            println!("    {test}");
        }
    }
    for flaky in &summary.flaky {
        println!("FLAKY {}: failed in {} of {}", flaky.test, flaky.failed, flaky.of);
    }
    categories(summary);
    println!("{}", clauses(summary));
    for figure in &summary.figures {
        let ratio = figure
            .ratio
            .map(|ratio| format!("  ({ratio:.2} of the yardstick)"))
            .unwrap_or_default();
        println!("figure {:<32} {:>12.2} {}{ratio}", figure.id, figure.value, figure.unit);
    }
    comparison(summary);
    for slow in summary.slowest.iter().take(SLOWEST_SHOWN) {
        println!("slow   {:>7.2} s  {}", slow.duration_ms as f64 / 1000.0, slow.test);
    }
    println!();
    println!(
        "seed {} · services {} · target {}",
        summary.seed, summary.provider, summary.target
    );
    println!("report {}", workspace.shown(&folder.join("summary.json")));
    println!("page   {}", workspace.shown(&folder.join(crate::html::FILE)));
    let word = summary.verdict.word().to_uppercase();
    let seconds = summary.duration_ms.saturating_sub(summary.build_ms) as f64 / 1000.0;
    let reason = summary
        .reason
        .as_ref()
        .map(|reason| format!(": {reason}"))
        .unwrap_or_default();
    println!("{word} in {seconds:.1} s (exit {}){reason}", summary.exit_code);
    if let Some(next) = next_step(summary) {
        println!("  next: {next}");
    }
    let passed: u32 = summary.categories.iter().map(|category| category.passed).sum();
    let failed: u32 = summary.categories.iter().map(|category| category.failed).sum();
    println!("{passed} passed, {failed} failed");
}

/// Tests that the target's profile leaves no means to judge, by the reason.
fn beyond_profile(summary: &Summary) -> BTreeMap<&str, Vec<&str>> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for test in summary.tests.iter().filter(|test| test.outcome == Outcome::NotJudged) {
        let reason = test.reason.as_deref().unwrap_or_default();
        by_reason.entry(reason).or_default().push(&test.test);
    }
    by_reason
}

fn categories(summary: &Summary) {
    println!();
    println!("category     priority   passed  failed  invalid  beyond  warned  not run  not judged     time");
    for category in &summary.categories {
        let reason = category
            .reason
            .as_ref()
            .map(|reason| format!("  {reason}"))
            .unwrap_or_default();
        println!(
            "{:<12} {:<9} {:>7} {:>7} {:>8} {:>7} {:>7} {:>8} {:>11} {:>6.1} s{reason}",
            category.name,
            category.priority,
            category.passed,
            category.failed,
            category.invalid,
            category.beyond_profile,
            category.warned,
            category.not_run,
            category.not_judged,
            category.duration_ms as f64 / 1000.0,
        );
    }
    println!();
}

/// What changed since the baseline, where it changed so much that somebody should look.
fn comparison(summary: &Summary) {
    let Some(comparison) = &summary.comparison else { return };
    let shown = |change: &Change| match change.ratio {
        Some(ratio) => format!(
            "{:.2} {} → {:.2} ({ratio:.2} times)",
            change.before, change.unit, change.now
        ),
        None => format!("{:.2} {} → {:.2}", change.before, change.unit, change.now),
    };
    let machine = if comparison.same_machine {
        ""
    } else {
        ", of another machine"
    };
    println!(
        "since  {}{machine}: {}",
        comparison.suite_run,
        shown(&comparison.duration)
    );
    let changed = |change: &&Change| {
        change
            .ratio
            .is_none_or(|ratio| !(CHANGE_MIN.recip()..=CHANGE_MIN).contains(&ratio))
    };
    for change in comparison.figures.iter().filter(changed).take(CHANGES_SHOWN) {
        println!("since  {}: {}", change.name, shown(change));
    }
    for change in comparison.tests.iter().filter(changed).take(CHANGES_SHOWN) {
        println!("since  {}: {}", change.name, shown(change));
    }
}

fn of_verdict(summary: &Summary, verdict: ClauseVerdict) -> impl Iterator<Item = &ClauseSummary> {
    summary.clauses.iter().filter(move |clause| clause.verdict == verdict)
}

/// What became of the contract, in one line.
fn clauses(summary: &Summary) -> String {
    let count = |verdict| of_verdict(summary, verdict).count();
    let of_each = ClauseVerdict::ALL.map(|verdict| (verdict, count(verdict)));
    let judged = of_each
        .iter()
        .filter(|(verdict, _)| !matches!(verdict, ClauseVerdict::NotJudged | ClauseVerdict::NotRun))
        .map(|(_, count)| count)
        .sum::<usize>();
    let others = of_each.iter().filter(|(verdict, _)| *verdict != ClauseVerdict::Passed);
    let others: Vec<String> = others
        .map(|(verdict, count)| format!("{count} {}", verdict.word()))
        .collect();
    let all = summary.clauses.len();
    format!("clauses: {judged} of {all} judged · {}", others.join(" · "))
}

/// The command that helps, where the verdict does not name one by itself.
fn next_step(summary: &Summary) -> Option<&'static str> {
    let code = summary.exit_code;
    let is = |exit: Exit| code == exit.code();
    if is(Exit::Nothing) {
        Some("cargo xtask list shows what exists; loosen --pattern, --shard or --target")
    } else if is(Exit::Services) && summary.target != "own" {
        Some("start the backend, or correct --target and `connection.ca_file` of its profile")
    } else if is(Exit::Services) {
        Some("cargo xtask doctor, or the same command with --provision")
    } else if is(Exit::Budget) {
        Some("run it on an idle machine, or give --budget SECONDS")
    } else if is(Exit::Invalid) {
        Some("run it again; when it repeats, what is named above fell short, not the target")
    } else {
        None
    }
}
