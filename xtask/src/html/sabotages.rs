//! Can the suite fail? Each sabotage, and the tests that caught it.

use std::collections::BTreeMap;

use kingsguard_report::Summary;
use maud::{Markup, html};

use super::text::{duration, test_label};
use crate::sabotage::matrix::{Matrix, Row};

/// Tests that a row names; more are counted.
const TESTS_SHOWN: usize = 6;

pub fn section(matrix: &Matrix, summary: Option<&Summary>) -> Markup {
    let caught = matrix.sabotages.iter().filter(|row| row.is_proof()).count();
    let mut columns: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &matrix.sabotages {
        for test in &row.by {
            *columns.entry(category(test)).or_default() += 1;
        }
    }
    let same = summary.is_none_or(|summary| summary.revision == matrix.revision);
    html! {
        section {
            h2 { "Sabotage: can it fail?" }
            p {
                b { (caught) " of " (matrix.sabotages.len()) }
                " backends that were wrong on purpose were caught by the clause that they break"
                span.dim {
                    " · " (matrix.started.format("%Y-%m-%d %H:%M UTC")) " · " (duration(matrix.duration_ms)) " · revision "
                    (matrix.revision.get(..12).unwrap_or(&matrix.revision))
                    @if !same { ", which is not this run's" }
                }
            }
            div.scroll {
                table.sabotages {
                    thead {
                        tr {
                            th { "clause" } th { "what was done to the backend" } th { "verdict" } th.n { "times" }
                            @for name in columns.keys() { th.dot { (name) } }
                            th { "caught by" }
                        }
                    }
                    tbody { @for row in &matrix.sabotages { (line(row, columns.keys().copied())) } }
                }
            }
        }
    }
}

fn line<'c>(row: &Row, columns: impl Iterator<Item = &'c str>) -> Markup {
    let class = if row.is_proof() { "passed" } else { "failed" };
    html! {
        tr id=(format!("sabotage-{}", row.id)) {
            th scope="row" { (row.clause) }
            td { (row.sentence) br; small.dim { (row.id) } }
            td { span.chip.(class) { (row.verdict()) } }
            td.n { (row.happened) }
            @for name in columns {
                @let by = row.by.iter().filter(|test| category(test) == name).count();
                td.dot { @if by > 0 { span.mark.(class) title=(format!("{by} tests of {name}")) { (by) } } }
            }
            td.by {
                @for test in row.by.iter().take(TESTS_SHOWN) { span { (test_label(test)) } }
                @if row.by.len() > TESTS_SHOWN { span.dim { "and " (row.by.len() - TESTS_SHOWN) " more" } }
            }
        }
    }
}

fn category(test: &str) -> &str {
    test.split("::").next().unwrap_or(test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sabotage_that_survived_is_told_apart() {
        let row = |id: &str, caught| Row {
            id: id.to_owned(),
            clause: "SEQ-1".to_owned(),
            sentence: "Every 7th event is dropped.".to_owned(),
            caught,
            named: caught,
            happened: 3,
            by: vec!["e2e::wire::a".to_owned()],
        };
        let matrix = Matrix {
            revision: "abc".to_owned(),
            started: chrono::DateTime::UNIX_EPOCH,
            duration_ms: 1,
            sabotages: vec![row("one", true), row("two", false)],
        };
        let drawn = section(&matrix, None).into_string();
        assert!(drawn.contains("1 of 2") && drawn.contains("SURVIVED"), "{drawn}");
    }
}
