//! What failed: what each test said, which clauses broke, where the evidence lies, the command that repeats it.

use kingsguard_report::clause::Clause;
use kingsguard_report::{Failure, Level, Outcome, Summary, Violation};
use maud::{Markup, html};

use super::Page;
use super::text::{of_outcome, sentence, test_label};
use super::timeline::timeline;

/// Failures that are shown whole; more are counted, and `summary.json` has all.
const FAILURES_SHOWN: usize = 60;

/// Of these, timelines that stand in the page; the others lie with their evidence.
const TIMELINES_SHOWN: usize = 12;

pub fn section(page: &Page<'_>, summary: &Summary) -> Markup {
    let failed = |violation: &&Violation| summary.failures.iter().any(|failure| failure.test == violation.test);
    let (_, others): (Vec<&Violation>, Vec<&Violation>) = summary.violations.iter().partition(failed);
    html! {
        @if !summary.failures.is_empty() {
            section {
                h2 { "What failed" }
                @for (place, failure) in summary.failures.iter().take(FAILURES_SHOWN).enumerate() {
                    (one(page, summary, failure, place < TIMELINES_SHOWN))
                }
                @if summary.failures.len() > FAILURES_SHOWN {
                    p.dim { "and " (summary.failures.len() - FAILURES_SHOWN) " more, in summary.json" }
                }
            }
        }
        @if !others.is_empty() {
            section {
                h2 { "Remarks" }
                @for violation in others { (breach(violation, false)) }
            }
        }
    }
}

fn one(page: &Page<'_>, summary: &Summary, failure: &Failure, is_drawn: bool) -> Markup {
    let test = summary.tests.iter().find(|test| test.test == failure.test);
    let sign = of_outcome(test.map_or(Outcome::Failed, |test| test.outcome));
    let broken = summary
        .violations
        .iter()
        .filter(|violation| violation.test == failure.test);
    html! {
        article.failure.(sign.class) {
            h3 {
                span.mark.(sign.class) { (sign.glyph) } (test_label(&failure.test))
                @if let Some(test) = test.filter(|test| test.passed > 0) {
                    " " span.chip.warned { "flaky: failed in " (test.failed) " of " (test.failed + test.passed) }
                }
            }
            pre { (failure.message) }
            @for violation in broken { (breach(violation, failure.message.contains(&violation.message))) }
            dl.facts {
                div { dt { "again" } dd { code.again { (failure.repeat) } } }
                @if !failure.evidence.is_empty() { div { dt { "evidence" } dd { (page.link(&failure.evidence)) } } }
            }
            @if is_drawn { (timeline(page, failure)) }
        }
    }
}

/// A clause that broke; how it did is left out where that was said already.
fn breach(violation: &Violation, is_told: bool) -> Markup {
    let class = match violation.level {
        Level::Must => "failed",
        Level::Should => "warned",
    };
    html! {
        div.breach {
            p {
                span.chip.(class) { (violation.clause) " " (class) } " "
                @if let Some(clause) = Clause::find(&violation.clause) { span.dim { (sentence(clause.sentence)) } }
            }
            @if !is_told { pre { (violation.message) } }
        }
    }
}
