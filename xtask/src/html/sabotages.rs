//! Can the suite fail? Each sabotage, and the tests that caught it.

use std::collections::BTreeSet;

use kingsguard_report::Summary;
use kingsguard_report::clause::CLAUSES;
use maud::{Markup, html};

use super::clauses::meaning;
use super::text::{duration, test_label};
use crate::sabotage::matrix::{Matrix, Row};

/// Tests that a row names; more are counted.
const TESTS_SHOWN: usize = 6;

pub fn section(matrix: &Matrix, summary: Option<&Summary>) -> Markup {
    let mut rows: Vec<&Row> = matrix.sabotages.iter().collect();
    rows.sort_by_key(|row| CLAUSES.iter().position(|clause| clause.id == row.clause));
    let (proved, doubtful): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.is_proof());
    let tests = matrix.sabotages.iter().flat_map(|row| &row.by);
    let columns: BTreeSet<&str> = tests.map(|test| category(test)).collect();
    let same = summary.is_none_or(|summary| summary.revision == matrix.revision);
    html! {
        section {
            h2 { "Sabotage: can it fail?" }
            p {
                b { (proved.len()) " of " (matrix.sabotages.len()) }
                " backends that were wrong on purpose were caught by the clause that they break"
                span.dim {
                    " · " (matrix.started.format("%Y-%m-%d %H:%M UTC")) " · " (duration(matrix.duration_ms)) " · revision "
                    (matrix.revision.get(..12).unwrap_or(&matrix.revision))
                    @if !same { ", which is not this run's" }
                }
            }
            (cells(&rows))
            @if !doubtful.is_empty() { (table(&doubtful, &columns)) }
            details.tests {
                summary { "All that were caught, and by which tests" }
                (table(&proved, &columns))
            }
        }
    }
}

/// A cell per sabotage, by the family of the clause that it breaks; each leads to its line.
fn cells<'r>(rows: &[&'r Row]) -> Markup {
    let mut families: Vec<(&str, Vec<&'r Row>)> = Vec::new();
    for row in rows.iter().copied() {
        let family = row.clause.split('-').next().unwrap_or(&row.clause);
        match families.iter_mut().find(|(known, _)| *known == family) {
            Some((_, rows)) => rows.push(row),
            None => families.push((family, vec![row])),
        }
    }
    html! {
        div.matrix {
            @for (family, rows) in families {
                div.family {
                    span.name { b { (family) } span.dim { " " (meaning(family)) } }
                    span.cells {
                        @for row in rows {
                            @let title = format!("{} {}: {} ({})", row.clause, row.verdict(), row.sentence, row.id);
                            a.cell.(class(row)) href=(format!("#sabotage-{}", row.id)) title=(title) aria-label=(title) {
                                (row.clause.rsplit('-').next().unwrap_or_default())
                                small aria-hidden="true" { @if row.is_proof() { "✓" } @else { "✕" } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class(row: &Row) -> &'static str {
    if row.is_proof() { "passed" } else { "failed" }
}

fn table(rows: &[&Row], columns: &BTreeSet<&str>) -> Markup {
    html! {
        div.scroll {
            table.sabotages {
                thead {
                    tr {
                        th { "clause" } th { "what was done to the backend" } th { "verdict" } th.n { "times" }
                        @for name in columns { th.dot { (name) } }
                        th { "caught by" }
                    }
                }
                tbody { @for row in rows { (line(row, columns)) } }
            }
        }
    }
}

fn line(row: &Row, columns: &BTreeSet<&str>) -> Markup {
    let class = class(row);
    html! {
        tr id=(format!("sabotage-{}", row.id)) {
            th scope="row" { (row.clause) }
            td { (row.sentence) br; small.dim { (row.id) } }
            td { span.chip.(class) { (row.verdict()) } }
            td.n { (row.happened) }
            @for name in columns {
                @let by = row.by.iter().filter(|test| category(test) == *name).count();
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
