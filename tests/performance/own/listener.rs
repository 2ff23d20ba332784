//! A socket that does the least which a client must do with each event: parse it and check its place. The yardstick's
//! sockets do the very same, so that what is compared is what lies in between.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use kingsguard_testkit::prelude::*;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A frame, as far as a listener looks at it; all of it is parsed.
#[derive(Deserialize)]
pub struct Seen<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
    pub seq: Option<u64>,
    pub timestamp: &'a str,
    pub index: Option<u32>,
    #[serde(rename = "final")]
    pub is_final: Option<bool>,
    pub success: Option<bool>,
}

impl<'a> Seen<'a> {
    /// Parses a frame.
    ///
    /// # Panics
    /// It is none.
    pub fn parse(text: &'a str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Milliseconds since 1970 at which the backend appended it.
    pub fn appended_ms(&self) -> u64 {
        let at = chrono::DateTime::parse_from_rfc3339(self.timestamp).expect("a timestamp is RFC 3339");
        u64::try_from(at.timestamp_millis()).expect("it is after 1970")
    }
}

/// One user's socket.
pub struct Listener {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last_seq: u64,
}

impl Listener {
    /// Connects and does the handshake.
    pub async fn connect(ctx: &TestContext, user: &SimulatedUser) -> Self {
        let mut request = ctx.ws_url().into_client_request().expect("an address of a WebSocket");
        let bearer = format!("Bearer {}", user.access_token());
        let bearer = bearer.parse().expect("a token is fit for a header");
        request.headers_mut().insert("Authorization", bearer);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
        let mut listener = Self { socket, last_seq: 0 };
        listener.send(json!({"type": "handshake_acknowledged"})).await;
        while Seen::parse(&listener.next().await).kind != "handshake_complete" {}
        listener
    }

    async fn send(&mut self, message: Value) {
        let sent = self.socket.send(Message::text(message.to_string())).await;
        sent.expect("the socket is open");
    }

    async fn next(&mut self) -> Utf8Bytes {
        loop {
            let arrived = tokio::time::timeout(kingsguard_testkit::PATIENCE, self.socket.next()).await;
            match arrived.expect("a frame comes") {
                Some(Ok(Message::Text(text))) => return text,
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => panic!("the connection ended: {other:?}"),
            }
        }
    }

    /// Asks `times` times, and gives each event to `each` once it was parsed and its place checked, until all is answered.
    ///
    /// # Panics
    /// An event is missing, comes twice or out of its place, or a run fails.
    pub async fn ask(&mut self, content: &str, times: usize, mut each: impl FnMut(&Seen<'_>, &str)) {
        for _ in 0..times {
            self.send(json!({"type": "user_message", "content": content})).await;
        }
        let mut completed = 0;
        while completed < times {
            let text = self.next().await;
            let seen = Seen::parse(&text);
            let Some(seq) = seen.seq else {
                assert_eq!(seen.kind, "message_received", "{text}");
                continue;
            };
            assert_eq!(seq, self.last_seq + 1, "the place of {text}");
            self.last_seq = seq;
            each(&seen, &text);
            if seen.kind == "agent_completed" {
                assert_eq!(seen.success, Some(true), "{text}");
                completed += 1;
            }
        }
    }
}

/// How late a task of this process runs while others are measured: what it lacks counts against nobody else. Each tick that
/// fell into a pause counts by itself, as each event that fell into it does.
pub async fn own_lateness(over: impl Future<Output = ()>) -> Timing {
    const TICK: Duration = Duration::from_millis(5);
    let mut lateness = Timing::default();
    let mut due = Instant::now();
    tokio::pin!(over);
    loop {
        due += TICK;
        tokio::select! {
            () = &mut over => return lateness,
            // sleeps because the lateness of a sleep is what it measures
            () = tokio::time::sleep_until(due) => lateness.record(due.elapsed()),
        }
    }
}
