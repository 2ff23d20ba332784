//! `--provision`: installs what a fresh machine lacks, saying what. Only Debian packages and cargo are used.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::chaos::CHAOS;
use crate::cli::Services;
use crate::exit::{Exit, Stop};
use crate::plan::Plan;

/// Something that a run needs and how to see and get it.
#[derive(Debug)]
pub struct Tool {
    pub name: &'static str,
    pub why: &'static str,
    /// Programs that show that it is there; Debian keeps Postgres' own outside the path.
    programs: &'static [&'static str],
    pub package: &'static str,
}

pub const POSTGRES: Tool = Tool {
    name: "Postgres",
    why: "services as processes",
    programs: &["postgres", "initdb"],
    package: "postgresql",
};

pub const REDIS: Tool = Tool {
    name: "Redis",
    why: "services as processes",
    programs: &["redis-server"],
    package: "redis-server",
};

pub const FAKETIME: Tool = Tool {
    name: "libfaketime",
    why: "clocks that jump, in chaos",
    programs: &["faketime"],
    package: "faketime",
};

pub const PYTHON: Tool = Tool {
    name: "Python",
    why: "the example backend (cargo xtask example python)",
    programs: &["python3"],
    package: "python3-venv",
};

pub const DEBOOTSTRAP: Tool = Tool {
    name: "debootstrap",
    why: "stand-in images (cargo xtask images)",
    programs: &["debootstrap"],
    package: "debootstrap",
};

impl Tool {
    pub fn is_there(&self) -> bool {
        self.programs.iter().all(|program| find(program).is_some())
    }
}

/// Looks where a shell would, and where Debian puts the servers' own programs.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<std::path::PathBuf> = std::env::split_paths(&path).collect();
    folders.extend(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(Into::into));
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders
        .into_iter()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Whether `cargo nextest` answers, and with which version.
pub fn nextest_version() -> Option<String> {
    let output = Command::new("cargo")
        .args(["nextest", "--version"])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout)
        .ok()
        .filter(|_| output.status.success())?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

pub fn require_nextest() -> Result<()> {
    if nextest_version().is_some() {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Services,
        "cargo-nextest, which runs the tests, is not installed",
        "the same command with --provision, or cargo install cargo-nextest --locked",
    )
    .into())
}

/// Installs what this plan needs and this machine lacks.
pub fn provide(plan: &Plan, services: Services, has_target: bool) -> Result<()> {
    let mut missing: Vec<&Tool> = Vec::new();
    // Chaos kills services of its own, which are processes whatever the others use.
    let has_chaos = plan.categories().any(|category| category.name == CHAOS);
    let processes = has_chaos || matches!(services, Services::Auto | Services::Processes);
    if plan.needs_stack() && processes && !has_target {
        missing.extend([&POSTGRES, &REDIS].into_iter().filter(|tool| !tool.is_there()));
    }
    if has_chaos && !has_target && !FAKETIME.is_there() {
        missing.push(&FAKETIME);
    }
    if services == Services::Containers && !DEBOOTSTRAP.is_there() {
        missing.push(&DEBOOTSTRAP);
    }
    install_packages(&missing)?;
    if nextest_version().is_none() {
        eprintln!("installing cargo-nextest by cargo, which compiles it (some minutes)");
        // Without the part by which it updates itself: fewer crates to compile.
        let lean = ["--no-default-features", "--features", "default-no-update"];
        run(Command::new("cargo")
            .args(["install", "cargo-nextest", "--locked"])
            .args(lean))?;
    }
    Ok(())
}

/// Installs Debian packages, without letting them start their services.
pub fn install_packages(tools: &[&Tool]) -> Result<()> {
    if tools.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err(Stop::new(
            Exit::Services,
            format!("{} are missing, and this is not a Debian system", names.join(", ")),
            "install them by your system's means; cargo xtask doctor shows what is still missing",
        )
        .into());
    }
    eprintln!("installing Debian packages: {}", names.join(", "));
    if !nix::unistd::Uid::effective().is_root() {
        return Err(Stop::new(
            Exit::Services,
            format!("installing {} needs root", names.join(", ")),
            format!("sudo apt-get install --no-install-recommends {}", names.join(" ")),
        )
        .into());
    }
    let mut apt = apt();
    run(apt.args(["update", "-qq"]))?;
    let mut apt = self::apt();
    run(apt
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(&names))
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {shown}"))?;
    if status.success() {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Services,
        format!("{shown} ended with {status}"),
        "cargo xtask doctor",
    )
    .into())
}
