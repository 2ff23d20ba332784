//! Processes of the machine, told apart for good.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// When it was started, in clock ticks since the machine was (`/proc/PID/stat`, field 22).
    pub started: u64,
}

/// What `/proc/PID/stat` says of a process (proc_pid_stat(5)).
struct Stat {
    /// Field 3.
    state: char,
    /// Field 4.
    parent: u32,
    /// Field 22.
    started: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold anything, so fields count from its end, which is field 2.
        let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3);
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: field(4)?.parse().ok()?,
            started: field(22)?.parse().ok()?,
        })
    }
}

impl ProcessId {
    /// The process that has this number now, if there is one.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let stat = Stat::of(pid)?;
        // A zombie has ended; only its parent has not looked yet.
        (stat.state != 'Z').then_some(Self {
            pid,
            started: stat.started,
        })
    }

    /// This process.
    ///
    /// # Panics
    /// The system has no `/proc`.
    #[must_use]
    pub fn current() -> Self {
        Self::of(std::process::id()).expect("a running process stands in /proc")
    }

    /// What is said of it, while it runs.
    fn stat(self) -> Option<Stat> {
        Stat::of(self.pid).filter(|stat| stat.started == self.started && stat.state != 'Z')
    }

    /// The number of its parent, while it runs.
    #[must_use]
    pub fn parent(self) -> Option<u32> {
        self.stat().map(|stat| stat.parent)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_alive(self) -> bool {
        self.stat().is_some()
    }

    /// Whether a signal lets it stand still.
    #[must_use]
    pub fn is_stopped(self) -> bool {
        self.stat().is_some_and(|stat| stat.state == 'T')
    }

    /// Sends a signal, if it still runs.
    pub fn signal(self, signal: Signal) {
        if let (true, Ok(pid)) = (self.is_alive(), i32::try_from(self.pid)) {
            kill(Pid::from_raw(pid), signal).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_number_and_start() {
        let own = ProcessId::current();
        assert!(own.is_alive());
        assert!(
            !ProcessId {
                started: own.started + 1,
                ..own
            }
            .is_alive()
        );
    }
}
