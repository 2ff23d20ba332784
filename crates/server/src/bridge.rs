//! The bridge: turns what agents do into events of a log and brings them to connections.
//!
//! An event is durable before anyone sees it (SEQ-2): [`Bridge::submit`] hands it to the one [`writer`], which gives it
//! its place, commits it and only then delivers it to the [`hub`] of this node and, by Redis, to the other nodes. What
//! Redis loses or reorders does no harm: a feed of the hub only ever delivers the next event of its log and reads what is
//! missing from Postgres.
//!
//! What the bridge does not do: it knows neither agents nor sockets. A connection is its [`Outbox`].

pub mod draft;
#[cfg(test)]
mod hand_over;
pub mod hub;
pub mod outbox;
pub mod retention;
pub mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kingsguard_protocol::client::ResumePoint;
use kingsguard_protocol::control::ThreadPosition;
use kingsguard_protocol::{CloseCode, ErrorCode, ThreadId, Timestamp, UserId};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use self::draft::{EventDraft, Moment, Origin};
use self::hub::{CatchUp, FollowerId, Hub};
pub use self::outbox::{Outbox, OutboxReader, Outgoing, Overflow};
use self::retention::Retention;
pub use self::writer::AppendError;
use self::writer::{Deliver, StoredEvents, Submission, Writer};
use crate::broker::{Broker, Notice};
use crate::error::ApiError;
use crate::sabotage::{self, Fault};
use crate::store::events::NewRunEnd;
use crate::store::{Database, Store, events, threads};
use crate::telemetry::{self, ResumeOutcome};

/// Events that one read of a log brings.
const PAGE: i64 = 500;
/// How often the logs of followed threads are compared with what was delivered, while other nodes are alive: the bound
/// on how late an event is that Redis lost.
const COMPARE_EVERY: Duration = Duration::from_millis(1000);
/// The same while Redis is away, when it is the only way that events of other nodes come by.
const COMPARE_EVERY_WITHOUT_REDIS: Duration = Duration::from_millis(100);
/// Pause between tries to read a log while Postgres is away.
const READ_RETRY_PAUSE: Duration = Duration::from_millis(200);

/// From where a connection follows a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowFrom {
    /// From now on.
    Live,
    /// From where the client was.
    Resume(ResumePoint),
}

#[derive(Debug)]
struct Inner {
    database: Database,
    hub: Hub,
    broker: Broker,
    /// Threads whose feed lacks events that another node wrote.
    gaps: mpsc::UnboundedSender<ThreadId>,
    /// Other nodes are alive: their events matter.
    has_peers: AtomicBool,
    peers_changed: Notify,
}

/// Brings events from the log to connections. Clones share everything.
#[derive(Clone, Debug)]
pub struct Bridge {
    inner: Arc<Inner>,
    queue: mpsc::UnboundedSender<Submission>,
    /// Bounds the queue: a permit for each event that may wait.
    room: Arc<Semaphore>,
    chunk_max: usize,
}

/// Events that were handed to the writer.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Result<Timestamp, AppendError>>);

impl Receipt {
    /// Waits until all of them are durable; gives the timestamp of the last one.
    ///
    /// # Errors
    /// They will never be: see [`AppendError`].
    pub async fn durable(self) -> Result<Timestamp, AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Unavailable))
    }
}

/// Room in the writer's queue.
#[derive(Debug)]
pub struct Place<'a> {
    queue: &'a mpsc::UnboundedSender<Submission>,
    room: OwnedSemaphorePermit,
}

impl Place<'_> {
    /// Takes the place: events are written in the order in which this is called. There are as many drafts as room was
    /// asked for; `end` is the run's where the last one is its last event.
    #[must_use]
    pub fn submit(self, origin: &Origin, drafts: Vec<EventDraft>, end: Option<NewRunEnd>) -> Receipt {
        let (reply, receipt) = oneshot::channel();
        let submission = Submission {
            origin: origin.clone(),
            drafts,
            end,
            reply,
            room: self.room,
        };
        // A writer that is gone drops it, and with it the sender of the receipt.
        drop(self.queue.send(submission));
        Receipt(receipt)
    }
}

impl Deliver for Inner {
    fn deliver(&self, events: &[StoredEvents]) {
        for thread in self.hub.deliver_all(events) {
            self.note_gap(thread);
        }
        if self.has_peers.load(Ordering::Relaxed) {
            let each = events.iter().flat_map(|stored| {
                let places = (stored.first_seq..).zip(&stored.frames);
                places.map(|(seq, frame)| (stored.thread_id.clone(), seq, frame.clone()))
            });
            self.broker.publish_events(each.collect());
        }
    }
}

impl Inner {
    fn offer(&self, thread: &ThreadId, seq: u64, frame: &Utf8Bytes) {
        if self.hub.deliver(thread, seq, frame) {
            self.note_gap(thread.clone());
        }
    }

    fn note_gap(&self, thread: ThreadId) {
        // The receiver lives as long as the process; without it nothing follows any more.
        drop(self.gaps.send(thread));
    }

    /// Reads what a feed lacks from the log.
    async fn fill_gap(&self, thread: &ThreadId) -> Result<(), sqlx::Error> {
        while let Some(position) = self.hub.position(thread) {
            let page = events::after(&self.database, thread, position, PAGE).await?;
            let count = page.len();
            self.hub.fill(
                thread,
                page.into_iter().map(|event| (event.seq, Utf8Bytes::from(event.frame))),
            );
            if count < PAGE as usize {
                break;
            }
        }
        Ok(())
    }

    async fn fill_gaps(self: Arc<Self>, mut gaps: mpsc::UnboundedReceiver<ThreadId>) {
        while let Some(thread) = gaps.recv().await {
            while let Err(error) = self.fill_gap(&thread).await {
                tracing::warn!(error = %error, thread_id = %thread, "missing events not read, trying again");
                tokio::time::sleep(READ_RETRY_PAUSE).await;
            }
        }
    }

    /// Compares feeds with their logs: what Redis loses comes this way.
    async fn compare(self: Arc<Self>) {
        loop {
            if !self.has_peers.load(Ordering::Relaxed) {
                self.peers_changed.notified().await;
                continue;
            }
            let pause = if self.broker.is_up() {
                COMPARE_EVERY
            } else {
                COMPARE_EVERY_WITHOUT_REDIS
            };
            tokio::time::sleep(pause).await;
            let followed = self.hub.threads();
            match events::tails(&self.database, &followed).await {
                Ok(tails) => {
                    for (thread, tail) in tails {
                        if self
                            .hub
                            .position(&thread)
                            .is_some_and(|position| position < tail.last_seq)
                        {
                            drop(self.gaps.send(thread));
                        }
                    }
                }
                Err(error) => tracing::warn!(error = %error, "followed logs not compared, trying again"),
            }
        }
    }

    async fn receive(self: Arc<Self>, mut events: mpsc::Receiver<(ThreadId, u64, Utf8Bytes)>) {
        while let Some((thread, seq, frame)) = events.recv().await {
            self.offer(&thread, seq, &frame);
        }
    }
}

impl Inner {
    /// Ends the feeds of threads that were deleted on other nodes.
    async fn heed_deletions(self: Arc<Self>) {
        let mut notices = self.broker.subscribe();
        loop {
            match notices.recv().await {
                Ok(notice) => {
                    if let Notice::ThreadDeleted { thread_id } = notice.as_ref() {
                        self.hub.remove(thread_id);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(count)) => telemetry::dropped("deletion_notice", count),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

impl Bridge {
    /// Starts the writer and the tasks that listen to other nodes; they end with the process.
    ///
    /// At most `queue_max` events wait for the writer; past it whoever appends waits (bounded by its run's deadline).
    #[must_use]
    pub fn start(store: &Store, broker: Broker, batch_max: usize, queue_max: usize, retention: Retention) -> Self {
        let database = store.database().clone();
        let (queue, submissions) = mpsc::unbounded_channel();
        let queue_max = queue_max.min(Semaphore::MAX_PERMITS);
        let (gaps, gap_reader) = mpsc::unbounded_channel();
        let remote = broker.subscribe_events();
        let inner = Arc::new(Inner {
            database: database.clone(),
            hub: Hub::default(),
            broker,
            gaps,
            has_peers: AtomicBool::new(false),
            peers_changed: Notify::new(),
        });
        Writer::start(database, batch_max, inner.clone(), submissions);
        tokio::spawn(retention.keep(store.database().clone()));
        tokio::spawn(inner.clone().fill_gaps(gap_reader));
        tokio::spawn(inner.clone().compare());
        tokio::spawn(inner.clone().receive(remote));
        tokio::spawn(inner.clone().heed_deletions());
        Self {
            inner,
            queue,
            room: Arc::new(Semaphore::new(queue_max)),
            chunk_max: batch_max.min(queue_max),
        }
    }

    /// Tells whether other nodes are alive.
    pub fn set_peers(&self, count: u64) {
        let has_peers = count > 0;
        if self.inner.has_peers.swap(has_peers, Ordering::Relaxed) != has_peers {
            self.inner.peers_changed.notify_one();
        }
    }

    /// Events that can be handed in together at most.
    #[must_use]
    pub fn chunk_max(&self) -> usize {
        self.chunk_max
    }

    /// Waits for room for so many events, at most [`Bridge::chunk_max`], in the writer's queue.
    ///
    /// # Errors
    /// The writer is gone: the process ends.
    pub async fn place(&self, events: usize) -> Result<Place<'_>, AppendError> {
        let permits = u32::try_from(events).unwrap_or(u32::MAX);
        let room = self.room.clone().acquire_many_owned(permits).await;
        Ok(Place {
            queue: &self.queue,
            room: room.map_err(|_| AppendError::Unavailable)?,
        })
    }

    /// Prepares that a connection follows threads: says where each stands, and holds its events back until
    /// [`Following::release`], so that the answer can go first. Nothing changes when a thread is refused.
    ///
    /// # Errors
    /// `THREAD_NOT_FOUND` for a thread that is not the user's; `DATABASE_UNAVAILABLE`.
    pub async fn follow(
        &self,
        user: &UserId,
        threads: &[(ThreadId, FollowFrom)],
        outbox: &Outbox,
    ) -> Result<Following, ApiError> {
        let names: Vec<&str> = threads.iter().map(|(thread, _)| thread.as_str()).collect();
        let epochs = threads::epochs(&self.inner.database, user, &names).await?;
        if names.iter().any(|name| !epochs.contains_key(*name)) {
            return Err(ApiError::new(ErrorCode::ThreadNotFound));
        }
        let mut following = Following {
            inner: self.inner.clone(),
            outbox: outbox.clone(),
            positions: Vec::with_capacity(threads.len()),
            starts: Vec::with_capacity(threads.len()),
        };
        for (thread, from) in threads {
            // What a follower has seen needs no replay, and what he still catches up must come; only a resume takes him back.
            if matches!(from, FollowFrom::Resume(_)) || !self.follows(thread, outbox) {
                // From here on the guard removes the follower again if reading fails.
                let id = self.inner.hub.join(thread, outbox);
                following.starts.push(Start {
                    thread: thread.clone(),
                    id,
                    have: 0,
                });
            }
        }
        // Read after joining: so an event is either in what was read or comes by the feed.
        let spans = events::spans(&self.inner.database, &names).await?;
        for (thread, from) in threads {
            let Some(epoch) = epochs.get(thread.as_str()).cloned() else {
                continue;
            };
            let span = spans.get(thread.as_str());
            let read = span.map_or(0, |span| span.last_seq);
            if self.inner.hub.seed(thread, read) < read {
                self.inner.fill_gap(thread).await?;
            }
            let last_seq = self.inner.hub.position(thread).unwrap_or(read);
            let oldest_seq = span.map_or(1, |span| span.oldest_seq);
            let granted = match from {
                FollowFrom::Live => None,
                FollowFrom::Resume(point) => Some(point.after)
                    .filter(|after| point.epoch == epoch && *after <= last_seq && after + 1 >= oldest_seq),
            };
            match (from, granted) {
                (FollowFrom::Live, _) => {}
                (FollowFrom::Resume(_), Some(_)) => telemetry::resume_judged(ResumeOutcome::Recovered),
                (FollowFrom::Resume(_), None) => telemetry::resume_judged(ResumeOutcome::Refused),
            }
            if let Some(start) = following.starts.iter_mut().find(|start| start.thread == *thread) {
                start.have = match granted {
                    Some(after) if sabotage::planted(Fault::ReplayOffByOne) => after.saturating_sub(1),
                    Some(after) => after,
                    None => last_seq,
                };
            }
            following.positions.push(ThreadPosition {
                thread_id: thread.clone(),
                epoch,
                recovered: granted.is_some(),
                oldest_seq,
                last_seq,
            });
        }
        Ok(following)
    }

    /// Whether a connection follows a thread, live or about to be.
    #[must_use]
    pub fn follows(&self, thread: &ThreadId, outbox: &Outbox) -> bool {
        self.inner.hub.is_followed_by(thread, outbox)
    }

    /// Ends that a connection follows these threads.
    pub fn unfollow<'a>(&self, threads: impl IntoIterator<Item = &'a ThreadId>, outbox: &Outbox) {
        self.inner.hub.leave_all(threads, outbox);
    }

    /// Ends the feed of a thread that was deleted.
    pub fn remove_thread(&self, thread: &ThreadId) {
        self.inner.hub.remove(thread);
    }
}

#[derive(Debug)]
struct Start {
    thread: ThreadId,
    id: FollowerId,
    /// The newest event that the client has.
    have: u64,
}

/// Threads that a connection is about to follow. Dropped without [`Following::release`], it follows none of them anew.
#[derive(Debug)]
pub struct Following {
    inner: Arc<Inner>,
    outbox: Outbox,
    positions: Vec<ThreadPosition>,
    starts: Vec<Start>,
}

impl Following {
    /// Where each thread stands, in the order asked for.
    #[must_use]
    pub fn positions(&self) -> &[ThreadPosition] {
        &self.positions
    }

    /// Lets the events come, behind what the outbox already holds: what the client lacks, then live.
    pub fn release(mut self) {
        for start in std::mem::take(&mut self.starts) {
            // Most followers lack nothing: then no task and no read is needed.
            if self.inner.hub.catch_up(&start.thread, start.id, start.have) == CatchUp::ReadLog {
                tokio::spawn(replay(self.inner.clone(), self.outbox.clone(), start));
            }
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        for start in &self.starts {
            self.inner.hub.leave(&start.thread, start.id);
        }
    }
}

/// Sends what a follower lacks, page by page as the connection takes it, until it is live.
async fn replay(inner: Arc<Inner>, outbox: Outbox, start: Start) {
    let Start { thread, id, mut have } = start;
    loop {
        if !outbox.has_room().await {
            inner.hub.leave(&thread, id);
            return;
        }
        match inner.hub.catch_up(&thread, id, have) {
            CatchUp::ReadLog => {}
            CatchUp::Live | CatchUp::Gone => return,
        }
        let limit = PAGE.min(i64::try_from(outbox.replay_frames_max()).unwrap_or(PAGE));
        match events::after(&inner.database, &thread, have, limit).await {
            Ok(page) => {
                let page: Vec<_> = page.into_iter().map(|e| (e.seq, Utf8Bytes::from(e.frame))).collect();
                if page.first().is_some_and(|(seq, _)| *seq != have + 1) {
                    // Dropped as too old since the resume was granted: the next one is told (SEQ-3: no silent gap).
                    inner.hub.leave(&thread, id);
                    outbox.close(CloseCode::TryAgainLater, "log was cut meanwhile, resume again");
                    return;
                }
                inner.hub.fill(&thread, page.iter().cloned());
                for (seq, frame) in page {
                    // Frames can be large: wait for room in bytes, too, before each.
                    if !outbox.has_room().await || hub::replay(&outbox, frame).is_err() {
                        inner.hub.leave(&thread, id);
                        return;
                    }
                    have = seq;
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, thread_id = %thread, "log not read for a replay, trying again");
                tokio::time::sleep(READ_RETRY_PAUSE).await;
            }
        }
    }
}
