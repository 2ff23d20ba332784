//! Whether a running backend can be judged at all, by the test kit's `kingsguard-stack check-target`: before anything runs.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::category::Build;
use crate::environment::Environment;
use crate::exit::{Exit, Stop};
use crate::stack::BINARY;
use crate::workspace::Workspace;

/// The inner error says that nothing answers at the target's address; a wrong profile ends the run.
pub fn check(workspace: &Workspace, build: Build, environment: &Environment) -> Result<Result<(), Stop>> {
    let binary = workspace.binary(build, BINARY);
    check_with(&binary, workspace, environment)
}

fn check_with(binary: &Path, workspace: &Workspace, environment: &Environment) -> Result<Result<(), Stop>> {
    let Some(target) = &environment.target else {
        return Ok(Ok(()));
    };
    let mut command = workspace.command(binary);
    command.args(["check-target", "--target", target]);
    if let Some(profile) = &environment.profile {
        command.arg("--profile").arg(profile);
    }
    let output = command
        .envs(environment.settings.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", binary.display()))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    let why = said
        .strip_prefix(BINARY)
        .map_or(said, |rest| rest.trim_start_matches([':', ' ']));
    match Exit::of_status(output.status) {
        Some(Exit::Services) => Ok(Err(Stop::new(
            Exit::Services,
            why,
            "start the backend, or correct --target and `connection.ca_file` of its profile; nothing was run",
        ))),
        Some(Exit::Usage) => {
            let next = "correct that field; environments/example.profile.toml shows every one with its meaning";
            Err(Stop::usage(why, next).into())
        }
        _ => anyhow::bail!("checking the target ended with {}: {said}", output.status),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use pretty_assertions::assert_eq;

    /// What becomes of a check that says this and ends so.
    fn after(script: &str) -> Result<Result<(), Stop>> {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join(BINARY);
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        let environment = Environment {
            target: Some("http://127.0.0.1:1".to_owned()),
            profile: Some("mine.toml".into()),
            settings: vec![("TOKENS".to_owned(), "t".to_owned())],
        };
        let workspace = Workspace::find().expect("this package stands in it");
        check_with(&binary, &workspace, &environment)
    }

    #[test]
    fn a_target_that_can_be_judged_is_asked_with_its_profile_and_settings() {
        let expected = "check-target --target http://127.0.0.1:1 --profile mine.toml t";
        let script = format!("[ \"$* $TOKENS\" = \"{expected}\" ]");
        assert!(after(&script).expect("it ran").is_ok());
    }

    #[test]
    fn a_wrong_profile_is_a_command_that_was_not_understood() {
        let error = after("echo 'kingsguard-stack: unknown field `colour`' >&2; exit 2").expect_err("refused");
        let stop = error.downcast::<Stop>().expect("an end with a next step");
        assert_eq!((stop.exit, stop.why.as_str()), (Exit::Usage, "unknown field `colour`"));
        assert!(stop.next.contains("example.profile.toml"), "{}", stop.next);
    }

    #[test]
    fn a_target_that_nobody_reaches_is_a_service_that_is_missing() {
        let stop = after("exit 4").expect("it ran").expect_err("not reached");
        assert_eq!(stop.exit, Exit::Services);
    }

    #[test]
    fn a_check_that_breaks_is_no_answer() {
        assert!(after("exit 7").is_err());
    }
}
