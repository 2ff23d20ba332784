//! `cargo xtask serve`: services and a backend for a person, by the test kit's `kingsguard-stack serve`.

use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::category::Build;
use crate::cli::ServeArgs;
use crate::exit::{Exit, Stop};
use crate::stack::BINARY;
use crate::workspace::Workspace;
use crate::{images, leftovers, services, signals};

/// How often signals are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Runs drain and services end in this time, or are ended.
const GRACE: Duration = Duration::from_secs(40);

pub fn run(workspace: &Workspace, args: &ServeArgs) -> Result<Exit> {
    services::build(workspace)?;
    if images::base_is_there() {
        images::refresh_server(workspace, Build::Debug)?;
    }
    let mut command = workspace.command(workspace.binary(Build::Debug, BINARY));
    command.args([
        "serve",
        "--services",
        args.services.word(),
        "--port",
        &args.port.to_string(),
    ]);
    if args.json {
        command.arg("--json");
    }
    // In a group of its own: Ctrl-C reaches this process alone, which then ends the other in order.
    command.process_group(0).env(leftovers::MARK, leftovers::mark());
    let mut child = command.spawn().with_context(|| format!("starting {BINARY} serve"))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("process ids fit")?);
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("waiting for the backend")? {
            if status.success() || asked.is_some() {
                return Ok(Exit::Passed);
            }
            return Err(Stop::new(
                Exit::Services,
                format!("{BINARY} serve ended with {status}"),
                "cargo xtask doctor",
            )
            .into());
        }
        let overdue = asked.is_some_and(|asked| asked.elapsed() > GRACE) || signals::seen() > 1;
        if overdue {
            kill(pid, Signal::SIGKILL).context("ending the backend")?;
        } else if signals::seen() > 0 && asked.is_none() {
            asked = Some(Instant::now());
            kill(pid, Signal::SIGTERM).context("asking the backend to end")?;
        }
        std::thread::sleep(TICK);
    }
}
