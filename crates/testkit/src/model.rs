//! A language model that says what the test wrote: an OpenAI-compatible HTTP server that checks what it is asked.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the model does with one request.
#[derive(Clone, Debug)]
pub enum ModelReply {
    /// Answers with this text.
    Text(String),
    /// Answers with this text after a while.
    Slow(Duration, String),
    /// Answers with a status and a body of choice.
    Status(u16, Value),
    /// Answers 429 with `Retry-After` in seconds.
    RateLimited(u64),
    /// Ends the connection without an answer.
    HangUp,
    /// Never answers.
    Silent,
    /// Answers 200 with bytes that are no JSON.
    Garbage(Vec<u8>),
}

/// One request as the model received it.
#[derive(Clone, Debug)]
pub struct ModelRequest {
    /// Path of the request, such as `/v1/chat/completions`.
    pub path: String,
    /// The bearer token that came with it.
    pub bearer: Option<String>,
    /// The body.
    pub body: Value,
}

/// A model that plays a script, on a port of its own. It ends when the variable is let go.
#[derive(Debug)]
pub struct ScriptedModel {
    url: String,
    state: Arc<Mutex<State>>,
    _ends_with_this: DropGuard,
}

#[derive(Debug)]
struct State {
    script: VecDeque<ModelReply>,
    afterwards: ModelReply,
    requests: Vec<ModelRequest>,
    faults: Vec<String>,
}

impl ScriptedModel {
    /// Starts a model that answers every request with the same reply.
    ///
    /// # Panics
    /// No port is free.
    pub async fn always(reply: ModelReply) -> Self {
        Self::script(Vec::new(), reply).await
    }

    /// Starts a model that plays `script`, one reply per request, and then `afterwards` for ever.
    ///
    /// # Panics
    /// No port is free.
    pub async fn script(script: Vec<ModelReply>, afterwards: ModelReply) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0))
            .await
            .expect("127.0.0.1 has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let state = State {
            script: script.into(),
            afterwards,
            requests: Vec::new(),
            faults: Vec::new(),
        };
        let state = Arc::new(Mutex::new(state));
        let ending = CancellationToken::new();
        tokio::spawn(
            ending
                .clone()
                .run_until_cancelled_owned(accept(listener, Arc::clone(&state), ending.clone())),
        );
        Self {
            url: format!("http://{address}/v1"),
            state,
            _ends_with_this: ending.drop_guard(),
        }
    }

    /// The address for `KINGSGUARD_MODEL_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What was asked so far.
    #[must_use]
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .requests
            .clone()
    }

    /// Changes what comes after the script, from the next request on.
    pub fn then_always(&self, reply: ModelReply) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.script.clear();
        state.afterwards = reply;
    }

    /// Claims that every request so far was one that the API defines: a POST to `/chat/completions` with a model and
    /// messages that each have a role and content.
    ///
    /// # Panics
    /// One was not.
    pub fn assert_asked_properly(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            state.faults.is_empty(),
            "the model was asked improperly: {:#?}",
            state.faults
        );
        assert!(!state.requests.is_empty(), "the model was not asked at all");
    }
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>, ending: CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let serving = serve(stream, Arc::clone(&state));
        tokio::spawn(ending.clone().run_until_cancelled_owned(serving));
    }
}

/// One request per connection: `Connection: close` keeps the framing trivial.
async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    // A client that goes away mid-request is its own business; what it did ask stands in `requests`.
    answer(&mut stream, &state).await.ok();
}

async fn answer(stream: &mut TcpStream, state: &Mutex<State>) -> io::Result<()> {
    let (head, body) = read_request(stream).await?;
    let reply = note(state, &head, &body);
    let (status, extra, bytes) = match reply {
        ModelReply::Text(text) => (200, String::new(), completion(&body, &text)),
        ModelReply::Slow(pause, text) => {
            tokio::time::sleep(pause).await;
            (200, String::new(), completion(&body, &text))
        }
        ModelReply::Status(status, body) => (status, String::new(), body.to_string().into_bytes()),
        ModelReply::RateLimited(seconds) => {
            let body = json!({ "error": { "type": "rate_limit_exceeded", "message": "slow down" } });
            (
                429,
                format!("Retry-After: {seconds}\r\n"),
                body.to_string().into_bytes(),
            )
        }
        ModelReply::HangUp => return Ok(()),
        ModelReply::Silent => std::future::pending().await,
        ModelReply::Garbage(bytes) => (200, String::new(), bytes),
    };
    let head = format!(
        "HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{extra}\r\n",
        bytes.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

async fn read_request(stream: &mut TcpStream) -> io::Result<(String, Value)> {
    let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ended());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ended());
        }
    }
    let body = serde_json::from_slice(&bytes[end..end + length]).unwrap_or_default();
    Ok((head, body))
}

fn note(state: &Mutex<State>, head: &str, body: &Value) -> ModelReply {
    let mut request_line = head.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (
        request_line.next().unwrap_or_default(),
        request_line.next().unwrap_or_default(),
    );
    let bearer = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let value = value.trim().strip_prefix("Bearer ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    if method != "POST" || !path.ends_with("/chat/completions") {
        state.faults.push(format!("{method} {path}"));
    }
    if body.get("model").and_then(Value::as_str).is_none_or(str::is_empty) {
        state.faults.push(format!("no model is named: {body}"));
    }
    let messages = body.get("messages").and_then(Value::as_array);
    let whole = messages.is_some_and(|messages| {
        !messages.is_empty()
            && messages
                .iter()
                .all(|message| message.get("role").is_some_and(Value::is_string) && message.get("content").is_some())
    });
    if !whole {
        state.faults.push(format!("messages without role and content: {body}"));
    }
    state.requests.push(ModelRequest {
        path: path.to_owned(),
        bearer,
        body: body.clone(),
    });
    state.script.pop_front().unwrap_or_else(|| state.afterwards.clone())
}

fn completion(request: &Value, text: &str) -> Vec<u8> {
    json!({
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 0,
        "model": request.get("model").cloned().unwrap_or_default(),
        "choices": [{ "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": text } }],
        "usage": { "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15 }
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Capture;
    use crate::http::Http;

    #[tokio::test]
    async fn a_script_is_played_in_order_and_requests_are_kept() {
        let model = ScriptedModel::script(vec![ModelReply::RateLimited(2)], ModelReply::Text("yes".into())).await;
        let http = Http::new(model.url(), Capture::default()).with_bearer("key");
        let ask = json!({ "model": "m", "messages": [{ "role": "user", "content": "?" }] });
        let refused = http.post("/chat/completions", &ask).await.expect_status(429);
        assert_eq!(refused.retry_after_seconds(), Some(2));
        let answer = http.post("/chat/completions", &ask).await.expect_status(200).json();
        assert_eq!(answer.pointer("/choices/0/message/content"), Some(&json!("yes")));
        assert_eq!(model.requests().len(), 2);
        assert_eq!(model.requests()[0].bearer.as_deref(), Some("key"));
        model.assert_asked_properly();
    }

    #[tokio::test]
    #[should_panic(expected = "asked improperly")]
    async fn an_improper_request_is_noticed() {
        let model = ScriptedModel::always(ModelReply::Text("yes".into())).await;
        let http = Http::new(model.url(), Capture::default());
        let _answer = http.post("/chat/completions", &json!({ "model": "m" })).await;
        model.assert_asked_properly();
    }
}
