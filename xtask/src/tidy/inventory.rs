//! Tests cannot vanish: each category holds at least as many as `tests/inventory.toml` says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Faults;
use super::rust_source::RustSource;
use crate::category::{CATEGORIES, category};
use crate::workspace::Workspace;

const FILE: &str = "tests/inventory.toml";

const HEAD: &str = "# The least number of tests that each category holds. `cargo xtask tidy --write` raises the numbers; lowering one is a\n# decision, made by hand and explained in the commit.\n\n";

/// Numbers by category.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inventory(pub BTreeMap<String, usize>);

impl Inventory {
    pub fn read(workspace: &Workspace) -> Result<Self> {
        match fs::read_to_string(workspace.root.join(FILE)) {
            Ok(text) => Self::parse(&text).with_context(|| format!("reading {FILE}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("reading {FILE}")),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(Self(toml::from_str(text)?))
    }

    fn text(&self) -> String {
        // In the table's order.
        let lines = CATEGORIES.iter().filter_map(|category| {
            let number = self.0.get(category.name)?;
            Some(format!("{} = {number}\n", category.name))
        });
        HEAD.to_owned() + &lines.collect::<String>()
    }
}

pub fn check(workspace: &Workspace, sources: &[RustSource], write: bool, faults: &mut Faults) -> Result<()> {
    let mut inventory = Inventory::read(workspace)?;
    let held = count(sources);
    for (name, least) in &inventory.0 {
        if category(name).is_none() {
            faults.push(format!("{FILE}: `{name}` is no category"));
        }
        let held = held.get(name.as_str()).copied().unwrap_or(0);
        if held < *least {
            faults.push(format!("{name} holds {held} tests, {FILE} says at least {least}"));
        }
    }
    let risen: Vec<_> = held
        .iter()
        .filter(|(name, held)| inventory.0.get(**name).is_none_or(|least| least < held))
        .collect();
    if write && !risen.is_empty() {
        for (name, held) in risen {
            inventory.0.insert((*name).to_owned(), *held);
        }
        fs::write(workspace.root.join(FILE), inventory.text()).with_context(|| format!("writing {FILE}"))?;
    }
    Ok(())
}

/// Functions that are tests, by category. A table of cases counts once, so a listing shows at least as many.
fn count(sources: &[RustSource]) -> BTreeMap<&'static str, usize> {
    let mut held: BTreeMap<&'static str, usize> = CATEGORIES.iter().map(|category| (category.name, 0)).collect();
    for source in sources {
        *held.entry(category_of_path(&source.path)).or_default() += source.tests().len();
    }
    held
}

fn category_of_path(path: &Path) -> &'static str {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    match parts.as_slice() {
        ["tests", folder, ..] => category(folder).map_or("unit", |category| category.name),
        ["crates", "testkit", "tests", ..] => "integration",
        _ => "unit",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-12");

    #[test]
    fn an_inventory_is_read_as_it_was_written() {
        let inventory = Inventory([("unit".to_owned(), 7), ("e2e".to_owned(), 3)].into());
        assert_eq!(Inventory::parse(&inventory.text()).expect("its own text"), inventory);
    }

    #[test]
    fn tests_are_counted_for_the_category_of_their_folder() {
        let text = "#[test]\nfn a() { assert!(x); }";
        let paths = [
            "tests/e2e/chat.rs",
            "crates/server/src/lib.rs",
            "crates/testkit/tests/stack.rs",
            "xtask/src/main.rs",
        ];
        let sources: Vec<_> = paths
            .iter()
            .map(|path| RustSource::new(Path::new(path), text.to_owned()))
            .collect();
        let held = count(&sources);
        assert_eq!(
            (held["e2e"], held["integration"], held["unit"], held["stress"]),
            (1, 1, 2, 0)
        );
    }
}
