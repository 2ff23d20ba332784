//! A socket that remembers when its peer was last heard, and what headers its frames had.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use kingsguard_protocol::CloseCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::headers::FrameHeaders;

/// Notes the time of every read that brought bytes. The WebSocket library does not tell of fragments, and a peer that
/// sends one large message slowly is alive (CON-2).
#[derive(Debug)]
pub struct Observed<S> {
    inner: S,
    heard_at: Instant,
    headers: FrameHeaders,
}

impl<S> Observed<S> {
    /// A socket whose peer was heard just now.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            heard_at: Instant::now(),
            headers: FrameHeaders::default(),
        }
    }

    /// The close code of the first header that was a breach, before the rest of its frame or message came.
    pub fn breach(&self) -> Option<CloseCode> {
        self.headers.breach()
    }

    /// When the peer was last heard.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Observed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if let Some(bytes @ [_, ..]) = buffer.filled().get(before..) {
            self.heard_at = Instant::now();
            self.headers.pass(bytes);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Observed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
