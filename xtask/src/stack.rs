//! Postgres and Redis for a suite run, by the test kit's `kingsguard-stack`: this runner starts and stops it,
//! and knows nothing of how it does it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::category::Build;
use crate::cli::Services;
use crate::exit::{Exit, Stop};
use crate::workspace::Workspace;

/// Name of the binary, made by the build of the workspace.
pub const BINARY: &str = "kingsguard-stack";

/// What this runner needs to know of a running stack; the rest of the file is for the tests.
#[derive(Debug, Deserialize)]
struct Facts {
    provider: String,
}

/// A running stack; it is stopped when this value is stopped or dropped, and by its own supervisor when this
/// process is gone.
#[derive(Debug)]
pub struct Stack {
    binary: PathBuf,
    root: PathBuf,
    pub provider: String,
    /// The file that tests find through `KINGSGUARD_STACK`.
    pub file: PathBuf,
    stopped: bool,
}

impl Stack {
    pub fn up(workspace: &Workspace, build: Build, services: Services) -> Result<Self> {
        let binary = workspace.binary(build, BINARY);
        let output = workspace
            .command(&binary)
            .args(["up", "--services", services.word(), "--owner-pid"])
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("starting {}", binary.display()))?;
        if !output.status.success() {
            return Err(Stop::new(
                Exit::Services,
                format!("the services could not be started ({})", output.status),
                "cargo xtask doctor says what is missing; cargo xtask test … --provision installs it",
            )
            .into());
        }
        let printed = String::from_utf8(output.stdout).context("reading what kingsguard-stack printed")?;
        let file = PathBuf::from(printed.trim());
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let facts: Facts = serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        Ok(Self {
            binary,
            root: workspace.root.clone(),
            provider: facts.provider,
            file,
            stopped: false,
        })
    }

    /// Stops and removes exactly what was started.
    pub fn down(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.stopped, true) {
            return Ok(());
        }
        let status = Command::new(&self.binary)
            .current_dir(&self.root)
            .args(["down"])
            .env("KINGSGUARD_STACK", &self.file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("starting {} down", self.binary.display()))?;
        anyhow::ensure!(status.success(), "stopping the services ended with {status}");
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("warning: {error:#}");
        }
    }
}

/// Removes what dead runs left.
pub fn sweep(workspace: &Workspace, build: Build) -> Result<()> {
    let binary = workspace.binary(build, BINARY);
    let status = workspace
        .command(&binary)
        .arg("sweep")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let status = status.with_context(|| format!("starting {}", binary.display()))?;
    anyhow::ensure!(status.success(), "sweeping leftovers of dead runs ended with {status}");
    Ok(())
}
