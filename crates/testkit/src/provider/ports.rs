//! Ports of 127.0.0.1 for what tests start. Hundreds of test processes take some at the same time, so each keeps those that
//! it took locked until it ends: between looking for a port and listening on it, nobody else of this machine's kits takes it.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rand::Rng as _;

/// Below the range that the system gives to outgoing connections, so that a backend that is down for a moment finds its
/// port free again.
const RANGE: std::ops::Range<u16> = 10_000..32_000;

/// Ports that are tried before it is given up.
const TRIES: usize = 1_000;

/// A port of 127.0.0.1 that is free now, and this process's own until it ends.
///
/// # Errors
/// No free port was found, or the file of locks cannot be used.
pub fn free_port() -> Result<u16> {
    static LOCKS: OnceLock<File> = OnceLock::new();
    static OWN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

    let locks = match LOCKS.get() {
        Some(locks) => locks,
        None => {
            let name = format!("kingsguard-ports-{}", nix::unistd::Uid::effective());
            let opened = open_locks(&std::env::temp_dir().join(name))?;
            LOCKS.get_or_init(|| opened)
        }
    };
    // A lock of this process does not keep this process itself out.
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rng = rand::rng();
    for _ in 0..TRIES {
        let port = rng.random_range(RANGE);
        if own.contains(&port) || !lock(locks, port)? || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        own.insert(port);
        return Ok(port);
    }
    anyhow::bail!(
        "finding a free port of 127.0.0.1 between {} and {}",
        RANGE.start,
        RANGE.end
    )
}

/// One file for all: a byte of it for each port.
fn open_locks(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// Whether the port's byte is this process's now.
fn lock(locks: &File, port: u16) -> Result<bool> {
    let byte = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: port.into(),
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(locks.as_fd(), FcntlArg::F_OFD_SETLK(&byte)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error).context("locking a port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_given_once() {
        let given: BTreeSet<u16> = (0..100).map(|_| free_port().expect("there are more")).collect();
        assert_eq!(given.len(), 100);
    }

    /// Another opening of the file is to the system what another process is.
    #[test]
    fn a_port_that_somebody_else_took_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || open_locks(&folder.path().join("ports")).expect("a file");
        let (one, other) = (open(), open());
        assert!(lock(&one, RANGE.start).expect("asked"));
        assert!(!lock(&other, RANGE.start).expect("asked"));
        assert!(
            lock(&other, RANGE.start + 1).expect("asked"),
            "each has a lock of its own"
        );
        drop(one);
        assert!(
            lock(&other, RANGE.start).expect("asked"),
            "free again when its owner is gone"
        );
    }
}
