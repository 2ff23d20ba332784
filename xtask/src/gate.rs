//! `cargo xtask gate`: one question (may this be deployed?), one answer with reasons (RUN-13).
//!
//! The answer is made of a suite run's summary alone, by [`answer`]: what failed stops the deployment, and what nobody judged
//! is no reason to go.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use kingsguard_report::clause::Clause;
use kingsguard_report::gate::{Answer, GATE_VERSION, Gate, MustCounts, Reason, RollbackCriterion};
use kingsguard_report::{ClauseSummary, ClauseVerdict, Level, Summary};

use crate::baseline;
use crate::cli::GateArgs;
use crate::exit::{Exit, Stop};
use crate::suite_run;
use crate::workspace::Workspace;

/// Reasons of one kind that the console tells; `gate.json` has all.
const REASONS_SHOWN_MAX: usize = 20;

/// Asks the question and says the answer.
pub fn run(workspace: &Workspace, args: &GateArgs) -> Result<Exit> {
    let others = args
        .with
        .iter()
        .map(|path| judged_before(path))
        .collect::<Result<Vec<_>>>()?;
    // What needs a stack of its own cannot run against somebody else's backend, so there is no reason to build for it.
    let selection = if args.subject.target.is_some() {
        "mission-critical"
    } else {
        "gate"
    };
    let exit = suite_run::test(workspace, &args.subject.test(selection))?;
    let own = baseline::read(&workspace.reports().join("latest"))?;
    let folder = workspace.reports().join(&own.suite_run);
    let mut summaries = vec![own];
    summaries.extend(others);
    let gate = answer(&summaries);
    let path = folder.join("gate.json");
    let text = serde_json::to_string_pretty(&gate).context("writing the gate's answer")?;
    fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))?;
    print!("{}", told(&gate));
    Ok(match (gate.answer, exit) {
        (_, Exit::Interrupted) => Exit::Interrupted,
        (Answer::Unknown, Exit::Services) => Exit::Services,
        (answer, _) => exit_of(answer),
    })
}

/// A suite run that `--with` names.
fn judged_before(path: &Path) -> Result<Summary> {
    baseline::read(path).map_err(|error| {
        let next = "name the folder of a suite run of this checkout, such as target/reports/latest";
        Stop::usage(format!("--with {}: {error:#}", path.display()), next).into()
    })
}

/// What an answer ends the process with.
pub fn exit_of(answer: Answer) -> Exit {
    match answer {
        Answer::Go => Exit::Passed,
        Answer::NoGo => Exit::Failed,
        Answer::Unknown => Exit::Invalid,
    }
}

/// The answer that suite runs give together, the gate's own first. What one of them judged is judged; what one of them found
/// broken is broken.
pub fn answer(summaries: &[Summary]) -> Gate {
    let mut against = Vec::new();
    let mut doubts = Vec::new();
    let mut must = MustCounts::default();
    for id in clause_ids(summaries) {
        let found: Vec<&ClauseSummary> = summaries
            .iter()
            .flat_map(|one| &one.clauses)
            .filter(|one| one.clause == id)
            .collect();
        let said = |verdict| found.iter().find(|one| one.verdict == verdict);
        let sentence = Clause::find(&id).map_or("", |clause| clause.sentence);
        let reason = |what: String| Reason {
            clause: Some(id.clone()),
            what: format!("{what}: {sentence}"),
        };
        if let Some(broken) = said(ClauseVerdict::Failed) {
            must.failed += 1;
            against.push(reason(first_of("broken", &broken.reasons)));
        } else if said(ClauseVerdict::Passed).is_some() {
            must.passed += 1;
        } else if let Some(unclear) = said(ClauseVerdict::NotJudged) {
            must.not_judged += 1;
            doubts.push(reason(first_of("not judged", &unclear.reasons)));
        } else {
            must.not_run += 1;
            doubts.push(reason("no test about it ran".to_owned()));
        }
    }
    for summary in summaries {
        let failed = &summary.failures;
        let reason = |what: String| Reason { clause: None, what };
        if summary.exit_code == Exit::Failed.code() {
            against.extend(failed.iter().map(|failure| reason(format!("{} failed", failure.test))));
        } else if summary.exit_code != Exit::Passed.code() {
            let why = summary.reason.as_deref().unwrap_or("it says no reason");
            doubts.push(reason(format!(
                "the suite run {} did not pass: {why}",
                summary.suite_run
            )));
        }
    }
    let failed = !against.is_empty() || summaries.iter().any(|one| one.exit_code == Exit::Failed.code());
    let answer = if failed {
        Answer::NoGo
    } else if !doubts.is_empty() || must.passed == 0 {
        Answer::Unknown
    } else {
        Answer::Go
    };
    against.append(&mut doubts);
    let own = &summaries[0];
    Gate {
        version: GATE_VERSION,
        answer,
        reasons: against,
        must,
        rollback: rollback(),
        target: own.target.clone(),
        revision: own.revision.clone(),
        suite_runs: summaries.iter().map(|one| one.suite_run.clone()).collect(),
        asked: own.started,
    }
}

/// The MUST clauses that summaries speak of, each once.
fn clause_ids(summaries: &[Summary]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for clause in summaries.iter().flat_map(|one| &one.clauses) {
        if clause.level == Level::Must && !ids.contains(&clause.clause) {
            ids.push(clause.clause.clone());
        }
    }
    ids
}

fn first_of(word: &str, reasons: &[String]) -> String {
    match reasons.first() {
        Some(first) => format!("{word} ({first})"),
        None => word.to_owned(),
    }
}

/// When to take a deployment back: what `cargo xtask watch` sees of it.
fn rollback() -> Vec<RollbackCriterion> {
    let criterion = |clause: &str, when: &str, expression: &str| RollbackCriterion {
        clause: clause.to_owned(),
        when: when.to_owned(),
        expression: expression.to_owned(),
    };
    vec![
        criterion(
            "ISO-1",
            "one user sees what is another's: take it back at once, whatever else is well",
            r#"kingsguard_watch_clause{clause=~"ISO-.*|SEC-.*",verdict="failed"} == 1"#,
        ),
        criterion(
            "EVT-1",
            "a MUST clause is broken in two checks one after the other",
            r#"min_over_time(kingsguard_watch_answer{answer="NO-GO"}[10m]) == 1"#,
        ),
        criterion(
            "TIM-1",
            "a question is answered, but not in time, in most checks of a quarter of an hour",
            r#"avg_over_time(kingsguard_watch_clause{clause="TIM-1",verdict="failed"}[15m]) > 0.5"#,
        ),
        criterion(
            "CON-1",
            "no check could be made for a quarter of an hour: nobody can say that the chat works",
            r#"min_over_time(kingsguard_watch_answer{answer="UNKNOWN"}[15m]) == 1"#,
        ),
    ]
}

/// The answer for people.
fn told(gate: &Gate) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let must = gate.must;
    let _infallible = writeln!(
        text,
        "\n{} for {}: of {} MUST clauses {} kept, {} broken, {} not judged, {} not run",
        gate.answer,
        gate.target,
        must.passed + must.failed + must.not_judged + must.not_run,
        must.passed,
        must.failed,
        must.not_judged,
        must.not_run
    );
    for reason in gate.reasons.iter().take(REASONS_SHOWN_MAX) {
        let clause = reason.clause.as_deref().unwrap_or("–");
        let _infallible = writeln!(text, "  {clause:<7} {}", reason.what);
    }
    if gate.reasons.len() > REASONS_SHOWN_MAX {
        let more = gate.reasons.len() - REASONS_SHOWN_MAX;
        let _infallible = writeln!(text, "  and {more} more in target/reports/latest/gate.json");
    }
    match gate.answer {
        Answer::Go => {
            text.push_str("take it back when\n");
            for criterion in &gate.rollback {
                let _infallible = writeln!(text, "  {:<7} {}", criterion.clause, criterion.when);
                let _infallible = writeln!(text, "  {:<7} {}", "", criterion.expression);
            }
            text.push_str("next: cargo xtask watch --target URL\n");
        }
        Answer::NoGo => text.push_str("next: look at target/reports/latest, repair, ask again\n"),
        Answer::Unknown => text.push_str(
            "next: judge what is missing; --with RUN adds a suite run of the same release that judged it, such as one on a stack of its own\n",
        ),
    }
    text
}

#[cfg(test)]
mod tests;
