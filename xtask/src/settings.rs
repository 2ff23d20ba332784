//! The README's table of the server's settings, made by asking the server's own binary.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::category::Build;
use crate::exit::Exit;
use crate::readme::{Part, with_parts};
use crate::services;
use crate::workspace::Workspace;

/// What `kingsguard-server settings --json` says of each setting.
#[derive(Debug, Deserialize)]
struct Setting {
    variable: String,
    unit: String,
    default: Option<String>,
    limits: String,
    required: bool,
    description: String,
}

/// Compares the table with what the server says, or writes it. Builds the server, which `tidy` alone does not.
pub fn run(workspace: &Workspace, write: bool) -> Result<Exit> {
    services::build(workspace)?;
    let binary = workspace.binary(Build::Debug, "kingsguard-server");
    let output = workspace.command(&binary).args(["settings", "--json"]).output();
    let output = output.with_context(|| format!("starting {}", binary.display()))?;
    ensure!(
        output.status.success(),
        "listing the settings ended with {}",
        output.status
    );
    let settings: Vec<Setting> = serde_json::from_slice(&output.stdout).context("reading the list of settings")?;
    let path = workspace.root.join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let part = Part {
        name: "settings",
        text: table(&settings),
    };
    let fresh = with_parts(&text, &[part])?;
    if fresh == text {
        return Ok(Exit::Passed);
    }
    if write {
        fs::write(&path, fresh).with_context(|| format!("writing {}", path.display()))?;
        return Ok(Exit::Passed);
    }
    println!("README.md: the table of settings differs from what the server says");
    println!("  next: cargo xtask tidy --write");
    Ok(Exit::Failed)
}

fn table(settings: &[Setting]) -> String {
    let mut text = String::from("| variable | unit | default | limits | what |\n|---|---|---|---|---|\n");
    for setting in settings {
        let default = match (&setting.default, setting.required) {
            (Some(default), _) if !default.is_empty() => format!("`{default}`"),
            (_, true) => "required".to_owned(),
            (_, false) => "–".to_owned(),
        };
        let cells =
            [&setting.unit, &default, &setting.limits, &setting.description].map(|cell| cell.replace('|', "\\|"));
        text.push_str(&format!("| `{}` | {} |\n", setting.variable, cells.join(" | ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_setting_is_a_row() {
        let json = r#"[{"variable":"A","unit":"ms","default":"5","limits":"1 – 9","required":false,"secret":false,
            "description":"This | that."},{"variable":"B","unit":"URL","default":null,"limits":"","required":true,
            "secret":true,"description":"It."}]"#;
        let settings: Vec<Setting> = serde_json::from_str(json).expect("settings");
        let rows: Vec<String> = table(&settings).lines().skip(2).map(str::to_owned).collect();
        assert_eq!(
            rows,
            [
                "| `A` | ms | `5` | 1 – 9 | This \\| that. |",
                "| `B` | URL | required |  | It. |"
            ]
        );
    }
}
