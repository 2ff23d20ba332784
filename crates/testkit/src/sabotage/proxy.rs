//! The man in the middle: a listener on loopback, and for each of its connections one to the backend.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::http::{HEAD_BYTES_MAX, Head};
use super::tamper::{Outgoing, Passage, State, What};
use super::{Sabotage, sse};
use crate::fault::proxy::{connect, listen};
use crate::fault::unit::{Cutter, Upgrade, text_frame};

/// A larger body of an answer is not changed.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Frames that wait for one side to take them: few, so that a backend soon feels a client that does not read.
const OUTBOX_MAX: usize = 64;
/// How long a connection to the backend stays after its client has left, where a rule wants that.
const STAYS: Duration = Duration::from_secs(60);

/// Stands on loopback before one backend and changes what passes. It lives as long as the value.
#[derive(Debug)]
pub struct Saboteur {
    address: SocketAddr,
    _ends_with_this: DropGuard,
}

impl Saboteur {
    /// Stands before `upstream` (host and port).
    ///
    /// # Errors
    /// Loopback has no free port.
    pub fn before(upstream: &str, sabotage: &Sabotage) -> io::Result<Self> {
        let (listener, address) = listen()?;
        let ending = CancellationToken::new();
        let (upstream, state) = (upstream.to_owned(), Arc::clone(&sabotage.state));
        tokio::spawn(
            ending
                .clone()
                .run_until_cancelled_owned(accept(listener, upstream, state)),
        );
        Ok(Self {
            address,
            _ends_with_this: ending.drop_guard(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn accept(listener: TcpListener, upstream: String, state: Arc<State>) {
    let mut carried = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A peer that is gone before it was accepted needs nobody.
                let Ok((client, _)) = accepted else { continue };
                let (upstream, state) = (upstream.clone(), Arc::clone(&state));
                // Either side may break off; then the other one's connection ends with this task, which is all that it must do.
                carried.spawn(async move { carry(client, &upstream, &state).await.ok() });
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Reads a head of HTTP; what is none comes back as bytes.
pub(crate) async fn read_head(source: &mut TcpStream) -> io::Result<Result<(Head, Vec<u8>), Vec<u8>>> {
    let mut bytes = Vec::new();
    loop {
        if let Some((head, length)) = Head::parse(&bytes) {
            return Ok(Ok((head, bytes.split_off(length))));
        }
        let ended = bytes.windows(4).any(|four| four == b"\r\n\r\n") || bytes.len() > HEAD_BYTES_MAX;
        if ended || source.read_buf(&mut bytes).await? == 0 {
            return Ok(Err(bytes));
        }
    }
}

async fn carry(mut client: TcpStream, upstream: &str, state: &State) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut backend = connect(upstream).await?;
    backend.set_nodelay(true)?;
    let (mut request, rest) = match read_head(&mut client).await? {
        Ok(request) => request,
        Err(bytes) => {
            backend.write_all(&bytes).await?;
            return copy_bidirectional(&mut client, &mut backend).await.map(drop);
        }
    };
    let target = request.target();
    let original = request.clone();
    state.change_request(&mut request);
    if original.asks_for_websocket() {
        backend.write_all(&request.bytes()).await?;
        backend.write_all(&rest).await?;
        let mut answer = read_head(&mut backend).await?;
        if let Ok((head, _)) = &answer
            && head.status() == Some(401)
            && let Some(again) = state.with_good_credential(&original)
        {
            backend = connect(upstream).await?;
            backend.write_all(&again.bytes()).await?;
            answer = read_head(&mut backend).await?;
        }
        let (mut head, beginning) = match answer {
            Ok(answer) => answer,
            Err(bytes) => {
                client.write_all(&bytes).await?;
                return copy_bidirectional(&mut client, &mut backend).await.map(drop);
            }
        };
        if head.status() != Some(101) {
            return answer_with(&mut client, &mut backend, &target, head, beginning, state).await;
        }
        remember(&original, state);
        state.change_response(&target, &mut head, &mut Vec::new());
        client.write_all(&head.bytes()).await?;
        return converse(client, backend, beginning, state).await;
    }
    // One exchange for each connection: then the end of a body is the end of its connection.
    request.set("connection", "close");
    if request.asks_for_server_sent_events() {
        request.refuse_chunks();
    }
    backend.write_all(&request.bytes()).await?;
    backend.write_all(&rest).await?;
    let missing = request.content_length().unwrap_or(0).saturating_sub(rest.len());
    let (mut from_client, mut to_client) = client.split();
    let (mut from_backend, mut to_backend) = backend.split();
    let sending = async {
        tokio::io::copy(&mut (&mut from_client).take(missing as u64), &mut to_backend).await?;
        io::Result::Ok(())
    };
    // An answer may come before the request has ended.
    let answering = async {
        let mut bytes = Vec::new();
        while Head::parse(&bytes).is_none() {
            if from_backend.read_buf(&mut bytes).await? == 0 {
                to_client.write_all(&bytes).await?;
                return Ok(None);
            }
        }
        io::Result::Ok(Head::parse(&bytes).map(|(head, length)| (head, bytes.split_off(length))))
    };
    let (_, answer) = tokio::join!(sending, answering);
    let Some((head, beginning)) = answer? else {
        return Ok(());
    };
    if head.status().is_some_and(|status| (200..300).contains(&status)) {
        remember(&original, state);
    }
    answer_with(&mut client, &mut backend, &target, head, beginning, state).await
}

/// Keeps the token of a request that the backend accepted.
fn remember(request: &Head, state: &State) {
    let bearer = request
        .get("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    if let Some(token) = bearer {
        state.remember_credential(token);
    }
}

async fn answer_with(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    target: &str,
    mut head: Head,
    beginning: Vec<u8>,
    state: &State,
) -> io::Result<()> {
    let gives_credential = target.starts_with("/auth/");
    let length = head.content_length().filter(|length| *length <= BODY_BYTES_MAX);
    let whole = match length {
        Some(length) if gives_credential || state.changes_body(target, head.status().unwrap_or_default()) => {
            Some(length)
        }
        _ => None,
    };
    let mut body = beginning;
    if let Some(length) = whole {
        while body.len() < length && backend.read_buf(&mut body).await? > 0 {}
        let given = serde_json::from_slice::<serde_json::Value>(&body).ok();
        if let Some(token) = given.as_ref().and_then(|given| given["access_token"].as_str()) {
            state.remember_credential(token);
        }
    }
    state.change_response(target, &mut head, &mut body);
    if whole.is_some() {
        head.set("content-length", &body.len().to_string());
    }
    client.write_all(&head.bytes()).await?;
    if whole.is_none() && head.holds_server_sent_events() && head.get("transfer-encoding").is_none() {
        return stream(client, backend, body, state).await;
    }
    client.write_all(&body).await?;
    if whole.is_none() {
        tokio::io::copy(backend, client).await?;
    }
    client.shutdown().await
}

/// Passes Server-Sent Events on until one side is gone.
async fn stream(
    client: &mut TcpStream,
    backend: &mut TcpStream,
    mut arrived: Vec<u8>,
    state: &State,
) -> io::Result<()> {
    let mut passage = Passage::of_stream(state);
    loop {
        while let Some(block) = sse::cut(&mut arrived) {
            let outgoing = match String::from_utf8(block) {
                Ok(block) => passage.server_sent_event(block),
                Err(error) => vec![Outgoing::now(What::Raw(error.into_bytes()))],
            };
            for Outgoing { what, after } in outgoing {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                match what {
                    What::Text(text) => client.write_all(text.as_bytes()).await?,
                    What::Raw(bytes) => client.write_all(&bytes).await?,
                    What::End => return client.shutdown().await,
                }
            }
        }
        // The end of the body, or what is too long for an event, passes as it is.
        let has_ended = backend.read_buf(&mut arrived).await? == 0;
        if has_ended || arrived.len() > BODY_BYTES_MAX {
            client.write_all(&std::mem::take(&mut arrived)).await?;
        }
        if has_ended {
            return client.shutdown().await;
        }
    }
}

async fn converse(client: TcpStream, backend: TcpStream, beginning: Vec<u8>, state: &State) -> io::Result<()> {
    let (mut from_client, to_client) = client.into_split();
    let (mut from_backend, to_backend) = backend.into_split();
    let upgrade = Upgrade::accepted();
    let (outbox, inbox) = mpsc::channel(OUTBOX_MAX);
    let (requests, requests_inbox) = mpsc::channel(OUTBOX_MAX);
    let passage = tokio::sync::Mutex::new(Passage::of_connection(state, outbox.clone()));
    let reading_backend = async {
        let mut cutter = Cutter::of_frames(&upgrade, beginning);
        while let Ok(Some(mut unit)) = cutter.next(&mut from_backend).await {
            let outgoing = match (unit.text(), unit.close_code()) {
                (Some(text), _) => passage.lock().await.frame_for_client(text),
                (None, Some(code)) => match passage.lock().await.close(code) {
                    Some(code) => {
                        unit.set_close_code(code);
                        vec![Outgoing::now(What::Raw(unit.bytes))]
                    }
                    None => Vec::new(),
                },
                (None, None) if unit.is_pong() && !passage.lock().await.lets_pongs_pass() => Vec::new(),
                (None, None) => vec![Outgoing::now(What::Raw(unit.bytes))],
            };
            for one in outgoing {
                if outbox.send(one).await.is_err() {
                    return;
                }
            }
        }
    };
    let reading_client = async {
        let mut cutter = Cutter::of_frames(&upgrade, Vec::new());
        while let Ok(Some(unit)) = cutter.next(&mut from_client).await {
            let outgoing = match unit.text() {
                Some(text) => passage.lock().await.frame_for_server(text),
                None => vec![Outgoing::now(What::Raw(unit.bytes))],
            };
            for one in outgoing {
                if requests.send(one).await.is_err() {
                    return;
                }
            }
        }
        let (told, last) = passage.lock().await.leave();
        for one in last {
            requests.send(one).await.ok();
        }
        if !told {
            tokio::time::sleep(STAYS).await;
        }
    };
    let writing_client = write(to_client, inbox, false);
    let writing_backend = write(to_backend, requests_inbox, true);
    tokio::pin!(reading_backend, reading_client, writing_client, writing_backend);
    tokio::select! {
        () = &mut reading_backend => {
            // What was read passes before the end does.
            outbox.send(Outgoing::now(What::End)).await.ok();
            writing_client.await;
        }
        () = &mut reading_client => {
            requests.send(Outgoing::now(What::End)).await.ok();
            writing_backend.await;
        }
        () = &mut writing_client => {}
        () = &mut writing_backend => {}
    }
    Ok(())
}

/// Writes what comes until it is told to end, or the side is gone.
async fn write(mut sink: OwnedWriteHalf, mut inbox: mpsc::Receiver<Outgoing>, masked: bool) {
    while let Some(Outgoing { what, after }) = inbox.recv().await {
        if !after.is_zero() {
            tokio::time::sleep(after).await;
        }
        let bytes = match what {
            What::Text(text) => text_frame(&text, masked),
            What::Raw(bytes) => bytes,
            What::End => break,
        };
        if sink.write_all(&bytes).await.is_err() {
            return;
        }
    }
    sink.shutdown().await.ok();
}
