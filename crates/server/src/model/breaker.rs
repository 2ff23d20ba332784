//! A circuit breaker (ERR-4): after some failures in a row calls are refused at once, until one is let through to try.
//!
//! Written here because the kept crates let every waiting call through when they half open, and do not tell their state,
//! which health and metrics must show.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry;

/// Whether calls are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All are.
    Closed,
    /// One is, to try.
    HalfOpen,
    /// None is.
    Open,
}

impl BreakerState {
    /// The word in health.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

#[derive(Debug)]
struct Inner {
    failures: u64,
    opened_at: Option<Instant>,
    /// When the one trying call was let through; a call that never reports keeps its place no longer than `open_for`.
    trying_since: Option<Instant>,
}

/// Guards calls to one service.
#[derive(Debug)]
pub struct Breaker {
    name: &'static str,
    failures_max: u64,
    open_for: Duration,
    inner: Mutex<Inner>,
}

impl Breaker {
    /// A closed breaker that opens after `failures_max` failures in a row and tries again after `open_for`.
    #[must_use]
    pub fn new(name: &'static str, failures_max: u64, open_for: Duration) -> Self {
        let breaker = Self {
            name,
            failures_max,
            open_for,
            inner: Mutex::new(Inner {
                failures: 0,
                opened_at: None,
                trying_since: None,
            }),
        };
        breaker.tell(BreakerState::Closed);
        breaker
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Plain numbers: consistent whatever panicked.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, state: BreakerState) {
        telemetry::breaker_state(
            self.name,
            match state {
                BreakerState::Closed => 0,
                BreakerState::HalfOpen => 1,
                BreakerState::Open => 2,
            },
        );
    }

    /// Lets a call through, or says how long to wait.
    ///
    /// # Errors
    /// The breaker is open.
    pub fn admit(&self) -> Result<(), Duration> {
        let mut inner = self.lock();
        let Some(opened_at) = inner.opened_at else {
            return Ok(());
        };
        let waited = inner.trying_since.unwrap_or(opened_at).elapsed();
        if waited < self.open_for {
            return Err(self.open_for - waited);
        }
        inner.trying_since = Some(Instant::now());
        self.tell(BreakerState::HalfOpen);
        Ok(())
    }

    /// A call that was let through did well.
    pub fn succeeded(&self) {
        let mut inner = self.lock();
        let was_open = inner.opened_at.take().is_some();
        inner.trying_since = None;
        inner.failures = 0;
        if was_open {
            self.tell(BreakerState::Closed);
        }
    }

    /// A call that was let through failed.
    pub fn failed(&self) {
        let mut inner = self.lock();
        inner.failures = inner.failures.saturating_add(1);
        if inner.failures >= self.failures_max || inner.trying_since.is_some() {
            inner.opened_at = Some(Instant::now());
            inner.trying_since = None;
            self.tell(BreakerState::Open);
        }
    }

    /// Whether calls are let through now.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        let inner = self.lock();
        match (inner.opened_at, inner.trying_since) {
            (None, _) => BreakerState::Closed,
            (Some(_), Some(_)) => BreakerState::HalfOpen,
            (Some(opened_at), None) if opened_at.elapsed() >= self.open_for => BreakerState::HalfOpen,
            (Some(_), None) => BreakerState::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_lets_one_call_try() {
        let breaker = Breaker::new("model", 2, OPEN_FOR);
        breaker.failed();
        breaker.succeeded();
        breaker.failed();
        assert_eq!(breaker.state(), BreakerState::Closed, "not in a row");
        breaker.failed();
        assert_eq!((breaker.state(), breaker.admit()), (BreakerState::Open, Err(OPEN_FOR)));
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!((breaker.state(), breaker.admit()), (BreakerState::HalfOpen, Ok(())));
        assert!(breaker.admit().is_err(), "only one tries");
        breaker.failed();
        assert_eq!(breaker.state(), BreakerState::Open, "one failure is enough now");
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!(breaker.admit(), Ok(()));
        breaker.succeeded();
        assert_eq!((breaker.state(), breaker.admit()), (BreakerState::Closed, Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_that_never_reports_does_not_keep_it_shut() {
        let breaker = Breaker::new("model", 1, OPEN_FOR);
        breaker.failed();
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!(breaker.admit(), Ok(()));
        tokio::time::advance(OPEN_FOR).await;
        assert_eq!(breaker.admit(), Ok(()));
    }
}
