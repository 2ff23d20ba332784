//! Signals that end the runner are noticed, not suffered, so that what was started is stopped.

use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

/// How often a command that is waited for is looked at.
const TICK: Duration = Duration::from_millis(20);

static SEEN: AtomicUsize = AtomicUsize::new(0);
static WATCHING: OnceLock<()> = OnceLock::new();

/// Starts to watch. Must be called before any other thread is started, for they inherit what is blocked;
/// child processes begin with nothing blocked.
pub fn watch() -> Result<()> {
    if WATCHING.set(()).is_err() {
        return Ok(());
    }
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().context("blocking the signals that end a process")?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while set.wait().is_ok() {
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
