//! The log: events of threads, in order, as they were first sent.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use kingsguard_protocol::{RunId, ThreadId};
use sqlx::{PgConnection, Row};

use super::Database;

/// One event that is about to be written.
#[derive(Debug)]
pub struct NewEvent<'a> {
    pub thread_id: &'a ThreadId,
    pub seq: u64,
    pub run_id: &'a RunId,
    pub created_at: DateTime<Utc>,
    pub frame: &'a str,
}

/// The end of a run, written together with its last event.
#[derive(Clone, Debug)]
pub struct NewRunEnd {
    pub run_id: RunId,
    pub thread_id: ThreadId,
    pub message_id: String,
    pub phase: &'static str,
    pub final_response: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
    pub cost_microusd: u64,
    pub ended_at: DateTime<Utc>,
}

/// Which node may write a run's events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    pub run_id: RunId,
    pub fence: i64,
}

/// Where a thread's log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    pub last_seq: u64,
    pub last_at: Option<DateTime<Utc>>,
}

/// One stored event.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    pub seq: u64,
    pub frame: String,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it is durable.
    All,
    /// None of it: a run in it belongs to another node by now.
    Fenced,
    /// None of it: a `seq` in it was given by another node.
    Overtaken,
}

fn to_db(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_db(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Writes a batch, all or nothing, with the ends of the runs whose last event it holds.
///
/// # Errors
/// The database did not answer, or did not say whether it committed. The same batch may be written again: at most one of the two is
/// taken, and [`is_stored`] tells whether a refused one is there already.
pub async fn append(
    connection: &mut PgConnection,
    events: &[NewEvent<'_>],
    fences: &[Fence],
    ends: &[NewRunEnd],
) -> Result<Written, sqlx::Error> {
    let end = |f: fn(&NewRunEnd) -> &str| ends.iter().map(f).collect::<Vec<_>>();
    let end_number = |f: fn(&NewRunEnd) -> u64| ends.iter().map(|e| to_db(f(e))).collect::<Vec<_>>();
    let result = sqlx::query(
        "WITH owned AS (
             SELECT count(*) = cardinality($6::text[]) AS good
             FROM unnest($6::text[], $7::bigint[]) AS f (run_id, fence)
             JOIN runs USING (run_id, fence) WHERE runs.ended_at IS NULL
         ), ended AS (
             UPDATE runs SET phase = e.phase, final_response = e.final_response, ended_at = e.ended_at,
                    input_tokens = e.input_tokens, output_tokens = e.output_tokens, cost_microusd = e.cost_microusd
             FROM unnest($8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[],
                         $14::timestamptz[], $15::text[], $16::text[])
                  AS e (run_id, phase, final_response, input_tokens, output_tokens, cost_microusd, ended_at, thread_id,
                        message_id)
             WHERE runs.run_id = e.run_id AND (SELECT good FROM owned)
             RETURNING e.thread_id, e.message_id, e.final_response, e.ended_at
         ), answered AS (
             INSERT INTO messages (thread_id, message_id, role, content, metadata, created_at)
             SELECT thread_id, message_id, 'assistant', final_response, '{}', ended_at FROM ended
             ON CONFLICT DO NOTHING
         )
         INSERT INTO events (thread_id, seq, run_id, created_at, frame)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[])
         WHERE (SELECT good FROM owned)",
    )
    .bind(events.iter().map(|e| e.thread_id.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|e| to_db(e.seq)).collect::<Vec<_>>())
    .bind(events.iter().map(|e| e.run_id.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|e| e.created_at).collect::<Vec<_>>())
    .bind(events.iter().map(|e| e.frame).collect::<Vec<_>>())
    .bind(fences.iter().map(|f| f.run_id.as_str()).collect::<Vec<_>>())
    .bind(fences.iter().map(|f| f.fence).collect::<Vec<_>>())
    .bind(end(|e| e.run_id.as_str()))
    .bind(end(|e| e.phase))
    .bind(end(|e| &e.final_response))
    .bind(end_number(|e| e.input_tokens))
    .bind(end_number(|e| e.output_tokens))
    .bind(end_number(|e| e.cost_microusd))
    .bind(ends.iter().map(|e| e.ended_at).collect::<Vec<_>>())
    .bind(end(|e| e.thread_id.as_str()))
    .bind(end(|e| &e.message_id))
    .execute(connection)
    .await;
    match result {
        Ok(done) if done.rows_affected() == events.len() as u64 => Ok(Written::All),
        Ok(_) => Ok(Written::Fenced),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(Written::Overtaken),
        Err(error) => Err(error),
    }
}

/// Whether an event is stored at its place, for when a connection broke before it could say so.
///
/// # Errors
/// The database did not answer.
pub async fn is_stored(database: &Database, event: &NewEvent<'_>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM events WHERE thread_id = $1 AND seq = $2 AND frame = $3)")
        .bind(event.thread_id.as_str())
        .bind(to_db(event.seq))
        .bind(event.frame)
        .fetch_one(database)
        .await
}

/// Which of these runs may no longer be written by the holder of the fence.
///
/// # Errors
/// The database did not answer.
pub async fn stale_fences(database: &Database, fences: &[Fence]) -> Result<Vec<RunId>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT f.run_id FROM unnest($1::text[], $2::bigint[]) AS f (run_id, fence)
         LEFT JOIN runs ON runs.run_id = f.run_id AND runs.fence = f.fence AND runs.ended_at IS NULL
         WHERE runs.run_id IS NULL",
    )
    .bind(fences.iter().map(|f| f.run_id.as_str()).collect::<Vec<_>>())
    .bind(fences.iter().map(|f| f.fence).collect::<Vec<_>>())
    .fetch_all(database)
    .await?;
    rows.iter()
        .map(|row| row.try_get::<String, _>(0).map(RunId::from))
        .collect()
}

/// Where the logs of these threads end; a thread without events is absent.
///
/// # Errors
/// The database did not answer.
pub async fn tails(database: &Database, threads: &[ThreadId]) -> Result<Vec<(ThreadId, Tail)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT t.thread_id, e.seq, e.created_at FROM unnest($1::text[]) AS t (thread_id)
         CROSS JOIN LATERAL (SELECT seq, created_at FROM events WHERE events.thread_id = t.thread_id
                             ORDER BY seq DESC LIMIT 1) AS e",
    )
    .bind(threads.iter().map(ThreadId::as_str).collect::<Vec<_>>())
    .fetch_all(database)
    .await?;
    rows.iter()
        .map(|row| {
            let tail = Tail {
                last_seq: from_db(row.try_get(1)?),
                last_at: Some(row.try_get(2)?),
            };
            Ok((ThreadId::from(row.try_get::<String, _>(0)?), tail))
        })
        .collect()
}

/// The first and the last event that is kept of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub oldest_seq: u64,
    pub last_seq: u64,
}

/// What is kept of these threads' logs; a thread without events is absent.
///
/// # Errors
/// The database did not answer.
pub async fn spans(database: &Database, threads: &[&str]) -> Result<HashMap<String, Span>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT t.thread_id, span.oldest, span.newest FROM unnest($1::text[]) AS t (thread_id)
         CROSS JOIN LATERAL (SELECT min(seq) AS oldest, max(seq) AS newest FROM events
                             WHERE events.thread_id = t.thread_id) AS span
         WHERE span.newest IS NOT NULL",
    )
    .bind(threads)
    .fetch_all(database)
    .await?;
    rows.iter()
        .map(|row| {
            let span = Span {
                oldest_seq: from_db(row.try_get(1)?),
                last_seq: from_db(row.try_get(2)?),
            };
            Ok((row.try_get(0)?, span))
        })
        .collect()
}

/// Up to `limit` events above `after`, oldest first.
///
/// # Errors
/// The database did not answer.
pub async fn after(
    database: &Database,
    thread: &ThreadId,
    after: u64,
    limit: i64,
) -> Result<Vec<LoggedEvent>, sqlx::Error> {
    let rows = sqlx::query("SELECT seq, frame FROM events WHERE thread_id = $1 AND seq > $2 ORDER BY seq LIMIT $3")
        .bind(thread.as_str())
        .bind(to_db(after))
        .bind(limit)
        .fetch_all(database)
        .await?;
    rows.iter().map(logged).collect()
}

/// Up to `limit` events below `before`, oldest first.
///
/// # Errors
/// The database did not answer.
pub async fn before(
    database: &Database,
    thread: &ThreadId,
    before: Option<u64>,
    limit: i64,
) -> Result<Vec<LoggedEvent>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT seq, frame FROM events WHERE thread_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3")
            .bind(thread.as_str())
            .bind(before.map_or(i64::MAX, to_db))
            .bind(limit)
            .fetch_all(database)
            .await?;
    let mut events = rows.iter().map(logged).collect::<Result<Vec<_>, _>>()?;
    events.reverse();
    Ok(events)
}

/// Drops, from the oldest on, events of up to `threads_max` threads after `after_thread` that are neither among the
/// newest `events_min` of their thread nor younger than `hours`. Returns the last thread looked at; `None` when there
/// was none.
///
/// # Errors
/// The database did not answer.
pub async fn drop_old(
    database: &Database,
    after_thread: &str,
    threads_max: i64,
    events_min: u64,
    hours: u64,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH looked_at AS (
             SELECT thread_id FROM threads WHERE thread_id > $1 ORDER BY thread_id LIMIT $2
         ), ends AS (
             SELECT thread_id, (SELECT max(seq) FROM events WHERE events.thread_id = looked_at.thread_id) AS last_seq
             FROM looked_at
         ), dropped AS (
             DELETE FROM events USING ends
             WHERE events.thread_id = ends.thread_id AND events.seq <= ends.last_seq - $3
               AND events.created_at < now() - $4 * interval '1 hour'
         )
         SELECT max(thread_id) FROM looked_at",
    )
    .bind(after_thread)
    .bind(threads_max)
    .bind(to_db(events_min))
    .bind(hours as f64)
    .fetch_one(database)
    .await
}

/// All events of one run, oldest first.
///
/// # Errors
/// The database did not answer.
pub async fn of_run(database: &Database, thread: &ThreadId, run: &RunId) -> Result<Vec<LoggedEvent>, sqlx::Error> {
    let rows = sqlx::query("SELECT seq, frame FROM events WHERE thread_id = $1 AND run_id = $2 ORDER BY seq")
        .bind(thread.as_str())
        .bind(run.as_str())
        .fetch_all(database)
        .await?;
    rows.iter().map(logged).collect()
}

fn logged(row: &sqlx::postgres::PgRow) -> Result<LoggedEvent, sqlx::Error> {
    Ok(LoggedEvent {
        seq: from_db(row.try_get(0)?),
        frame: row.try_get(1)?,
    })
}
