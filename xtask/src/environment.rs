//! `--env NAME`: a file of settings for test, staging, production, and the backend that is judged.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::cli::TestArgs;
use crate::exit::Stop;
use crate::workspace::Workspace;

/// Folder of the files, one `NAME.env` each.
const FOLDER: &str = "environments";

/// The variable that names the backend.
const TARGET: &str = "KINGSGUARD_TARGET";

/// The variable that names the file that says what the backend is like.
const PROFILE: &str = "KINGSGUARD_TARGET_PROFILE";

/// How an address may begin.
const SCHEMES: [&str; 4] = ["http://", "https://", "ws://", "wss://"];

/// What the tests are told about the world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Address of a running backend; none when the tests start their own.
    pub target: Option<String>,
    /// The file that says what it is like; none where it is as the contract says.
    pub profile: Option<PathBuf>,
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
            if !SCHEMES.iter().any(|scheme| target.starts_with(scheme)) {
                return Err(Stop::usage(
                    format!("the target `{target}` is not an address"),
                    "give it as http://HOST:PORT, https://HOST, ws://HOST:PORT/PATH or wss://HOST/PATH",
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
        environment.take_profile(workspace, args.profile.as_deref())?;
        Ok(environment)
    }

    /// The profile as an absolute path: tests run in another folder. A relative one of an environment lies in the workspace.
    fn take_profile(&mut self, workspace: &Workspace, named: Option<&Path>) -> Result<()> {
        let of_file = self.settings.iter().position(|(name, _)| name == PROFILE);
        let of_file = of_file.map(|place| workspace.root.join(self.settings.remove(place).1));
        let Some(path) = named.map(Path::to_path_buf).or(of_file) else {
            return Ok(());
        };
        if self.target.is_none() {
            return Err(Stop::usage(
                "a profile says what a target is like, and no target was named",
                "add --target URL",
            )
            .into());
        }
        let path = std::path::absolute(&path).with_context(|| format!("finding {}", path.display()))?;
        if !path.is_file() {
            return Err(Stop::usage(
                format!("there is no profile {}", path.display()),
                format!("copy {FOLDER}/example.profile.toml and keep what differs"),
            )
            .into());
        }
        self.profile = Some(path);
        Ok(())
    }

    /// What the tests are told of the backend.
    pub fn target_variables(&self) -> Vec<(&'static str, String)> {
        let target = self.target.iter().map(|url| (TARGET, url.clone()));
        let profile = self.profile.iter().map(|path| (PROFILE, path.display().to_string()));
        target.chain(profile).collect()
    }

    /// The same for a command that a person repeats.
    pub fn target_arguments(&self) -> String {
        let target = self.target.iter().map(|url| format!(" --target {url}"));
        let profile = self.profile.iter().map(|path| format!(" --profile {}", path.display()));
        target.chain(profile).collect()
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
            profile: None,
            settings: vec![("KINGSGUARD_SEED".to_owned(), "7".to_owned())],
        };
        assert_eq!(Environment::parse(text), Ok(expected));
        assert_eq!(
            Environment::parse("nonsense"),
            Err("line 1 is not NAME=value".to_owned())
        );
    }
}
