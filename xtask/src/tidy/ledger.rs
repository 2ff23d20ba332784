//! The ledger: every clause of the contract and every row of what the product must do, with the tests that cover it or the
//! reason why none does. Made of the annotations at the tests: `case!("SEQ-3")` in a test, `covers!("BRG-1")` in its file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use kingsguard_report::Level;
use kingsguard_report::clause::CLAUSES;
use kingsguard_report::row::ROWS;

use super::rust_source::RustSource;
use super::{Faults, keep, sabotages};
use crate::sabotage::catalogue::Catalogue;
use crate::workspace::Workspace;

const CONTRACT: &str = "docs/contract.md";
/// What `case!` knows, and every report.
const LIST: &str = "crates/report/src/clause.rs";
const LEDGER: &str = "docs/ledger.md";
const REASONS: &str = "docs/not-covered.toml";

const HEAD: &str = "# Ledger

What is judged, and by which tests; what is not, and why. Made by `cargo xtask tidy --write` from the annotations at the tests
and the reasons in `docs/not-covered.toml`; CI compares.
";

/// Tests by file, for one id.
type Covering = BTreeMap<String, BTreeSet<String>>;

/// Tests by id: every id that a test names.
pub type Covered = BTreeMap<String, Covering>;

/// A clause of the contract, or a row.
#[derive(Debug)]
pub struct Clause {
    pub id: String,
    pub sentence: String,
}

impl Clause {
    /// Whether it gates a deployment.
    pub fn is_must(&self) -> bool {
        !self.sentence.starts_with("*SHOULD*")
    }
}

pub fn check(workspace: &Workspace, sources: &[RustSource], write: bool, faults: &mut Faults) -> Result<Covered> {
    let read = |file: &str| fs::read_to_string(workspace.root.join(file)).with_context(|| format!("reading {file}"));
    let reasons: BTreeMap<String, String> =
        toml::from_str(&read(REASONS)?).with_context(|| format!("reading {REASONS}"))?;
    let clauses = clauses(&read(CONTRACT)?);
    let rows: Vec<Clause> = ROWS
        .iter()
        .map(|row| Clause {
            id: row.id.to_owned(),
            sentence: row.sentence.to_owned(),
        })
        .collect();
    sabotages::check(&Catalogue::read(workspace)?, &clauses, sources, faults)?;
    let mut covered = Covered::new();
    for source in sources.iter().filter(|source| holds_tests_of_ours(&source.path)) {
        collect(source, &mut covered, faults);
    }
    let in_contract: BTreeSet<_> = clauses.iter().map(|one| (one.id.as_str(), one.is_must())).collect();
    let in_list: BTreeSet<_> = CLAUSES.iter().map(|one| (one.id, one.level == Level::Must)).collect();
    for (id, _) in in_contract.symmetric_difference(&in_list) {
        faults.push(format!("{id}: {CONTRACT} and {LIST} do not say the same of it"));
    }
    let known: BTreeSet<&str> = clauses.iter().chain(&rows).map(|entry| entry.id.as_str()).collect();
    for id in covered
        .keys()
        .chain(reasons.keys())
        .filter(|id| !known.contains(id.as_str()))
    {
        faults.push(format!("{LEDGER}: `{id}` is neither a clause of {CONTRACT} nor a row"));
    }
    for entry in clauses.iter().chain(&rows) {
        match (covered.contains_key(&entry.id), reasons.contains_key(&entry.id)) {
            (false, false) => faults.push(format!(
                "{}: no test names it in case! or covers!, and {REASONS} gives no reason",
                entry.id
            )),
            (true, true) => faults.push(format!("{}: {REASONS} gives a reason, but tests cover it", entry.id)),
            (true, false) | (false, true) => {}
        }
    }
    let fresh = text(&clauses, &rows, &covered, &reasons);
    keep(workspace, LEDGER, &fresh, "the annotations at the tests", write, faults)?;
    Ok(covered)
}

/// Which tests are about what, as they are annotated.
pub fn annotations(workspace: &Workspace) -> Result<Covered> {
    let (mut covered, mut faults) = (Covered::new(), Faults::new());
    for source in super::rust_sources(workspace)?
        .iter()
        .filter(|source| holds_tests_of_ours(&source.path))
    {
        // What is wrong with an annotation is for `tidy` to tell.
        collect(source, &mut covered, &mut faults);
    }
    Ok(covered)
}

/// The macros' own crates show them in examples, which cover nothing.
fn holds_tests_of_ours(path: &Path) -> bool {
    !["crates/report/src/row.rs", "crates/testkit/src/case.rs"].contains(&path.to_str().unwrap_or_default())
}

/// The clauses of the contract: the first row `| SEQ-1 | … |` of each id; later rows list what was changed.
pub fn clauses(contract: &str) -> Vec<Clause> {
    let mut seen = BTreeSet::new();
    let rows = contract
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    rows.filter(|(id, _)| is_clause_id(id) && seen.insert(*id))
        .map(|(id, rest)| Clause {
            id: id.to_owned(),
            sentence: rest.trim_end_matches(" |").replace(" | ", ": "),
        })
        .collect()
}

fn is_clause_id(id: &str) -> bool {
    id.split_once('-').is_some_and(|(family, number)| {
        (2..=5).contains(&family.len())
            && family.bytes().all(|byte| byte.is_ascii_uppercase())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn collect(source: &RustSource, covered: &mut Covered, faults: &mut Faults) {
    let file = source.path.display().to_string();
    let mut add = |id: &str, tests: &[String]| {
        let covering = covered.entry(id.to_owned()).or_default();
        covering.entry(file.clone()).or_default().extend(tests.iter().cloned());
    };
    for (at, arguments) in source
        .macro_calls("case")
        .into_iter()
        .chain(source.macro_calls("covers"))
    {
        let tests = tests_around(source, at);
        if tests.is_empty() {
            let line = source.text[..at].matches('\n').count() + 1;
            faults.push(format!(
                "{file}:{line}: an annotation that belongs to no test of this file"
            ));
        }
        for id in arguments.split('"').skip(1).step_by(2) {
            add(id, &tests);
        }
    }
}

/// The test around a place; the tests that call the function around it; all tests of the file where no function is.
fn tests_around(source: &RustSource, at: usize) -> Vec<String> {
    let tests = source.tests().iter();
    let Some(function) = source.function_around(at) else {
        return tests.map(|test| test.name.clone()).collect();
    };
    let call = format!("{function}(");
    tests
        .filter(|test| test.name == function || test.body.contains(&call))
        .map(|test| test.name.clone())
        .collect()
}

fn text(clauses: &[Clause], rows: &[Clause], covered: &Covered, reasons: &BTreeMap<String, String>) -> String {
    let mut text = HEAD.to_owned();
    for (title, entries) in [("Clauses of the contract", clauses), ("What the product must do", rows)] {
        let shown = entries.iter().filter(|entry| covered.contains_key(&entry.id)).count();
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## {title}: {shown} of {} covered\n", entries.len());
        for Clause { id, sentence } in entries {
            let _ = write!(text, "\n### {id}\n\n{sentence}\n\n");
            if let Some(reason) = reasons.get(id) {
                let _ = writeln!(text, "**Not covered**: {reason}");
            }
            for (file, tests) in covered.get(id).into_iter().flatten() {
                let names: Vec<&str> = tests.iter().map(String::as_str).collect();
                let _ = writeln!(text, "- `{file}`: {}", names.join(", "));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-12");

    fn source(text: &str) -> RustSource {
        RustSource::new(Path::new("tests/e2e/x.rs"), text.to_owned())
    }

    #[test]
    fn annotations_belong_to_the_test_the_caller_or_the_file() {
        let source = source(
            "covers!(\"BRG-1\");\n\
             fn with_two() -> B { own(case!(\"SEQ-1\", \"SEQ-2\")) }\n\
             #[test] fn a() { with_two().run() }\n\
             #[test] fn b() { wire(case!(\"ISO-1\")) }",
        );
        let (mut covered, mut faults) = (BTreeMap::new(), Faults::new());
        collect(&source, &mut covered, &mut faults);
        let names = |id: &str| covered[id]["tests/e2e/x.rs"].iter().cloned().collect::<Vec<_>>();
        assert_eq!(names("BRG-1"), ["a", "b"]);
        assert_eq!(
            (names("SEQ-1"), names("SEQ-2")),
            (vec!["a".to_owned()], vec!["a".to_owned()])
        );
        assert_eq!(names("ISO-1"), ["b"]);
        assert_eq!(faults, Faults::new());
    }

    #[test]
    fn an_annotation_without_a_test_is_a_fault() {
        let (mut covered, mut faults) = (BTreeMap::new(), Faults::new());
        collect(
            &source("fn nobody_calls() { case!(\"SEQ-1\") }"),
            &mut covered,
            &mut faults,
        );
        assert_eq!(
            faults,
            ["tests/e2e/x.rs:1: an annotation that belongs to no test of this file"]
        );
    }

    #[test]
    fn clauses_are_the_first_rows_of_the_contract_with_their_ids() {
        let contract = "| SEQ-1 | MUST: rises by 1 |\n| name | what |\n| EVT-1 | `agent_started` | `status` |\n| SEQ-1 | changed |";
        let found: Vec<_> = clauses(contract)
            .into_iter()
            .map(|entry| (entry.id, entry.sentence))
            .collect();
        let expected = [("SEQ-1", "MUST: rises by 1"), ("EVT-1", "`agent_started`: `status`")];
        assert_eq!(
            found,
            expected.map(|(id, sentence)| (id.to_owned(), sentence.to_owned()))
        );
    }
}
