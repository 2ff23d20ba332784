//! Stopping without breaking what runs (CON-4).

use std::sync::Arc;
use std::time::Duration;

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::control::ShutdownReason;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;

/// Whether the server stops, and why and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainState {
    /// New work is accepted.
    Serving,
    /// New work is refused; what runs may go on.
    Draining {
        /// Whether the server comes back: decides between close codes 1001 and 1012.
        reason: ShutdownReason,
        /// When what still runs is ended.
        deadline: Instant,
    },
}

/// The one switch that says whether the server stops. Cheap to clone; once begun, a drain is never undone.
#[derive(Clone, Debug)]
pub struct Drain {
    state: Arc<watch::Sender<DrainState>>,
    patience: Duration,
    ended: CancellationToken,
}

impl Drain {
    /// A server that serves; once it drains, what runs has `patience` to end.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self {
            state: Arc::new(watch::Sender::new(DrainState::Serving)),
            patience,
            ended: CancellationToken::new(),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn state(&self) -> DrainState {
        *self.state.borrow()
    }

    /// Whether new work is refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.state() != DrainState::Serving
    }

    /// Refuses new work from now on. The first reason stays.
    pub fn begin(&self, reason: ShutdownReason) {
        let deadline = Instant::now() + self.patience;
        self.state.send_if_modified(|state| {
            let begins = *state == DrainState::Serving;
            if begins {
                *state = DrainState::Draining { reason, deadline };
            }
            begins
        });
    }

    /// Waits until it begins; returns why and until when what runs may go on.
    pub async fn begun(&self) -> (ShutdownReason, Instant) {
        let mut changes = self.state.subscribe();
        loop {
            if let DrainState::Draining { reason, deadline } = *changes.borrow_and_update() {
                return (reason, deadline);
            }
            if changes.changed().await.is_err() {
                // `self` holds the sender, so it cannot be gone; waiting for ever is what "not begun" means.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Says that nothing runs any more: what is still open is closed now.
    pub fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until nothing runs any more.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// How long what runs may go on after the begin.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Refuses new work while draining.
    ///
    /// # Errors
    /// SERVICE_DRAINING.
    pub fn refuse_new_work(&self) -> Result<(), ApiError> {
        match self.state() {
            DrainState::Serving => Ok(()),
            DrainState::Draining { deadline, .. } => {
                let left = deadline
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_secs(1));
                Err(ApiError::new(ErrorCode::ServiceDraining).with_retry_after(left))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_reason_and_deadline_stay() {
        let drain = Drain::new(Duration::from_secs(30));
        assert!(drain.refuse_new_work().is_ok());
        drain.begin(ShutdownReason::Restart);
        let first = drain.begun().await;
        tokio::time::advance(Duration::from_secs(1)).await;
        drain.begin(ShutdownReason::Stop);
        assert_eq!(drain.begun().await, first);
        let refused = drain.refuse_new_work().expect_err("draining");
        assert_eq!(refused.code, ErrorCode::ServiceDraining);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(29)));
    }
}
