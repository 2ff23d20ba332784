//! Where things lie, relative to the root of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::category::Build;

/// The repository's root and the folders under `target/` that the runner uses.
#[derive(Debug, Clone)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Workspace {
    /// From the place of this package in the tree, which holds wherever the command is typed.
    pub fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("xtask stands in a folder of the workspace")?;
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(folder) => root.join(folder),
            None => root.join("target"),
        };
        Ok(Self {
            root: root.to_owned(),
            target,
        })
    }

    /// The cargo that runs us, in the root.
    pub fn cargo(&self) -> Command {
        let mut command = self.command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // `cargo run` hands these to xtask, about xtask; a build must not see them or it would rebuild what reads them.
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
                command.env_remove(&name);
            }
        }
        command
    }

    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    pub fn binary(&self, build: Build, name: &str) -> PathBuf {
        self.target.join(build.folder()).join(name)
    }

    pub fn reports(&self) -> PathBuf {
        self.target.join("reports")
    }

    /// Where nextest puts the JUnit file of a profile: in the workspace, wherever cargo builds.
    pub fn junit(&self, profile: &str) -> PathBuf {
        self.root.join("target").join("nextest").join(profile).join("junit.xml")
    }

    /// As a person would type it: without the root where it lies inside.
    pub fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }
}
