//! One TCP connection turned into a WebSocket: the upgrade by hand, so that every answer to it can be judged, then two
//! tasks that move frames between the socket, the capture and the test.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::capture::Tap;
use crate::recording::{Direction, EndingKind, FrameKind};
use crate::transport::{Stream, Trust, dial, host, socket};

/// How long the answer to an upgrade may take before the test is told that the target hangs.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(30);

/// A larger head is no answer to an upgrade.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// The head of an HTTP answer, and the bytes that came after it.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// Headers in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// What came after the head.
    pub rest: Vec<u8>,
}

impl Head {
    /// The first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Reads a head from a connection.
    ///
    /// # Errors
    /// The connection ends, or what comes is no HTTP head.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(1024);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if bytes.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("answer has no end of its head"));
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "connection ended before an answer",
                ));
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .filter(|line| line.starts_with("HTTP/1."))
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| io::Error::other(format!("answer is no HTTP: {head:?}")))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Ok(Self {
            status,
            headers,
            rest: bytes[end + 4..].to_vec(),
        })
    }
}

/// An upgrade that the target refused.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The status.
    pub status: u16,
    /// Headers in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What the test hears of a connection.
#[derive(Debug)]
pub(crate) enum Arrival {
    Frame {
        index: usize,
        at_us: u64,
        kind: FrameKind,
        bytes: Vec<u8>,
    },
    Ended(EndingKind),
}

/// An upgraded connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tap: Tap,
    outgoing: mpsc::UnboundedSender<(Message, oneshot::Sender<io::Result<()>>)>,
    pub(crate) arrivals: mpsc::UnboundedReceiver<Arrival>,
    reading: watch::Sender<bool>,
    ending: CancellationToken,
    tasks: TaskTracker,
    /// A further handle on the socket; gone once the connection was reset.
    cutter: Option<std::net::TcpStream>,
}

/// The parts of a request for an upgrade.
#[derive(Debug)]
pub(crate) struct UpgradeRequest {
    /// The address of the target, `http://…` or `https://…`.
    pub(crate) base: String,
    pub(crate) trust: Trust,
    pub(crate) path_and_query: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Link {
    pub(crate) async fn open(request: UpgradeRequest, tap: Tap) -> io::Result<Result<Self, Refused>> {
        match tokio::time::timeout(UPGRADE_DEADLINE, Self::upgrade(request, tap)).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no answer to the upgrade within 30 s",
            )),
        }
    }

    async fn upgrade(request: UpgradeRequest, tap: Tap) -> io::Result<Result<Self, Refused>> {
        let mut stream = dial(&request.base, &request.trust).await?;
        socket(&stream).set_nodelay(true)?;
        tap.speaks_from(socket(&stream).local_addr()?);
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        let mut head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {key}\r\n",
            request.path_and_query,
            host(&request.base),
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        let head = Head::read(&mut stream).await?;
        tap.upgraded(head.status, head.header("sec-websocket-protocol").map(str::to_owned));
        if head.status != 101 {
            return Ok(Err(read_refusal(stream, head).await?));
        }
        if head.header("sec-websocket-accept") != Some(derive_accept_key(key.as_bytes()).as_str()) {
            tap.ended(EndingKind::Breach {
                reason: "Sec-WebSocket-Accept does not fit the key".into(),
            });
            return Err(io::Error::other("Sec-WebSocket-Accept does not fit the key"));
        }
        Ok(Ok(Self::start(stream, head.rest, tap).await?))
    }

    async fn start(stream: Stream, rest: Vec<u8>, tap: Tap) -> io::Result<Self> {
        let cutter = std::net::TcpStream::from(socket(&stream).as_fd().try_clone_to_owned()?);
        // The test must see whatever the target sends; bounds are the target's business.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None)
            .write_buffer_size(0);
        let socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(config)).await;
        let (sink, source) = socket.split();
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let (reading, may_read) = watch::channel(true);
        let ending = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn(
            ending
                .clone()
                .run_until_cancelled_owned(write_frames(sink, to_send, tap.clone())),
        );
        tasks.spawn(
            ending
                .clone()
                .run_until_cancelled_owned(read_frames(source, may_read, arrived, tap.clone())),
        );
        Ok(Self {
            tap,
            outgoing,
            arrivals,
            reading,
            ending,
            tasks,
            cutter: Some(cutter),
        })
    }

    pub(crate) async fn send(&self, message: Message) -> io::Result<()> {
        let (done, sent) = oneshot::channel();
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "connection is gone");
        self.outgoing.send((message, done)).map_err(|_| gone())?;
        sent.await.map_err(|_| gone())?
    }

    pub(crate) fn set_reading(&self, reading: bool) {
        self.reading.send_replace(reading);
    }

    /// Ends the TCP connection without a close frame.
    pub(crate) fn cut(&self) {
        self.tap.ended(EndingKind::CutByTest);
        if let Some(cutter) = &self.cutter {
            cutter.shutdown(std::net::Shutdown::Both).ok();
        }
        self.ending.cancel();
    }

    /// Ends the TCP connection with a reset, which goes out when the last handle on the socket is closed.
    pub(crate) async fn reset(&mut self) -> io::Result<()> {
        self.tap.ended(EndingKind::CutByTest);
        if let Some(cutter) = self.cutter.take() {
            TcpStream::from_std(cutter)?.set_zero_linger()?;
        }
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if !self.ending.is_cancelled() && self.tap.ending().is_none() {
            self.cut();
        }
    }
}

async fn read_refusal(mut stream: Stream, head: Head) -> io::Result<Refused> {
    let mut body = head.rest.clone();
    let length: Option<usize> = head.header("content-length").and_then(|length| length.parse().ok());
    while length.is_none_or(|length| body.len() < length) {
        match stream.read_buf(&mut body).await {
            Ok(0) => break,
            Ok(_) => {}
            // TLS tells a body that ends with its connection from one that was cut; many servers do not say which it was.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && length.is_none() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(Refused {
        status: head.status,
        headers: head.headers,
        body,
    })
}

fn parts(message: &Message) -> (FrameKind, Vec<u8>) {
    match message {
        Message::Text(text) => (FrameKind::Text, text.as_bytes().to_vec()),
        Message::Binary(bytes) => (FrameKind::Binary, bytes.to_vec()),
        Message::Ping(bytes) => (FrameKind::Ping, bytes.to_vec()),
        Message::Pong(bytes) => (FrameKind::Pong, bytes.to_vec()),
        Message::Close(frame) => (FrameKind::Close, frame.as_ref().map(close_bytes).unwrap_or_default()),
        Message::Frame(frame) => (FrameKind::Binary, frame.payload().to_vec()),
    }
}

fn close_bytes(frame: &CloseFrame) -> Vec<u8> {
    let mut bytes = u16::from(frame.code).to_be_bytes().to_vec();
    bytes.extend_from_slice(frame.reason.as_bytes());
    bytes
}

async fn write_frames(
    mut sink: SplitSink<WebSocketStream<Stream>, Message>,
    mut to_send: mpsc::UnboundedReceiver<(Message, oneshot::Sender<io::Result<()>>)>,
    tap: Tap,
) {
    while let Some((message, done)) = to_send.recv().await {
        let (kind, bytes) = parts(&message);
        // Before the write: nothing can answer it earlier than this.
        tap.append(Direction::Sent, kind, &bytes);
        if kind == FrameKind::Close {
            tap.ended(EndingKind::ClosedByTest);
        }
        let result = sink.send(message).await.map_err(io::Error::other);
        done.send(result).ok();
    }
}

async fn read_frames(
    mut source: SplitStream<WebSocketStream<Stream>>,
    mut may_read: watch::Receiver<bool>,
    arrived: mpsc::UnboundedSender<Arrival>,
    tap: Tap,
) {
    loop {
        if may_read.wait_for(|reading| *reading).await.is_err() {
            return;
        }
        let next = tokio::select! {
            biased;
            changed = may_read.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            next = source.next() => next,
        };
        let how = match next {
            Some(Ok(message)) => {
                let (kind, bytes) = parts(&message);
                let index = tap.append(Direction::Received, kind, &bytes);
                if let Message::Close(frame) = &message {
                    let code = frame.as_ref().map(|frame| frame.code.into());
                    tap.ended(EndingKind::ClosedByBackend { code });
                }
                let at_us = tap.capture().now_us();
                arrived
                    .send(Arrival::Frame {
                        index,
                        at_us,
                        kind,
                        bytes,
                    })
                    .ok();
                continue;
            }
            None | Some(Err(WsError::ConnectionClosed | WsError::AlreadyClosed | WsError::Io(_))) => {
                EndingKind::CutByBackend
            }
            Some(Err(WsError::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ))) => EndingKind::CutByBackend,
            Some(Err(error)) => EndingKind::Breach {
                reason: error.to_string(),
            },
        };
        tap.ended(how.clone());
        arrived
            .send(Arrival::Ended(tap.ending().map_or(how, |ending| ending.how)))
            .ok();
        return;
    }
}
