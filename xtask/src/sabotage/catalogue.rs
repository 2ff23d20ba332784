//! The catalogue: `tests/sabotage.toml`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::workspace::Workspace;

pub const FILE: &str = "tests/sabotage.toml";

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// Why a clause has no sabotage, by its id.
    #[serde(default)]
    pub unsabotaged: BTreeMap<String, String>,
    pub sabotage: Vec<Sabotage>,
}

/// One way to be wrong.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sabotage {
    pub id: String,
    /// The clause that it breaks.
    pub clause: String,
    pub sentence: String,
    /// The tests that must notice.
    #[serde(default)]
    pub tests: Vec<TestName>,
    /// What a man in the middle does; the test kit reads them.
    rules: Option<toml::Value>,
    /// The test that claims that a fault in the server itself is caught.
    pub planted: Option<TestName>,
}

/// How a sabotage is done.
#[derive(Debug)]
pub enum Means<'s> {
    Rules(serde_json::Value),
    Planted(&'s TestName),
}

impl Sabotage {
    pub fn means(&self) -> Result<Means<'_>> {
        match (&self.rules, &self.planted) {
            (Some(rules), None) if !self.tests.is_empty() => Ok(Means::Rules(
                serde_json::to_value(rules).with_context(|| format!("reading the rules of {}", self.id))?,
            )),
            (None, Some(test)) if self.tests.is_empty() => Ok(Means::Planted(test)),
            _ => bail!("{FILE}: {} needs `rules` and `tests`, or `planted` alone", self.id),
        }
    }
}

/// A test or a module of tests: `e2e::wire::events` is everything below it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TestName {
    pub category: String,
    /// The name in its binary, or the beginning of one.
    pub path: String,
}

impl TryFrom<String> for TestName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once("::") {
            Some((category, path)) if crate::category::category(category).is_some() => Ok(Self {
                category: category.to_owned(),
                path: path.to_owned(),
            }),
            _ => Err(format!(
                "`{text}` does not begin with a category, as e2e::wire::events does"
            )),
        }
    }
}

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.category, self.path)
    }
}

impl Catalogue {
    pub fn read(workspace: &Workspace) -> Result<Self> {
        let text = fs::read_to_string(workspace.root.join(FILE)).with_context(|| format!("reading {FILE}"))?;
        Self::parse(&text).with_context(|| format!("reading {FILE}"))
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(toml::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_sabotage_is_done_by_rules_or_planted() {
        let text = "[[sabotage]]\nid='a'\nclause='SEQ-1'\nsentence='s'\ntests=['e2e::wire::x']\nrules=[{how='drop'}]\n\
                    [[sabotage]]\nid='b'\nclause='SEQ-1'\nsentence='s'\nplanted='regression::own::planted::y'\n\
                    [[sabotage]]\nid='c'\nclause='SEQ-1'\nsentence='s'\n";
        let catalogue = Catalogue::parse(text).expect("a catalogue");
        let [a, b, c] = catalogue.sabotage.as_slice() else {
            panic!("three")
        };
        assert!(matches!(a.means(), Ok(Means::Rules(rules)) if rules == serde_json::json!([{ "how": "drop" }])));
        assert!(matches!(b.means(), Ok(Means::Planted(test)) if test.to_string() == "regression::own::planted::y"));
        assert!(c.means().is_err());
        assert_eq!(a.tests[0].path, "wire::x");
    }

    #[test]
    fn a_test_of_no_category_is_refused() {
        assert!(TestName::try_from("e2f::wire::x".to_owned()).is_err());
    }
}
