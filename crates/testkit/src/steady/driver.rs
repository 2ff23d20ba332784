//! Keeps one connection of a steady client: reaches a node, resumes, feeds what comes to the threads' logs, and begins again
//! when the connection is lost in any way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use kingsguard_protocol::client::{GetThreadHistory, HandshakeAcknowledged, SwitchThread, ThreadResume};
use kingsguard_protocol::control::{ThreadHistory, ThreadPosition};
use kingsguard_protocol::error::Recovery;
use kingsguard_protocol::{
    ClientBody, ClientMessage, CloseCode, ControlFrame, ErrorCode, ErrorFrame, EventBody, MessageId, RunId,
    ServerFrame, ThreadId,
};
use tokio::time::Instant;

use super::log::{FollowedThread, LoggedEvent, Standing, Taken};
use super::{Loss, Outcome, Shared, SteadyOptions};
use crate::chat::Chat;
use crate::frame::Frame;
use crate::recording::FrameKind;
use crate::user::SimulatedUser;

/// How many events a page of history holds; the contract's most.
const PAGE_EVENTS: u32 = 100;

/// The pause before a refused request is made again, where the backend names none.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// The longest pause that a backend may ask for before the client tries anyway.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Driver {
    user: SimulatedUser,
    options: SteadyOptions,
    shared: Arc<Shared>,
    /// Which node is next, counted over all attempts.
    node: usize,
    /// How many times it had to wait, so that no two outages have the same jitter.
    outages: u64,
    /// Whether the credential must be renewed before the next attempt.
    needs_login: bool,
    /// Runs that were accepted and have not ended: whose thread owes events.
    open_runs: BTreeMap<RunId, ThreadId>,
}

/// What a request that has no answer yet was about.
enum Ask {
    Switch(ThreadId),
    History(ThreadId),
}

/// One connection after its handshake.
struct Turn {
    chat: Chat,
    asks: BTreeMap<MessageId, (Ask, Instant)>,
    /// Threads about which nothing is asked before this.
    pauses: BTreeMap<ThreadId, Instant>,
    heard: Instant,
    pinged: bool,
    /// When the newest event of each thread came.
    thread_heard: BTreeMap<ThreadId, Instant>,
    began: Instant,
}

/// Why an attempt failed.
struct Failure {
    why: String,
    /// What the backend asked for.
    pause: Option<Duration>,
}

impl Failure {
    fn new(why: impl ToString) -> Self {
        Self {
            why: why.to_string(),
            pause: None,
        }
    }
}

impl Driver {
    pub(super) fn new(user: SimulatedUser, options: SteadyOptions, shared: Arc<Shared>) -> Self {
        Self {
            user,
            options,
            shared,
            node: 0,
            outages: 0,
            needs_login: false,
            open_runs: BTreeMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut lost: Option<Instant> = None;
        while let Some(mut turn) = self.reach().await {
            self.shared.change(|state| {
                state.connected_to = Some(self.base_url().to_owned());
                state.story.connections_made += 1;
                if let Some(lost) = lost {
                    state.story.last_outage = lost.elapsed();
                    state.story.longest_outage = state.story.longest_outage.max(lost.elapsed());
                }
            });
            let loss = self.converse(&mut turn).await;
            lost = Some(Instant::now());
            turn.chat.drop_connection().await;
            let is_closing = self.shared.change(|state| {
                state.connected_to = None;
                // What was sent and not answered has an unknown outcome: it is sent again.
                state.pending.iter_mut().for_each(|pending| pending.sent = None);
                if let Some(loss) = &loss {
                    state.story.losses.push(loss.clone());
                }
                state.is_closing
            });
            match loss {
                None => break,
                Some(_) if is_closing => break,
                Some(Loss::Moved) => self.node += 1,
                Some(Loss::Closed(code)) => self.learn_from(code),
                Some(Loss::Ended | Loss::Silent | Loss::Unanswered | Loss::RunSilent | Loss::Gap) => {}
            }
        }
        self.shared.change(|state| state.is_over = true);
    }

    fn learn_from(&mut self, code: Option<u16>) {
        let is = |known: CloseCode| code == Some(known.as_u16());
        if is(CloseCode::AuthenticationEnded) {
            self.needs_login = true;
        } else if is(CloseCode::GoingAway) || is(CloseCode::Restart) || is(CloseCode::TryAgainLater) {
            self.node += 1;
        }
    }

    // ---- reaching ---------------------------------------------------------------------------------------------------

    /// Tries until a handshake is complete, with pauses that grow and vary; `None` where it gave up or is to close.
    async fn reach(&mut self) -> Option<Turn> {
        let mut pauses = ExponentialBuilder::default()
            .with_min_delay(self.options.pause_min)
            .with_max_delay(self.options.pause_max)
            .with_jitter()
            .with_jitter_seed(self.options.jitter_seed.wrapping_add(self.outages))
            .without_max_times()
            .build();
        self.outages += 1;
        let deadline = Instant::now() + self.options.give_up_after;
        loop {
            if self.shared.state().is_closing {
                return None;
            }
            let mut chat = None;
            let attempt = tokio::time::timeout(self.options.attempt_max, self.attempt(&mut chat)).await;
            let failure = match (attempt, chat.take()) {
                (Ok(Ok(())), Some(chat)) => {
                    let now = Instant::now();
                    return Some(Turn {
                        chat,
                        asks: BTreeMap::new(),
                        pauses: BTreeMap::new(),
                        heard: now,
                        pinged: false,
                        thread_heard: BTreeMap::new(),
                        began: now,
                    });
                }
                (Ok(Err(failure)), chat) => {
                    abandon(chat).await;
                    failure
                }
                (_, chat) => {
                    abandon(chat).await;
                    Failure::new("no complete handshake in time")
                }
            };
            self.shared.change(|state| state.story.attempts_failed += 1);
            if Instant::now() >= deadline {
                self.shared.change(|state| state.story.gave_up = Some(failure.why));
                return None;
            }
            self.node += 1;
            let pause = pauses.next().unwrap_or(self.options.pause_max);
            let asked = failure.pause.unwrap_or_default().min(RETRY_PAUSE_MAX);
            // A backend that asks for a pause is one of several: the next one may be ready.
            let pause = if self.options.base_urls.len() > 1 {
                pause
            } else {
                pause.max(asked)
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn base_url(&self) -> &str {
        &self.options.base_urls[self.node % self.options.base_urls.len()]
    }

    async fn attempt(&mut self, place: &mut Option<Chat>) -> Result<(), Failure> {
        let base_url = self.base_url().to_owned();
        if self.needs_login {
            self.user.login_at(&base_url).await.map_err(Failure::new)?;
            self.needs_login = false;
        }
        let options = self.user.options().with_base_url(&base_url);
        let opened = self.user.try_reach(options).await.map_err(Failure::new)?;
        let chat = match opened {
            Ok(chat) => place.insert(chat),
            Err(refused) => {
                self.needs_login = refused.status == 401;
                let header = |name: &str| refused.headers.iter().find(|(known, _)| known == name);
                let seconds = header("retry-after").and_then(|(_, seconds)| seconds.parse().ok());
                return Err(Failure {
                    why: format!("refused with {}", refused.status),
                    pause: seconds.map(Duration::from_secs),
                });
            }
        };
        let mut acknowledged = false;
        loop {
            let next = chat.wait_for(self.options.attempt_max, |_| true).await;
            let Some(frame) = next else {
                return Err(Failure::new("the connection ended during the handshake"));
            };
            match frame.control() {
                Some(ControlFrame::HandshakeResponse(_)) => self.acknowledge(chat, true).await?,
                Some(ControlFrame::HandshakeComplete(complete)) => {
                    let own = complete.threads.first().map(|position| position.thread_id.clone());
                    self.shared.change(|state| {
                        state.standing.clear();
                        if state.own_thread.is_none() {
                            state
                                .threads
                                .extend(own.clone().map(|own| (own, FollowedThread::default())));
                            state.own_thread = own;
                        }
                    });
                    for position in &complete.threads {
                        self.stand(position);
                    }
                    return Ok(());
                }
                // Nothing changed by it: the client acknowledges without the threads and asks for each alone.
                Some(ControlFrame::Error(error)) if error.error_code == ErrorCode::ThreadNotFound && !acknowledged => {
                    acknowledged = true;
                    self.acknowledge(chat, false).await?;
                }
                Some(ControlFrame::Error(error)) => return Err(Failure::new(error.error_code)),
                Some(ControlFrame::ServerShutdown(_)) => return Err(Failure::new("it shuts down")),
                _ => {}
            }
        }
    }

    async fn acknowledge(&self, chat: &mut Chat, with_threads: bool) -> Result<(), Failure> {
        let (own_thread, resume) = {
            let state = self.shared.state();
            let points = state.threads.iter().filter_map(|(thread_id, thread)| {
                Some(ThreadResume {
                    thread_id: thread_id.clone(),
                    point: thread.resume_point()?,
                })
            });
            (state.own_thread.clone(), points.collect())
        };
        let message = if with_threads {
            message(own_thread.as_ref(), HandshakeAcknowledged { resume })
        } else {
            message(None, HandshakeAcknowledged::default())
        };
        send(chat, &message).await.map_err(Failure::new)
    }

    /// Takes where the backend says that a thread stands. One that it does not follow is a thread that was offered again.
    fn stand(&self, position: &ThreadPosition) {
        self.shared.change(|state| {
            let Some(thread) = state.threads.get_mut(&position.thread_id) else {
                return;
            };
            state.standing.insert(position.thread_id.clone());
            let asked = thread.resume_point().is_some();
            let standing = thread.stand_at(position);
            match standing {
                Standing::Resumed => state.story.resumes_granted += 1,
                Standing::Whole | Standing::Behind | Standing::WentBack => {
                    state.story.resumes_refused += u64::from(asked);
                }
            }
            state.story.logs_went_back += u64::from(standing == Standing::WentBack);
        });
    }

    // ---- conversing -------------------------------------------------------------------------------------------------

    /// Sends what is to be sent and takes what comes until the connection is lost; `None` where it was closed on purpose.
    async fn converse(&mut self, turn: &mut Turn) -> Option<Loss> {
        let shared = Arc::clone(&self.shared);
        loop {
            if shared.state().is_closing {
                turn.chat.close().await;
                return None;
            }
            let look_again = match self.speak(turn).await {
                Ok(look_again) => look_again,
                Err(loss) => return Some(loss),
            };
            let frame = tokio::select! {
                frame = turn.chat.wait_for(look_again, |_| true) => frame,
                () = shared.work.notified() => continue,
            };
            match frame {
                Some(frame) => {
                    turn.heard = Instant::now();
                    turn.pinged = false;
                    if let Err(loss) = self.take(turn, &frame) {
                        return Some(loss);
                    }
                }
                None if !turn.chat.is_open() => return Some(Loss::Ended),
                None => {}
            }
        }
    }

    /// Sends every request that is due; says how long nothing else is.
    async fn speak(&mut self, turn: &mut Turn) -> Result<Duration, Loss> {
        let now = Instant::now();
        if let Some(loss) = self.overdue(turn, now) {
            return Err(loss);
        }
        let mut messages = Vec::new();
        self.shared.change(|state| {
            let own_thread = state.own_thread.clone();
            for pending in &mut state.pending {
                if pending.sent.is_none() && pending.due <= now {
                    pending.sent = Some(now);
                    state.story.messages_sent_again += u64::from(pending.times_sent > 0);
                    pending.times_sent += 1;
                    messages.push(pending.message(own_thread.as_ref()));
                }
            }
        });
        self.shared.change(|state| messages.append(&mut state.wishes));
        messages.extend(self.questions(turn, now));
        for message in messages {
            let sending = tokio::time::timeout(self.options.silence_max, send(&mut turn.chat, &message)).await;
            if !matches!(sending, Ok(Ok(()))) {
                return Err(Loss::Ended);
            }
        }
        if !turn.pinged && now.duration_since(turn.heard) >= self.options.silence_max / 2 {
            turn.pinged = true;
            if turn.chat.send_ping(b"steady").await.is_err() {
                return Err(Loss::Ended);
            }
        }
        Ok((self.options.silence_max / 8).min(RETRY_PAUSE))
    }

    fn overdue(&self, turn: &Turn, now: Instant) -> Option<Loss> {
        if now.duration_since(turn.heard) >= self.options.silence_max {
            return Some(Loss::Silent);
        }
        let unanswered = |asked: &Instant| now.duration_since(*asked) >= self.options.answer_max;
        let state = self.shared.state();
        let messages = state.pending.iter().filter_map(|pending| pending.sent.as_ref());
        if messages.chain(turn.asks.values().map(|(_, at)| at)).any(unanswered) {
            return Some(Loss::Unanswered);
        }
        let run_is_silent = self.open_runs.values().any(|thread_id| {
            let heard = turn.thread_heard.get(thread_id).unwrap_or(&turn.began);
            now.duration_since(*heard) >= self.options.run_silence_max
        });
        run_is_silent.then_some(Loss::RunSilent)
    }

    /// Threads to follow on this connection, and history to fetch.
    fn questions(&self, turn: &mut Turn, now: Instant) -> Vec<ClientMessage> {
        let mut questions = Vec::new();
        let state = self.shared.state();
        for (thread_id, thread) in &state.threads {
            let about_this = |(ask, _): &(Ask, Instant)| match ask {
                Ask::Switch(other) | Ask::History(other) => other == thread_id,
            };
            let is_paused = turn.pauses.get(thread_id).is_some_and(|until| *until > now);
            if is_paused || turn.asks.values().any(about_this) {
                continue;
            }
            let (question, ask) = if !state.standing.contains(thread_id) {
                let resume = thread.resume_point();
                let question = message(Some(thread_id), SwitchThread { resume });
                (question, Ask::Switch(thread_id.clone()))
            } else if let Some(before) = thread.fetch_before() {
                let page = GetThreadHistory {
                    limit: Some(PAGE_EVENTS),
                    before: Some(before),
                };
                (message(Some(thread_id), page), Ask::History(thread_id.clone()))
            } else {
                continue;
            };
            if let Some(message_id) = &question.message_id {
                turn.asks.insert(message_id.clone(), (ask, now));
            }
            questions.push(question);
        }
        questions
    }

    fn take(&mut self, turn: &mut Turn, frame: &Frame) -> Result<(), Loss> {
        if frame.kind == FrameKind::Close {
            let code = match frame.bytes.as_slice() {
                [high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            };
            return Err(Loss::Closed(code));
        }
        match &frame.meaning {
            Some(ServerFrame::Control(control)) => self.take_control(turn, control),
            Some(ServerFrame::Event(event)) => {
                let thread_id = event.header.thread_id.clone();
                turn.thread_heard.insert(thread_id.clone(), turn.heard);
                self.take_event(&thread_id, frame.text())
            }
            // An event of a later contract keeps its place in the log.
            Some(ServerFrame::Unknown { .. }) => match frame.json().get("thread_id").and_then(|id| id.as_str()) {
                Some(thread_id) => self.take_event(&ThreadId::from(thread_id), frame.text()),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    fn take_event(&mut self, thread_id: &ThreadId, text: &str) -> Result<(), Loss> {
        let Some(logged) = LoggedEvent::read(text) else {
            return Ok(());
        };
        let ended = logged.event.as_ref().and_then(|event| match event.body {
            EventBody::AgentCompleted(_) => Some(event.header.run_id.clone()),
            _ => None,
        });
        let taken = self.shared.change(|state| {
            let thread = state.threads.get_mut(thread_id)?;
            let taken = thread.take(logged);
            match taken {
                Taken::Repeat => state.story.repeats_dropped += 1,
                Taken::Gap => state.story.gaps_seen += 1,
                Taken::New | Taken::Waits => {}
            }
            Some(taken)
        });
        match taken {
            Some(Taken::Gap) => Err(Loss::Gap),
            Some(Taken::New | Taken::Waits | Taken::Repeat) | None => {
                if let Some(run_id) = ended {
                    self.open_runs.remove(&run_id);
                }
                Ok(())
            }
        }
    }

    fn take_control(&mut self, turn: &mut Turn, control: &ControlFrame) -> Result<(), Loss> {
        match control {
            ControlFrame::MessageReceived(received) => {
                let ended = self.shared.change(|state| {
                    state
                        .pending
                        .retain(|pending| pending.message_id != received.correlation_id);
                    state.outcomes.insert(
                        received.correlation_id.clone(),
                        Outcome::Accepted(received.run_id.clone()),
                    );
                    let thread = state.threads.get(&received.thread_id);
                    thread.is_some_and(|thread| {
                        let mut events = thread.events().iter().filter_map(|logged| logged.event.as_ref());
                        events.any(|event| {
                            event.header.run_id == received.run_id && matches!(event.body, EventBody::AgentCompleted(_))
                        })
                    })
                });
                if !ended {
                    let thread_id = received.thread_id.clone();
                    turn.thread_heard.insert(thread_id.clone(), turn.heard);
                    self.open_runs.insert(received.run_id.clone(), thread_id);
                }
                Ok(())
            }
            ControlFrame::ThreadSwitched(switched) => {
                self.stand(&switched.position);
                if let Some(cause) = &switched.correlation_id {
                    turn.asks.remove(cause);
                }
                Ok(())
            }
            ControlFrame::ThreadHistory(history) => {
                if let Some(cause) = &history.correlation_id {
                    turn.asks.remove(cause);
                }
                self.take_history(history);
                Ok(())
            }
            ControlFrame::Error(error) => self.take_error(turn, error),
            // With one node there is nowhere to go before it closes.
            ControlFrame::ServerShutdown(_) if self.options.base_urls.len() > 1 => Err(Loss::Moved),
            _ => Ok(()),
        }
    }

    fn take_history(&mut self, history: &ThreadHistory) {
        let page: Vec<LoggedEvent> = history
            .events
            .iter()
            .filter_map(|event| LoggedEvent::read(event.get()))
            .collect();
        for event in page.iter().filter_map(|logged| logged.event.as_ref()) {
            if matches!(event.body, EventBody::AgentCompleted(_)) {
                self.open_runs.remove(&event.header.run_id);
            }
        }
        self.shared.change(|state| {
            state.story.history_pages += 1;
            if let Some(thread) = state.threads.get_mut(&history.thread_id) {
                thread.take_history(page, history.has_more);
            }
        });
    }

    /// Does what the error says (`recovery`).
    fn take_error(&mut self, turn: &mut Turn, error: &ErrorFrame) -> Result<(), Loss> {
        let Some(cause) = &error.correlation_id else {
            return Ok(());
        };
        let pause = error.retry_after_ms.map_or(RETRY_PAUSE, Duration::from_millis);
        let due = turn.heard + pause.min(RETRY_PAUSE_MAX);
        if let Some((Ask::Switch(thread_id) | Ask::History(thread_id), _)) = turn.asks.remove(cause) {
            if error.error_code == ErrorCode::ThreadNotFound {
                // It was deleted elsewhere; there is nothing to follow any more.
                self.shared.change(|state| state.threads.remove(&thread_id));
            } else {
                turn.pauses.insert(thread_id, due);
            }
        }
        self.shared.change(|state| {
            let Some(index) = state.pending.iter().position(|pending| pending.message_id == *cause) else {
                return;
            };
            match error.recovery {
                Recovery::FixRequest | Recovery::None => {
                    state.pending.remove(index);
                    let outcome = Outcome::Refused(Box::new(error.clone()));
                    state.outcomes.insert(cause.clone(), outcome);
                }
                Recovery::Retry | Recovery::RetryAfter | Recovery::Reauthenticate | Recovery::Reconnect => {
                    state.pending[index].sent = None;
                    state.pending[index].due = due;
                }
            }
        });
        match error.recovery {
            Recovery::Reconnect => Err(Loss::Moved),
            Recovery::Reauthenticate => {
                self.needs_login = true;
                Err(Loss::Moved)
            }
            Recovery::Retry | Recovery::RetryAfter | Recovery::FixRequest | Recovery::None => Ok(()),
        }
    }
}

fn message(thread_id: Option<&ThreadId>, body: impl Into<ClientBody>) -> ClientMessage {
    ClientMessage {
        message_id: Some(MessageId::generate()),
        thread_id: thread_id.cloned(),
        body: body.into(),
    }
}

async fn send(chat: &mut Chat, message: &ClientMessage) -> std::io::Result<()> {
    let text = serde_json::to_string(message).map_err(std::io::Error::other)?;
    chat.try_send_shaped(&text).await
}

async fn abandon(chat: Option<Chat>) {
    if let Some(mut chat) = chat {
        chat.drop_connection().await;
    }
}
