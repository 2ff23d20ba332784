//! The log's writer: gives each event its `seq`, commits what has gathered, then delivers it.
//!
//! A batch is what gathered while the last one was being written, so there is no timer: an idle backend writes at once,
//! a busy one in large batches. The `seq` is given from memory; if another node gave the same one meanwhile, Postgres
//! refuses the batch and the writer reads where the logs end and gives them anew.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kingsguard_protocol::{EventId, ThreadId, Timestamp};
use sqlx::PgPool;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::draft::EventDraft;
use crate::store::events::{self, Fence, NewEvent, Tail, Written};
use crate::telemetry;

/// An event that is durable.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    pub thread_id: ThreadId,
    pub event_id: EventId,
    pub event_type: &'static str,
    pub seq: u64,
    pub timestamp: Timestamp,
    pub frame: Utf8Bytes,
}

/// Why an event did not become part of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The run belongs to another node by now, or has ended.
    #[error("run is not this node's to write any more")]
    Fenced,
    /// Postgres did not take it within [`GIVE_UP_AFTER`].
    #[error("event could not be made durable")]
    Unavailable,
    /// A value in the event cannot be written as JSON.
    #[error("event cannot be written as JSON")]
    Unwritable,
}

/// One event on its way to the writer.
#[derive(Debug)]
pub struct Submission {
    pub draft: EventDraft,
    pub reply: oneshot::Sender<Result<StoredEvent, AppendError>>,
}

/// Where durable events go.
pub trait Deliver: Send + Sync + 'static {
    /// Brings durable events, in the order of their logs, to whoever follows.
    fn deliver(&self, events: &[StoredEvent]);
}

/// How long a batch waits for Postgres to come back. Longer than any run's deadline, so that the end of a run that met
/// an outage is still written; the queue's bound holds new events back meanwhile.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
/// Pause between tries while Postgres is away: well below the 5 s in which work must resume (ERR-3).
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Ends of logs kept in memory; past it all are forgotten and read again, one query each batch.
const TAILS_MAX: usize = 100_000;

/// Writes until the last sender is gone.
#[derive(Debug)]
pub struct Writer<D> {
    pool: PgPool,
    batch_max: usize,
    tails: HashMap<ThreadId, Tail>,
    deliver: Arc<D>,
}

impl<D: Deliver> Writer<D> {
    /// A writer of batches of at most `batch_max` events.
    #[must_use]
    pub fn new(pool: PgPool, batch_max: usize, deliver: Arc<D>) -> Self {
        Self {
            pool,
            batch_max,
            tails: HashMap::new(),
            deliver,
        }
    }

    /// Takes what has gathered, writes it, and again.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Submission>) {
        let mut gathered = Vec::with_capacity(self.batch_max);
        while queue.recv_many(&mut gathered, self.batch_max).await > 0 {
            telemetry::queue_depth("event_writer", queue.len() + gathered.len());
            self.write(std::mem::take(&mut gathered)).await;
        }
    }

    async fn write(&mut self, mut batch: Vec<Submission>) {
        let give_up_at = Instant::now() + GIVE_UP_AFTER;
        while !batch.is_empty() {
            match self.try_write(&mut batch).await {
                Ok(()) => {}
                Err(error) if Instant::now() < give_up_at => {
                    tracing::warn!(error = %error, events = batch.len(), "event batch not written, trying again");
                    self.tails.clear();
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(error = %error, events = batch.len(), "event batch given up");
                    for submission in batch.drain(..) {
                        answer(submission.reply, Err(AppendError::Unavailable));
                    }
                }
            }
        }
    }

    /// One try: on success the batch is emptied or made smaller by what may not be written.
    async fn try_write(&mut self, batch: &mut Vec<Submission>) -> Result<(), sqlx::Error> {
        self.load_tails(batch).await?;
        let mut fences = HashSet::<Fence>::new();
        let mut ends = Vec::new();
        let mut rows = Vec::with_capacity(batch.len());
        let mut tails = HashMap::<ThreadId, Tail>::new();
        for Submission { draft, .. } in batch.iter() {
            let thread = &draft.origin.thread_id;
            let known = || self.tails.get(thread).copied().unwrap_or_default();
            let tail = tails.entry(thread.clone()).or_insert_with(known);
            tail.last_seq += 1;
            let made_at = draft.made_at.as_datetime();
            let at = tail.last_at.map_or(made_at, |last| last.max(made_at)); // ORD-7: never backwards
            tail.last_at = Some(at);
            fences.insert(draft.origin.fence.clone());
            ends.extend(draft.end.clone());
            rows.push(NewEvent {
                thread_id: thread.clone(),
                seq: tail.last_seq,
                run_id: draft.origin.fence.run_id.clone(),
                event_id: draft.event_id.to_string(),
                created_at: at,
                frame: draft.frame(tail.last_seq, Timestamp::from(at)),
            });
        }
        let fences: Vec<Fence> = fences.into_iter().collect();
        let written = match events::append(&self.pool, &rows, &fences, &ends).await {
            Ok(written) => written,
            Err(error) => {
                // The connection may have broken after the commit: then the batch is in the log.
                let Some(first) = rows.first() else { return Err(error) };
                if !events::is_stored(&self.pool, first).await? {
                    return Err(error);
                }
                Written::All
            }
        };
        match written {
            Written::All => {
                self.tails.extend(tails);
                self.settle(batch, rows);
            }
            Written::Overtaken => {
                for thread in tails.keys() {
                    self.tails.remove(thread);
                }
            }
            Written::Fenced => {
                let stale: HashSet<_> = events::stale_fences(&self.pool, &fences).await?.into_iter().collect();
                let (refused, kept) = batch
                    .drain(..)
                    .partition(|submission| stale.contains(&submission.draft.origin.fence.run_id));
                *batch = kept;
                for Submission { reply, .. } in Vec::<Submission>::from_iter::<Vec<_>>(refused) {
                    answer(reply, Err(AppendError::Fenced));
                }
            }
        }
        Ok(())
    }

    fn settle(&self, batch: &mut Vec<Submission>, rows: Vec<NewEvent>) {
        let mut stored = Vec::with_capacity(rows.len());
        let mut replies = Vec::with_capacity(rows.len());
        for (Submission { draft, reply }, row) in batch.drain(..).zip(rows) {
            telemetry::event_stored(draft.event_type, draft.handed_in.elapsed());
            stored.push(StoredEvent {
                thread_id: row.thread_id,
                event_id: draft.event_id,
                event_type: draft.event_type,
                seq: row.seq,
                timestamp: Timestamp::from(row.created_at),
                frame: Utf8Bytes::from(row.frame),
            });
            replies.push(reply);
        }
        self.deliver.deliver(&stored);
        for (reply, event) in replies.into_iter().zip(stored) {
            answer(reply, Ok(event));
        }
    }

    async fn load_tails(&mut self, batch: &[Submission]) -> Result<(), sqlx::Error> {
        if self.tails.len() > TAILS_MAX {
            self.tails.clear();
        }
        let unknown: HashSet<&ThreadId> = batch
            .iter()
            .map(|s| &s.draft.origin.thread_id)
            .filter(|thread| !self.tails.contains_key(*thread))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<ThreadId> = unknown.into_iter().cloned().collect();
        let found = events::tails(&self.pool, &unknown).await?;
        self.tails
            .extend(unknown.into_iter().map(|thread| (thread, Tail::default())));
        self.tails.extend(found);
        Ok(())
    }
}

fn answer(reply: oneshot::Sender<Result<StoredEvent, AppendError>>, result: Result<StoredEvent, AppendError>) {
    // Whoever asked may have stopped waiting; what happened to the event is then in the log.
    drop(reply.send(result));
}
