//! Signals that end the runner are noticed, not suffered, so that what was started is stopped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};

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
