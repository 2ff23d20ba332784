//! Drops events that need not stay resumable any more (SEQ-4).

use std::time::Duration;

use crate::store::{Database, events};

/// Threads that one statement looks at, so that none holds others up.
const THREADS_PER_STATEMENT: i64 = 200;

/// What stays resumable: an event that is among the newest `events_min` of its thread or younger than `hours`.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub events_min: u64,
    pub hours: u64,
    /// How often what is older is looked for.
    pub interval: Duration,
}

impl Retention {
    /// Drops old events again and again, for as long as the process lives.
    pub async fn keep(self, database: Database) {
        let mut rounds = tokio::time::interval_at(tokio::time::Instant::now() + self.interval, self.interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.drop_old(&database).await {
                tracing::warn!(error = %error, "old events not dropped, trying again later");
            }
        }
    }

    /// Drops old events of all threads.
    ///
    /// # Errors
    /// The database did not answer; what was dropped until then stays dropped.
    pub async fn drop_old(self, database: &Database) -> Result<(), sqlx::Error> {
        let mut after = String::new();
        while let Some(last) =
            events::drop_old(database, &after, THREADS_PER_STATEMENT, self.events_min, self.hours).await?
        {
            after = last;
        }
        Ok(())
    }
}
