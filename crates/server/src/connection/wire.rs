//! Frames in and out of one socket, and its end.
//!
//! Reading and writing go on side by side in one task, and neither waits for the other: a peer that does not read is
//! still heard, and one that sends much still gets its frames.
//!
//! What the WebSocket library (tungstenite 0.30) does by itself: it answers pings and close frames, replies 1002 to a
//! close code that is not allowed, and refuses a frame whose declared length is above the limit before it reserves
//! memory for it. What it leaves to us: it only *reports* a broken frame, binary data, bad UTF-8 and too large a
//! message. [`Wire::farewell`] then sends the close frame and reads on, because a socket that is closed while unread
//! bytes wait is reset, and a reset can overtake the close frame (CON-3).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink as _, SinkExt as _, Stream as _, StreamExt as _};
use kingsguard_protocol::CloseCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};

use super::observed::Observed;

/// The read buffer of an idle connection. Larger would cost memory for each of thousands; smaller, system calls for
/// each large message.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Frames are gathered up to this size before they are written: about what one system call carries at once.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;
/// Room in the write buffer for pongs beside one frame of the largest size. A peer that pings and does not read gets no
/// more than this.
const PONG_BYTES_MAX: usize = 64 * 1024;
/// What is read and thrown away after a close frame, so that it arrives: far more than one message may have, and an end
/// to a peer that never stops.
const FAREWELL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// An emptied queue keeps room for this many frames; a burst's memory is given back.
const IDLE_CAPACITY: usize = 64;

/// Bounds of one socket.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// One message from the peer, whole or as the sum of its fragments.
    pub message_bytes_max: usize,
    /// One frame to the peer.
    pub frame_out_bytes_max: usize,
}

/// One socket.
#[derive(Debug)]
pub struct Wire<S> {
    socket: WebSocketStream<Observed<S>>,
    waiting: VecDeque<Utf8Bytes>,
    ping_is_due: bool,
    is_unflushed: bool,
}

/// What happened on the socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Moved {
    /// The peer sent a text.
    Text(Utf8Bytes),
    /// All that was queued is written.
    Idle,
    /// The socket comes to its end.
    Ending(Ending),
}

/// Whether the peer is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// It is.
    On,
    /// Not now: as many of its messages wait as may. TCP makes it wait.
    Paused,
}

/// How a socket comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By us, in good order: the close frame is sent and the peer's is waited for.
    Close(CloseCode, &'static str),
    /// By a breach of the peer, after which its bytes cannot be read as frames.
    Breach(CloseCode, &'static str),
    /// By the peer's close frame; the reply carries its code.
    Peer(Option<u16>),
    /// By the end of the TCP connection, without a close frame.
    Bare,
}

impl Ending {
    /// The code of the close frame, where there is one.
    #[must_use]
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Close(code, _) | Self::Breach(code, _) => Some(code.as_u16()),
            Self::Peer(code) => code,
            Self::Bare => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Takes over an upgraded socket.
    pub async fn new(socket: S, bounds: Bounds) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(WRITE_BUFFER_BYTES + bounds.frame_out_bytes_max + PONG_BYTES_MAX)
            .max_message_size(Some(bounds.message_bytes_max))
            .max_frame_size(Some(bounds.message_bytes_max));
        let socket = WebSocketStream::from_raw_socket(Observed::new(socket), Role::Server, Some(config)).await;
        Self {
            socket,
            waiting: VecDeque::new(),
            ping_is_due: false,
            is_unflushed: false,
        }
    }

    /// When the peer was last heard, in whatever way.
    #[must_use]
    pub fn heard_at(&self) -> Instant {
        self.socket.get_ref().heard_at()
    }

    /// Whether all that was queued is written.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && !self.ping_is_due && !self.is_unflushed
    }

    /// Queues a text frame.
    pub fn queue(&mut self, text: Utf8Bytes) {
        self.waiting.push_back(text);
    }

    /// Queues a ping before all texts.
    pub fn ping(&mut self) {
        self.ping_is_due = true;
    }

    /// Throws away what is queued and not yet under way.
    pub fn give_up_waiting(&mut self) {
        self.waiting.clear();
    }

    /// Writes what is queued and, where `reads` says so, reads. Nothing is lost when the future is dropped.
    pub async fn moved(&mut self, reads: Reads) -> Moved {
        let was_idle = self.is_idle();
        poll_fn(|cx| {
            if let Err(error) = self.poll_write(cx) {
                return Poll::Ready(Moved::Ending(ending_of(&error)));
            }
            if !was_idle && self.is_idle() {
                return Poll::Ready(Moved::Idle);
            }
            match reads {
                Reads::On => self.poll_read(cx),
                Reads::Paused => Poll::Pending,
            }
        })
        .await
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let mut socket = Pin::new(&mut self.socket);
        while self.ping_is_due || !self.waiting.is_empty() {
            if socket.as_mut().poll_ready(cx)?.is_pending() {
                return Ok(());
            }
            let message = if std::mem::take(&mut self.ping_is_due) {
                Message::Ping(Bytes::new())
            } else if let Some(text) = self.waiting.pop_front() {
                Message::Text(text)
            } else {
                break;
            };
            socket.as_mut().start_send(message)?;
            self.is_unflushed = true;
        }
        if self.is_unflushed && socket.poll_flush(cx)?.is_ready() {
            self.is_unflushed = false;
            if self.waiting.capacity() > IDLE_CAPACITY {
                self.waiting = VecDeque::new();
            }
        }
        Ok(())
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Moved> {
        loop {
            let ending = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Pending => match self.socket.get_ref().breach() {
                    Some(code) => Ending::Breach(code, "breach of RFC 6455, or binary data"),
                    None => return Poll::Pending,
                },
                Poll::Ready(Some(Ok(Message::Text(text)))) => return Poll::Ready(Moved::Text(text)),
                // The next read writes the pong.
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Poll::Ready(Some(Ok(Message::Binary(_)))) => {
                    Ending::Breach(CloseCode::Unsupported, "binary data is not supported")
                }
                Poll::Ready(Some(Ok(Message::Close(frame)))) => Ending::Peer(frame.map(|frame| frame.code.into())),
                Poll::Ready(Some(Ok(Message::Frame(_)))) => Ending::Breach(CloseCode::Protocol, "unreadable frame"),
                Poll::Ready(Some(Err(error))) => ending_of(&error),
                Poll::Ready(None) => Ending::Bare,
            };
            return Poll::Ready(Moved::Ending(ending));
        }
    }

    /// Ends the socket, in `patience` at most: sends the close frame where one is due, waits for the peer's, and reads
    /// what it still sends. Whatever goes wrong here, the socket is gone right after.
    pub async fn farewell(mut self, ending: Ending, patience: Duration) {
        let parting = async {
            match ending {
                Ending::Bare => return Ok(()),
                Ending::Close(code, reason) => {
                    self.flush_waiting().await?;
                    self.socket.send(close_message(code, reason)).await?;
                    while let Some(Ok(_)) = self.socket.next().await {}
                }
                Ending::Breach(code, reason) => self.socket.send(close_message(code, reason)).await?,
                Ending::Peer(_) => self.socket.flush().await?,
            }
            // No more of ours comes; a peer that waits for the end of the TCP connection need not wait longer.
            let raw = self.socket.get_mut();
            raw.shutdown().await?;
            let mut read = 0;
            let mut thrown_away = [0_u8; READ_BUFFER_BYTES];
            while read < FAREWELL_BYTES_MAX {
                match raw.read(&mut thrown_away).await? {
                    0 => break,
                    count => read += count,
                }
            }
            Ok::<_, Error>(())
        };
        match tokio::time::timeout(patience, parting).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(reason = %error, "close handshake broke off"),
            Err(_) => tracing::debug!("close handshake took too long"),
        }
    }

    async fn flush_waiting(&mut self) -> Result<(), Error> {
        poll_fn(|cx| match self.poll_write(cx) {
            Ok(()) if self.is_idle() => Poll::Ready(Ok(())),
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        })
        .await
    }
}

fn close_message(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code: code.as_u16().into(),
        reason: Utf8Bytes::from_static(reason),
    }))
}

fn ending_of(error: &Error) -> Ending {
    match error {
        Error::Capacity(_) => Ending::Breach(CloseCode::TooLarge, "message above message_bytes_max"),
        Error::Utf8(_) => Ending::Breach(CloseCode::InvalidPayload, "text is not UTF-8"),
        Error::WriteBufferFull(_) => Ending::Breach(CloseCode::SlowConsumer, "pings without reading"),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Io(_) => Ending::Bare,
        Error::Protocol(_) => Ending::Breach(CloseCode::Protocol, "breach of RFC 6455"),
        Error::Tls(_) | Error::AttackAttempt | Error::Url(_) | Error::Http(_) | Error::HttpFormat(_) => {
            Ending::Breach(CloseCode::Internal, "unexpected failure of the socket")
        }
    }
}

#[cfg(test)]
mod tests;
