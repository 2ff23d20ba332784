//! The tests: the slowest as bars, all of them by category.

use kingsguard_report::{Outcome, Summary, TestSummary};
use maud::{Markup, html};

use super::charts::bar;
use super::text::{duration, of_outcome, test_label};

/// Tests of a category that are listed; more are counted, and `summary.json` has all.
const TESTS_SHOWN: usize = 3_000;

pub fn slowest(summary: &Summary) -> Markup {
    let largest = summary.slowest.first().map_or(0, |slow| slow.duration_ms) as f64;
    html! {
        @if !summary.slowest.is_empty() {
            section {
                h2 { "Slowest tests" }
                div.bars {
                    @for slow in &summary.slowest {
                        div {
                            span.label { (test_label(&slow.test)) }
                            (bar(slow.duration_ms as f64, largest, "now"))
                            span.n { (duration(slow.duration_ms)) }
                        }
                    }
                }
            }
        }
    }
}

pub fn section(summary: &Summary) -> Markup {
    html! {
        section {
            h2 { "All tests" }
            @for category in &summary.categories {
                @let tests = of_category(summary, &category.name);
                @if !tests.is_empty() {
                    details.tests {
                        summary { b { (category.name) } span.dim { " " (tests.len()) } }
                        table {
                            tbody {
                                @for test in tests.iter().take(TESTS_SHOWN) { (row(test)) }
                            }
                        }
                        @if tests.len() > TESTS_SHOWN { p.dim { "and " (tests.len() - TESTS_SHOWN) " more, in summary.json" } }
                    }
                }
            }
        }
    }
}

fn of_category<'s>(summary: &'s Summary, name: &str) -> Vec<&'s TestSummary> {
    let mut tests: Vec<&TestSummary> = summary.tests.iter().filter(|test| test.category == name).collect();
    tests.sort_by_key(|test| worry(test));
    tests
}

/// What did not hold stands first.
fn worry(test: &TestSummary) -> (u8, std::cmp::Reverse<u64>) {
    let place = match test.outcome {
        Outcome::Failed => 0,
        Outcome::Invalid => 1,
        Outcome::NotJudged => 2,
        Outcome::NotRun => 3,
        Outcome::Passed => 4,
    };
    (place, std::cmp::Reverse(test.duration_ms))
}

fn row(test: &TestSummary) -> Markup {
    let sign = of_outcome(test.outcome);
    let times = test.passed + test.failed + test.invalid + test.beyond_profile;
    html! {
        tr {
            td { span.mark.(sign.class) title=(test.outcome.word()) { (sign.glyph) } }
            td {
                (test_label(&test.test))
                @if test.outcome != Outcome::Passed {
                    small.dim { " " (test.outcome.word()) @if let Some(reason) = &test.reason { ": " (reason) } }
                }
                @if times > 1 && test.passed < times { small.dim { " " (test.passed) " of " (times) " passed" } }
                @for clause in &test.not_judged { " " span.chip.unjudged { (clause) " not judged" } }
                @for clause in &test.warned { " " span.chip.warned { (clause) " warned" } }
            }
            td.clauses { @for clause in &test.clauses { span { (clause) } " " } }
            td.n { @if test.outcome != Outcome::NotRun { (duration(test.duration_ms)) } }
        }
    }
}
