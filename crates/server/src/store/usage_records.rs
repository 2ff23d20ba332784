//! Users' usage records, and what agents need of the store.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use kingsguard_protocol::{ThreadId, UserId};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, Row as _, Transaction};

use super::{Database, Store, threads};
use crate::agents::{MemoryError, ThreadContexts};
use crate::tools::{Dataset, Object, SourceError, UsageRow, UsageSource, UsageTotals};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// A set of records on its way into the store: all of it or nothing.
#[derive(Debug)]
pub struct UsageImport {
    database: Database,
    transaction: Transaction<'static, Postgres>,
    user_id: UserId,
    totals: UsageTotals,
    first_at: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
}

fn instant(at_ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default()
}

fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count<C: sqlx::ColumnIndex<PgRow>>(row: &PgRow, column: C) -> Result<u64, sqlx::Error> {
    row.try_get::<i64, _>(column)
        .map(|count| u64::try_from(count).unwrap_or(0))
}

impl UsageImport {
    /// Writes some more records.
    ///
    /// # Errors
    /// Postgres does not take them.
    pub async fn add(&mut self, rows: &[UsageRow]) -> Result<(), sqlx::Error> {
        let insert = sqlx::query(
            "INSERT INTO usage_records (user_id, at, model, feature, input_tokens, output_tokens, latency_ms,
                                        cost_microusd, prompt_hash, success)
             SELECT $1, at, model, feature, input_tokens, output_tokens, latency_ms, cost_microusd, prompt_hash, success
             FROM UNNEST($2::timestamptz[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[], $9::text[], $10::boolean[])
                  AS row (at, model, feature, input_tokens, output_tokens, latency_ms, cost_microusd, prompt_hash,
                          success)",
        )
        .bind(self.user_id.as_str())
        .bind(rows.iter().map(|row| instant(row.at_ms)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.model.to_string()).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.feature.as_deref().map(str::to_owned))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| bigint(row.input_tokens)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| bigint(row.output_tokens)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.latency_ms.map(bigint)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| bigint(row.cost_microusd)).collect::<Vec<_>>())
        .bind(
            rows.iter()
                .map(|row| row.prompt_hash.as_deref().map(str::to_owned))
                .collect::<Vec<_>>(),
        )
        .bind(rows.iter().map(|row| row.success).collect::<Vec<_>>())
        .execute(&mut *self.transaction);
        self.database.within(insert).await?;
        let added = UsageTotals::of(rows);
        self.totals.records += added.records;
        self.totals.cost_microusd += added.cost_microusd;
        self.totals.with_feature += added.with_feature;
        self.totals.with_latency += added.with_latency;
        self.totals.with_prompt_hash += added.with_prompt_hash;
        let (oldest, newest) = (
            rows.iter().map(|row| row.at_ms).min(),
            rows.iter().map(|row| row.at_ms).max(),
        );
        self.first_at = self.first_at.into_iter().chain(oldest.map(instant)).min();
        self.last_at = self.last_at.into_iter().chain(newest.map(instant)).max();
        Ok(())
    }

    /// Keeps what was added, unless the user would then have more than `records_max`. Answers whether it was kept.
    ///
    /// # Errors
    /// Postgres does not take it; then nothing was stored.
    pub async fn commit(mut self, records_max: u64) -> Result<bool, sqlx::Error> {
        let totals = sqlx::query(
            "INSERT INTO usage_totals AS kept (user_id, records, cost_microusd, with_feature, with_latency,
                                               with_prompt_hash, first_at, last_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
             ON CONFLICT (user_id) DO UPDATE SET
                 records = kept.records + excluded.records,
                 cost_microusd = kept.cost_microusd + excluded.cost_microusd,
                 with_feature = kept.with_feature + excluded.with_feature,
                 with_latency = kept.with_latency + excluded.with_latency,
                 with_prompt_hash = kept.with_prompt_hash + excluded.with_prompt_hash,
                 first_at = LEAST(kept.first_at, excluded.first_at),
                 last_at = GREATEST(kept.last_at, excluded.last_at)
             RETURNING records",
        )
        .bind(self.user_id.as_str())
        .bind(bigint(self.totals.records))
        .bind(bigint(self.totals.cost_microusd))
        .bind(bigint(self.totals.with_feature))
        .bind(bigint(self.totals.with_latency))
        .bind(bigint(self.totals.with_prompt_hash))
        .bind(self.first_at.unwrap_or_default())
        .bind(self.last_at.unwrap_or_default())
        .fetch_one(&mut *self.transaction);
        let row = self.database.within(totals).await?;
        let is_kept = count(&row, "records")? <= records_max;
        let end = async {
            if is_kept {
                self.transaction.commit().await
            } else {
                self.transaction.rollback().await
            }
        };
        self.database.within(end).await?;
        Ok(is_kept)
    }
}

impl Store {
    /// Begins to take records of a user; dropped without `commit`, nothing of it stays.
    ///
    /// # Errors
    /// Postgres does not answer.
    pub async fn begin_usage_import(&self, user: &UserId) -> Result<UsageImport, sqlx::Error> {
        Ok(UsageImport {
            database: self.database().clone(),
            transaction: self.database().begin().await?,
            user_id: user.clone(),
            totals: UsageTotals::default(),
            first_at: None,
            last_at: None,
        })
    }

    async fn usage_rows(&self, user: &UserId) -> Result<Vec<UsageRow>, sqlx::Error> {
        let mut found = sqlx::query(
            "SELECT at, model, feature, input_tokens, output_tokens, latency_ms, cost_microusd, prompt_hash, success
             FROM usage_records WHERE user_id = $1 ORDER BY at, record_id",
        )
        .bind(user.as_str())
        .fetch(self.database());
        // Few names, many records: each name is held once.
        let mut names: HashSet<Arc<str>> = HashSet::new();
        let mut name = |text: &str| -> Arc<str> {
            if let Some(known) = names.get(text) {
                return Arc::clone(known);
            }
            let new: Arc<str> = text.into();
            names.insert(Arc::clone(&new));
            new
        };
        let mut rows = Vec::new();
        while let Some(row) = found.try_next().await? {
            // By place, not by name: a large snapshot looks up nine names a row otherwise.
            let latency: Option<i64> = row.try_get(5)?;
            rows.push(UsageRow {
                at_ms: row.try_get::<DateTime<Utc>, _>(0)?.timestamp_millis(),
                model: name(row.try_get(1)?),
                feature: row.try_get::<Option<&str>, _>(2)?.map(&mut name),
                input_tokens: count(&row, 3)?,
                output_tokens: count(&row, 4)?,
                latency_ms: latency.and_then(|latency| u64::try_from(latency).ok()),
                cost_microusd: count(&row, 6)?,
                prompt_hash: row.try_get::<Option<&str>, _>(7)?.map(&mut name),
                success: row.try_get(8)?,
            });
        }
        Ok(rows)
    }

    async fn usage_totals(&self, user: &UserId) -> Result<UsageTotals, sqlx::Error> {
        let found = sqlx::query(
            "SELECT records, cost_microusd, with_feature, with_latency, with_prompt_hash, first_at, last_at
             FROM usage_totals WHERE user_id = $1",
        )
        .bind(user.as_str())
        .fetch_optional(self.database())
        .await?;
        let Some(row) = found else {
            return Ok(UsageTotals::default());
        };
        let day = |column| {
            let at: Result<DateTime<Utc>, sqlx::Error> = row.try_get(column);
            at.map(|at| at.timestamp_millis().div_euclid(DAY_MS))
        };
        Ok(UsageTotals {
            records: count(&row, "records")?,
            cost_microusd: count(&row, "cost_microusd")?,
            with_feature: count(&row, "with_feature")?,
            with_latency: count(&row, "with_latency")?,
            with_prompt_hash: count(&row, "with_prompt_hash")?,
            days: u64::try_from(day("last_at")? - day("first_at")? + 1).unwrap_or(0),
        })
    }
}

impl UsageSource for Store {
    fn load<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Dataset, SourceError>> {
        Box::pin(async {
            let rows = self.usage_rows(user).await;
            rows.map(Dataset::new)
                .map_err(|error| SourceError::Unavailable(error.into()))
        })
    }

    fn totals<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<UsageTotals, SourceError>> {
        Box::pin(async {
            self.usage_totals(user)
                .await
                .map_err(|error| SourceError::Unavailable(error.into()))
        })
    }
}

impl ThreadContexts for Store {
    fn load<'a>(&'a self, user: &'a UserId, thread: &'a ThreadId) -> BoxFuture<'a, Result<Object, MemoryError>> {
        Box::pin(async {
            let found = threads::context(self.database(), user, thread).await;
            let text = found.map_err(|error| MemoryError(error.into()))?.unwrap_or_default();
            // Written by `save` alone; whatever else stands there is no context.
            Ok(serde_json::from_str(&text).unwrap_or_default())
        })
    }

    fn save<'a>(
        &'a self,
        user: &'a UserId,
        thread: &'a ThreadId,
        context: Object,
    ) -> BoxFuture<'a, Result<(), MemoryError>> {
        Box::pin(async move {
            let text = serde_json::Value::Object(context).to_string();
            threads::set_context(self.database(), user, thread, &text)
                .await
                .map_err(|error| MemoryError(error.into()))
        })
    }
}
