//! The table, shown: to people, to programs, and in the README.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::json;

use crate::category::{Build, CATEGORIES, Category, Needs, SELECTIONS};
use crate::exit::Exit;

/// `cargo xtask list --json`.
pub fn json() -> Result<String> {
    let categories: Vec<_> = CATEGORIES
        .iter()
        .map(|category| {
            json!({
                "name": category.name,
                "summary": category.summary,
                "priority": category.priority,
                "depends_on": category.depends_on,
                "conflicts_with": category.conflicts_with,
                "needs": category.needs,
                "build": category.build,
                "budget_ms": u64::try_from(category.budget.as_millis()).unwrap_or(u64::MAX),
                "filterset": category.filterset(),
                "profile": category.name,
            })
        })
        .collect();
    let selections: Vec<_> = SELECTIONS
        .iter()
        .map(|selection| {
            json!({
                "name": selection.name,
                "summary": selection.summary,
                "categories": selection.categories,
                "repeat": selection.repeat,
                "goal_ms": u64::try_from(selection.goal.as_millis()).unwrap_or(u64::MAX),
                "budget_ms": u64::try_from(selection.budget.as_millis()).unwrap_or(u64::MAX),
            })
        })
        .collect();
    let exits: Vec<_> = Exit::ALL
        .iter()
        .map(|exit| json!({"code": exit.code(), "meaning": exit.meaning()}))
        .collect();
    Ok(serde_json::to_string_pretty(
        &json!({"categories": categories, "selections": selections, "exit_codes": exits}),
    )?)
}

/// For a terminal.
pub fn categories_text() -> String {
    let mut text = String::from("Categories (by priority, and what runs before them):\n");
    for category in CATEGORIES {
        let after = match category.depends_on {
            [] => String::new(),
            names => format!(" (after {})", names.join(", ")),
        };
        let _infallible = writeln!(
            text,
            "  {:<17} {:<9} {}{after}",
            category.name, category.priority, category.summary
        );
    }
    text.push_str("\nSelections:\n");
    for selection in SELECTIONS {
        let _infallible = writeln!(text, "  {:<17} {}", selection.name, selection.summary);
        let _infallible = writeln!(text, "  {:<17} = {}", "", selection.categories.join(", "));
    }
    text
}

/// For a terminal.
pub fn exits_text() -> String {
    let mut text = String::from("Exit codes:\n");
    for exit in Exit::ALL {
        let _infallible = writeln!(text, "  {:<5} {}", exit.code(), exit.meaning());
    }
    text
}

/// The README's table of categories and selections.
pub fn markdown() -> String {
    let mut text = String::from("| category | priority | after | needs | budget | what |\n|---|---|---|---|---|---|\n");
    for category in CATEGORIES {
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} s | {} |",
            category.name,
            category.priority,
            if category.depends_on.is_empty() {
                "–".to_owned()
            } else {
                category.depends_on.join(", ")
            },
            needs(category),
            category.budget.as_secs(),
            category.summary
        );
    }
    text.push_str("\n| selection | question | categories | goal |\n|---|---|---|---|\n");
    for selection in SELECTIONS {
        let times = if selection.repeat > 1 {
            format!(", {} times", selection.repeat)
        } else {
            String::new()
        };
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {}{times} | {} s |",
            selection.name,
            selection.summary,
            selection.categories.join(", "),
            selection.goal.as_secs()
        );
    }
    text
}

/// The README's table of exit codes.
pub fn exits_markdown() -> String {
    let rows = Exit::ALL
        .iter()
        .map(|exit| format!("| {} | {} |\n", exit.code(), exit.meaning()));
    format!("| exit code | meaning |\n|---|---|\n{}", rows.collect::<String>())
}

fn needs(category: &Category) -> &'static str {
    match (category.needs, category.build) {
        (Needs::Nothing, _) => "nothing",
        (Needs::Stack, Build::Debug) => "Postgres, Redis",
        (Needs::Stack, Build::Performance) => "Postgres, Redis, an optimised build",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_every_form() {
        let forms = [json().expect("a value"), categories_text(), markdown()];
        let names = CATEGORIES
            .iter()
            .map(|category| category.name)
            .chain(SELECTIONS.iter().map(|one| one.name));
        for name in names {
            for form in &forms {
                assert!(form.contains(name), "{name} is missing in:\n{form}");
            }
        }
    }
}
