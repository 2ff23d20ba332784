//! Which nodes are there.

use std::time::Duration;

use super::Broker;
use crate::error::ApiError;

/// How often a node says that it is there.
const SAID_EVERY: Duration = Duration::from_secs(2);

/// How long a node counts as there after it last said so: two missed tellings are forgiven.
const BELIEVED_FOR: Duration = Duration::from_secs(7);

impl Broker {
    pub(super) async fn keep_presence(&self) {
        let key = self.key("node", &self.inner.node);
        let mut ticks = tokio::time::interval(SAID_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut connection = self.inner.connection.clone();
            let mut said = redis::cmd("SET");
            said.arg(&key).arg(1).arg("PX").arg(BELIEVED_FOR.as_millis() as u64);
            let told = self
                .timed(async move { said.query_async::<()>(&mut connection).await })
                .await;
            if let Err(error) = told {
                tracing::debug!(reason = %error, "presence cannot be told");
            }
        }
    }

    /// Says that this node is gone, so that others need not wait until it is no longer believed.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE.
    pub async fn leave(&self) -> Result<(), ApiError> {
        let key = self.key("node", &self.inner.node);
        let mut connection = self.inner.connection.clone();
        self.timed(async move { redis::cmd("DEL").arg(key).query_async::<()>(&mut connection).await })
            .await
    }

    /// Whether a node is there.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE: it is not known.
    pub async fn is_present(&self, node: &str) -> Result<bool, ApiError> {
        let key = self.key("node", node);
        let mut connection = self.inner.connection.clone();
        self.timed(async move { redis::cmd("EXISTS").arg(key).query_async::<bool>(&mut connection).await })
            .await
    }
}
