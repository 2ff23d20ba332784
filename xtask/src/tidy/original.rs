//! Coming from the original: every file and claim of the suite that was replaced, with the tests here that judge it or the
//! reason why none does. Made of `docs/original-claims.toml`; the tests and ids that it names must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::ledger::Covered;
use super::rust_source::RustSource;
use super::{Faults, keep};
use crate::workspace::Workspace;

const CLAIMS: &str = "docs/original-claims.toml";
const PAGE: &str = "docs/coming-from-the-original.md";

/// What a reason begins with that is a debt.
const DEBT: &str = "not built yet";

const HEAD: &str = "# Coming from the original

Kingsguard replaces a Python test suite and its runner. This page is for whoever knew them: which command is which, and which
test here judges what a test there claimed.

What stood behind `python tests/unified_test_runner.py` may stand behind `cargo xtask` as it is: every word is understood, or
answered with ours, and none is ignored. Which end a run had is told by its exit code; the README lists them.

A claim is what a test there said of the backend, in our words. Copies of it are one claim, and percentages that it allowed
for exact properties are not carried over: what it tolerated for 60 or 95 of 100 holds here for all. A claim is *judged* when
tests here fail where it does not hold; *not judged* when there was nothing to carry over (it tested a mock, a constant or
the style of its own language) and the reason is given; *not built yet* where we owe it.

Made by `cargo xtask tidy --write` from `docs/original-claims.toml` and from the table that the runner itself uses
(`xtask/src/old/table.rs`). `tidy` fails on a test or id that does not exist, and on a claim with neither tests nor a reason.
";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Original {
    section: Vec<Section>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    title: String,
    /// By the short names that claims use.
    files: BTreeMap<String, OldFile>,
    claim: Vec<Claim>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OldFile {
    path: String,
    /// What its runner collected at best; none for a file of helpers.
    #[serde(default)]
    tests: usize,
}

/// What one or several old tests said. Either `tests` and `covered_by`, or `reason`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    claim: String,
    /// Short names of the section's files; all of them where absent.
    #[serde(default)]
    from: Vec<String>,
    /// `path::name` of tests here.
    #[serde(default)]
    tests: Vec<String>,
    /// Clauses and rows that the ledger lists tests for.
    #[serde(default)]
    covered_by: Vec<String>,
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Judged,
    NotJudged,
    NotBuilt,
}

impl Claim {
    fn standing(&self) -> Standing {
        match &self.reason {
            None => Standing::Judged,
            Some(reason) if reason.starts_with(DEBT) => Standing::NotBuilt,
            Some(_) => Standing::NotJudged,
        }
    }
}

pub fn check(
    workspace: &Workspace,
    sources: &[RustSource],
    covered: &Covered,
    write: bool,
    faults: &mut Faults,
) -> Result<()> {
    let text = fs::read_to_string(workspace.root.join(CLAIMS)).with_context(|| format!("reading {CLAIMS}"))?;
    let original: Original = toml::from_str(&text).with_context(|| format!("reading {CLAIMS}"))?;
    let mut said = BTreeSet::new();
    for section in &original.section {
        check_files(section, faults);
        for claim in &section.claim {
            if !said.insert((&section.title, &claim.claim)) {
                faults.push(format!("{CLAIMS}: `{}` stands twice", claim.claim));
            }
            check_claim(claim, sources, covered, faults);
        }
    }
    keep(workspace, PAGE, &page(&original), CLAIMS, write, faults)
}

fn check_files(section: &Section, faults: &mut Faults) {
    let known: BTreeSet<&String> = section.files.keys().collect();
    let named: BTreeSet<&String> = section.claim.iter().flat_map(|claim| &claim.from).collect();
    for name in named.difference(&known) {
        faults.push(format!("{CLAIMS}: `{}` has no file `{name}`", section.title));
    }
    let all_are_meant = section.claim.iter().any(|claim| claim.from.is_empty());
    for name in known.difference(&named).filter(|_| !all_are_meant) {
        faults.push(format!(
            "{CLAIMS}: no claim of `{}` is of its file `{name}`",
            section.title
        ));
    }
}

fn check_claim(claim: &Claim, sources: &[RustSource], covered: &Covered, faults: &mut Faults) {
    let what = &claim.claim;
    let is_judged = !(claim.tests.is_empty() && claim.covered_by.is_empty());
    match (is_judged, &claim.reason) {
        (false, None) => faults.push(format!("{CLAIMS}: `{what}` has neither tests nor a reason")),
        (true, Some(_)) => faults.push(format!("{CLAIMS}: `{what}` has tests and a reason why none")),
        (true, None) | (false, Some(_)) => {}
    }
    for test in &claim.tests {
        let exists = test.split_once("::").is_some_and(|(file, name)| {
            let mut files = sources.iter().filter(|source| source.path == Path::new(file));
            files.any(|source| source.tests().iter().any(|test| test.name == name))
        });
        if !exists {
            faults.push(format!("{CLAIMS}: `{what}`: there is no test {test}"));
        }
    }
    for id in claim.covered_by.iter().filter(|id| !covered.contains_key(*id)) {
        faults.push(format!("{CLAIMS}: `{what}`: no test covers {id}"));
    }
}

fn page(original: &Original) -> String {
    let mut text = format!("{HEAD}\n{}\n## Claims\n\n", crate::old::markdown());
    overview(original, &mut text);
    for section in &original.section {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n## {}\n\n| file | its tests | named below |\n|---|---|---|\n",
            section.title
        );
        for (name, file) in &section.files {
            let tests = if file.tests == 0 {
                "–".to_owned()
            } else {
                file.tests.to_string()
            };
            let _ = writeln!(text, "| `{}` | {tests} | {name} |", file.path);
        }
        text.push_str("\n| claim | in | here |\n|---|---|---|\n");
        for claim in &section.claim {
            let here = claim.reason.as_ref().map_or_else(
                || judges(claim),
                |reason| match claim.standing() {
                    Standing::NotBuilt => format!("**{DEBT}**{}", reason.trim_start_matches(DEBT)),
                    Standing::Judged | Standing::NotJudged => format!("*not judged*: {reason}"),
                },
            );
            let row = [&claim.claim, &claim.from.join(", "), &here].map(|cell| cell.replace('|', "\\|"));
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
    }
    text
}

fn overview(original: &Original, text: &mut String) {
    text.push_str("| part | files | their tests | claims | judged | not judged | not built yet |\n|---|---|---|---|---|---|---|\n");
    let mut sums = [0; 6];
    for section in &original.section {
        let of = |standing: Standing| {
            section
                .claim
                .iter()
                .filter(|claim| claim.standing() == standing)
                .count()
        };
        let numbers = [
            section.files.len(),
            section.files.values().map(|file| file.tests).sum(),
            section.claim.len(),
            of(Standing::Judged),
            of(Standing::NotJudged),
            of(Standing::NotBuilt),
        ];
        sums = std::array::from_fn(|place| sums[place] + numbers[place]);
        let _ = writeln!(
            text,
            "| [{0}](#{1}) | {2} |",
            section.title,
            anchor(&section.title),
            cells(numbers)
        );
    }
    let _ = writeln!(text, "| **all** | {} |", cells(sums));
}

fn cells(numbers: [usize; 6]) -> String {
    numbers.map(|number| number.to_string()).join(" | ")
}

/// Under which a heading is found on the common hosts of Markdown.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The tests of a claim by file, and the ids under which the ledger lists them.
fn judges(claim: &Claim) -> String {
    let mut by_file = BTreeMap::<&str, Vec<&str>>::new();
    for (file, name) in claim.tests.iter().filter_map(|test| test.split_once("::")) {
        by_file.entry(file).or_default().push(name);
    }
    let tests = by_file
        .into_iter()
        .map(|(file, names)| format!("[{file}](../{file}): {}", names.join(", ")));
    let ids = claim
        .covered_by
        .iter()
        .map(|id| format!("[{id}](ledger.md#{})", id.to_lowercase()));
    let ids = ids.collect::<Vec<_>>().join(", ");
    let ids = (!ids.is_empty()).then(|| format!("the tests of {ids}"));
    tests.chain(ids).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    kingsguard_report::covers!("ORIG-1");

    /// What is wrong with a section whose only file is `old.py`.
    fn faults(claims: &str) -> Faults {
        let text = format!("[[section]]\ntitle = 'S'\nfiles.old = {{ path = 'old.py', tests = 3 }}\n{claims}");
        let original: Original = toml::from_str(&text).expect("it is well formed");
        let sources = [RustSource::new(
            Path::new("tests/e2e/x.rs"),
            "#[test]\nfn holds() { assert!(x); }\nfn helps() {}".to_owned(),
        )];
        let covered = Covered::from([("SEQ-3".to_owned(), BTreeMap::new())]);
        let mut faults = Faults::new();
        check_files(&original.section[0], &mut faults);
        for claim in &original.section[0].claim {
            check_claim(claim, &sources, &covered, &mut faults);
        }
        let head = format!("{CLAIMS}: ");
        faults.into_iter().map(|fault| fault.replace(&head, "")).collect()
    }

    #[test]
    fn a_claim_with_a_test_an_id_or_a_reason_is_well() {
        for by in [
            "tests = ['tests/e2e/x.rs::holds']",
            "covered_by = ['SEQ-3']",
            "tests = ['tests/e2e/x.rs::holds']\ncovered_by = ['SEQ-3']",
            "reason = 'it tested a mock'",
        ] {
            assert_eq!(
                faults(&format!("[[section.claim]]\nclaim = 'c'\n{by}")),
                Faults::new(),
                "{by}"
            );
        }
    }

    #[test]
    fn a_test_that_does_not_exist_is_a_fault() {
        for test in [
            "tests/e2e/x.rs::gone",
            "tests/e2e/x.rs::helps",
            "tests/e2e/y.rs::holds",
            "holds",
        ] {
            let found = faults(&format!("[[section.claim]]\nclaim = 'c'\ntests = ['{test}']"));
            assert_eq!(found, [format!("`c`: there is no test {test}")]);
        }
    }

    #[test]
    fn an_id_that_no_test_covers_is_a_fault() {
        let found = faults("[[section.claim]]\nclaim = 'c'\ncovered_by = ['SEQ-3', 'SEQ-4']");
        assert_eq!(found, ["`c`: no test covers SEQ-4"]);
    }

    #[test]
    fn a_claim_needs_tests_or_a_reason_and_not_both() {
        assert_eq!(
            faults("[[section.claim]]\nclaim = 'c'"),
            ["`c` has neither tests nor a reason"]
        );
        assert_eq!(
            faults("[[section.claim]]\nclaim = 'c'\ncovered_by = ['SEQ-3']\nreason = 'r'"),
            ["`c` has tests and a reason why none"]
        );
    }

    #[test]
    fn every_file_has_a_claim_and_every_claim_a_file_that_is_listed() {
        let found = faults("[[section.claim]]\nclaim = 'c'\nfrom = ['other']\nreason = 'r'");
        assert_eq!(
            found,
            ["`S` has no file `other`", "no claim of `S` is of its file `old`"]
        );
    }

    #[test]
    fn the_page_counts_and_links() {
        let text = "[[section]]\ntitle = 'Chaos, and order'\nfiles.old = { path = 'old.py', tests = 3 }\n\
                    [[section.claim]]\nclaim = 'a | b'\nfrom = ['old']\n\
                    tests = ['t/x.rs::one', 't/x.rs::two']\ncovered_by = ['SEQ-3']\n\
                    [[section.claim]]\nclaim = 'c'\nreason = 'not built yet: soon'\n\
                    [[section.claim]]\nclaim = 'd'\nreason = 'a mock'\n";
        let page = page(&toml::from_str(text).expect("it is well formed"));
        for line in [
            "| [Chaos, and order](#chaos-and-order) | 1 | 3 | 3 | 1 | 1 | 1 |",
            "| `old.py` | 3 | old |",
            "| a \\| b | old | [t/x.rs](../t/x.rs): one, two; the tests of [SEQ-3](ledger.md#seq-3) |",
            "| c |  | **not built yet**: soon |",
            "| d |  | *not judged*: a mock |",
        ] {
            assert!(page.contains(line), "{line:?} is missing in {page}");
        }
    }
}
