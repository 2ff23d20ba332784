//! `cargo xtask hooks`: what must hold before a commit, in seconds.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::cli::HooksAction;
use crate::exit::Exit;
use crate::tidy;
use crate::workspace::Workspace;

/// Asks the runner, so that the hook changes with the repository and is installed once.
const HOOK: &str = "#!/bin/sh\n# Installed by `cargo xtask hooks install`.\nexec cargo xtask hooks run\n";

pub fn run(workspace: &Workspace, action: &HooksAction) -> Result<Exit> {
    match action {
        HooksAction::Install => install(workspace),
        HooksAction::Run => check(workspace),
    }
}

fn install(workspace: &Workspace) -> Result<Exit> {
    // Worktrees share the hooks of their repository; git knows where they are.
    let output = workspace
        .command("git")
        .args(["rev-parse", "--git-path", "hooks"])
        .output()
        .context("asking git")?;
    ensure!(output.status.success(), "this is no git repository");
    let folder = workspace.root.join(String::from_utf8_lossy(&output.stdout).trim());
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let path = folder.join("pre-commit");
    if fs::read_to_string(&path).is_ok_and(|held| held != HOOK) {
        let kept = folder.join("pre-commit.before-kingsguard");
        fs::rename(&path, &kept).with_context(|| format!("keeping {}", kept.display()))?;
        println!("the older hook is kept as {}", workspace.shown(&kept));
    }
    fs::write(&path, HOOK).with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("making the hook executable")?;
    println!("installed {}", workspace.shown(&path));
    Ok(Exit::Passed)
}

fn check(workspace: &Workspace) -> Result<Exit> {
    let mut format = workspace.cargo();
    format.args(["fmt", "--all", "--check"]);
    let mut lint = workspace.cargo();
    // Libraries and binaries only: the tests' turn is in CI.
    lint.args(["clippy", "--workspace", "--quiet", "--", "-D", "warnings"]);
    for command in [&mut format, &mut lint] {
        if !held(command)? {
            return Ok(Exit::Failed);
        }
    }
    tidy::run(workspace, false)
}

fn held(command: &mut Command) -> Result<bool> {
    // git sets these for hooks; a cargo that builds from git must not see them.
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"] {
        command.env_remove(name);
    }
    Ok(command
        .status()
        .with_context(|| format!("starting {command:?}"))?
        .success())
}
