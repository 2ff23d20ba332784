//! A client that keeps its promise: it stays connected, and at the end it has every event of every thread exactly once and
//! in order, whatever happened to its connections. `docs/clients.md` says why it does what it does; this is its example.
//!
//! [`log::FollowedThread`] is the client's memory of a thread, pure; the driver keeps a connection and feeds it.
//!
//! ```no_run
//! use kingsguard_testkit::prelude::*;
//! use kingsguard_testkit::steady::SteadyOptions;
//!
//! #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
//! async fn a_partition_is_survived() {
//!     TestContext::own(case!("SEQ-3", "TIM-5"))
//!         .run(async |ctx| {
//!             let (proxy, url) = ctx.fault_proxy_before_node(0).await;
//!             let ada = ctx.user("ada").await;
//!             let chat = ada.stay_connected(SteadyOptions::at([url])).await;
//!             let partition = proxy.inject(Fault::partition());
//!             let asked = chat.say("How can I spend less?"); // no connection: it is sent when there is one
//!             partition.until_happened(2).await;
//!             partition.lift();
//!             let run_id = chat.accepted(&asked).await;
//!             let events = chat.until_completed(&run_id).await;
//!             assert_eq!(events.first().map(|event| event.header.seq), Some(1));
//!             assert_eq!(chat.story().resumes_refused, 0);
//!         })
//!         .await;
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kingsguard_protocol::client::{StopAgent, UserMessage};
use kingsguard_protocol::{ClientMessage, ErrorFrame, Event, EventBody, MessageId, RunId, ThreadId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::chat::PATIENCE;
use crate::user::SimulatedUser;

mod driver;
pub mod log;

pub use log::{FollowedThread, LoggedEvent};

/// How a steady client behaves.
#[derive(Clone, Debug)]
pub struct SteadyOptions {
    pub(crate) base_urls: Vec<String>,
    pub(crate) pause_min: Duration,
    pub(crate) pause_max: Duration,
    pub(crate) attempt_max: Duration,
    pub(crate) silence_max: Duration,
    pub(crate) answer_max: Duration,
    pub(crate) run_silence_max: Duration,
    pub(crate) give_up_after: Duration,
    pub(crate) jitter_seed: u64,
}

impl SteadyOptions {
    /// Connects to these nodes (`http://…`), one after the other: it goes on with the next one where one refuses, is away
    /// or says that it shuts down.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn at(base_urls: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let base_urls: Vec<String> = base_urls.into_iter().map(Into::into).collect();
        assert!(!base_urls.is_empty(), "a client needs a node to connect to");
        Self {
            base_urls,
            pause_min: Duration::from_millis(50),
            pause_max: Duration::from_millis(800),
            attempt_max: Duration::from_secs(5),
            silence_max: Duration::from_secs(4),
            answer_max: Duration::from_secs(3),
            run_silence_max: Duration::from_millis(5_500),
            give_up_after: Duration::from_secs(60),
            jitter_seed: 0,
        }
    }

    /// The pause before the second and the longest one before any later attempt, before jitter; 50 ms and 800 ms by
    /// default, so that a resume fits into TIM-5. A client of thousands waits longer.
    #[must_use]
    pub fn with_pauses(mut self, min: Duration, max: Duration) -> Self {
        (self.pause_min, self.pause_max) = (min, max);
        self
    }

    /// How long one attempt may take, from the TCP connection to `handshake_complete`; 5 s by default.
    #[must_use]
    pub fn with_attempt_max(mut self, attempt_max: Duration) -> Self {
        self.attempt_max = attempt_max;
        self
    }

    /// After how much silence the link is taken for dead; 4 s by default. After half of it the client pings, so a live
    /// backend is never silent for so long.
    #[must_use]
    pub fn with_silence_max(mut self, silence_max: Duration) -> Self {
        self.silence_max = silence_max;
        self
    }

    /// How long an answer may take before the client resumes and asks again; 3 s by default.
    #[must_use]
    pub fn with_answer_max(mut self, answer_max: Duration) -> Self {
        self.answer_max = answer_max;
        self
    }

    /// How long an open run may be silent before the client resumes; 5.5 s by default. A run says something every 5 s
    /// (TIM-2), so more is a frame that was lost on the way.
    #[must_use]
    pub fn with_run_silence_max(mut self, run_silence_max: Duration) -> Self {
        self.run_silence_max = run_silence_max;
        self
    }

    /// After how long without a connection the client gives up; 60 s by default.
    #[must_use]
    pub fn with_give_up_after(mut self, give_up_after: Duration) -> Self {
        self.give_up_after = give_up_after;
        self
    }

    /// The seed of the pauses' jitter.
    #[must_use]
    pub fn with_jitter_seed(mut self, seed: u64) -> Self {
        self.jitter_seed = seed;
        self
    }
}

/// What happened to a steady client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// Handshakes completed.
    pub connections_made: u64,
    /// Attempts that ended before their handshake was complete.
    pub attempts_failed: u64,
    /// Threads whose resume was granted, over all connections.
    pub resumes_granted: u64,
    /// Threads whose resume was refused.
    pub resumes_refused: u64,
    /// Events that came again and were dropped by their `seq`.
    pub repeats_dropped: u64,
    /// Times when an event came too early: something before it was missing, and the client resumed.
    pub gaps_seen: u64,
    /// Messages that were sent again with the same `message_id`, as their outcome was unknown.
    pub messages_sent_again: u64,
    /// Times when a log ended before what the client had of it, which breaks SEQ-2.
    pub logs_went_back: u64,
    /// Pages of history that were fetched after refused resumes.
    pub history_pages: u64,
    /// Why each connection was left, oldest first.
    pub losses: Vec<Loss>,
    /// The longest time from the end of a connection to the next completed handshake.
    pub longest_outage: Duration,
    /// The same of the last one.
    pub last_outage: Duration,
    /// Why the client gave up, if it did.
    pub gave_up: Option<String>,
}

/// Why a steady client left a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection ended without a close frame, or was no WebSocket any more.
    Ended,
    /// The backend closed it; its code where it gave one.
    Closed(Option<u16>),
    /// Nothing came for too long, not even a pong.
    Silent,
    /// A request had no answer for too long.
    Unanswered,
    /// An open run was silent for too long.
    RunSilent,
    /// An event came too early.
    Gap,
    /// The backend said that it shuts down, or asked for another connection.
    Moved,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It is durable, and this run answers it.
    Accepted(RunId),
    /// It was refused for good.
    Refused(Box<ErrorFrame>),
}

/// A client that stays connected by itself. Letting it go leaves its connection open until the test is judged.
#[derive(Debug)]
pub struct SteadyChat {
    shared: Arc<Shared>,
    _ends_with_this: DropGuard,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    work: Notify,
}

#[derive(Debug, Default)]
struct State {
    own_thread: Option<ThreadId>,
    threads: BTreeMap<ThreadId, FollowedThread>,
    /// Threads whose position the backend told on the present connection.
    standing: BTreeSet<ThreadId>,
    pending: VecDeque<Pending>,
    outcomes: BTreeMap<MessageId, Outcome>,
    /// Messages that are sent once and not followed.
    wishes: Vec<ClientMessage>,
    /// The base URL of the node behind the present connection.
    connected_to: Option<String>,
    is_closing: bool,
    is_over: bool,
    story: Story,
}

impl State {
    fn is_settled(&self) -> bool {
        let mut threads = self.threads.iter();
        let whole = threads.all(|(id, thread)| self.standing.contains(id) && thread.fetch_before().is_none());
        self.connected_to.is_some() && whole && self.pending.is_empty()
    }
}

/// A message without a known outcome.
#[derive(Clone, Debug)]
struct Pending {
    message_id: MessageId,
    /// `None` means the client's own thread, which the first handshake names.
    thread_id: Option<ThreadId>,
    content: String,
    /// When it was sent on the present connection.
    sent: Option<tokio::time::Instant>,
    /// Not before this; a backend may ask for a pause.
    due: tokio::time::Instant,
    times_sent: u64,
}

impl Pending {
    fn message(&self, own_thread: Option<&ThreadId>) -> ClientMessage {
        ClientMessage {
            message_id: Some(self.message_id.clone()),
            thread_id: self.thread_id.as_ref().or(own_thread).cloned(),
            body: UserMessage {
                content: self.content.clone(),
                references: None,
                metadata: None,
            }
            .into(),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.send_replace(());
        changed
    }
}

impl SteadyChat {
    /// Starts a client; it is connected once its first handshake is complete.
    pub(crate) async fn start(user: SimulatedUser, options: SteadyOptions) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            work: Notify::new(),
        });
        let ending = CancellationToken::new();
        let driver = driver::Driver::new(user, options, Arc::clone(&shared));
        tokio::spawn(ending.clone().run_until_cancelled_owned(driver.run()));
        let chat = Self {
            shared,
            _ends_with_this: ending.drop_guard(),
        };
        chat.wait_for("the first handshake", |state| state.own_thread.clone())
            .await;
        chat
    }

    async fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            changed.borrow_and_update();
            {
                let state = self.shared.state();
                if let Some(found) = look(&state) {
                    return found;
                }
                assert!(!state.is_over, "{what} cannot come any more: {:#?}", state.story);
            }
            let waited = tokio::time::timeout_at(deadline, changed.changed()).await;
            assert!(
                matches!(waited, Ok(Ok(()))),
                "no {what} within {} s: {:#?}",
                PATIENCE.as_secs(),
                self.story()
            );
        }
    }

    // ---- speaking ---------------------------------------------------------------------------------------------------

    /// The thread of its messages that name none.
    ///
    /// # Panics
    /// Never: it has one from its first handshake on.
    #[must_use]
    pub fn thread_id(&self) -> ThreadId {
        let state = self.shared.state();
        state.own_thread.clone().expect("the first handshake is complete")
    }

    /// Follows a thread from its first event on.
    pub fn follow(&self, thread_id: &ThreadId) {
        self.shared.change(|state| {
            state.threads.entry(thread_id.clone()).or_default();
        });
        self.shared.work.notify_one();
    }

    /// Says something in its own thread; sent when there is a connection, and again with the same `message_id` as long as
    /// its outcome is unknown (SEQ-8).
    pub fn say(&self, content: &str) -> MessageId {
        self.push(None, content)
    }

    /// The same in a thread of choice, which it follows from then on.
    pub fn say_in(&self, thread_id: &ThreadId, content: &str) -> MessageId {
        self.follow(thread_id);
        self.push(Some(thread_id.clone()), content)
    }

    /// Says something under an id that was used before, as a client does that does not know what became of it.
    pub fn say_again_in(&self, thread_id: &ThreadId, message_id: &MessageId, content: &str) {
        self.follow(thread_id);
        self.push_as(message_id.clone(), Some(thread_id.clone()), content);
    }

    /// Asks for the end of a run, once, on whatever connection there is; what becomes of that is not followed.
    pub fn stop(&self, run_id: &RunId) {
        let stop = StopAgent {
            run_id: run_id.clone(),
            reason: None,
        };
        let message = ClientMessage {
            message_id: Some(MessageId::generate()),
            thread_id: None,
            body: stop.into(),
        };
        self.shared.change(|state| state.wishes.push(message));
        self.shared.work.notify_one();
    }

    fn push(&self, thread_id: Option<ThreadId>, content: &str) -> MessageId {
        let message_id = MessageId::generate();
        self.push_as(message_id.clone(), thread_id, content);
        message_id
    }

    fn push_as(&self, message_id: MessageId, thread_id: Option<ThreadId>, content: &str) {
        let pending = Pending {
            message_id,
            thread_id,
            content: content.to_owned(),
            sent: None,
            due: tokio::time::Instant::now(),
            times_sent: 0,
        };
        self.shared.change(|state| state.pending.push_back(pending));
        self.shared.work.notify_one();
    }

    /// What became of a message, as far as it is known.
    #[must_use]
    pub fn known_outcome(&self, message_id: &MessageId) -> Option<Outcome> {
        self.shared.state().outcomes.get(message_id).cloned()
    }

    /// The run that answers a message, once that is known.
    #[must_use]
    pub fn run_of(&self, message_id: &MessageId) -> Option<RunId> {
        match self.known_outcome(message_id)? {
            Outcome::Accepted(run_id) => Some(run_id),
            Outcome::Refused(_) => None,
        }
    }

    /// What became of a message, once it is known.
    pub async fn outcome(&self, message_id: &MessageId) -> Outcome {
        let what = format!("outcome of {message_id}");
        self.wait_for(&what, |state| state.outcomes.get(message_id).cloned())
            .await
    }

    /// The run that answers a message.
    ///
    /// # Panics
    /// It is refused.
    pub async fn accepted(&self, message_id: &MessageId) -> RunId {
        match self.outcome(message_id).await {
            Outcome::Accepted(run_id) => run_id,
            Outcome::Refused(error) => panic!("{message_id} is refused: {error:?}"),
        }
    }

    /// Waits until a run ended; gives all of its events.
    pub async fn until_completed(&self, run_id: &RunId) -> Vec<Event> {
        let what = format!("agent_completed of {run_id}");
        self.wait_for(&what, |state| {
            let events: Vec<&Event> = state
                .threads
                .values()
                .flat_map(FollowedThread::events)
                .filter_map(|logged| logged.event.as_ref())
                .filter(|event| event.header.run_id == *run_id)
                .collect();
            let ended = events
                .iter()
                .any(|event| matches!(event.body, EventBody::AgentCompleted(_)));
            ended.then(|| events.into_iter().cloned().collect())
        })
        .await
    }

    /// Says something and waits for all events of the run that answers it.
    pub async fn ask(&self, content: &str) -> Vec<Event> {
        let message_id = self.say(content);
        let run_id = self.accepted(&message_id).await;
        self.until_completed(&run_id).await
    }

    // ---- looking ----------------------------------------------------------------------------------------------------

    /// What it has of a thread; nothing of one that it does not follow.
    #[must_use]
    pub fn thread(&self, thread_id: &ThreadId) -> Option<FollowedThread> {
        self.shared.state().threads.get(thread_id).cloned()
    }

    /// The threads that it follows.
    #[must_use]
    pub fn threads(&self) -> Vec<ThreadId> {
        self.shared.state().threads.keys().cloned().collect()
    }

    /// The events of a thread, in order; those of its present epoch.
    #[must_use]
    pub fn events(&self, thread_id: &ThreadId) -> Vec<LoggedEvent> {
        let state = self.shared.state();
        let thread = state.threads.get(thread_id);
        thread.map(|thread| thread.events().to_vec()).unwrap_or_default()
    }

    /// What happened to it so far.
    #[must_use]
    pub fn story(&self) -> Story {
        self.shared.state().story.clone()
    }

    /// The base URL with which its handshake is complete, while nothing ended that connection as far as it knows.
    #[must_use]
    pub fn connected_to(&self) -> Option<String> {
        self.shared.state().connected_to.clone()
    }

    /// Waits until something is true of what happened to it.
    pub async fn until_story(&self, what: &str, mut holds: impl FnMut(&Story) -> bool) -> Story {
        self.wait_for(what, |state| holds(&state.story).then(|| state.story.clone()))
            .await
    }

    /// Waits until it is connected, follows every thread on this connection, no message is without an outcome and no
    /// history is being fetched.
    pub async fn until_settled(&self) {
        self.wait_for("settled client", |state| state.is_settled().then_some(()))
            .await;
    }

    /// Whether that is so now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.shared.state().is_settled()
    }

    /// Closes the connection properly and stays away; says what happened to it.
    pub async fn close(self) -> Story {
        self.shared.change(|state| state.is_closing = true);
        self.shared.work.notify_one();
        let mut changed = self.shared.changed.subscribe();
        while !self.shared.state().is_over && changed.changed().await.is_ok() {}
        self.story()
    }
}

/// The page is kept true by compiling its code.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/clients.md")]
struct ClientsPage;
