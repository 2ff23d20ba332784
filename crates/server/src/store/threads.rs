//! Threads: whose they are, what they are called, and what the agents keep about them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use kingsguard_protocol::http::ThreadSummary;
use kingsguard_protocol::{Epoch, ThreadId, Timestamp, UserId};
use serde_json::value::RawValue;
use sqlx::Row;

use super::Database;
use super::events::from_db;
use crate::sabotage::{self, Fault};

/// Makes a thread; an existing one of the same user stays as it is. `false` when the id belongs to another user or the
/// thread was deleted.
///
/// # Errors
/// The database did not answer.
pub async fn ensure(
    database: &Database,
    user: &UserId,
    thread: &ThreadId,
    title: Option<&str>,
    metadata: &str,
    listed: Listed,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "WITH made AS (
             INSERT INTO threads (thread_id, user_id, epoch, title, metadata, listed, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT DO NOTHING RETURNING thread_id
         )
         SELECT EXISTS (SELECT FROM made)
             OR EXISTS (SELECT FROM threads WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL)",
    )
    .bind(thread.as_str())
    .bind(user.as_str())
    .bind(Epoch::generate().as_str())
    .bind(title)
    .bind(metadata)
    .bind(matches!(listed, Listed::Now))
    .bind(Utc::now())
    .fetch_one(database)
    .await
}

/// Whether a thread shows in lists at once or from its first message on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    /// The user made it.
    Now,
    /// A handshake offered it.
    OnFirstUse,
}

/// How many threads a user has.
///
/// # Errors
/// The database did not answer.
pub async fn count(database: &Database, user: &UserId) -> Result<u64, sqlx::Error> {
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM threads WHERE user_id = $1 AND listed AND deleted_at IS NULL")
            .bind(user.as_str())
            .fetch_one(database)
            .await?;
    Ok(from_db(count))
}

/// The epochs of those of these threads that are the user's.
///
/// # Errors
/// The database did not answer.
pub async fn epochs(
    database: &Database,
    user: &UserId,
    threads: &[&str],
) -> Result<HashMap<String, Epoch>, sqlx::Error> {
    let sql = if sabotage::planted(Fault::FanOutByThreadOnly) {
        "SELECT thread_id, epoch FROM threads
         WHERE thread_id = ANY ($2::text[]) AND $1 <> '' AND deleted_at IS NULL"
    } else {
        "SELECT thread_id, epoch FROM threads
         WHERE thread_id = ANY ($2::text[]) AND user_id = $1 AND deleted_at IS NULL"
    };
    let rows = sqlx::query(sql)
        .bind(user.as_str())
        .bind(threads)
        .fetch_all(database)
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, Epoch::from(row.try_get::<String, _>(1)?))))
        .collect()
}

/// The epoch of a user's thread; `None` when he has no such thread.
///
/// # Errors
/// The database did not answer.
pub async fn epoch(database: &Database, user: &UserId, thread: &ThreadId) -> Result<Option<Epoch>, sqlx::Error> {
    let epoch: Option<String> =
        sqlx::query_scalar("SELECT epoch FROM threads WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL")
            .bind(thread.as_str())
            .bind(user.as_str())
            .fetch_optional(database)
            .await?;
    Ok(epoch.map(Epoch::from))
}

/// [`Fault::OracleInTiming`]: takes its time where there is such a thread.
///
/// # Errors
/// The database did not answer.
pub async fn linger_over_a_foreign_one(database: &Database, thread: &ThreadId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_sleep(0.02) FROM threads WHERE thread_id = $1")
        .bind(thread.as_str())
        .execute(database)
        .await
        .map(drop)
}

/// A user's thread as lists show it; `None` when he has no such thread.
///
/// # Errors
/// The database did not answer.
pub async fn get(database: &Database, user: &UserId, thread: &ThreadId) -> Result<Option<ThreadSummary>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT thread_id, title, metadata, created_at, updated_at,
                coalesce((SELECT max(seq) FROM events WHERE events.thread_id = threads.thread_id), 0)
         FROM threads WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL",
    )
    .bind(thread.as_str())
    .bind(user.as_str())
    .fetch_optional(database)
    .await?;
    row.as_ref().map(summary).transpose()
}

/// Where a page of threads goes on: after this thread, in the list's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageStart {
    pub updated_at: DateTime<Utc>,
    pub thread_id: ThreadId,
}

/// Up to `limit` threads of a user, the newest first. Counted in milliseconds, as the wire and its cursors have them.
///
/// # Errors
/// The database did not answer.
pub async fn list(
    database: &Database,
    user: &UserId,
    limit: i64,
    start: Option<&PageStart>,
) -> Result<Vec<ThreadSummary>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT thread_id, title, metadata, created_at, updated_at,
                coalesce((SELECT max(seq) FROM events WHERE events.thread_id = threads.thread_id), 0)
         FROM threads
         WHERE user_id = $1 AND listed AND deleted_at IS NULL
           AND ($2::timestamptz IS NULL OR (date_trunc('milliseconds', updated_at), thread_id) < ($2, $3))
         ORDER BY date_trunc('milliseconds', updated_at) DESC, thread_id DESC LIMIT $4",
    )
    .bind(user.as_str())
    .bind(start.map(|s| s.updated_at))
    .bind(start.map(|s| s.thread_id.as_str()))
    .bind(limit)
    .fetch_all(database)
    .await?;
    rows.iter().map(summary).collect()
}

fn summary(row: &sqlx::postgres::PgRow) -> Result<ThreadSummary, sqlx::Error> {
    let metadata: String = row.try_get(2)?;
    Ok(ThreadSummary {
        thread_id: row.try_get::<String, _>(0)?.into(),
        title: row.try_get(1)?,
        metadata: RawValue::from_string(metadata).map_err(|error| sqlx::Error::Decode(error.into()))?,
        created_at: Timestamp::from(row.try_get::<DateTime<Utc>, _>(3)?),
        updated_at: Timestamp::from(row.try_get::<DateTime<Utc>, _>(4)?),
        last_seq: from_db(row.try_get(5)?),
    })
}

/// Gives a thread another title; `false` when the user has no such thread.
///
/// # Errors
/// The database did not answer.
pub async fn rename(database: &Database, user: &UserId, thread: &ThreadId, title: &str) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE threads SET title = $3, updated_at = greatest(updated_at, $4)
         WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL",
    )
    .bind(thread.as_str())
    .bind(user.as_str())
    .bind(title)
    .bind(Utc::now())
    .execute(database)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes a thread, its messages and what the agents kept; `false` when the user has no such thread.
///
/// Its events go too, unless a run in it is open: then [`purge`] removes them after the run's end.
///
/// # Errors
/// The database did not answer.
pub async fn delete(database: &Database, user: &UserId, thread: &ThreadId) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE threads SET deleted_at = $3, title = NULL, metadata = '{}', context = '{}'
         WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL",
    )
    .bind(thread.as_str())
    .bind(user.as_str())
    .bind(Utc::now())
    .execute(database)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(false);
    }
    purge(database, thread).await?;
    Ok(true)
}

/// Removes what is left of a deleted thread in which no run is open.
///
/// # Errors
/// The database did not answer.
pub async fn purge(database: &Database, thread: &ThreadId) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH gone AS (
             SELECT thread_id FROM threads t WHERE thread_id = $1 AND deleted_at IS NOT NULL
                AND NOT EXISTS (SELECT FROM runs WHERE runs.thread_id = t.thread_id AND ended_at IS NULL)
         ), words AS (
             DELETE FROM messages USING gone WHERE messages.thread_id = gone.thread_id
         ), answers AS (
             UPDATE runs SET input = '', context = NULL, final_response = NULL FROM gone
             WHERE runs.thread_id = gone.thread_id
         )
         DELETE FROM events USING gone WHERE events.thread_id = gone.thread_id",
    )
    .bind(thread.as_str())
    .execute(database)
    .await
    .map(drop)
}

/// What the agents keep about a user's thread, a JSON object; `None` when he has no such thread.
///
/// # Errors
/// The database did not answer.
pub async fn context(database: &Database, user: &UserId, thread: &ThreadId) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT context FROM threads WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL")
        .bind(thread.as_str())
        .bind(user.as_str())
        .fetch_optional(database)
        .await
}

/// Replaces what the agents keep about a user's thread.
///
/// # Errors
/// The database did not answer.
pub async fn set_context(
    database: &Database,
    user: &UserId,
    thread: &ThreadId,
    context: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE threads SET context = $3 WHERE thread_id = $1 AND user_id = $2 AND deleted_at IS NULL")
        .bind(thread.as_str())
        .bind(user.as_str())
        .bind(context)
        .execute(database)
        .await
        .map(drop)
}
