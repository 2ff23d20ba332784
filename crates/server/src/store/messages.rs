//! What was said in threads.

use chrono::{DateTime, Utc};
use kingsguard_protocol::http::{MessageRole, ThreadMessage};
use kingsguard_protocol::{ThreadId, Timestamp};
use serde_json::value::RawValue;
use sqlx::Row;

use super::Database;

/// The newest `limit` messages of a thread that were said up to `until`, newest last.
///
/// # Errors
/// The database did not answer.
pub async fn newest(
    database: &Database,
    thread: &ThreadId,
    until: Option<DateTime<Utc>>,
    limit: i64,
) -> Result<Vec<ThreadMessage>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT message_id, role, content, metadata, created_at FROM messages
         WHERE thread_id = $1 AND ($2::timestamptz IS NULL OR created_at <= $2)
         ORDER BY place DESC LIMIT $3",
    )
    .bind(thread.as_str())
    .bind(until)
    .bind(limit)
    .fetch_all(database)
    .await?;
    rows.iter()
        .rev()
        .map(|row| {
            let metadata: String = row.try_get(3)?;
            Ok(ThreadMessage {
                message_id: row.try_get::<String, _>(0)?.into(),
                role: if row.try_get::<String, _>(1)? == "user" {
                    MessageRole::User
                } else {
                    MessageRole::Assistant
                },
                content: row.try_get(2)?,
                metadata: RawValue::from_string(metadata).map_err(|error| sqlx::Error::Decode(error.into()))?,
                timestamp: Timestamp::from(row.try_get::<DateTime<Utc>, _>(4)?),
            })
        })
        .collect()
}
