//! One connection of a user: the handshake step by step or whole, sending, and waiting for what comes.
//!
//! What arrived and was not yet asked for is kept in order. `expect*` takes the first frame that fits and leaves the
//! others, so that an answer that overtakes an event is no trouble. Every wait has a generous deadline and, when it
//! passes, says what was last seen.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kingsguard_protocol::client::{HandshakeAcknowledged, ResumePoint, StartAgent, ThreadResume, UserMessage};
use kingsguard_protocol::control::ThreadPosition;
use kingsguard_protocol::control::{ConnectionEstablished, HandshakeComplete, HandshakeResponse, MessageReceived};
use kingsguard_protocol::{
    ClientBody, ClientMessage, ControlFrame, Epoch, ErrorCode, ErrorFrame, Event, EventBody, MessageId, RunId,
    ServerFrame, ThreadId,
};
use serde_json::Value;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, coding::CloseCode as WireCloseCode};

use crate::link::{Arrival, Link};
use crate::recording::{EndingKind, FrameKind};
use crate::run_view::RunView;
use crate::session::Session;

/// How long a test waits for something that must come. Far above every time in the contract: a slow machine makes a test
/// slow, a broken backend makes it fail.
pub const PATIENCE: Duration = Duration::from_secs(45);

/// A frame as it arrived.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its place among the frames of its connection in the recording.
    pub index: usize,
    /// When it arrived, in microseconds since the test's capture began.
    pub at_us: u64,
    /// What kind of frame it was.
    pub kind: FrameKind,
    /// Its payload.
    pub bytes: Vec<u8>,
    /// Its meaning, where it has one that the contract knows.
    pub meaning: Option<ServerFrame>,
}

impl Frame {
    /// The payload as text; empty where it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// The payload as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// The event that it is.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        match &self.meaning {
            Some(ServerFrame::Event(event)) => Some(event),
            _ => None,
        }
    }

    /// The control frame that it is.
    #[must_use]
    pub fn control(&self) -> Option<&ControlFrame> {
        match &self.meaning {
            Some(ServerFrame::Control(control)) => Some(control),
            _ => None,
        }
    }

    /// The error that it is.
    #[must_use]
    pub fn error(&self) -> Option<&ErrorFrame> {
        match self.control() {
            Some(ControlFrame::Error(error)) => Some(error),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        let text: String = self.text().chars().take(300).collect();
        format!("#{} {:?} {text}", self.index, self.kind)
    }
}

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
        }
    }

    fn link(&self) -> &Link {
        self.link.as_ref().expect("the link is taken on drop only")
    }

    // ---- handshake --------------------------------------------------------------------------------------------------

    /// Waits for `connection_established` (HSK-1).
    pub async fn expect_established(&mut self) -> ConnectionEstablished {
        let frame = self.expect("`connection_established`", |frame| {
            matches!(frame.control(), Some(ControlFrame::ConnectionEstablished(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::ConnectionEstablished(body)) => {
                self.established = Some(body.clone());
                body.clone()
            }
            other => unreachable!("just matched {other:?}"),
        }
    }

    /// Waits for `handshake_response` (HSK-1).
    pub async fn expect_offer(&mut self) -> HandshakeResponse {
        let frame = self.expect("`handshake_response`", |frame| {
            matches!(frame.control(), Some(ControlFrame::HandshakeResponse(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::HandshakeResponse(body)) => {
                self.offered = Some(body.clone());
                body.clone()
            }
            other => unreachable!("just matched {other:?}"),
        }
    }

    /// Sends `handshake_acknowledged` for a thread (the offered one where `None`) with threads to go on with.
    pub async fn acknowledge(&mut self, thread_id: Option<&ThreadId>, resume: Vec<ThreadResume>) -> MessageId {
        self.send_message(ClientMessage {
            message_id: Some(MessageId::generate()),
            thread_id: thread_id.cloned(),
            body: HandshakeAcknowledged { resume }.into(),
        })
        .await
    }

    /// Waits for `handshake_complete` (HSK-2).
    pub async fn expect_complete(&mut self) -> HandshakeComplete {
        let frame = self.expect("`handshake_complete`", |frame| {
            matches!(frame.control(), Some(ControlFrame::HandshakeComplete(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::HandshakeComplete(body)) => body.clone(),
            other => unreachable!("just matched {other:?}"),
        }
    }

    /// The whole handshake with the offered thread.
    pub async fn handshake(&mut self) -> HandshakeComplete {
        self.handshake_with(None, Vec::new()).await
    }

    /// The whole handshake with a thread of choice and threads to go on with.
    pub async fn handshake_with(
        &mut self,
        thread_id: Option<&ThreadId>,
        resume: Vec<ThreadResume>,
    ) -> HandshakeComplete {
        self.expect_established().await;
        let offer = self.expect_offer().await;
        self.own_thread = Some(thread_id.cloned().unwrap_or(offer.thread_id));
        self.acknowledge(thread_id, resume).await;
        self.expect_complete().await
    }

    /// What `connection_established` said.
    ///
    /// # Panics
    /// It was not waited for.
    #[must_use]
    pub fn established(&self) -> &ConnectionEstablished {
        self.established
            .as_ref()
            .expect("the test waited for connection_established")
    }

    /// What `handshake_response` said.
    ///
    /// # Panics
    /// It was not waited for.
    #[must_use]
    pub fn offer(&self) -> &HandshakeResponse {
        self.offered.as_ref().expect("the test waited for handshake_response")
    }

    /// The thread that this connection's messages without `thread_id` belong to.
    ///
    /// # Panics
    /// The handshake was not done.
    #[must_use]
    pub fn thread_id(&self) -> ThreadId {
        self.own_thread.clone().expect("the test did the handshake")
    }

    /// From where each followed thread can be resumed: its epoch and the newest event that arrived.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<ThreadId, (Epoch, u64)> {
        &self.positions
    }

    /// The same, as a `handshake_acknowledged` has it.
    pub fn resume_points(&mut self) -> Vec<ThreadResume> {
        self.take_arrived();
        self.positions
            .iter()
            .map(|(thread_id, (epoch, after))| ThreadResume {
                thread_id: thread_id.clone(),
                point: ResumePoint {
                    epoch: epoch.clone(),
                    after: *after,
                },
            })
            .collect()
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
    /// None came within [`PATIENCE`], or the connection ended first; says what was last seen.
    pub async fn expect(&mut self, what: &str, fits: impl FnMut(&Frame) -> bool) -> Frame {
        match self.wait_for(PATIENCE, fits).await {
            Some(frame) => frame,
            None => panic!("no {what} within {} s; connection {}", PATIENCE.as_secs(), self.state()),
        }
    }

    /// As [`Chat::expect`], but with a wait of choice and `None` where nothing came or the connection ended first.
    pub async fn wait_for(&mut self, patience: Duration, mut fits: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        let deadline = Instant::now() + patience;
        let mut looked_at = 0;
        loop {
            self.take_arrived();
            if let Some(found) = self.unclaimed.iter().skip(looked_at).position(&mut fits) {
                return self.unclaimed.remove(looked_at + found);
            }
            looked_at = self.unclaimed.len();
            if self.ended.is_some() {
                return None;
            }
            let link = self.link.as_mut()?;
            match tokio::time::timeout_at(deadline, link.arrivals.recv()).await {
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
        match self.answer_to(message_id).await {
            ControlFrame::MessageReceived(received) => received,
            other => panic!("expected message_received for {message_id}, but {other:?}"),
        }
    }

    /// Waits until a run ended and takes all of its events that were not yet asked for.
    pub async fn until_completed(&mut self, run_id: &RunId) -> RunView {
        let mut frames = Vec::new();
        loop {
            let what = format!("agent_completed of {run_id} ({} of its events came)", frames.len());
            let frame = self
                .expect(&what, |frame| {
                    frame.event().is_some_and(|event| event.header.run_id == *run_id)
                })
                .await;
            let ended = frame
                .event()
                .is_some_and(|event| matches!(event.body, EventBody::AgentCompleted(_)));
            frames.push(frame);
            if ended {
                return RunView::new(run_id.clone(), frames);
            }
        }
    }

    /// Says something and waits until the run that it starts ended.
    pub async fn ask(&mut self, content: &str) -> RunView {
        let message_id = self.say(content).await;
        let accepted = self.accepted(&message_id).await;
        self.until_completed(&accepted.run_id).await.with_acceptance(accepted)
    }

    /// Asks one agent and waits until the run that it starts ended.
    pub async fn ask_agent(&mut self, agent_name: &str, user_request: &str) -> RunView {
        let request = StartAgent {
            agent_name: agent_name.to_owned(),
            user_request: user_request.to_owned(),
            context: None,
        };
        let message_id = self.send(request).await;
        let accepted = self.accepted(&message_id).await;
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
        self.wait_for(PATIENCE, |frame| {
            if let (FrameKind::Close, [high, low, ..]) = (frame.kind, frame.bytes.as_slice()) {
                code = Some(u16::from_be_bytes([*high, *low]));
            }
            frame.kind == FrameKind::Close
        })
        .await;
        match (code, &self.ended) {
            (None, None) if self.link().tap.ending().is_none() => {
                panic!(
                    "connection is still open after {} s; {}",
                    PATIENCE.as_secs(),
                    self.state()
                )
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
        format!(
            "{} {ended}; last seen: {}; not asked for ({} frames, newest first): {waiting:#?}",
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
                let bytes = match kind {
                    FrameKind::Text => self.session.in_the_contracts_words(bytes),
                    _ => bytes,
                };
                let meaning = match kind {
                    FrameKind::Text => std::str::from_utf8(&bytes)
                        .ok()
                        .and_then(|text| ServerFrame::decode(text).ok()),
                    _ => None,
                };
                let frame = Frame {
                    index,
                    at_us,
                    kind,
                    bytes,
                    meaning,
                };
                self.note_position(&frame);
                self.last_seen = Some(frame.describe());
                self.unclaimed.push_back(frame);
            }
        }
    }

    fn note_position(&mut self, frame: &Frame) {
        let mut reached = |position: &ThreadPosition| {
            // A granted resume goes on from what the client had; everything else goes on live.
            let known = self.positions.get(&position.thread_id).map(|(_, after)| *after);
            let after = if position.recovered {
                known.unwrap_or(position.oldest_seq - 1)
            } else {
                position.last_seq
            };
            self.positions
                .insert(position.thread_id.clone(), (position.epoch.clone(), after));
        };
        match &frame.meaning {
            Some(ServerFrame::Control(control)) => match control.as_ref() {
                ControlFrame::HandshakeComplete(complete) => complete.threads.iter().for_each(reached),
                ControlFrame::ThreadSwitched(switched) => {
                    reached(&switched.position);
                    self.own_thread = Some(switched.position.thread_id.clone());
                }
                ControlFrame::ThreadCreated(created) => {
                    self.positions
                        .insert(created.thread_id.clone(), (created.epoch.clone(), 0));
                    self.own_thread = Some(created.thread_id.clone());
                }
                _ => {}
            },
            Some(ServerFrame::Event(event)) => {
                if let Some((_, after)) = self.positions.get_mut(&event.header.thread_id) {
                    *after = event.header.seq;
                }
            }
            Some(ServerFrame::Unknown { .. }) | None => {}
        }
    }

    /// Starts a resumed connection from where another one was.
    pub(crate) fn adopt_positions(&mut self, points: &[ThreadResume]) {
        for resume in points {
            self.positions.insert(
                resume.thread_id.clone(),
                (resume.point.epoch.clone(), resume.point.after),
            );
        }
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.session.park(link);
        }
    }
}
