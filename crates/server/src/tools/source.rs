//! Where a run's usage records come from: the store, or a stored example.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kingsguard_protocol::UserId;
use tokio::sync::OnceCell;

use super::dataset::{Dataset, UsageRow};
use super::dispatcher::ToolError;

/// Why the records could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store does not answer.
    #[error("usage records cannot be read now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Counts that are known without reading every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageTotals {
    /// How many records there are.
    pub records: u64,
    /// What they cost together, in millionths of a US dollar.
    pub cost_microusd: u64,
    /// How many name a feature.
    pub with_feature: u64,
    /// How many have a latency.
    pub with_latency: u64,
    /// How many have a prompt hash.
    pub with_prompt_hash: u64,
    /// Calendar days (UTC) from the oldest to the newest record, both counted; 0 without records.
    pub days: u64,
}

impl UsageTotals {
    /// Counts these records.
    #[must_use]
    pub fn of(rows: &[UsageRow]) -> Self {
        let day = |at_ms: i64| at_ms.div_euclid(super::spend::DAY_MS);
        let count = |has: fn(&UsageRow) -> bool| rows.iter().filter(|row| has(row)).count() as u64;
        let days = rows.iter().map(|row| day(row.at_ms));
        Self {
            records: rows.len() as u64,
            cost_microusd: rows.iter().map(|row| row.cost_microusd).sum(),
            with_feature: count(|row| row.feature.is_some()),
            with_latency: count(|row| row.latency_ms.is_some()),
            with_prompt_hash: count(|row| row.prompt_hash.is_some()),
            days: match (days.clone().min(), days.max()) {
                (Some(first), Some(last)) => u64::try_from(last - first + 1).unwrap_or(0),
                _ => 0,
            },
        }
    }
}

/// Gives usage records, each user his own (ISO-3).
pub trait UsageSource: std::fmt::Debug + Send + Sync {
    /// Every record of the user.
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Dataset, SourceError>>;

    /// Counts of the user's records, cheap enough to ask every second.
    fn totals<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<UsageTotals, SourceError>>;
}

/// Records that are held in memory: the stored examples, and data of unit tests. The same for every user.
#[derive(Clone, Debug)]
pub struct InMemoryUsage {
    dataset: Dataset,
}

impl InMemoryUsage {
    /// A source of these records.
    #[must_use]
    pub fn new(rows: Vec<UsageRow>) -> Self {
        Self {
            dataset: Dataset::new(rows),
        }
    }
}

impl UsageSource for InMemoryUsage {
    fn load<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<Dataset, SourceError>> {
        Box::pin(async { Ok(self.dataset.clone()) })
    }

    fn totals<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<UsageTotals, SourceError>> {
        Box::pin(async { Ok(UsageTotals::of(self.dataset.within(super::Period::default()))) })
    }
}

/// One run's view of its user's records: loaded once, so that all figures of a run agree with each other.
#[derive(Debug)]
pub struct RunData {
    source: Arc<dyn UsageSource>,
    user_id: UserId,
    snapshot: OnceCell<Arc<Dataset>>,
}

impl RunData {
    /// The records of that user, not loaded yet.
    #[must_use]
    pub fn new(source: Arc<dyn UsageSource>, user_id: UserId) -> Self {
        Self {
            source,
            user_id,
            snapshot: OnceCell::new(),
        }
    }

    /// The run's snapshot; the first call loads it.
    ///
    /// # Errors
    /// The store does not answer; the next call tries again.
    pub async fn snapshot(&self) -> Result<Arc<Dataset>, ToolError> {
        let load = || async { self.source.load(&self.user_id).await.map(Arc::new).map_err(unavailable) };
        self.snapshot.get_or_try_init(load).await.cloned()
    }

    /// Counts as they are now, not those of the snapshot.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn totals(&self) -> Result<UsageTotals, ToolError> {
        self.source.totals(&self.user_id).await.map_err(unavailable)
    }
}

fn unavailable(error: SourceError) -> ToolError {
    tracing::warn!(error = &error as &dyn std::error::Error, "usage records cannot be read");
    ToolError {
        code: kingsguard_protocol::ErrorCode::DatabaseUnavailable,
        message: "Your usage records cannot be read now; ask again in a moment.".to_owned(),
    }
}
