//! The log's writer: gives each event its `seq`, commits what has gathered, then delivers it.
//!
//! A batch is what gathered while the last one was being written, so there is no timer: an idle backend writes at once,
//! a busy one in large batches. The `seq` is given from memory; if another node gave the same one meanwhile, Postgres
//! refuses the batch and the writer reads where the logs end and gives them anew.
//!
//! A try whose answer was lost may be in the log, or get there late. The next try is the same to the byte, so that Postgres takes
//! one of the two at most; only when it refuses and the log does not hold the batch are its events placed anew (SEQ-1, ORD-3).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kingsguard_protocol::{ThreadId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::draft::{EventDraft, Origin};
use crate::sabotage::{self, Fault};
use crate::store::events::{self, Fence, NewEvent, NewRunEnd, Tail, Written};
use crate::store::{Database, Lent};
use crate::telemetry;

/// Events of one thread that are durable, in the order of its log.
#[derive(Clone, Debug)]
pub struct StoredEvents {
    pub thread_id: ThreadId,
    /// The place of the first; the others follow without a hole.
    pub first_seq: u64,
    pub frames: Vec<Utf8Bytes>,
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

/// Events of one run on their way to the writer: all of them become durable together, one behind the other, or none does.
#[derive(Debug)]
pub struct Submission {
    pub origin: Origin,
    /// Never empty, and no more than a batch holds.
    pub drafts: Vec<EventDraft>,
    /// Set where the last of them is the run's last event.
    pub end: Option<NewRunEnd>,
    /// Told the timestamp of the last one.
    pub reply: oneshot::Sender<Result<Timestamp, AppendError>>,
    /// Their room in the queue, free again once they are answered.
    pub room: OwnedSemaphorePermit,
}

/// Where durable events go.
pub trait Deliver: Send + Sync + 'static {
    /// Brings durable events, in the order of their logs, to whoever follows.
    fn deliver(&self, events: &[StoredEvents]);
}

/// How long a batch waits for Postgres to come back. Longer than any run's deadline, so that the end of a run that met
/// an outage is still written; the queue's bound holds new events back meanwhile.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(120);
/// Pause between tries while Postgres is away: well below the 5 s in which work must resume (ERR-3).
pub const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long the writer keeps its connection when no batch comes.
const HELD_FOR: Duration = Duration::from_millis(100);
/// Ends of logs kept in memory; past it all are forgotten and read again, one query each batch.
const TAILS_MAX: usize = 100_000;

/// A submission that is durable, and the place of its first event.
type Settled = (Submission, u64);

/// The batch that is being written.
struct Batch {
    submissions: Vec<Submission>,
    /// The place of each submission's first event in the last try, where its answer was lost.
    in_doubt: Option<Vec<u64>>,
}

/// Writes until the last sender is gone.
#[derive(Debug)]
pub struct Writer<D> {
    database: Database,
    /// The connection of the last batch, until none comes for [`HELD_FOR`]: the process of Postgres behind it has at hand what
    /// the next batch needs, and another one would have to fetch it first.
    connection: Option<Lent>,
    batch_max: usize,
    tails: HashMap<ThreadId, Tail>,
    deliver: Arc<D>,
    /// What is durable goes on from here while the next batch is written. What waits keeps its room in the writer's queue.
    settled: mpsc::UnboundedSender<Vec<Settled>>,
}

impl<D: Deliver> Writer<D> {
    /// Starts a writer of batches of at most `batch_max` events, in tasks of its own.
    pub fn start(database: Database, batch_max: usize, deliver: Arc<D>, queue: mpsc::UnboundedReceiver<Submission>) {
        let (settled, batches) = mpsc::unbounded_channel();
        tokio::spawn(deliver_settled(deliver.clone(), batches));
        let writer = Self {
            database,
            connection: None,
            batch_max,
            tails: HashMap::new(),
            deliver,
            settled,
        };
        tokio::spawn(writer.run(queue));
    }

    /// Takes what has gathered, writes it, and again.
    async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Submission>) {
        let mut next = queue.recv().await;
        while let Some(first) = next.take() {
            let mut events = first.drafts.len();
            let mut batch = vec![first];
            while let Ok(submission) = queue.try_recv() {
                if events + submission.drafts.len() > self.batch_max {
                    next = Some(submission);
                    break;
                }
                events += submission.drafts.len();
                batch.push(submission);
            }
            telemetry::queue_depth("event_writer", events + queue.len());
            self.write(batch).await;
            if next.is_none() {
                next = self.next(&mut queue).await;
            }
        }
    }

    /// What comes next; the connection goes back to the others while nothing does.
    async fn next(&mut self, queue: &mut mpsc::UnboundedReceiver<Submission>) -> Option<Submission> {
        if let Ok(next) = tokio::time::timeout(HELD_FOR, queue.recv()).await {
            return next;
        }
        self.connection = None;
        queue.recv().await
    }

    async fn write(&mut self, submissions: Vec<Submission>) {
        let give_up_at = Instant::now() + GIVE_UP_AFTER;
        let mut batch = Batch {
            submissions,
            in_doubt: None,
        };
        while !batch.submissions.is_empty() {
            let events = batch.submissions.len();
            match self.try_write(&mut batch).await {
                Ok(()) => {}
                Err(error) if Instant::now() < give_up_at => {
                    tracing::warn!(error = %error, events, "event batch not written, trying again");
                    self.tails.clear();
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(error = %error, events, "event batch given up");
                    for submission in batch.submissions.drain(..) {
                        answer(submission.reply, Err(AppendError::Unavailable));
                    }
                }
            }
        }
    }

    /// One try: on success the batch is emptied or made smaller by what may not be written.
    async fn try_write(&mut self, batch: &mut Batch) -> Result<(), sqlx::Error> {
        let (places, is_in_doubt) = match batch.in_doubt.clone() {
            Some(places) => (places, true),
            None => (self.place(&mut batch.submissions).await?, false),
        };
        let submissions = &batch.submissions;
        let mut rows = Vec::new();
        for (Submission { origin, drafts, .. }, first_seq) in submissions.iter().zip(&places) {
            rows.extend(drafts.iter().zip(*first_seq..).map(|(draft, seq)| NewEvent {
                thread_id: &origin.thread_id,
                seq,
                run_id: &origin.fence.run_id,
                created_at: draft.placed_at.as_datetime(),
                frame: draft.frame(),
            }));
        }
        let mut fences: HashSet<Fence> = submissions.iter().map(|one| one.origin.fence.clone()).collect();
        if sabotage::planted(Fault::LeaseNotFenced) {
            fences.clear();
        }
        let fences: Vec<Fence> = fences.into_iter().collect();
        let ends: Vec<NewRunEnd> = submissions.iter().filter_map(|one| one.end.clone()).collect();
        if sabotage::planted(Fault::DeliverBeforeCommit) {
            self.deliver.deliver(&as_if_stored(submissions, &places));
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.database.acquire().await?,
        };
        let append = events::append(&mut connection, &rows, &fences, &ends);
        let mut written = match self.database.within(append).await {
            Ok(written) => written,
            Err(error) => {
                batch.in_doubt = Some(places);
                return Err(error);
            }
        };
        self.connection = Some(connection);
        if is_in_doubt
            && written != Written::All
            && let Some(first) = rows.first()
            && events::is_stored(&self.database, first).await?
        {
            written = Written::All;
        }
        batch.in_doubt = None;
        match written {
            Written::All => {
                self.tails.extend(ends_of_logs(submissions, &places));
                // A receiver that is gone lets go of the batch, and with it of the senders of its receipts.
                drop(self.settled.send(batch.submissions.drain(..).zip(places).collect()));
            }
            Written::Overtaken => {
                for submission in submissions {
                    self.tails.remove(&submission.origin.thread_id);
                }
            }
            Written::Fenced => {
                let stale: HashSet<_> = events::stale_fences(&self.database, &fences)
                    .await?
                    .into_iter()
                    .collect();
                let (refused, kept): (Vec<_>, Vec<_>) = batch
                    .submissions
                    .drain(..)
                    .partition(|submission| stale.contains(&submission.origin.fence.run_id));
                batch.submissions = kept;
                for Submission { reply, .. } in refused {
                    answer(reply, Err(AppendError::Fenced));
                }
            }
        }
        Ok(())
    }

    /// Gives every event its place behind the end of its log; says the place of each submission's first.
    async fn place(&mut self, submissions: &mut [Submission]) -> Result<Vec<u64>, sqlx::Error> {
        self.load_tails(submissions).await?;
        let mut tails = HashMap::<ThreadId, Tail>::new();
        let mut places = Vec::with_capacity(submissions.len());
        for Submission { origin, drafts, .. } in submissions {
            let thread = &origin.thread_id;
            let known = || self.tails.get(thread).copied().unwrap_or_default();
            let tail = tails.entry(thread.clone()).or_insert_with(known);
            places.push(tail.last_seq + 1);
            for draft in drafts {
                tail.last_seq += 1;
                let made_at = draft.made_at.as_datetime();
                let not_before = tail.last_at.map_or(made_at, |last| last.max(made_at)); // ORD-7: never backwards
                tail.last_at = Some(not_before);
                draft.place(tail.last_seq, Timestamp::from(not_before));
            }
        }
        Ok(places)
    }

    async fn load_tails(&mut self, batch: &[Submission]) -> Result<(), sqlx::Error> {
        if self.tails.len() > TAILS_MAX {
            self.tails.clear();
        }
        let unknown: HashSet<&ThreadId> = batch
            .iter()
            .map(|submission| &submission.origin.thread_id)
            .filter(|thread| !self.tails.contains_key(*thread))
            .collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<ThreadId> = unknown.into_iter().cloned().collect();
        let found = events::tails(&self.database, &unknown).await?;
        self.tails
            .extend(unknown.into_iter().map(|thread| (thread, Tail::default())));
        self.tails.extend(found);
        Ok(())
    }
}

/// Where the logs end behind these submissions, the last of a thread counting.
fn ends_of_logs(submissions: &[Submission], places: &[u64]) -> impl Iterator<Item = (ThreadId, Tail)> {
    submissions
        .iter()
        .zip(places)
        .map(|(Submission { origin, drafts, .. }, first_seq)| {
            let tail = Tail {
                last_seq: first_seq + drafts.len() as u64 - 1,
                last_at: drafts.last().map(|draft| draft.placed_at.as_datetime()),
            };
            (origin.thread_id.clone(), tail)
        })
}

/// Brings durable batches to whoever follows and answers for them, one batch behind the other.
async fn deliver_settled<D: Deliver>(deliver: Arc<D>, mut batches: mpsc::UnboundedReceiver<Vec<Settled>>) {
    while let Some(batch) = batches.recv().await {
        let mut stored = Vec::with_capacity(batch.len());
        let mut replies = Vec::with_capacity(batch.len());
        for (submission, first_seq) in batch {
            let mut frames = Vec::with_capacity(submission.drafts.len());
            let at = submission.drafts.last().map(|draft| draft.placed_at);
            for draft in submission.drafts {
                telemetry::event_stored(draft.event_type, draft.handed_in.elapsed());
                frames.push(Utf8Bytes::from(draft.into_frame()));
            }
            stored.push(StoredEvents {
                thread_id: submission.origin.thread_id,
                first_seq,
                frames,
            });
            replies.push((submission.reply, at, submission.room));
        }
        deliver.deliver(&stored);
        for (reply, at, _room) in replies {
            answer(reply, at.ok_or(AppendError::Unavailable));
        }
    }
}

/// Events that are not durable, for [`Fault::DeliverBeforeCommit`].
fn as_if_stored(batch: &[Submission], places: &[u64]) -> Vec<StoredEvents> {
    let events = |(submission, first_seq): (&Submission, &u64)| StoredEvents {
        thread_id: submission.origin.thread_id.clone(),
        first_seq: *first_seq,
        frames: submission.drafts.iter().map(|draft| draft.frame().into()).collect(),
    };
    batch.iter().zip(places).map(events).collect()
}

fn answer(reply: oneshot::Sender<Result<Timestamp, AppendError>>, result: Result<Timestamp, AppendError>) {
    // Whoever asked may have stopped waiting; what happened to the event is then in the log.
    reply.send(result).ok();
}
