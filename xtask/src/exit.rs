//! What the process ends with. A script reads the number, a person reads the two lines.

use std::fmt;
use std::process::ExitStatus;

/// Exit codes of the runner (RUN-6). Each has one meaning and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything selected ran and held.
    Passed,
    /// At least one test failed.
    Failed,
    /// The command was not understood.
    Usage,
    /// Nothing was selected, or nothing was executed.
    Nothing,
    /// A service that the tests need is missing.
    Services,
    /// All held, but too slowly.
    Budget,
    /// The run cannot be believed: the machine, the generator or the bookkeeping fell short, not the target.
    Invalid,
    /// A signal ended the run; the number is the shell's for SIGINT.
    Interrupted,
}

impl Exit {
    pub const ALL: [Self; 8] = [
        Self::Passed,
        Self::Failed,
        Self::Usage,
        Self::Nothing,
        Self::Services,
        Self::Budget,
        Self::Invalid,
        Self::Interrupted,
    ];

    pub fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Nothing => 3,
            Self::Services => 4,
            Self::Budget => 5,
            Self::Invalid => 6,
            Self::Interrupted => 130,
        }
    }

    /// The end with this number.
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|exit| exit.code() == code)
    }

    /// The end that a runner's own process told; none where a signal or another program ended it.
    pub fn of_status(status: ExitStatus) -> Option<Self> {
        Self::of(u8::try_from(status.code()?).ok()?)
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Passed => "everything selected ran and held",
            Self::Failed => "tests failed",
            Self::Usage => "the command was not understood",
            Self::Nothing => "nothing was selected or executed",
            Self::Services => "services unavailable",
            Self::Budget => "a time budget was exceeded",
            Self::Invalid => "invalid run: the machine, the generator or the bookkeeping fell short, not the target",
            Self::Interrupted => "interrupted by a signal",
        }
    }
}

/// An early end: why, and what to type next.
#[derive(Debug)]
pub struct Stop {
    pub exit: Exit,
    pub why: String,
    pub next: String,
}

impl Stop {
    pub fn new(exit: Exit, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit,
            why: why.into(),
            next: next.into(),
        }
    }

    pub fn usage(why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, why, next)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.why)
    }
}

impl std::error::Error for Stop {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_meanings_share_a_code() {
        let mut codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Exit::ALL.len());
    }
}
