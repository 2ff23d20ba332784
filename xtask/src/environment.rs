//! `--env NAME`: a file of settings for test, staging, production, and the backend that is judged.

use anyhow::{Context as _, Result};

use crate::cli::TestArgs;
use crate::exit::Stop;
use crate::workspace::Workspace;

/// Folder of the files, one `NAME.env` each.
const FOLDER: &str = "environments";

/// The variable that names the backend.
const TARGET: &str = "KINGSGUARD_TARGET";

/// What the tests are told about the world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Address of a running backend; none when the tests start their own.
    pub target: Option<String>,
    /// Handed to the tests as they are.
    pub settings: Vec<(String, String)>,
}

impl Environment {
    pub fn read(workspace: &Workspace, args: &TestArgs) -> Result<Self> {
        let mut environment = match &args.env {
            None => Self::default(),
            Some(name) => {
                if name == "production" && !args.yes_production {
                    return Err(Stop::usage(
                        "--env production makes users and threads in production",
                        "add --yes-production when that is meant",
                    )
                    .into());
                }
                let path = workspace.root.join(FOLDER).join(format!("{name}.env"));
                if !path.is_file() {
                    return Err(Stop::usage(
                        format!("there is no {FOLDER}/{name}.env"),
                        format!(
                            "make it with a line {TARGET}=https://…, or name one of {}",
                            known(workspace)
                        ),
                    )
                    .into());
                }
                let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                Self::parse(&text)
                    .map_err(|why| Stop::usage(format!("{FOLDER}/{name}.env: {why}"), "correct that line"))?
            }
        };
        if let Some(target) = args.target.clone().or_else(|| std::env::var(TARGET).ok()) {
            environment.target = Some(target);
        }
        if let Some(target) = &environment.target {
            if !target.starts_with("http://") && !target.starts_with("https://") {
                return Err(Stop::usage(
                    format!("the target `{target}` is not an address"),
                    "give it as http://HOST:PORT or https://HOST",
                )
                .into());
            }
        } else if args.env.as_ref().is_some_and(|name| name != "test") {
            return Err(Stop::usage(
                "the environment names no backend",
                format!("add a line {TARGET}=https://… to it, or give --target URL"),
            )
            .into());
        }
        Ok(environment)
    }

    /// `NAME=value` per line; empty lines and lines with `#` in front are skipped.
    fn parse(text: &str) -> Result<Self, String> {
        let mut environment = Self::default();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = line
                .split_once('=')
                .ok_or(format!("line {} is not NAME=value", number + 1))?;
            let (name, value) = (name.trim(), value.trim());
            if name == TARGET {
                environment.target = (!value.is_empty()).then(|| value.to_owned());
            } else {
                environment.settings.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(environment)
    }
}

fn known(workspace: &Workspace) -> String {
    let entries = std::fs::read_dir(workspace.root.join(FOLDER))
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".env")?.to_owned()))
        .collect();
    names.sort();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_file_is_names_and_values() {
        let text = "# staging\n\nKINGSGUARD_TARGET = https://staging.example\nKINGSGUARD_SEED=7\n";
        let expected = Environment {
            target: Some("https://staging.example".to_owned()),
            settings: vec![("KINGSGUARD_SEED".to_owned(), "7".to_owned())],
        };
        assert_eq!(Environment::parse(text), Ok(expected));
        assert_eq!(
            Environment::parse("nonsense"),
            Err("line 1 is not NAME=value".to_owned())
        );
    }
}
