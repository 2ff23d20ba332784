//! Signals that end the runner are noticed, not suffered, so that what was started is stopped.

use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// How often a command that is waited for is looked at.
const TICK: Duration = Duration::from_millis(20);

static SEEN: AtomicUsize = AtomicUsize::new(0);
static WATCHING: OnceLock<()> = OnceLock::new();

/// Starts to watch. Signals are handled, not blocked: what is blocked here would be blocked in every process that this
/// runner starts, and those could then not be ended in order.
pub fn watch() -> Result<()> {
    if WATCHING.set(()).is_err() {
        return Ok(());
    }
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("listening to the signals that end a process")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                SEEN.fetch_add(1, Ordering::SeqCst);
            }
        })
        .context("starting the thread that waits for signals")?;
    Ok(())
}

/// How many came. The second one means: now.
pub fn seen() -> usize {
    SEEN.load(Ordering::SeqCst)
}

/// Runs a command to its end, handing on what ends us: a signal to this process alone must end what it waits for.
pub fn attend(command: &mut Command) -> Result<ExitStatus> {
    let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait().with_context(|| format!("waiting for {command:?}"))? {
            return Ok(status);
        }
        if seen() > 0 && !told {
            told = true;
            let pid = Pid::from_raw(i32::try_from(child.id()).context("process ids fit")?);
            // It may have ended by itself in this moment.
            let _ended = kill(pid, Signal::SIGTERM);
        }
        std::thread::sleep(TICK);
    }
}
