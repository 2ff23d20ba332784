//! What is read first: the verdict, why, of what; then the categories.

use kingsguard_report::{ClauseVerdict, Machine, Summary};
use maud::{Markup, html};

use super::charts::{Share, stacked};
use super::text::{duration, of_clause, of_outcome, of_run};
use crate::sabotage::matrix::{Matrix, Row};

pub fn header(summary: &Summary, matrix: Option<&Matrix>) -> Markup {
    let sign = of_run(summary.verdict);
    html! {
        header.top.(sign.class) {
            p.brand { "Kingsguard" span.dim { " · " (summary.selection.join(" ")) } }
            h1 { span.seal aria-hidden="true" { (sign.glyph) } span.word { (summary.verdict.word()) } }
            @if let Some(reason) = &summary.reason { p.reason { (reason) } }
            (tiles(summary, matrix))
            (facts(summary))
        }
        @if !summary.contradictions.is_empty() || !summary.over_budget.is_empty() || !summary.flaky.is_empty() {
            section {
                h2 { "Doubts" }
                ul.doubts {
                    @for line in &summary.contradictions { li { span.chip.invalid { "contradiction" } " " (line) } }
                    @for line in &summary.over_budget { li { span.chip.warned { "over budget" } " " (line) } }
                    @for flaky in &summary.flaky {
                        li {
                            span.chip.warned { "flaky" } " " (super::text::test_label(&flaky.test)) ": failed in "
                            (flaky.failed) " of " (flaky.of) " (" (format!("{:.1}", flaky.rate * 100.0)) " %)"
                        }
                    }
                }
            }
        }
    }
}

fn tiles(summary: &Summary, matrix: Option<&Matrix>) -> Markup {
    let sum = |count: fn(&kingsguard_report::CategorySummary) -> u32| summary.categories.iter().map(count).sum::<u32>();
    let clauses = |verdict| summary.clauses.iter().filter(|one| one.verdict == verdict).count();
    let judged = summary.clauses.len() - clauses(ClauseVerdict::NotJudged) - clauses(ClauseVerdict::NotRun);
    let (passed, failed, invalid) = (sum(|one| one.passed), sum(|one| one.failed), sum(|one| one.invalid));
    html! {
        dl.tiles {
            div { dt { "tests passed" } dd { (passed) small { " of " (passed + failed + invalid) } } }
            div { dt { "failed" } dd class=(if failed > 0 { "failed" } else { "" }) { (failed) } }
            div { dt { "not run" } dd { (sum(|one| one.not_run)) } }
            div { dt { "clauses judged" } dd { (judged) small { " of " (summary.clauses.len()) } } }
            @if let Some(matrix) = matrix {
                div {
                    dt { "sabotages caught" }
                    dd {
                        (matrix.sabotages.iter().filter(|row| Row::is_proof(row)).count())
                        small { " of " (matrix.sabotages.len()) }
                    }
                }
            }
            div { dt { "time" } dd { (duration(summary.duration_ms.saturating_sub(summary.build_ms))) } }
        }
    }
}

fn facts(summary: &Summary) -> Markup {
    let mut facts: Vec<(&str, String)> = vec![
        ("run", summary.suite_run.clone()),
        ("started", summary.started.format("%Y-%m-%d %H:%M:%S UTC").to_string()),
        ("building", duration(summary.build_ms)),
        ("revision", summary.revision.clone()),
        ("target", summary.target.clone()),
        ("services", summary.provider.clone()),
        ("seed", summary.seed.to_string()),
        ("machine", machine(&summary.machine)),
        ("exit code", summary.exit_code.to_string()),
    ];
    let more = [
        ("pattern", summary.pattern.clone()),
        ("shard", summary.shard.clone()),
        ("environment", summary.environment.clone()),
        ("repetitions", (summary.repeat > 1).then(|| summary.repeat.to_string())),
        (
            "merged from",
            (!summary.merged_from.is_empty()).then(|| summary.merged_from.join(", ")),
        ),
    ];
    facts.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
    html! {
        dl.facts { @for (name, value) in facts { div { dt { (name) } dd { (value) } } } }
    }
}

fn machine(machine: &Machine) -> String {
    let gib = machine.memory_bytes as f64 / (1_u64 << 30) as f64;
    let said = [
        format!("{} processors", machine.processors),
        machine.processor.clone(),
        format!("{gib:.1} GiB"),
        machine.kernel.clone(),
    ];
    said.into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" · ")
}

pub fn categories(summary: &Summary) -> Markup {
    html! {
        section {
            h2 { "Categories" }
            div.scroll {
                table.categories {
                    thead {
                        tr {
                            th { "category" } th { "priority" } th.bar { span.sr { "shares" } }
                            th.n { "passed" } th.n { "failed" } th.n { "invalid run" } th.n { "beyond profile" }
                            th.n { "warned" } th.n { "not run" }
                            th.n { "not judged" } th.n { "time" }
                        }
                    }
                    tbody {
                        @for category in &summary.categories {
                            @let sign = of_outcome(category.outcome());
                            tr {
                                th scope="row" {
                                    span.mark.(sign.class) title=(category.outcome().word()) { (sign.glyph) } (category.name)
                                }
                                td.dim { (category.priority) }
                                td.bar {
                                    (stacked(&[
                                        Share::new("passed", category.passed),
                                        Share::new("failed", category.failed),
                                        Share::new("invalid", category.invalid),
                                        Share::new("unjudged", category.beyond_profile),
                                        Share::new("notrun", category.not_run),
                                    ]))
                                }
                                (count("passed", category.passed)) (count("failed", category.failed))
                                (count("invalid", category.invalid)) (count("unjudged", category.beyond_profile))
                                (count("warned", category.warned))
                                (count("notrun", category.not_run)) (count("unjudged", category.not_judged))
                                td.n { (duration(category.duration_ms)) }
                            }
                            @if let Some(reason) = &category.reason {
                                tr.why { td colspan="11" { "not run: " (reason) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn count(class: &str, count: u32) -> Markup {
    html! { @if count == 0 { td.n.zero { "0" } } @else { td.n { span class=(class) { (count) } } } }
}

/// A legend of clause verdicts with their counts.
pub fn legend(summary: &Summary) -> Markup {
    html! {
        ul.legend {
            @for verdict in ClauseVerdict::ALL {
                @let sign = of_clause(verdict);
                li {
                    span.mark.(sign.class) { (sign.glyph) }
                    (summary.clauses.iter().filter(|one| one.verdict == verdict).count()) " " (verdict.word())
                }
            }
        }
    }
}
