//! ERR-1 and MSG: every request is answered exactly once, by what the contract says, with its id.

use kingsguard_protocol::ControlFrame;
use kingsguard_protocol::client::ClientType;
use kingsguard_report::lacks::Lacks;
use serde_json::Value;

use super::Judgement;
use super::reading::{ConnectionReading, Frame, Lateness, Place, Reading};
use crate::recording::{EndingKind, FrameKind};

/// How long an answer may take before the backend is said to owe it, where the contract has no bound.
const ANSWER_WITHIN_US: u64 = 10_000_000;

/// Errors that the backend says of itself, to no request.
const NOTICES: [&str; 6] = [
    "AUTH_TOKEN_EXPIRED",
    "AUTH_TOKEN_REVOKED",
    "SLOW_CONSUMER",
    "SERVICE_DRAINING",
    "MESSAGE_TOO_LARGE",
    "INTERNAL_ERROR",
];

/// Close codes by which the backend answers a frame that it cannot read.
const CLOSES_AS_ANSWER: [u16; 4] = [1002, 1003, 1007, 1009];

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    for connection in &reading.connections {
        let mut book = Book::of(connection, reading.lacks);
        book.settle(connection, judgement);
        for request in book.requests.iter().filter(|request| request.is_owed()) {
            judge_debt(reading, connection, request, judgement);
        }
    }
}

/// Requests without an answer on connections that are open.
pub(super) fn under_way(reading: &Reading<'_>) -> Option<String> {
    let mut unused = Judgement::default();
    reading
        .connections
        .iter()
        .filter(|connection| connection.is_open_at_end())
        .find_map(|connection| {
            let mut book = Book::of(connection, reading.lacks);
            book.settle(connection, &mut unused);
            let owed = book.requests.iter().find(|request| request.is_owed())?;
            Some(format!("request {} has no answer", owed.place))
        })
}

fn judge_debt(reading: &Reading<'_>, connection: &ConnectionReading<'_>, request: &Request, judgement: &mut Judgement) {
    let closed_as_answer = matches!(
        connection.connection.ending.as_ref().map(|ending| &ending.how),
        Some(EndingKind::ClosedByBackend { code: Some(code) }) if CLOSES_AS_ANSWER.contains(code)
    );
    if closed_as_answer {
        return;
    }
    match reading.lateness(request.at_us, connection.until_us, ANSWER_WITHIN_US) {
        Lateness::Late => {
            let came = format!("`{}` has none after {} s", request.name, ANSWER_WITHIN_US / 1_000_000);
            judgement.blame("ERR-1", "exactly one answer to every request", came, [request.place]);
        }
        _ if reading.faulty_between(request.at_us, connection.until_us) => {
            let reason = format!("a fault of the test acted while `{}` was unanswered", request.name);
            judgement.cannot_judge("ERR-1", reason);
        }
        Lateness::Unclear(why) => judgement.cannot_judge("ERR-1", why),
        Lateness::InTime => {
            let reason = format!("the connection ended before `{}` was answered", request.name);
            judgement.cannot_judge("ERR-1", reason);
        }
    }
}

/// What may answer a request, beside an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// A control frame of this type.
    Control(&'static str),
    /// The event `agent_stopped`.
    Stopped,
    /// Nothing: an error at most.
    Nothing,
    /// An error with one of these codes, and nothing else.
    Error(&'static [&'static str]),
}

#[derive(Debug)]
struct Request {
    place: Place,
    at_us: u64,
    name: String,
    id: Option<String>,
    expect: Expect,
    /// The batch that it came in: an error for the whole answers each.
    batch_id: Option<String>,
    answers: Vec<Place>,
}

impl Request {
    fn is_owed(&self) -> bool {
        self.answers.is_empty() && self.expect != Expect::Nothing
    }

    fn takes(&self, answer: &Frame<'_>) -> bool {
        let answer_type = answer.frame_type();
        match self.expect {
            _ if answer_type == "error" => true,
            Expect::Control(expected) => answer_type == expected,
            Expect::Stopped => answer_type == "agent_stopped",
            Expect::Nothing | Expect::Error(_) => false,
        }
    }
}

/// A connection's requests and what answered them.
struct Book {
    requests: Vec<Request>,
    /// Whether answers carry `correlation_id`; otherwise they belong to the first request that they may answer.
    answers_name_requests: bool,
}

impl Book {
    fn of(connection: &ConnectionReading<'_>, lacks: &Lacks) -> Self {
        let mut requests = Vec::new();
        for frame in connection.sent().filter(|frame| frame.entry.kind == FrameKind::Text) {
            read_request(frame, frame.json.as_ref(), None, &mut requests);
        }
        if lacks.acknowledgement.is_some() {
            let acknowledged = Expect::Control("message_received");
            for request in requests.iter_mut().filter(|request| request.expect == acknowledged) {
                request.expect = Expect::Nothing;
            }
        }
        Self {
            requests,
            answers_name_requests: !lacks.fields.contains_key("correlation_id"),
        }
    }

    fn settle(&mut self, connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
        let mut stopped: Vec<String> = Vec::new();
        for frame in connection.texts() {
            let is_stop = frame.frame_type() == "agent_stopped";
            let is_answer = ControlFrame::TYPES.contains(&frame.frame_type())
                && !matches!(
                    frame.frame_type(),
                    "connection_established" | "handshake_response" | "server_shutdown"
                );
            if is_stop {
                // A replay of the same event answers nothing again.
                let event_id = frame.str("event_id").unwrap_or_default().to_owned();
                if stopped.contains(&event_id) {
                    continue;
                }
                stopped.push(event_id);
            } else if !is_answer {
                continue;
            }
            match frame.str("correlation_id").filter(|_| self.answers_name_requests) {
                Some(cause) => self.settle_by_id(cause, frame, judgement),
                None => self.settle_without_id(frame, judgement),
            }
        }
    }

    fn settle_by_id(&mut self, cause: &str, frame: &Frame<'_>, judgement: &mut Judgement) {
        let is_relay = matches!(
            frame.frame_type(),
            "broadcast" | "typing_started" | "typing_stopped" | "agent_stopped"
        );
        let known = |request: &Request| request.id.as_deref() == Some(cause);
        let sent = |request: &Request| request.at_us <= frame.at_us();
        if frame.frame_type() == "error"
            && self
                .requests
                .iter()
                .any(|request| request.batch_id.as_deref() == Some(cause))
        {
            for request in self
                .requests
                .iter_mut()
                .filter(|request| request.batch_id.as_deref() == Some(cause))
            {
                request.answers.push(frame.place);
            }
            return;
        }
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| known(request) && request.answers.is_empty() && request.takes(frame))
        {
            judge_answer(request, frame, judgement);
            request.answers.push(frame.place);
            return;
        }
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| known(request) && request.answers.is_empty())
        {
            // `typing_*` goes to the user's other connections; everything else that answers wrongly is a breach.
            if !(is_relay && request.expect == Expect::Nothing) {
                let came = format!("`{}` answers `{}`", frame.frame_type(), request.name);
                judgement.blame(
                    "MSG-1",
                    "the answer that belongs to the type",
                    came,
                    [request.place, frame.place],
                );
            }
            request.answers.push(frame.place);
            return;
        }
        if let Some(request) = self.requests.iter().rfind(|request| known(request)) {
            let came = format!("`{}` has a further one", request.name);
            let places = [request.place]
                .into_iter()
                .chain(request.answers.iter().copied())
                .chain([frame.place]);
            judgement.blame("ERR-1", "exactly one answer to every request", came, places);
            return;
        }
        // The backend made an id for a request that had none.
        let anonymous = self.requests.iter_mut().find(|request| {
            request.id.is_none() && request.answers.is_empty() && sent(request) && request.takes(frame)
        });
        match anonymous {
            Some(request) => {
                judge_answer(request, frame, judgement);
                request.answers.push(frame.place);
            }
            // Of another connection of the same user.
            None if is_relay => {}
            None => {
                let came = format!(
                    "`{}` for {cause}, which this connection did not send",
                    frame.frame_type()
                );
                judgement.blame("ERR-1", "answers to requests only", came, [frame.place]);
            }
        }
    }

    fn settle_without_id(&mut self, frame: &Frame<'_>, judgement: &mut Judgement) {
        let code = frame.str("error_code").unwrap_or_default();
        let named = self.answers_name_requests;
        let sent = |request: &Request| request.at_us <= frame.at_us() && request.answers.is_empty();
        let fits = |request: &Request| match request.expect {
            Expect::Error(codes) => codes.contains(&code),
            _ => request.takes(frame),
        };
        if let Some(request) = self
            .requests
            .iter_mut()
            .find(|request| (request.id.is_none() || !named) && sent(request) && fits(request))
        {
            judge_answer(request, frame, judgement);
            request.answers.push(frame.place);
            return;
        }
        if NOTICES.contains(&code) {
            return;
        }
        match self
            .requests
            .iter_mut()
            .find(|request| sent(request) && request.takes(frame))
        {
            Some(request) => {
                let came = format!("the answer to `{}` has none", request.name);
                judgement.blame(
                    "MSG-1",
                    "the request's `message_id` as `correlation_id`",
                    came,
                    [request.place, frame.place],
                );
                request.answers.push(frame.place);
            }
            None => {
                let came = format!("`{}` {code} answers nothing", frame.frame_type());
                judgement.blame("ERR-1", "answers to requests only", came, [frame.place]);
            }
        }
    }
}

/// MSG-2, MSG-3, MSG-4: what a refusal says.
fn judge_answer(request: &Request, frame: &Frame<'_>, judgement: &mut Judgement) {
    let Some(code) = frame.str("error_code") else { return };
    let detail = |field: &str| frame.json.as_ref().and_then(|json| json.get("details")?.get(field));
    let (clause, expected, holds) = match code {
        "JSON_PARSE_ERROR" => {
            let counted = ["line", "column"]
                .iter()
                .all(|field| detail(field).and_then(Value::as_u64).is_some_and(|at| at > 0));
            ("MSG-3", "`details` with `line` and `column`", counted)
        }
        "VALIDATION_ERROR" => {
            let pointer = detail("pointer").and_then(Value::as_str);
            let sound = pointer.is_some_and(|pointer| pointer.is_empty() || pointer.starts_with('/'));
            let expected = detail("expected")
                .and_then(Value::as_str)
                .is_some_and(|text| !text.trim().is_empty());
            ("MSG-4", "`details` with `pointer` and `expected`", sound && expected)
        }
        "UNKNOWN_MESSAGE_TYPE" => {
            // A type of kilobytes may be cut: an error need not be as long as what it refuses.
            let named = detail("message_type").and_then(Value::as_str).is_some_and(|told| {
                told == request.name || (told.chars().count() >= 128 && request.name.starts_with(told))
            });
            ("MSG-2", "`details.message_type`, the type that was sent", named)
        }
        _ => ("ERR-1", "", true),
    };
    if !holds {
        judgement.blame(
            clause,
            expected,
            format!("`details` of {code} lacks it"),
            [request.place, frame.place],
        );
    }
    if let Expect::Error(codes) = request.expect
        && !codes.contains(&code)
    {
        let clause = if codes.contains(&"UNKNOWN_MESSAGE_TYPE") {
            "MSG-2"
        } else {
            "MSG-3"
        };
        judgement.blame(
            clause,
            format!("one of {codes:?}"),
            format!("{code} came"),
            [request.place, frame.place],
        );
    }
}

/// Reads what was sent as the contract reads it: JSON, envelope, type (ERR-1).
fn read_request(frame: &Frame<'_>, json: Option<&Value>, batch_id: Option<&str>, requests: &mut Vec<Request>) {
    let mut add = |name: &str, id: Option<&str>, expect: Expect| {
        requests.push(Request {
            place: frame.place,
            at_us: frame.at_us(),
            name: name.to_owned(),
            id: id.map(str::to_owned),
            expect,
            batch_id: batch_id.map(str::to_owned),
            answers: Vec::new(),
        });
    };
    // Deep nesting and lone surrogates are no JSON to this parser, and VALIDATION_ERROR to the contract (SEC-1).
    let Some(json) = json else {
        return add(
            "text that is no JSON",
            None,
            Expect::Error(&["JSON_PARSE_ERROR", "VALIDATION_ERROR"]),
        );
    };
    // A bad id cannot be quoted back.
    let id = json
        .get("message_id")
        .and_then(Value::as_str)
        .filter(|id| (1..=128).contains(&id.chars().count()));
    let Some(name) = json.get("type").and_then(Value::as_str) else {
        return add("message without a type", id, Expect::Error(&["VALIDATION_ERROR"]));
    };
    let Some(kind) = ClientType::from_name(name) else {
        // The envelope is judged before the type.
        return add(name, id, Expect::Error(&["UNKNOWN_MESSAGE_TYPE", "VALIDATION_ERROR"]));
    };
    let expect = match kind {
        ClientType::HandshakeAcknowledged => Expect::Control("handshake_complete"),
        ClientType::UserMessage | ClientType::StartAgent | ClientType::ExampleMessage => {
            Expect::Control("message_received")
        }
        ClientType::StopAgent => Expect::Stopped,
        ClientType::AgentStatusRequest => Expect::Control("agent_status_update"),
        ClientType::CreateThread => Expect::Control("thread_created"),
        ClientType::ListThreads => Expect::Control("thread_list"),
        ClientType::SwitchThread => Expect::Control("thread_switched"),
        ClientType::RenameThread => Expect::Control("thread_renamed"),
        ClientType::DeleteThread => Expect::Control("thread_deleted"),
        ClientType::GetThreadHistory => Expect::Control("thread_history"),
        ClientType::GetAgentContext => Expect::Control("agent_context"),
        ClientType::Ping => Expect::Control("pong"),
        ClientType::Heartbeat => Expect::Control("heartbeat_ack"),
        ClientType::Auth => Expect::Control("auth_completed"),
        ClientType::Broadcast => Expect::Control("broadcast"),
        ClientType::GetQualityMetrics => Expect::Control("quality_metrics"),
        ClientType::ValidateContent => Expect::Control("content_validation_result"),
        ClientType::GetUsage => Expect::Control("usage_report"),
        ClientType::Pong
        | ClientType::HeartbeatAck
        | ClientType::Confirmation
        | ClientType::TypingStarted
        | ClientType::TypingStopped
        | ClientType::Disconnect => Expect::Nothing,
        ClientType::Batch => {
            let messages = frame_messages(json);
            if (1..=50).contains(&messages.len()) && batch_id.is_none() {
                for message in messages {
                    read_request(frame, Some(message), id, requests);
                }
                return;
            }
            Expect::Error(&["VALIDATION_ERROR", "HANDSHAKE_REQUIRED"])
        }
    };
    add(name, id, expect);
}

fn frame_messages(json: &Value) -> Vec<&Value> {
    let messages = json.get("messages").or_else(|| json.get("payload")?.get("messages"));
    messages.and_then(Value::as_array).into_iter().flatten().collect()
}
