//! `.config/nextest.toml` has one profile per category, and it selects what the table says.

use std::fs;

use anyhow::{Context as _, Result};

use super::Faults;
use crate::category::CATEGORIES;
use crate::workspace::Workspace;

const FILE: &str = ".config/nextest.toml";

pub fn check(workspace: &Workspace, faults: &mut Faults) -> Result<()> {
    let text = fs::read_to_string(workspace.root.join(FILE)).with_context(|| format!("reading {FILE}"))?;
    faults.extend(differences(&text).with_context(|| format!("reading {FILE}"))?);
    Ok(())
}

fn differences(text: &str) -> Result<Vec<String>> {
    let config: toml::Table = toml::from_str(text)?;
    let mut faults = Vec::new();
    for category in CATEGORIES {
        let filter = config
            .get("profile")
            .and_then(|profiles| profiles.get(category.name))
            .and_then(|profile| profile.get("default-filter"))
            .and_then(toml::Value::as_str);
        let expected = category.filterset();
        if filter != Some(&expected) {
            faults.push(format!(
                "{FILE}: [profile.{}] needs default-filter = \"{expected}\"",
                category.name
            ));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_selects_something_else_is_a_fault() {
        let right: String = CATEGORIES
            .iter()
            .map(|category| {
                format!(
                    "[profile.{}]\ndefault-filter = \"{}\"\n",
                    category.name,
                    category.filterset()
                )
            })
            .collect();
        assert_eq!(differences(&right).expect("toml"), Vec::<String>::new());
        let wrong = right.replace("::e2e)", "::other)");
        assert_eq!(differences(&wrong).expect("toml").len(), 1);
    }
}
