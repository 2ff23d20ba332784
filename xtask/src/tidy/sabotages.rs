//! Every MUST clause has a sabotage in the catalogue or a reason there; every sabotage breaks a clause that exists and names
//! tests that exist.

use std::collections::BTreeSet;

use anyhow::Result;
use kingsguard_report::row::ROWS;

use super::Faults;
use super::ledger::Clause;
use super::rust_source::RustSource;
use crate::sabotage::catalogue::{Catalogue, FILE, Sabotage, TestName};

pub fn check(catalogue: &Catalogue, clauses: &[Clause], sources: &[RustSource], faults: &mut Faults) -> Result<()> {
    let ids = clauses.iter().map(|clause| clause.id.as_str());
    let known: BTreeSet<&str> = ids.chain(ROWS.iter().map(|row| row.id)).collect();
    let broken: BTreeSet<&str> = catalogue.sabotage.iter().map(|one| one.clause.as_str()).collect();
    for id in broken
        .iter()
        .copied()
        .chain(catalogue.unsabotaged.keys().map(String::as_str))
    {
        if !known.contains(id) {
            faults.push(format!("{FILE}: `{id}` is neither a clause of the contract nor a row"));
        }
    }
    for clause in clauses.iter().filter(|clause| clause.is_must()) {
        if !broken.contains(clause.id.as_str()) && !catalogue.unsabotaged.contains_key(&clause.id) {
            faults.push(format!(
                "{FILE}: no sabotage breaks {}, and no reason is given",
                clause.id
            ));
        }
    }
    let mut ids = BTreeSet::new();
    for sabotage in &catalogue.sabotage {
        if !ids.insert(&sabotage.id) {
            faults.push(format!("{FILE}: `{}` stands twice", sabotage.id));
        }
        if let Err(error) = sabotage.means() {
            faults.push(format!("{error:#}"));
        }
        for test in tests(sabotage).filter(|test| !exists(test, sources)) {
            faults.push(format!("{FILE}: {}: there is no test {test}", sabotage.id));
        }
    }
    Ok(())
}

fn tests(sabotage: &Sabotage) -> impl Iterator<Item = &TestName> {
    sabotage.tests.iter().chain(&sabotage.planted)
}

/// Whether a file of the category holds the test, or is the module that is named.
fn exists(test: &TestName, sources: &[RustSource]) -> bool {
    let file_of = |modules: &str| format!("tests/{}/{}.rs", test.category, modules.replace("::", "/"));
    let held = |modules: &str, name: Option<&str>| {
        let path = file_of(modules);
        let mut files = sources
            .iter()
            .filter(|source| source.path.to_str() == Some(path.as_str()));
        files.any(|source| name.is_none_or(|name| source.tests().iter().any(|test| test.name == name)))
    };
    held(&test.path, None)
        || test
            .path
            .rsplit_once("::")
            .is_some_and(|(modules, name)| held(modules, Some(name)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_test_is_named_by_its_file_or_by_itself() {
        let sources = [RustSource::new(
            Path::new("tests/e2e/wire/chat.rs"),
            "#[test]\nfn a() {}".to_owned(),
        )];
        let named = |name: &str| exists(&TestName::try_from(name.to_owned()).expect("a category"), &sources);
        assert_eq!(
            [
                "e2e::wire::chat::a",
                "e2e::wire::chat",
                "e2e::wire::chat::b",
                "stress::wire::chat"
            ]
            .map(named),
            [true, true, false, false]
        );
    }

    #[test]
    fn a_clause_without_sabotage_or_reason_is_a_fault() {
        let text = "[unsabotaged]\nSEQ-2 = 'r'\n[[sabotage]]\nid='a'\nclause='SEQ-1'\nsentence='s'\ntests=['e2e::wire::x']\nrules=[]\n";
        let catalogue: Catalogue = toml::from_str(text).expect("a catalogue");
        let clauses = super::super::ledger::clauses(
            "| SEQ-1 | MUST: a |\n| SEQ-2 | MUST: b |\n| SEQ-3 | MUST: c |\n| CON-5 | *SHOULD*: d |",
        );
        let mut faults = Faults::new();
        check(&catalogue, &clauses, &[], &mut faults).expect("nothing is read");
        assert_eq!(
            faults,
            [
                format!("{FILE}: no sabotage breaks SEQ-3, and no reason is given"),
                format!("{FILE}: a: there is no test e2e::wire::x"),
            ]
        );
    }
}
