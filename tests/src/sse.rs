//! The stream of Server-Sent Events as a client without a browser reads it.

use kingsguard_testkit::prelude::*;
use kingsguard_testkit::transport::Stream;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

/// One event of a stream, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SseEvent {
    /// `epoch:seq`; none of what is not in the log.
    pub id: Option<String>,
    /// Its type.
    pub event: String,
    /// Its own bytes.
    pub data: String,
}

/// A stream of Server-Sent Events over an HTTP/1.0 connection, whose body ends with the connection.
#[derive(Debug)]
pub struct SseStream {
    lines: tokio::io::Lines<BufReader<Stream>>,
}

impl SseStream {
    /// Follows a thread, from after `last` (a `Last-Event-ID`) or live.
    ///
    /// # Panics
    /// The target refuses.
    pub async fn open(ctx: &TestContext, user: &SimulatedUser, thread_id: &ThreadId, last: Option<&str>) -> Self {
        ctx.needs(Capability::Sse);
        let url = ctx.http_url();
        let address = url.split("://").nth(1).expect("an address has a scheme");
        let mut stream = ctx.dial().await;
        let last = last
            .map(|last| format!("Last-Event-ID: {last}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET /api/chat/stream?thread_id={thread_id} HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {}\r\n{last}\r\n",
            user.access_token()
        );
        stream.write_all(request.as_bytes()).await.expect("the target reads");
        stream.flush().await.expect("the target reads");
        let mut lines = BufReader::new(stream).lines();
        let mut head = Vec::new();
        loop {
            let line = lines
                .next_line()
                .await
                .expect("HTTP is text")
                .expect("a head comes first");
            if line.is_empty() {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(
            head.iter()
                .any(|line| line.starts_with("content-type: text/event-stream")),
            "{head:?}"
        );
        Self { lines }
    }

    /// The next event; comments, which keep the connection alive, are passed over.
    ///
    /// # Panics
    /// None comes within [`PATIENCE`](kingsguard_testkit::PATIENCE), whatever comments do, or the stream ends.
    pub async fn next(&mut self) -> SseEvent {
        let event = tokio::time::timeout(kingsguard_testkit::PATIENCE, self.read()).await;
        event.expect("an event comes").expect("the stream stays open")
    }

    /// Waits for the stream's end.
    ///
    /// # Panics
    /// Another event comes before it, or it does not end.
    pub async fn expect_end(&mut self) {
        let ended = tokio::time::timeout(kingsguard_testkit::PATIENCE, self.read()).await;
        assert_eq!(ended.expect("the stream ends"), None);
    }

    /// The next event, none where the stream ends first.
    async fn read(&mut self) -> Option<SseEvent> {
        let mut event = SseEvent {
            id: None,
            event: String::new(),
            data: String::new(),
        };
        loop {
            let line = self.lines.next_line().await.expect("the stream is text")?;
            if line.is_empty() && !event.event.is_empty() {
                return Some(event);
            }
            match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("event", name)) => event.event = name.to_owned(),
                Some(("data", data)) => event.data.push_str(data),
                _ => {}
            }
        }
    }

    /// The next `count` events.
    pub async fn take(&mut self, count: usize) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }
}
