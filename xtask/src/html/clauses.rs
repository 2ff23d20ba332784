//! The contract at a glance: a row per family, a cell per clause, coloured by its verdict.

use std::collections::BTreeMap;

use kingsguard_report::clause::{CLAUSES, Clause};
use kingsguard_report::{ClauseSummary, Level, Outcome, Summary, TestSummary};
use maud::{Markup, html};

use super::text::{of_clause, of_outcome, plain, sentence, test_label};
use super::top::legend;

const FAMILIES: &[(&str, &str)] = &[
    ("CON", "connection"),
    ("AUTH", "credentials"),
    ("HSK", "handshake"),
    ("EVT", "events"),
    ("ORD", "order"),
    ("SEQ", "sequence"),
    ("ISO", "isolation"),
    ("SEC", "security"),
    ("MSG", "messages"),
    ("ERR", "errors"),
    ("TIM", "time"),
    ("LIM", "limits"),
    ("HTTP", "HTTP"),
    ("OPS", "operations"),
];

/// Tests that a clause lists; more are counted.
const TESTS_SHOWN: usize = 30;

pub fn section(summary: &Summary) -> Markup {
    let mut families: Vec<(&str, Vec<(&Clause, &ClauseSummary)>)> = Vec::new();
    for clause in CLAUSES {
        // A report of another version may know fewer clauses.
        let Some(found) = summary.clauses.iter().find(|one| one.clause == clause.id) else {
            continue;
        };
        match families.last_mut() {
            Some((family, cells)) if *family == clause.family() => cells.push((clause, found)),
            Some(_) | None => families.push((clause.family(), vec![(clause, found)])),
        }
    }
    let mut tests: BTreeMap<&str, Vec<&TestSummary>> = BTreeMap::new();
    let mut by_worry: Vec<&TestSummary> = summary.tests.iter().collect();
    by_worry.sort_by_key(|test| test.outcome == Outcome::Passed);
    for test in by_worry {
        for clause in &test.clauses {
            tests.entry(clause).or_default().push(test);
        }
    }
    html! {
        section {
            h2 { "The contract" }
            (legend(summary))
            div.matrix {
                @for (family, cells) in &families {
                    div.family {
                        span.name { b { (family) } span.dim { " " (meaning(family)) } }
                        span.cells { @for (clause, found) in cells { (cell(clause, found)) } }
                    }
                }
            }
            p.hint { "Each cell is a clause: point at it for its sentence, press it for its tests. A dashed cell is a SHOULD." }
            @for (_, cells) in &families {
                @for (clause, found) in cells {
                    (details(clause, found, tests.get(clause.id).map_or(&[], Vec::as_slice)))
                }
            }
        }
    }
}

/// What the letters of a clause's id stand for.
pub fn meaning(family: &str) -> &'static str {
    let known = FAMILIES.iter().find(|(id, _)| *id == family);
    known.map_or("", |(_, meaning)| meaning)
}

fn cell(clause: &Clause, found: &ClauseSummary) -> Markup {
    let sign = of_clause(found.verdict);
    let number = clause.id.rsplit('-').next().unwrap_or(clause.id);
    let title = format!("{} {}: {}", clause.id, found.verdict.word(), plain(clause.sentence));
    html! {
        button.cell.(sign.class).should[clause.level == Level::Should] type="button"
            popovertarget=(format!("clause-{}", clause.id)) title=(title) aria-label=(title) {
            (number) small aria-hidden="true" { (sign.glyph) }
        }
    }
}

fn details(clause: &Clause, found: &ClauseSummary, tests: &[&TestSummary]) -> Markup {
    let sign = of_clause(found.verdict);
    let level = match clause.level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
    };
    html! {
        div.clause popover id=(format!("clause-{}", clause.id)) {
            h3 { span.chip.(sign.class) { (sign.glyph) " " (found.verdict.word()) } " " (clause.id) small.dim { " " (level) } }
            p { (sentence(clause.sentence)) }
            p.dim {
                (found.passed) " found it kept · " (found.failed) " found it broken · " (found.not_judged) " could not judge it"
            }
            @for reason in &found.reasons { pre { (reason) } }
            @if !tests.is_empty() {
                ul.tests {
                    @for test in tests.iter().take(TESTS_SHOWN) {
                        @let sign = of_outcome(test.outcome);
                        li { span.mark.(sign.class) { (sign.glyph) } (test_label(&test.test)) }
                    }
                    @if tests.len() > TESTS_SHOWN { li.dim { "and " (tests.len() - TESTS_SHOWN) " more" } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_of_the_contract_has_a_meaning() {
        for clause in CLAUSES {
            assert!(!meaning(clause.family()).is_empty(), "{}", clause.id);
        }
    }
}
