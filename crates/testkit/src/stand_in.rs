//! A recording as a stand-in target: a WebSocket server on loopback that says what was received, once the client said what was
//! sent. It judges nothing, and invents nothing: what the recording holds no answer to ends with a close that says so.
//!
//! Upgrades are answered in the order of the recorded connections, from the first again after the last. The frames of a client
//! are known by their type; the ids that it chose stand in what it is told, in the place of those that were recorded.

mod conversation;
mod ids;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use self::conversation::{Conversation, Round};
use crate::recording::{Connection, Recording};
use crate::sabotage::http::Head;
use crate::sabotage::proxy::read_head;

/// A running stand-in; it ends when dropped.
#[derive(Debug)]
pub struct StandIn {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

/// What all connections of a stand-in share.
#[derive(Debug)]
struct Play {
    recording: Arc<Recording>,
    speed: f64,
    round: Mutex<Arc<Round>>,
}

impl StandIn {
    /// Listens on loopback; port 0 takes a free one. `speed` says how many times faster than recorded it answers.
    ///
    /// # Errors
    /// The port is taken, the speed is none, or nobody ever connected in the recording.
    pub async fn listen(recording: Recording, port: u16, speed: f64) -> Result<Self> {
        ensure!(
            speed.is_finite() && speed > 0.0,
            "a speed is a number above 0, not {speed}"
        );
        ensure!(!recording.connections.is_empty(), "the recording holds no connection");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let listener = listener.with_context(|| format!("listening on port {port} of loopback"))?;
        let address = listener.local_addr().context("asking for the address")?;
        let recording = Arc::new(recording);
        let play = Arc::new(Play {
            round: Mutex::default(),
            recording,
            speed,
        });
        Ok(Self {
            address,
            accepting: tokio::spawn(accept(listener, play)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, play: Arc<Play>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A peer that is gone before it was accepted needs nobody.
                let Ok((client, _)) = accepted else { continue };
                let play = Arc::clone(&play);
                // A client that breaks off ends its own conversation and no other.
                conversations.spawn(async move { answer(client, &play).await.ok() });
            }
            Some(_) = conversations.join_next() => {}
        }
    }
}

impl Play {
    /// The next connection of the recording, in a new round after the last one.
    fn next(&self) -> (Arc<Round>, usize) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = round.begin(self.recording.connections.len()) {
            return (Arc::clone(&round), index);
        }
        *round = Arc::new(Round::default());
        let index = round.begin(self.recording.connections.len()).unwrap_or_default();
        (Arc::clone(&round), index)
    }
}

async fn answer(mut client: TcpStream, play: &Play) -> io::Result<()> {
    client.set_nodelay(true)?;
    let Ok((request, rest)) = read_head(&mut client).await? else {
        return refuse(&mut client, 400, "this is no HTTP/1.1").await;
    };
    if !request.asks_for_websocket() {
        return refuse(
            &mut client,
            404,
            "this is a recording of WebSockets: it holds no answer to other requests",
        )
        .await;
    }
    let (round, index) = play.next();
    let connection = &play.recording.connections[index];
    match connection.status {
        Some(101) => {}
        Some(status) => return refuse(&mut client, status, "as recorded; what else the answer said was not").await,
        // As recorded: nobody answered.
        None => return Ok(()),
    }
    let key = request.get("sec-websocket-key").unwrap_or_default();
    let mut head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    if let Some(protocol) = protocol(connection, &request) {
        head.push_str(&format!("Sec-WebSocket-Protocol: {protocol}\r\n"));
    }
    head.push_str("\r\n");
    client.write_all(head.as_bytes()).await?;
    let socket = WebSocketStream::from_partially_read(client, rest, Role::Server, None).await;
    let (sink, source) = socket.split();
    Conversation::new(&play.recording, &round, index, play.speed, sink, source)
        .hold()
        .await;
    Ok(())
}

async fn refuse(client: &mut TcpStream, status: u16, message: &str) -> io::Result<()> {
    let body = serde_json::json!({ "type": "error", "error_code": "NOT_FOUND", "message": message }).to_string();
    let head = format!(
        "HTTP/1.1 {status} Stand-in\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all((head + &body).as_bytes()).await?;
    client.shutdown().await
}

/// The sub-protocol that stands where the recorded one stood among those that were offered.
fn protocol(connection: &Connection, request: &Head) -> Option<String> {
    let selected = connection.selected_protocol.as_ref()?;
    let offered = request.get("sec-websocket-protocol").unwrap_or_default();
    let place = connection.offered_protocols.iter().position(|known| known == selected);
    let chosen = place
        .and_then(|place| offered.split(',').nth(place))
        .map(|chosen| chosen.trim().to_owned());
    // One that was not offered is told as it was recorded: that was the fault.
    chosen.or_else(|| place.is_none().then(|| selected.clone()))
}

#[cfg(test)]
mod tests;
