//! One connection of a user: sending, and waiting for what comes; [`handshake`] step by step or whole.
//!
//! What arrived and was not yet asked for is kept in order. `expect*` takes the first frame that fits and leaves the
//! others, so that an answer that overtakes an event is no trouble. Every wait has a generous deadline and, when it
//! passes, says what was last seen.

mod handshake;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use kingsguard_protocol::client::{StartAgent, UserMessage};
use kingsguard_protocol::control::{ConnectionEstablished, HandshakeResponse, MessageReceived};
use kingsguard_protocol::{
    ClientBody, ClientMessage, ControlFrame, Epoch, ErrorCode, ErrorFrame, Event, MessageId, RunId, ThreadId,
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode as WireCloseCode};

use crate::frame::Frame;
use crate::link::{Arrival, Link};
use crate::recording::{EndingKind, FrameKind};
use crate::run_view::RunView;
use crate::session::Session;

/// How long a test waits for something that must come. Far above every time in the contract: a slow machine makes a test
/// slow, a broken backend makes it fail.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// How long a test goes on waiting in silence once a frame came that cannot be read: that frame may be what it waits for. An
/// open run is never silent for so long (TIM-2).
const SILENCE_AFTER_UNREADABLE: Duration = Duration::from_secs(6);

/// One connection of a user.
///
/// Letting the variable go leaves the connection open until the test is judged; [`Chat::drop_connection`] cuts it,
/// [`Chat::close`] ends it properly.
#[derive(Debug)]
pub struct Chat {
    session: Session,
    link: Option<Link>,
    unclaimed: VecDeque<Frame>,
    last_seen: Option<String>,
    ended: Option<EndingKind>,
    established: Option<ConnectionEstablished>,
    offered: Option<HandshakeResponse>,
    own_thread: Option<ThreadId>,
    positions: BTreeMap<ThreadId, (Epoch, u64)>,
    /// Runs of which something arrived, where the target acknowledges no message.
    runs: BTreeSet<RunId>,
    /// Runs that were there before a message was sent, where nothing else tells which one is the message's.
    runs_before: BTreeMap<MessageId, BTreeSet<RunId>>,
}

impl Chat {
    pub(crate) fn new(session: Session, link: Link) -> Self {
        Self {
            session,
            link: Some(link),
            unclaimed: VecDeque::new(),
            last_seen: None,
            ended: None,
            established: None,
            offered: None,
            own_thread: None,
            positions: BTreeMap::new(),
            runs: BTreeSet::new(),
            runs_before: BTreeMap::new(),
        }
    }

    fn link(&self) -> &Link {
        self.link.as_ref().expect("the link is taken on drop only")
    }

    // ---- sending ----------------------------------------------------------------------------------------------------

    /// Sends a message with a fresh `message_id` and says which.
    pub async fn send(&mut self, body: impl Into<ClientBody>) -> MessageId {
        self.send_message(ClientMessage {
            message_id: Some(MessageId::generate()),
            thread_id: None,
            body: body.into(),
        })
        .await
    }

    /// The same, for a thread of choice.
    pub async fn send_to(&mut self, thread_id: &ThreadId, body: impl Into<ClientBody>) -> MessageId {
        self.send_message(ClientMessage {
            message_id: Some(MessageId::generate()),
            thread_id: Some(thread_id.clone()),
            body: body.into(),
        })
        .await
    }

    /// Sends a message as it is, with its own `message_id` or none; says the id, empty where it has none.
    pub async fn send_message(&mut self, message: ClientMessage) -> MessageId {
        let text = serde_json::to_string(&message).expect("client messages are JSON");
        if let (Some(message_id), Some(_)) = (&message.message_id, &self.session.profile().lacks.acknowledgement) {
            let message_id = message_id.clone();
            self.take_arrived();
            self.runs_before.insert(message_id, self.runs.clone());
        }
        self.send_shaped(&text).await;
        message.message_id.unwrap_or_else(|| MessageId::from(""))
    }

    /// Sends a `user_message` with a fresh `message_id`.
    pub async fn say(&mut self, content: &str) -> MessageId {
        self.send(UserMessage {
            content: content.to_owned(),
            references: None,
            metadata: None,
        })
        .await
    }

    /// Sends JSON of any shape.
    pub async fn send_json(&mut self, json: &Value) {
        self.send_shaped(&json.to_string()).await;
    }

    async fn send_shaped(&mut self, text: &str) {
        if let Err(error) = self.try_send_shaped(text).await {
            self.take_arrived();
            panic!("sending: {error}; connection {}", self.state());
        }
    }

    /// Sends a message of the contract in the target's words, on a connection that may be gone.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) async fn try_send_shaped(&mut self, text: &str) -> std::io::Result<()> {
        self.session.may_say(text);
        let shaped = self.session.profile().shape.write_text(text);
        self.link().send(Message::text(shaped.as_deref().unwrap_or(text))).await
    }

    /// Sends a text frame of any content. It is of the contract's own shape; a target of another makes the test not judged.
    ///
    /// # Panics
    /// The connection is gone.
    pub async fn send_text(&mut self, text: &str) {
        if let Err(error) = self.try_send_text(text).await {
            self.take_arrived();
            panic!("sending: {error}; connection {}", self.state());
        }
    }

    /// The same, for a connection that may be gone.
    ///
    /// # Errors
    /// It is gone.
    pub async fn try_send_text(&mut self, text: &str) -> std::io::Result<()> {
        self.session.may_say(text);
        self.session.may_write_by_hand();
        self.link().send(Message::text(text)).await
    }

    /// Sends a binary frame, which the contract refuses (CON-3).
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_binary(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.link().send(Message::binary(bytes.to_vec())).await
    }

    /// Sends a WebSocket ping.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send_ping(&mut self, payload: &[u8]) -> std::io::Result<()> {
        self.link().send(Message::Ping(payload.to_vec().into())).await
    }

    // ---- waiting ----------------------------------------------------------------------------------------------------

    /// Waits for the first frame not yet asked for that `fits`, takes it, and leaves the others.
    ///
    /// # Panics
    /// None came within [`PATIENCE`] or, where a frame could not be read, before a long silence; or the connection ended
    /// first. Says what was last seen.
    pub async fn expect(&mut self, what: &str, fits: impl FnMut(&Frame) -> bool) -> Frame {
        let began = Instant::now();
        match self.wait_for(PATIENCE, fits).await {
            Some(frame) => frame,
            None => panic!("no {what} {}; connection {}", waited_since(began), self.state()),
        }
    }

    /// As [`Chat::expect`], but with a wait of choice and `None` where nothing came or the connection ended first.
    pub async fn wait_for(&mut self, patience: Duration, fits: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        let place = self.find(patience, fits).await?;
        self.unclaimed.remove(place)
    }

    /// Waits for the first frame not yet asked for that `fits`, and leaves it where it is.
    async fn find(&mut self, patience: Duration, mut fits: impl FnMut(&Frame) -> bool) -> Option<usize> {
        let deadline = Instant::now() + patience;
        let mut looked_at = 0;
        loop {
            self.take_arrived();
            if let Some(found) = self.unclaimed.iter().skip(looked_at).position(&mut fits) {
                return Some(looked_at + found);
            }
            looked_at = self.unclaimed.len();
            if self.ended.is_some() {
                return None;
            }
            let until = match self.unclaimed.iter().any(|frame| frame.unreadable().is_some()) {
                true => deadline.min(Instant::now() + SILENCE_AFTER_UNREADABLE),
                false => deadline,
            };
            let link = self.link.as_mut()?;
            match tokio::time::timeout_at(until, link.arrivals.recv()).await {
                Ok(Some(arrival)) => self.take(arrival),
                Ok(None) => self.ended = Some(EndingKind::CutByTest),
                Err(_) => return None,
            }
        }
    }

    /// The next frame not yet asked for, of whatever kind.
    pub async fn next_frame(&mut self) -> Frame {
        self.expect("frame", |_| true).await
    }

    /// The next text frame not yet asked for.
    pub async fn next_text(&mut self) -> Frame {
        self.expect("text frame", |frame| frame.kind == FrameKind::Text).await
    }

    /// The next event not yet asked for.
    pub async fn next_event(&mut self) -> Event {
        let frame = self.expect("event", |frame| frame.event().is_some()).await;
        frame.event().expect("just matched").clone()
    }

    /// Waits for an event that `fits`.
    pub async fn expect_event(&mut self, what: &str, mut fits: impl FnMut(&Event) -> bool) -> Event {
        let frame = self.expect(what, |frame| frame.event().is_some_and(&mut fits)).await;
        frame.event().expect("just matched").clone()
    }

    /// Waits for a control frame of a type, such as `pong`.
    pub async fn expect_control(&mut self, frame_type: &str) -> ControlFrame {
        let what = format!("`{frame_type}`");
        let frame = self
            .expect(&what, |frame| {
                frame
                    .control()
                    .is_some_and(|control| control.frame_type() == frame_type)
            })
            .await;
        frame.control().expect("just matched").clone()
    }

    /// Waits for the answer to a message: the control frame that carries its id as `correlation_id`.
    pub async fn answer_to(&mut self, message_id: &MessageId) -> ControlFrame {
        self.session.needs_field("an answer", "correlation_id");
        let what = format!("answer to {message_id}");
        let frame = self
            .expect(&what, |frame| {
                frame.control().is_some()
                    && frame.json().get("correlation_id").and_then(Value::as_str) == Some(message_id.as_str())
            })
            .await;
        frame.control().expect("just matched").clone()
    }

    /// Waits for the refusal of a message, with this code.
    ///
    /// # Panics
    /// The answer is another.
    pub async fn refusal_of(&mut self, message_id: &MessageId, code: ErrorCode) -> ErrorFrame {
        match self.answer_to(message_id).await {
            ControlFrame::Error(error) if error.error_code == code => {
                self.session.capture().count_check();
                error
            }
            other => panic!("expected a refusal of {message_id} with {code}, but {other:?}"),
        }
    }

    /// Waits for the next error frame.
    ///
    /// # Panics
    /// It has another code.
    pub async fn expect_error(&mut self, code: ErrorCode) -> ErrorFrame {
        let what = format!("error {code}");
        let frame = self.expect(&what, |frame| frame.error().is_some()).await;
        let error = frame.error().expect("just matched").clone();
        assert!(error.error_code == code, "expected {what}, but {error:?}");
        self.session.capture().count_check();
        error
    }

    /// Waits for the acceptance of a message that starts a run (MSG-5).
    ///
    /// # Panics
    /// It is refused.
    pub async fn accepted(&mut self, message_id: &MessageId) -> MessageReceived {
        self.session.needs_acknowledgement();
        match self.answer_to(message_id).await {
            ControlFrame::MessageReceived(received) => received,
            other => panic!("expected message_received for {message_id}, but {other:?}"),
        }
    }

    /// The run that a message started: the one that `message_received` names, or where the target has none, the first one that
    /// begins after the message was sent.
    ///
    /// # Panics
    /// The message is refused, or no run begins within [`PATIENCE`].
    pub async fn run_of(&mut self, message_id: &MessageId) -> RunId {
        let Some(before) = self.runs_before.remove(message_id) else {
            return self.accepted(message_id).await.run_id;
        };
        let is_new = |frame: &Frame| frame.run_id().is_some_and(|run_id| !before.contains(run_id));
        let began = Instant::now();
        let found = self.find(PATIENCE, is_new).await;
        let run_id = found.and_then(|place| self.unclaimed.get(place)?.run_id().cloned());
        let Some(run_id) = run_id else {
            panic!(
                "no run of {message_id} {}; connection {}",
                waited_since(began),
                self.state()
            )
        };
        for others in self.runs_before.values_mut() {
            others.insert(run_id.clone());
        }
        run_id
    }

    /// Waits until a run ended and takes all of its events that were not yet asked for.
    pub async fn until_completed(&mut self, run_id: &RunId) -> RunView {
        let mut frames = Vec::new();
        loop {
            let what = format!("agent_completed of {run_id} ({} of its events came)", frames.len());
            let frame = self.expect(&what, |frame| frame.run_id() == Some(run_id)).await;
            let ended = frame.event_type() == Some("agent_completed");
            frames.push(frame);
            if ended {
                return RunView::new(run_id.clone(), frames);
            }
        }
    }

    /// Says something and waits until the run that it starts ended.
    pub async fn ask(&mut self, content: &str) -> RunView {
        let message_id = self.say(content).await;
        self.outcome_of(&message_id).await
    }

    /// Asks one agent and waits until the run that it starts ended.
    pub async fn ask_agent(&mut self, agent_name: &str, user_request: &str) -> RunView {
        let request = StartAgent {
            agent_name: agent_name.to_owned(),
            user_request: user_request.to_owned(),
            context: None,
        };
        let message_id = self.send(request).await;
        self.outcome_of(&message_id).await
    }

    async fn outcome_of(&mut self, message_id: &MessageId) -> RunView {
        if self.session.profile().lacks.acknowledgement.is_some() {
            let run_id = self.run_of(message_id).await;
            return self.until_completed(&run_id).await;
        }
        let accepted = self.accepted(message_id).await;
        self.until_completed(&accepted.run_id).await.with_acceptance(accepted)
    }

    /// What arrived and was not yet asked for, oldest first; does not wait.
    pub fn unclaimed(&mut self) -> &VecDeque<Frame> {
        self.take_arrived();
        &self.unclaimed
    }

    // ---- ending -----------------------------------------------------------------------------------------------------

    /// Cuts the TCP connection without a close frame.
    pub async fn drop_connection(&mut self) {
        self.take_arrived();
        self.link().cut();
        self.ended.get_or_insert(EndingKind::CutByTest);
    }

    /// Cuts the TCP connection with a reset.
    ///
    /// # Panics
    /// The operating system refuses.
    pub async fn reset_connection(&mut self) {
        self.take_arrived();
        let link = self.link.as_mut().expect("the link is taken on drop only");
        link.reset().await.expect("a socket takes its options");
        self.ended.get_or_insert(EndingKind::CutByTest);
    }

    /// Closes properly with 1000 and waits for the backend's close frame; says its code.
    pub async fn close(&mut self) -> Option<u16> {
        let frame = CloseFrame {
            code: WireCloseCode::Normal,
            reason: "".into(),
        };
        self.link().send(Message::Close(Some(frame))).await.ok();
        self.expect_close_frame().await
    }

    /// Waits until the backend closed the connection; says the code of its close frame, `None` of a bare end.
    ///
    /// # Panics
    /// It is still open after [`PATIENCE`].
    pub async fn expect_closed(&mut self) -> Option<u16> {
        self.session.capture().count_check();
        self.expect_close_frame().await
    }

    async fn expect_close_frame(&mut self) -> Option<u16> {
        let mut code = None;
        let began = Instant::now();
        self.wait_for(PATIENCE, |frame| {
            if let (FrameKind::Close, [high, low, ..]) = (frame.kind, frame.bytes.as_slice()) {
                code = Some(u16::from_be_bytes([*high, *low]));
            }
            frame.kind == FrameKind::Close
        })
        .await;
        match (code, &self.ended) {
            (None, None) if self.link().tap.ending().is_none() => {
                panic!("connection is still open {}; {}", waited_since(began), self.state())
            }
            _ => code,
        }
    }

    /// Stops reading from the socket, so that the backend's queue for this connection fills (SEQ-7).
    pub fn pause_reading(&mut self) {
        self.link().set_reading(false);
    }

    /// Reads again.
    pub fn continue_reading(&mut self) {
        self.link().set_reading(true);
    }

    /// Whether the connection has not ended as far as the test knows.
    pub fn is_open(&mut self) -> bool {
        self.take_arrived();
        self.ended.is_none()
    }

    // ---- inside -----------------------------------------------------------------------------------------------------

    fn state(&self) -> String {
        let ended = self
            .ended
            .as_ref()
            .map_or_else(|| "is open".to_owned(), |how| format!("ended: {how:?}"));
        let waiting: Vec<String> = self.unclaimed.iter().rev().take(5).map(Frame::describe).collect();
        let unreadable = self
            .unclaimed
            .iter()
            .filter_map(|frame| Some((frame.index, frame.unreadable()?)));
        let unreadable: String = unreadable
            .map(|(index, reason)| format!("; #{index} cannot be read: {reason}"))
            .collect();
        format!(
            "{} {ended}{unreadable}; last seen: {}; not asked for ({} frames, newest first): {waiting:#?}",
            self.link().tap.connection(),
            self.last_seen.as_deref().unwrap_or("nothing"),
            self.unclaimed.len(),
        )
    }

    fn take_arrived(&mut self) {
        while let Some(arrival) = self.link.as_mut().and_then(|link| link.arrivals.try_recv().ok()) {
            self.take(arrival);
        }
    }

    fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Ended(how) => {
                self.ended.get_or_insert(how);
            }
            Arrival::Frame {
                index,
                at_us,
                kind,
                bytes,
            } => {
                let frame = Frame::new(&self.session, index, at_us, kind, bytes);
                if self.session.profile().lacks.acknowledgement.is_some() {
                    self.runs.extend(frame.run_id().cloned());
                }
                self.note_position(&frame);
                self.last_seen = Some(frame.describe());
                self.unclaimed.push_back(frame);
            }
        }
    }
}

fn waited_since(began: Instant) -> String {
    format!("within {:.0} s", began.elapsed().as_secs_f64())
}

impl Drop for Chat {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.session.park(link);
        }
    }
}
