//! Runs, and the nodes that own them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kingsguard_protocol::control::{RunPhase, RunState, UsagePeriod};
use kingsguard_protocol::event::RunUsage;
use kingsguard_protocol::{MessageId, RunId, ThreadId, Timestamp, UserId};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::Database;
use super::events::from_db;

/// A run that is about to be accepted.
#[derive(Debug)]
pub struct NewRun<'a> {
    pub run_id: &'a RunId,
    pub user_id: &'a UserId,
    pub thread_id: &'a ThreadId,
    pub message_id: &'a MessageId,
    pub agent_name: Option<&'a str>,
    pub content: &'a str,
    pub metadata: &'a str,
    pub references: Option<&'a str>,
    pub context: Option<&'a str>,
    pub node_id: &'a str,
    pub accepted_at: DateTime<Utc>,
}

/// A run as its owner needs it.
#[derive(Clone, Debug)]
pub struct OwnedRun {
    pub run_id: RunId,
    pub user_id: UserId,
    pub thread_id: ThreadId,
    pub message_id: MessageId,
    pub agent_name: Option<String>,
    pub input: String,
    pub context: Option<String>,
    pub phase: String,
    pub fence: i64,
    pub stop: Option<StopRequest>,
}

/// A user's wish to end a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopRequest {
    pub reason: String,
    /// The `message_id` of the `stop_agent`.
    pub cause: MessageId,
}

/// What is known of a message before it is accepted.
#[derive(Debug)]
pub enum Known {
    /// No such thread of this user.
    NoThread,
    /// The thread is there and has not seen the message.
    New,
    /// The thread has seen the message: this is its run.
    Repeated { run_id: RunId, accepted_at: DateTime<Utc> },
}

/// Looks a message up before any limit is judged (SEQ-8).
///
/// # Errors
/// The database did not answer.
pub async fn known(
    database: &Database,
    user: &UserId,
    thread: &ThreadId,
    message: &MessageId,
) -> Result<Known, sqlx::Error> {
    let row = sqlx::query(
        "SELECT runs.run_id, runs.accepted_at FROM threads
         LEFT JOIN runs ON runs.thread_id = threads.thread_id AND runs.message_id = $3
         WHERE threads.thread_id = $2 AND threads.user_id = $1 AND threads.deleted_at IS NULL",
    )
    .bind(user.as_str())
    .bind(thread.as_str())
    .bind(message.as_str())
    .fetch_optional(database)
    .await?;
    let Some(row) = row else { return Ok(Known::NoThread) };
    match row.try_get::<Option<String>, _>(0)? {
        None => Ok(Known::New),
        Some(run_id) => Ok(Known::Repeated {
            run_id: run_id.into(),
            accepted_at: row.try_get(1)?,
        }),
    }
}

/// Stores a message and its run together; `false` when the thread has seen the message meanwhile or is gone.
///
/// # Errors
/// The database did not answer.
pub async fn accept(database: &Database, run: &NewRun<'_>) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "WITH thread AS (
             UPDATE threads SET listed = true, updated_at = greatest(updated_at, $11)
             WHERE thread_id = $3 AND user_id = $2 AND deleted_at IS NULL RETURNING thread_id
         ), message AS (
             INSERT INTO messages (thread_id, message_id, role, content, metadata, refs, created_at)
             SELECT thread_id, $4, 'user', $6, $7, $8, $11 FROM thread
             ON CONFLICT DO NOTHING RETURNING thread_id
         )
         INSERT INTO runs (run_id, thread_id, user_id, message_id, agent_name, input, context, phase, node_id, fence,
                           accepted_at)
         SELECT $1, thread_id, $2, $4, $5, $6, $9, 'queued', $10, 1, $11 FROM message",
    )
    .bind(run.run_id.as_str())
    .bind(run.user_id.as_str())
    .bind(run.thread_id.as_str())
    .bind(run.message_id.as_str())
    .bind(run.agent_name)
    .bind(run.content)
    .bind(run.metadata)
    .bind(run.references)
    .bind(run.context)
    .bind(run.node_id)
    .bind(run.accepted_at)
    .execute(database)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks a run as under way; `false` when it belongs to another node by now.
///
/// # Errors
/// The database did not answer.
pub async fn begin(database: &Database, run: &RunId, fence: i64) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE runs SET phase = 'running' WHERE run_id = $1 AND fence = $2 AND ended_at IS NULL")
        .bind(run.as_str())
        .bind(fence)
        .execute(database)
        .await?;
    Ok(done.rows_affected() == 1)
}

const STATE: &str = "SELECT run_id, thread_id, phase, coalesce(agent_name, 'supervisor'), accepted_at, ended_at,
    input_tokens, output_tokens, cost_microusd, final_response FROM runs ";

/// One run of a user, with its answer once it ended.
///
/// # Errors
/// The database did not answer.
pub async fn state(
    database: &Database,
    user: &UserId,
    run: &RunId,
) -> Result<Option<(RunState, Option<String>)>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!("{STATE} WHERE user_id = $1 AND run_id = $2"));
    let row = sqlx::query(sql)
        .bind(user.as_str())
        .bind(run.as_str())
        .fetch_optional(database)
        .await?;
    row.map(|row| Ok((read_state(&row)?, row.try_get(9)?))).transpose()
}

/// All runs of a user that go on, oldest first.
///
/// # Errors
/// The database did not answer.
pub async fn open(database: &Database, user: &UserId) -> Result<Vec<RunState>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "{STATE} WHERE user_id = $1 AND ended_at IS NULL ORDER BY accepted_at"
    ));
    sqlx::query(sql)
        .bind(user.as_str())
        .fetch_all(database)
        .await?
        .iter()
        .map(read_state)
        .collect()
}

fn read_state(row: &PgRow) -> Result<RunState, sqlx::Error> {
    let phase = match row.try_get::<String, _>(2)?.as_str() {
        "queued" => RunPhase::Queued,
        "running" => RunPhase::Running,
        "completed" => RunPhase::Completed,
        "cancelled" => RunPhase::Cancelled,
        "timed_out" => RunPhase::TimedOut,
        _ => RunPhase::Failed,
    };
    Ok(RunState {
        run_id: row.try_get::<String, _>(0)?.into(),
        thread_id: row.try_get::<String, _>(1)?.into(),
        status: phase,
        agent_name: row.try_get(3)?,
        accepted_at: Timestamp::from(row.try_get::<DateTime<Utc>, _>(4)?),
        ended_at: row.try_get::<Option<DateTime<Utc>>, _>(5)?.map(Timestamp::from),
        usage: RunUsage {
            input_tokens: from_db(row.try_get(6)?),
            output_tokens: from_db(row.try_get(7)?),
            cost_microusd: from_db(row.try_get(8)?),
        },
    })
}

/// Leaves a wish to end a run for the node that owns it; `None` when the user has no such run, else whether it goes on.
///
/// # Errors
/// The database did not answer.
pub async fn request_stop(
    database: &Database,
    user: &UserId,
    run: &RunId,
    stop: &StopRequest,
) -> Result<Option<bool>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH stopped AS (
             UPDATE runs SET stop_reason = $3, stop_cause = $4
             WHERE run_id = $2 AND user_id = $1 AND ended_at IS NULL AND stop_cause IS NULL
         )
         SELECT ended_at IS NULL AND stop_cause IS NULL FROM runs WHERE run_id = $2 AND user_id = $1",
    )
    .bind(user.as_str())
    .bind(run.as_str())
    .bind(&stop.reason)
    .bind(stop.cause.as_str())
    .fetch_optional(database)
    .await
}

const OWNED: &str = "run_id, user_id, thread_id, message_id, agent_name, input, context, phase, fence, stop_reason,
    stop_cause";

fn read_owned(row: &PgRow) -> Result<OwnedRun, sqlx::Error> {
    let reason: Option<String> = row.try_get(9)?;
    let cause: Option<String> = row.try_get(10)?;
    Ok(OwnedRun {
        run_id: row.try_get::<String, _>(0)?.into(),
        user_id: row.try_get::<String, _>(1)?.into(),
        thread_id: row.try_get::<String, _>(2)?.into(),
        message_id: row.try_get::<String, _>(3)?.into(),
        agent_name: row.try_get(4)?,
        input: row.try_get(5)?,
        context: row.try_get(6)?,
        phase: row.try_get(7)?,
        fence: row.try_get(8)?,
        stop: reason.zip(cause).map(|(reason, cause)| StopRequest {
            reason,
            cause: cause.into(),
        }),
    })
}

/// Runs of this node that their users want ended.
///
/// # Errors
/// The database did not answer.
pub async fn stop_requests(database: &Database, node: &str) -> Result<Vec<(RunId, StopRequest)>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {OWNED} FROM runs WHERE node_id = $1 AND ended_at IS NULL AND stop_cause IS NOT NULL"
    ));
    let rows = sqlx::query(sql).bind(node).fetch_all(database).await?;
    let owned = rows.iter().map(read_owned).collect::<Result<Vec<_>, _>>()?;
    Ok(owned
        .into_iter()
        .filter_map(|run| run.stop.map(|stop| (run.run_id, stop)))
        .collect())
}

/// The wish to end a run, if somebody left one.
///
/// # Errors
/// The database did not answer.
pub async fn stop_of(database: &Database, run: &RunId) -> Result<Option<StopRequest>, sqlx::Error> {
    let wish: Option<(Option<String>, Option<String>)> =
        sqlx::query_as("SELECT stop_reason, stop_cause FROM runs WHERE run_id = $1")
            .bind(run.as_str())
            .fetch_optional(database)
            .await?;
    Ok(wish.and_then(|(reason, cause)| {
        let (reason, cause) = reason.zip(cause)?;
        let cause = cause.into();
        Some(StopRequest { reason, cause })
    }))
}

/// Renews this node's lease by the database's clock, and says how many other nodes are alive.
///
/// # Errors
/// The database did not answer.
pub async fn renew_lease(database: &Database, node: &str, lease: Duration) -> Result<u64, sqlx::Error> {
    let others: i64 = sqlx::query_scalar(
        "WITH renewed AS (
             INSERT INTO nodes (node_id, lease_expires_at) VALUES ($1, now() + $2 * interval '1 millisecond')
             ON CONFLICT (node_id) DO UPDATE SET lease_expires_at = excluded.lease_expires_at
         )
         SELECT count(*) FROM nodes WHERE node_id <> $1 AND lease_expires_at > now()",
    )
    .bind(node)
    .bind(lease.as_secs_f64() * 1000.0)
    .fetch_one(database)
    .await?;
    Ok(from_db(others))
}

/// Gives this node's lease up, so that others take its runs over at once.
///
/// # Errors
/// The database did not answer.
pub async fn release_lease(database: &Database, node: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM nodes WHERE node_id = $1")
        .bind(node)
        .execute(database)
        .await
        .map(drop)
}

/// Takes over up to `limit` runs whose node's lease is over: from now on only this node's fence is good.
///
/// # Errors
/// The database did not answer.
pub async fn take_over(database: &Database, node: &str, limit: i64) -> Result<Vec<OwnedRun>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "UPDATE runs SET node_id = $1, fence = fence + 1 WHERE run_id IN (
             SELECT run_id FROM runs WHERE ended_at IS NULL AND node_id <> $1 AND NOT EXISTS (
                 SELECT FROM nodes WHERE nodes.node_id = runs.node_id AND lease_expires_at > now())
             ORDER BY accepted_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING {OWNED}"
    ));
    sqlx::query(sql)
        .bind(node)
        .bind(limit)
        .fetch_all(database)
        .await?
        .iter()
        .map(read_owned)
        .collect()
}

/// Open runs of this node that it does not know of.
///
/// # Errors
/// The database did not answer.
pub async fn forgotten(
    database: &Database,
    node: &str,
    known: &[RunId],
    accepted_before: DateTime<Utc>,
) -> Result<Vec<OwnedRun>, sqlx::Error> {
    let sql = sqlx::AssertSqlSafe(format!(
        "SELECT {OWNED} FROM runs
         WHERE node_id = $1 AND ended_at IS NULL AND accepted_at < $2 AND run_id <> ALL ($3) ORDER BY accepted_at"
    ));
    let known: Vec<&str> = known.iter().map(RunId::as_str).collect();
    let rows = sqlx::query(sql)
        .bind(node)
        .bind(accepted_before)
        .bind(known)
        .fetch_all(database)
        .await?;
    rows.iter().map(read_owned).collect()
}

/// What the runs of a user that ended in the period used: how many, and what.
///
/// # Errors
/// The database did not answer.
pub async fn usage(database: &Database, user: &UserId, period: UsagePeriod) -> Result<(u64, RunUsage), sqlx::Error> {
    let days = match period {
        UsagePeriod::Day => 1.0,
        UsagePeriod::Week => 7.0,
        UsagePeriod::Month => 30.0,
        UsagePeriod::All => 365_000.0,
    };
    let row = sqlx::query(
        "SELECT count(*), coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint,
                coalesce(sum(cost_microusd), 0)::bigint
         FROM runs WHERE user_id = $1 AND ended_at > now() - $2 * interval '1 day'",
    )
    .bind(user.as_str())
    .bind(days)
    .fetch_one(database)
    .await?;
    let usage = RunUsage {
        input_tokens: from_db(row.try_get(1)?),
        output_tokens: from_db(row.try_get(2)?),
        cost_microusd: from_db(row.try_get(3)?),
    };
    Ok((from_db(row.try_get(0)?), usage))
}
