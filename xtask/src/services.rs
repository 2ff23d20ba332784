//! `cargo xtask services`: a stack that outlives a suite run, for work at the desk.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use crate::category::Build;
use crate::cli::{Services, ServicesAction};
use crate::exit::{Exit, Stop};
use crate::stack::BINARY;
use crate::workspace::Workspace;

/// Where `up` notes which stack it started; `down`, `logs` and a shell read it.
const NOTE: &str = "services.path";

/// Its end is never the stack's end before `down`: the machine's own first process.
const NO_OWNER: &str = "1";

pub fn run(workspace: &Workspace, action: &ServicesAction) -> Result<Exit> {
    build(workspace)?;
    match action {
        ServicesAction::Up { services } => up(workspace, *services),
        ServicesAction::Status => call(workspace, &["status"]),
        ServicesAction::Logs => call(workspace, &["logs", "--stack", &noted(workspace)?]),
        ServicesAction::Down => {
            let exit = call(workspace, &["down", "--stack", &noted(workspace)?])?;
            std::fs::remove_file(note(workspace)).context("forgetting the stack")?;
            Ok(exit)
        }
    }
}

/// The binary is part of the test kit; nothing else is built.
pub fn build(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    command.args([
        "build",
        "--quiet",
        "-p",
        "kingsguard-testkit",
        "-p",
        "kingsguard-server",
        "--bins",
    ]);
    let status = command.status().context("starting cargo build")?;
    ensure!(status.success(), "building {BINARY} ended with {status}");
    Ok(())
}

fn up(workspace: &Workspace, services: Services) -> Result<Exit> {
    // A second stack would leave the first without anybody who knows of it.
    call(workspace, &["sweep"])?;
    if let Ok(path) = noted(workspace)
        && Path::new(&path).is_file()
    {
        println!("export KINGSGUARD_STACK={path}");
        eprintln!("these services are up already; cargo xtask services down ends them");
        return Ok(Exit::Passed);
    }
    let output = workspace
        .command(workspace.binary(Build::Debug, BINARY))
        .args(["up", "--services", services.word(), "--owner-pid", NO_OWNER])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {BINARY}"))?;
    if !output.status.success() {
        return Err(Stop::new(
            Exit::Services,
            format!("the services could not be started ({})", output.status),
            "cargo xtask doctor",
        )
        .into());
    }
    let path = String::from_utf8(output.stdout).with_context(|| format!("reading what {BINARY} printed"))?;
    let path = path.trim();
    std::fs::write(note(workspace), path).context("noting the stack")?;
    println!("export KINGSGUARD_STACK={path}");
    eprintln!("with that set, cargo nextest run uses these services; cargo xtask services down ends them");
    Ok(Exit::Passed)
}

fn call(workspace: &Workspace, arguments: &[&str]) -> Result<Exit> {
    let status = workspace
        .command(workspace.binary(Build::Debug, BINARY))
        .args(arguments)
        .status();
    let status = status.with_context(|| format!("starting {BINARY}"))?;
    Ok(if status.success() { Exit::Passed } else { Exit::Failed })
}

fn note(workspace: &Workspace) -> PathBuf {
    workspace.target.join(NOTE)
}

fn noted(workspace: &Workspace) -> Result<String> {
    std::fs::read_to_string(note(workspace)).map_err(|_| {
        Stop::new(
            Exit::Services,
            "no services were started by `cargo xtask services up`",
            "cargo xtask services up",
        )
        .into()
    })
}
