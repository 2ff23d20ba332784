//! One connection of a stand-in: the recorded frames in their order, each at its time, each after what led to it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::ids::Ids;
use crate::recording::{Direction, EndingKind, Entry, FrameKind, Recording, excerpt};
use crate::validate::Place;

/// A client that says nothing for so long where the recording waits for it is given up.
const CLIENT_SILENCE_MAX: Duration = Duration::from_secs(600);

/// A client that said more than this ahead of its turn is given up.
const FRAMES_AHEAD_MAX: usize = 1_000;

/// How long a client may take to answer a close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// The close code for what the recording holds no answer to; applications may use it as they like (RFC 6455).
const NOT_IN_THE_RECORDING: u16 = 4_000;

/// The reason of a close frame has no room for more.
const REASON_BYTES_MAX: usize = 120;

type Socket = WebSocketStream<TcpStream>;

/// One time through all connections of a recording.
#[derive(Debug, Default)]
pub(super) struct Round {
    begun: AtomicUsize,
    ids: Mutex<Ids>,
    /// Frames of the recording that clients have sent.
    said: watch::Sender<BTreeSet<Place>>,
}

impl Round {
    /// The next of so many connections; `None` after the last.
    pub(super) fn begin(&self, connections: usize) -> Option<usize> {
        let index = self.begun.fetch_add(1, Ordering::Relaxed);
        (index < connections).then_some(index)
    }
}

/// Why a conversation is over.
enum Over {
    /// The client is gone, or the recording is at its end.
    Done,
    /// The recording holds no answer, because.
    Unanswerable(String),
}

pub(super) struct Conversation<'a> {
    recording: &'a Recording,
    round: &'a Round,
    index: usize,
    speed: f64,
    sink: SplitSink<Socket, Message>,
    source: SplitStream<Socket>,
    /// What came ahead of its turn.
    ahead: VecDeque<(FrameKind, Vec<u8>)>,
    /// What other connections of the same user had sent, by time: what is told here may follow from it.
    others: VecDeque<(u64, Place)>,
    /// A moment of the recording and when it was here.
    anchor: (u64, Instant),
}

impl<'a> Conversation<'a> {
    pub(super) fn new(
        recording: &'a Recording,
        round: &'a Round,
        index: usize,
        speed: f64,
        sink: SplitSink<Socket, Message>,
        source: SplitStream<Socket>,
    ) -> Self {
        let connection = &recording.connections[index];
        let began = connection.upgraded_us.unwrap_or_default();
        Self {
            others: said_elsewhere(recording, index),
            anchor: (began, Instant::now()),
            ahead: VecDeque::new(),
            recording,
            round,
            index,
            speed,
            sink,
            source,
        }
    }

    /// Goes through the recording until it or the client ends.
    pub(super) async fn hold(mut self) {
        if let Err(Over::Unanswerable(why)) = self.go_through().await {
            self.close(NOT_IN_THE_RECORDING, &why).await;
        }
    }

    async fn go_through(&mut self) -> Result<(), Over> {
        let connection = &self.recording.connections[self.index];
        for (frame, entry) in connection.entries.iter().enumerate() {
            let place = Place {
                connection: self.index,
                frame,
            };
            match (entry.direction, entry.kind) {
                // The library answers pings, and ours are for whoever measures.
                (Direction::Sent, FrameKind::Ping | FrameKind::Pong) | (Direction::Received, FrameKind::Pong) => {}
                (Direction::Sent, FrameKind::Close) => return self.until_gone().await,
                (Direction::Sent, FrameKind::Text | FrameKind::Binary) => self.hear(place, entry).await?,
                (Direction::Received, FrameKind::Close) => {
                    self.tell_in_time(entry).await?;
                    let reason = String::from_utf8_lossy(entry.bytes.get(2..).unwrap_or_default()).into_owned();
                    self.close(entry.close_code().unwrap_or(1000), &reason).await;
                    return Err(Over::Done);
                }
                (Direction::Received, FrameKind::Text | FrameKind::Binary | FrameKind::Ping) => {
                    self.tell_in_time(entry).await?;
                    let message = self.message(entry);
                    self.sink.send(message).await.map_err(|_| Over::Done)?;
                }
            }
        }
        match connection.ending.as_ref().map(|ending| &ending.how) {
            // Dropping the socket is the cut.
            Some(EndingKind::CutByBackend | EndingKind::Breach { .. }) => Err(Over::Done),
            Some(EndingKind::ClosedByBackend { code }) => {
                self.close(code.unwrap_or(1000), "").await;
                Err(Over::Done)
            }
            Some(EndingKind::ClosedByTest | EndingKind::CutByTest) | None => self.until_gone().await,
        }
    }

    fn message(&self, entry: &Entry) -> Message {
        match (entry.kind, entry.text()) {
            (FrameKind::Text, Some(text)) => {
                let ids = self.round.ids.lock().unwrap_or_else(PoisonError::into_inner);
                Message::text(ids.put_into(text))
            }
            (FrameKind::Ping, _) => Message::Ping(entry.bytes.clone().into()),
            (_, _) => Message::binary(entry.bytes.clone()),
        }
    }

    /// Waits for the frame that the client sent in the recording.
    async fn hear(&mut self, place: Place, entry: &Entry) -> Result<(), Over> {
        let wanted = (entry.kind, frame_type(&entry.bytes));
        let came = loop {
            let fits = |(kind, bytes): &(FrameKind, Vec<u8>)| (*kind, frame_type(bytes)) == wanted;
            if let Some(at) = self.ahead.iter().position(fits) {
                break self.ahead.remove(at);
            }
            let waiting = tokio::time::timeout(CLIENT_SILENCE_MAX, self.next_from_client());
            let Ok(came) = waiting.await else {
                return Err(Over::Unanswerable(format!(
                    "frame {place}, {}, never came",
                    named(&wanted.1)
                )));
            };
            let (kind, bytes) = came?;
            let later = &self.recording.connections[self.index].entries[place.frame..];
            let sent_later = later.iter().filter(|entry| entry.direction == Direction::Sent);
            let is_known = sent_later
                .map(|entry| (entry.kind, frame_type(&entry.bytes)))
                .any(|known| known == (kind, frame_type(&bytes)));
            if !is_known || self.ahead.len() >= FRAMES_AHEAD_MAX {
                let came = frame_type(&bytes);
                return Err(Over::Unanswerable(format!(
                    "{} came, {} was next",
                    named(&came),
                    named(&wanted.1)
                )));
            }
            self.ahead.push_back((kind, bytes));
        };
        if let Some((_, bytes)) = came {
            self.round
                .ids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .learn(&entry.bytes, &bytes);
        }
        self.round.said.send_modify(|said| {
            said.insert(place);
        });
        self.anchor = (entry.at_us, Instant::now());
        Ok(())
    }

    async fn next_from_client(&mut self) -> Result<(FrameKind, Vec<u8>), Over> {
        loop {
            match self.source.next().await {
                Some(Ok(Message::Text(text))) => return Ok((FrameKind::Text, text.as_bytes().to_vec())),
                Some(Ok(Message::Binary(bytes))) => return Ok((FrameKind::Binary, bytes.to_vec())),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    // The library answered the close; this sends it.
                    self.sink.close().await.ok();
                    return Err(Over::Done);
                }
            }
        }
    }

    /// Waits until it is time for a frame and everything was said that may have led to it.
    async fn tell_in_time(&mut self, entry: &Entry) -> Result<(), Over> {
        let (from_us, from) = self.anchor;
        let after = Duration::from_micros(entry.at_us.saturating_sub(from_us)).div_f64(self.speed);
        // sleeps because the recording's own timing is what is offered
        tokio::time::sleep_until(from + after).await;
        while let Some((_, place)) = self.others.pop_front_if(|(at_us, _)| *at_us < entry.at_us) {
            let mut said = self.round.said.subscribe();
            let waiting = said.wait_for(|said| said.contains(&place));
            if tokio::time::timeout(CLIENT_SILENCE_MAX, waiting).await.is_err() {
                return Err(Over::Unanswerable(format!(
                    "frame {place} of another connection never came"
                )));
            }
            if Instant::now() > from + after {
                self.anchor = (entry.at_us, Instant::now());
            }
        }
        Ok(())
    }

    /// The recording is at its end: nothing more is said.
    async fn until_gone(&mut self) -> Result<(), Over> {
        if let Some((_, bytes)) = self.ahead.pop_front() {
            return Err(Over::Unanswerable(format!(
                "{} came after the recording's end",
                named(&frame_type(&bytes))
            )));
        }
        let (_, bytes) = self.next_from_client().await?;
        Err(Over::Unanswerable(format!(
            "{} came after the recording's end",
            named(&frame_type(&bytes))
        )))
    }

    async fn close(&mut self, code: u16, reason: &str) {
        let mut end = reason.len().min(REASON_BYTES_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let frame = CloseFrame {
            code: code.into(),
            reason: reason[..end].into(),
        };
        self.sink.send(Message::Close(Some(frame))).await.ok();
        let gone = async { while let Some(Ok(_)) = self.source.next().await {} };
        // Whether the client answers is its business.
        tokio::time::timeout(CLOSE_PATIENCE, gone).await.ok();
    }
}

/// What a user's other connections sent, by time.
fn said_elsewhere(recording: &Recording, index: usize) -> VecDeque<(u64, Place)> {
    let user = recording.connections[index].user;
    let mut said: Vec<(u64, Place)> = Vec::new();
    let others = recording.connections.iter().enumerate();
    for (connection, other) in others.filter(|(other, known)| *other != index && user.is_some() && known.user == user) {
        for (frame, entry) in other.entries.iter().enumerate() {
            if entry.direction == Direction::Sent && matches!(entry.kind, FrameKind::Text | FrameKind::Binary) {
                said.push((entry.at_us, Place { connection, frame }));
            }
        }
    }
    said.sort_unstable();
    said.into()
}

fn frame_type(bytes: &[u8]) -> String {
    let json: Option<Value> = serde_json::from_slice(bytes).ok();
    json.and_then(|json| json.get("type")?.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn named(frame_type: &str) -> String {
    if frame_type.is_empty() {
        "a frame without a type".to_owned()
    } else {
        excerpt::cut(frame_type, 40)
    }
}
