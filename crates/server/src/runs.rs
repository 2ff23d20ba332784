//! Runs: accepting them durably and once, queueing them per thread, stopping them, and never leaving one without its end.

mod execution;
pub mod sink;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;
use kingsguard_protocol::control::{RunPhase, RunState};
use kingsguard_protocol::http::RunResponse;
use kingsguard_protocol::{ErrorCode, MessageId, RunId, ThreadId, Timestamp, UserId};
use serde_json::value::RawValue;
use tokio::sync::{Notify, Semaphore, watch};

pub use self::execution::RunTimes;
use self::execution::{Execution, Signal};
use crate::agents::AgentRegistry;
use crate::bridge::Bridge;
use crate::error::ApiError;
use crate::redact;
use crate::sabotage::{self, Fault};
use crate::store::Store;
use crate::store::runs::{self, Known, NewRun, OwnedRun, StopRequest};
use crate::telemetry;

/// In each lease a node renews it so many times, looks for stop requests and for runs of dead nodes.
const ROUNDS_PER_LEASE: u32 = 6;
/// Runs taken over in one round.
const TAKE_OVER_MAX: i64 = 256;
/// A run that is this node's, open, and not known here for so long was accepted while the connection to Postgres broke.
const ADOPT_AFTER: chrono::TimeDelta = chrono::TimeDelta::seconds(1);

/// A message that starts a run.
#[derive(Debug)]
pub struct RunRequest {
    pub user_id: UserId,
    pub thread_id: ThreadId,
    pub message_id: Option<MessageId>,
    pub agent_name: Option<String>,
    pub content: String,
    pub metadata: Option<Box<RawValue>>,
    pub references: Option<Box<RawValue>>,
    pub context: Option<Box<RawValue>>,
}

/// A run that is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub message_id: MessageId,
    pub run_id: RunId,
    pub thread_id: ThreadId,
    pub accepted_at: Timestamp,
    /// The thread had seen the message: this is its first run (SEQ-8).
    pub repeated: bool,
}

/// The bounds of a node's runs.
#[derive(Clone, Copy, Debug)]
pub struct RunBounds {
    /// How long a run may take, and how it stays in touch.
    pub times: RunTimes,
    /// Runs that are executed at the same time.
    pub concurrent_max: usize,
    /// Runs of one thread that may wait for their turn.
    pub queued_per_thread_max: usize,
    /// How long a node that says nothing counts as alive; with the time to notice it must stay below the 5 s of SEQ-9.
    pub lease: Duration,
}

/// Accepts, executes and ends runs. Clones share everything.
#[derive(Clone, Debug)]
pub struct Runs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    bridge: Bridge,
    registry: Arc<AgentRegistry>,
    bounds: RunBounds,
    turns: Semaphore,
    node_id: String,
    /// The node has had its lease: without one other nodes would take its runs.
    leased: AtomicBool,
    open: Mutex<Open>,
    /// Wakes whoever waits for the last run to end.
    ended: Notify,
}

/// Runs of this node that go on.
#[derive(Debug, Default)]
struct Open {
    signals: HashMap<RunId, watch::Sender<Signal>>,
    /// Runs that wait for the one before them; a thread is here while one of its runs is under way.
    waiting: HashMap<ThreadId, VecDeque<Queued>>,
    draining: bool,
}

#[derive(Debug)]
struct Queued {
    run: OwnedRun,
    signal: watch::Receiver<Signal>,
}

impl Runs {
    /// Starts the task that keeps this node's lease; runs are accepted as soon as it has one.
    #[must_use]
    pub fn start(store: Store, bridge: Bridge, registry: Arc<AgentRegistry>, bounds: RunBounds) -> Self {
        let inner = Arc::new(Inner {
            store,
            bridge,
            registry,
            bounds,
            turns: Semaphore::new(bounds.concurrent_max),
            // New at each start: a restarted node must find the runs of its former self as another's.
            node_id: format!("node_{}", uuid::Uuid::now_v7()),
            leased: AtomicBool::new(false),
            open: Mutex::new(Open::default()),
            ended: Notify::new(),
        });
        tokio::spawn(inner.clone().keep_lease());
        Self { inner }
    }

    /// Accepts a message that starts a run; it is durable when this returns (MSG-5). A repeat names the first run,
    /// before `limit` is judged (SEQ-8). `answer` is called before the run can say anything, so that what it queues
    /// stands before the run's events.
    ///
    /// # Errors
    /// `THREAD_NOT_FOUND`, `AGENT_NOT_FOUND`, `SERVICE_DRAINING`, what `limit` says, `DATABASE_UNAVAILABLE`.
    pub async fn accept(
        &self,
        request: RunRequest,
        limit: impl FnOnce() -> Result<(), ApiError> + Send,
        answer: impl FnOnce(&Accepted) + Send,
    ) -> Result<Accepted, ApiError> {
        let inner = &self.inner;
        let RunRequest {
            user_id,
            thread_id,
            agent_name,
            content,
            ..
        } = request;
        let message_id = request.message_id.unwrap_or_else(MessageId::generate);
        let repeat = |run_id, accepted_at| Accepted {
            message_id: message_id.clone(),
            run_id,
            thread_id: thread_id.clone(),
            accepted_at: Timestamp::from(accepted_at),
            repeated: true,
        };
        match runs::known(inner.store.database(), &user_id, &thread_id, &message_id).await? {
            Known::NoThread => return Err(ApiError::new(ErrorCode::ThreadNotFound)),
            Known::Repeated { run_id, accepted_at } => {
                let accepted = repeat(run_id, accepted_at);
                answer(&accepted);
                return Ok(accepted);
            }
            Known::New => {}
        }
        if let Some(name) = &agent_name
            && !inner.registry.contains(name)
        {
            return Err(ApiError::new(ErrorCode::AgentNotFound));
        }
        if inner.lock().draining {
            return Err(ApiError::new(ErrorCode::ServiceDraining));
        }
        if !self.has_had_its_lease() {
            return Err(ApiError::new(ErrorCode::DatabaseUnavailable));
        }
        limit()?;
        let queued = inner.lock().waiting.get(&thread_id).map_or(0, VecDeque::len);
        if queued >= inner.bounds.queued_per_thread_max {
            return Err(ApiError::rate_limited(Duration::from_secs(1)));
        }
        let run_id = RunId::generate();
        let accepted_at = Timestamp::now();
        let new = NewRun {
            run_id: &run_id,
            user_id: &user_id,
            thread_id: &thread_id,
            message_id: &message_id,
            agent_name: agent_name.as_deref(),
            content: &content,
            metadata: request.metadata.as_deref().map_or("{}", RawValue::get),
            references: request.references.as_deref().map(RawValue::get),
            context: request.context.as_deref().map(RawValue::get),
            node_id: &inner.node_id,
            accepted_at: accepted_at.as_datetime(),
        };
        let forgotten = sabotage::planted(Fault::LostAfterAcknowledgement);
        if !forgotten && !runs::accept(inner.store.database(), &new).await? {
            // The same message came twice at once, or the thread was deleted meanwhile.
            return match runs::known(inner.store.database(), &user_id, &thread_id, &message_id).await? {
                Known::Repeated { run_id, accepted_at } => {
                    let accepted = repeat(run_id, accepted_at);
                    answer(&accepted);
                    Ok(accepted)
                }
                Known::NoThread | Known::New => Err(ApiError::new(ErrorCode::ThreadNotFound)),
            };
        }
        let accepted = Accepted {
            message_id: message_id.clone(),
            run_id: run_id.clone(),
            thread_id: thread_id.clone(),
            accepted_at,
            repeated: false,
        };
        answer(&accepted);
        if forgotten {
            return Ok(accepted);
        }
        inner.clone().enqueue(OwnedRun {
            run_id: run_id.clone(),
            user_id,
            thread_id: thread_id.clone(),
            message_id: message_id.clone(),
            agent_name,
            input: content,
            context: request.context.map(|context| context.get().to_owned()),
            phase: RunPhase::Queued.as_str().to_owned(),
            fence: 1,
            stop: None,
        });
        Ok(accepted)
    }

    /// Ends a run as its user asked, on whichever node it is.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`; `CONFLICT` when it has ended or is being ended; `DATABASE_UNAVAILABLE`.
    pub async fn stop(&self, user: &UserId, run: &RunId, reason: String, cause: MessageId) -> Result<(), ApiError> {
        let stop = StopRequest {
            reason: redact::text(&reason).into_owned(),
            cause,
        };
        match runs::request_stop(self.inner.store.database(), user, run, &stop).await? {
            None => Err(ApiError::new(ErrorCode::RunNotFound)),
            Some(false) => Err(ApiError::new(ErrorCode::Conflict).with_message("The run has ended already.")),
            Some(true) => {
                self.inner.clone().signal(run, Signal::Stop(stop)); // another node's run is told by its own round
                Ok(())
            }
        }
    }

    /// A run as it stands.
    ///
    /// # Errors
    /// `RUN_NOT_FOUND`; `DATABASE_UNAVAILABLE`.
    pub async fn get(&self, user: &UserId, run: &RunId) -> Result<RunResponse, ApiError> {
        let found = runs::state(self.inner.store.database(), user, run).await?;
        let (run, final_response) = found.ok_or_else(|| ApiError::new(ErrorCode::RunNotFound))?;
        Ok(RunResponse { run, final_response })
    }

    /// All runs of a user that go on, oldest first.
    ///
    /// # Errors
    /// `DATABASE_UNAVAILABLE`.
    pub async fn open(&self, user: &UserId) -> Result<Vec<RunState>, ApiError> {
        Ok(runs::open(self.inner.store.database(), user).await?)
    }

    /// Whether runs can be accepted: before its first lease a node's runs would seem a dead node's.
    #[must_use]
    pub fn has_had_its_lease(&self) -> bool {
        self.inner.leased.load(Ordering::Relaxed)
    }

    /// Runs of this node that go on.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.inner.lock().signals.len()
    }

    /// Refuses new runs, lets those that go on end within `deadline`, ends the others as `failed` (CON-4), and gives
    /// the node's lease up.
    pub async fn drain(&self, deadline: Duration) {
        self.inner.lock().draining = true;
        if tokio::time::timeout(deadline, self.inner.all_ended()).await.is_err() {
            let open: Vec<RunId> = self.inner.lock().signals.keys().cloned().collect();
            for run in open {
                self.inner.clone().signal(&run, Signal::Drain);
            }
            self.inner.all_ended().await;
        }
        if let Err(error) = runs::release_lease(self.inner.store.database(), &self.inner.node_id).await {
            tracing::warn!(error = %error, "lease not given up; it ends by itself");
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Every change leaves the maps consistent before anything can panic.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.lock().signals.is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// Runs of one thread follow one another.
    fn enqueue(self: Arc<Self>, run: OwnedRun) {
        let first = run.stop.clone().map_or(Signal::GoOn, Signal::Stop);
        let (sender, signal) = watch::channel(first);
        let thread = run.thread_id.clone();
        let queued = Queued { run, signal };
        let mut open = self.lock();
        if open.signals.contains_key(&queued.run.run_id) {
            return;
        }
        open.signals.insert(queued.run.run_id.clone(), sender);
        if queued.run.phase == RunPhase::Running.as_str() {
            // It began on a node that is gone: only its end is owed, and that waits behind no other run (SEQ-9).
            drop(open);
            tokio::spawn(self.execute(queued));
            return;
        }
        if let Some(waiting) = open.waiting.get_mut(&thread) {
            waiting.push_back(queued);
        } else {
            open.waiting.insert(thread.clone(), VecDeque::new());
            drop(open);
            tokio::spawn(self.work_off(thread, queued));
        }
    }

    async fn work_off(self: Arc<Self>, thread: ThreadId, first: Queued) {
        let mut next = Some(first);
        while let Some(queued) = next {
            self.clone().execute(queued).await;
            let mut open = self.lock();
            next = open.waiting.get_mut(&thread).and_then(VecDeque::pop_front);
            if next.is_none() {
                open.waiting.remove(&thread);
            }
        }
    }

    async fn execute(self: Arc<Self>, Queued { run, signal }: Queued) {
        let run_id = run.run_id.clone();
        let turn = self.turns.acquire().await;
        let execution = Execution {
            store: self.store.clone(),
            bridge: self.bridge.clone(),
            registry: self.registry.clone(),
            times: self.bounds.times,
            run,
            signal,
        };
        // In a task of its own, so that a panic in it cannot end the thread's queue.
        if let Err(error) = tokio::spawn(execution.finish()).await {
            tracing::error!(run_id = %run_id, error = %error, "run's execution panicked");
        }
        drop(turn);
        self.lock().signals.remove(&run_id);
        self.ended.notify_waiters();
    }

    /// Tells a run of this node; one that waits for another run of its thread is ended at once beside it.
    fn signal(self: Arc<Self>, run: &RunId, signal: Signal) {
        let mut open = self.lock();
        let Some(sender) = open.signals.get(run) else { return };
        sender.send_if_modified(|current| {
            let is_first = *current == Signal::GoOn;
            if is_first {
                *current = signal;
            }
            is_first
        });
        let queued = open.waiting.values_mut().find_map(|waiting| {
            let place = waiting.iter().position(|queued| queued.run.run_id == *run)?;
            waiting.remove(place)
        });
        drop(open);
        if let Some(queued) = queued {
            tokio::spawn(self.execute(queued));
        }
    }

    async fn keep_lease(self: Arc<Self>) {
        self.store.migrated().await;
        let mut rounds = tokio::time::interval(self.bounds.lease / ROUNDS_PER_LEASE);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut renewed_since = Instant::now();
        let mut renewed_at = Instant::now();
        loop {
            rounds.tick().await;
            // After an outage of Postgres every lease is over: the other nodes get the time to renew theirs first.
            if renewed_at.elapsed() > self.bounds.lease {
                renewed_since = Instant::now();
            }
            match self.clone().round(renewed_since.elapsed() >= self.bounds.lease).await {
                Ok(()) => renewed_at = Instant::now(),
                Err(error) => tracing::warn!(error = %error, "lease not renewed, trying again"),
            }
        }
    }

    async fn round(self: Arc<Self>, may_take_over: bool) -> Result<(), sqlx::Error> {
        if self.lock().draining && self.lock().signals.is_empty() {
            return Ok(()); // the lease was given up
        }
        let peers = runs::renew_lease(self.store.database(), &self.node_id, self.bounds.lease).await?;
        self.leased.store(true, Ordering::Relaxed);
        telemetry::runs_open(RunPhase::Running, self.lock().waiting.len());
        telemetry::runs_open(RunPhase::Queued, self.lock().waiting.values().map(VecDeque::len).sum());
        self.bridge.set_peers(peers);
        for (run, stop) in runs::stop_requests(self.store.database(), &self.node_id).await? {
            self.clone().signal(&run, Signal::Stop(stop));
        }
        if self.lock().draining {
            return Ok(());
        }
        let before = Utc::now() - ADOPT_AFTER;
        let known: Vec<RunId> = self.lock().signals.keys().cloned().collect();
        for run in runs::forgotten(self.store.database(), &self.node_id, &known, before).await? {
            self.clone().enqueue(run);
        }
        if !may_take_over || sabotage::planted(Fault::OrphansStay) {
            return Ok(());
        }
        for run in runs::take_over(self.store.database(), &self.node_id, TAKE_OVER_MAX).await? {
            tracing::info!(run_id = %run.run_id, phase = %run.phase, "run of a dead node taken over");
            self.clone().enqueue(run);
        }
        Ok(())
    }
}
