//! Every transition, and the two claims that hold for any order of messages: no event before `handshake_complete`, and
//! exactly one answer to each message that needs one.

mod reference;

use std::collections::BTreeSet;

use kingsguard_protocol::control::{ThreadCreated, ThreadHistory, ThreadPosition};
use kingsguard_protocol::event::RunUsage;
use kingsguard_protocol::http::ThreadPage;
use kingsguard_protocol::{Epoch, RunId, Timestamp};
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Map, Value, json};

use super::*;

const RATE_LIMITED_MAX: u64 = 3;

pub(super) fn limits() -> Limits {
    Limits {
        message_bytes_max: 5 * 1024 * 1024,
        content_chars_max: 8_000,
        connections_per_user_max: 10,
        connections_per_address_max: 100,
        messages_per_minute_max: 60,
        messages_burst_max: 20,
        frames_per_second_max: 100,
        threads_per_user_max: 1_000,
        queue_frames_max: 100,
        queue_bytes_max: 1_000_000,
        logins_per_minute_max: 300,
    }
}

fn greeted() -> Session {
    Session::new(Facts {
        connection_id: "connection_1".into(),
        offered: "thread_offered".into(),
        limits: limits(),
        rate_limited_max: RATE_LIMITED_MAX,
    })
}

fn task(session: &mut Session, message: &Value) -> Task {
    match session.receive(&message.to_string(), Place::Frame) {
        Ok(Received::Task(task)) => task,
        other => panic!("{message} should be a task: {other:?}"),
    }
}

fn refusal(session: &mut Session, text: &str) -> (ErrorCode, Option<MessageId>) {
    match session.receive(text, Place::Frame) {
        Err(conclusion) => match conclusion.answer {
            Some(ControlFrame::Error(error)) => (error.error_code, error.correlation_id),
            answer => panic!("a refusal is one error: {answer:?}"),
        },
        Ok(received) => panic!("{text} should be refused: {received:?}"),
    }
}

fn open_on(own: &str) -> Session {
    let mut session = greeted();
    let task = task(
        &mut session,
        &json!({"type": "handshake_acknowledged", "thread_id": own}),
    );
    let conclusion = session.conclude(task.cause, Ok(Reply::Acknowledged { own: own.into() }));
    assert!(conclusion.answer.is_none() && conclusion.close.is_none() && session.is_open());
    session
}

fn thread_meant(session: &mut Session) -> Result<ThreadId, ErrorCode> {
    let text = json!({"type": "get_thread_history"}).to_string();
    match session.receive(&text, Place::Frame) {
        Ok(Received::Task(task)) => Ok(task.request.thread().expect("history names a thread").clone()),
        Ok(other) => panic!("history is a task: {other:?}"),
        Err(conclusion) => match conclusion.answer {
            Some(ControlFrame::Error(error)) => Err(error.error_code),
            answer => panic!("a refusal is one error: {answer:?}"),
        },
    }
}

/// One well-formed message of each type.
fn message_of(client_type: ClientType) -> Value {
    let mut message = match client_type {
        ClientType::UserMessage => json!({"content": "What did I spend?"}),
        ClientType::StartAgent => json!({"agent_name": "triage", "user_request": "What did I spend?"}),
        ClientType::StopAgent | ClientType::GetQualityMetrics => json!({"run_id": "run_1"}),
        ClientType::Confirmation => json!({"event_id": "event_1", "status": "confirmed"}),
        ClientType::SwitchThread | ClientType::DeleteThread => json!({"thread_id": "thread_other"}),
        ClientType::RenameThread => json!({"thread_id": "thread_other", "title": "Spending"}),
        ClientType::Auth => json!({"token": "a.b.c"}),
        ClientType::Broadcast => json!({"content": "hello"}),
        ClientType::ExampleMessage => json!({"content": "What did I spend?", "category": "cost"}),
        ClientType::ValidateContent => json!({"content": "{}", "content_type": "json"}),
        ClientType::Batch => json!({"messages": [{"type": "ping"}]}),
        _ => json!({}),
    };
    message["type"] = json!(client_type.names()[0]);
    message["message_id"] = json!("m-1");
    message
}

#[test]
fn only_the_messages_of_the_handshake_are_taken_before_it_is_acknowledged() {
    for client_type in ClientType::ALL {
        let message = message_of(*client_type);
        let received = greeted().receive(&message.to_string(), Place::Frame);
        if needs_handshake(*client_type) {
            let conclusion = received.expect_err("needs the handshake");
            let Some(ControlFrame::Error(error)) = conclusion.answer else {
                panic!("a refusal is one error")
            };
            let told = (error.error_code, error.correlation_id);
            assert_eq!(told, (ErrorCode::HandshakeRequired, Some("m-1".into())), "{message}");
        } else {
            assert!(matches!(received, Ok(Received::Task(_))), "{message}");
        }
    }
}

#[test]
fn every_message_is_taken_once_the_handshake_is_acknowledged() {
    for client_type in ClientType::ALL {
        let message = message_of(*client_type);
        let received = open_on("thread_a").receive(&message.to_string(), Place::Frame);
        assert!(received.is_ok(), "{message}: {received:?}");
    }
}

#[rstest]
#[case::json("{\"type\": ", ErrorCode::JsonParseError, None)]
#[case::envelope(r#"{"message_id": "m-1"}"#, ErrorCode::ValidationError, Some("m-1"))]
#[case::type_before_handshake(
    r#"{"type": "nonsense", "message_id": "m-1"}"#,
    ErrorCode::UnknownMessageType,
    Some("m-1")
)]
#[case::handshake_before_fields(
    r#"{"type": "user_message", "message_id": "m-1"}"#,
    ErrorCode::HandshakeRequired,
    Some("m-1")
)]
#[case::fields(r#"{"type": "auth", "message_id": "m-1"}"#, ErrorCode::ValidationError, Some("m-1"))]
#[case::no_message_id(r#"{"type": "list_threads"}"#, ErrorCode::HandshakeRequired, None)]
fn a_message_is_judged_in_the_contract_s_order(
    #[case] text: &str,
    #[case] code: ErrorCode,
    #[case] correlation_id: Option<&str>,
) {
    assert_eq!(
        refusal(&mut greeted(), text),
        (code, correlation_id.map(MessageId::from))
    );
}

#[test]
fn an_acknowledgement_without_a_thread_means_the_offered_one_and_makes_it_once() {
    let mut session = greeted();
    let acknowledged = json!({"type": "handshake_acknowledged"});
    let first = task(&mut session, &acknowledged);
    assert_eq!(first.makes_thread, Some("thread_offered".into()));
    session.offer_taken();
    let own = ThreadId::from("thread_offered");
    let _ = session.conclude(first.cause, Ok(Reply::Acknowledged { own: own.clone() }));
    let again = task(&mut session, &acknowledged);
    assert_eq!((again.request.thread(), again.makes_thread), (Some(&own), None));
}

#[test]
fn the_offered_thread_is_made_when_a_message_first_names_it() {
    let mut session = open_on("thread_a");
    let message = json!({"type": "user_message", "content": "hi", "thread_id": "thread_offered"});
    assert_eq!(task(&mut session, &message).makes_thread, Some("thread_offered".into()));
    let elsewhere = json!({"type": "user_message", "content": "hi"});
    assert_eq!(task(&mut session, &elsewhere).makes_thread, None);
}

#[test]
fn a_refused_acknowledgement_changes_nothing_and_may_be_repeated() {
    let mut session = greeted();
    let first = task(
        &mut session,
        &json!({"type": "handshake_acknowledged", "thread_id": "thread_foreign"}),
    );
    let conclusion = session.conclude(first.cause, Err(ErrorCode::ThreadNotFound.into()));
    assert!(matches!(conclusion.answer, Some(ControlFrame::Error(_))) && !session.is_open());
    let text = json!({"type": "list_threads"}).to_string();
    assert_eq!(refusal(&mut session, &text).0, ErrorCode::HandshakeRequired);
    let again = task(
        &mut session,
        &json!({"type": "handshake_acknowledged", "thread_id": "thread_a"}),
    );
    let _ = session.conclude(again.cause, Ok(Reply::Acknowledged { own: "thread_a".into() }));
    assert_eq!(thread_meant(&mut session), Ok("thread_a".into()));
}

#[test]
fn a_refused_later_acknowledgement_keeps_the_own_thread() {
    let mut session = open_on("thread_a");
    let later = task(
        &mut session,
        &json!({"type": "handshake_acknowledged", "thread_id": "thread_foreign"}),
    );
    let _ = session.conclude(later.cause, Err(ErrorCode::ThreadNotFound.into()));
    assert_eq!(thread_meant(&mut session), Ok("thread_a".into()));
}

#[test]
fn switching_and_creating_choose_the_own_thread() {
    let mut session = open_on("thread_a");
    let _ = session.conclude("m-1".into(), Ok(Reply::Switched { own: "thread_b".into() }));
    assert_eq!(thread_meant(&mut session), Ok("thread_b".into()));
    let _ = session.conclude("m-2".into(), Ok(created("thread_c", "m-2")));
    assert_eq!(thread_meant(&mut session), Ok("thread_c".into()));
}

#[test]
fn after_its_own_thread_was_deleted_a_connection_must_choose_another() {
    let mut session = open_on("thread_a");
    let delete = |thread_id: &str| Reply::Deleted {
        thread_id: thread_id.into(),
    };
    let _ = session.conclude("m-1".into(), Ok(delete("thread_b")));
    assert_eq!(thread_meant(&mut session), Ok("thread_a".into()));
    let _ = session.conclude("m-2".into(), Ok(delete("thread_a")));
    assert_eq!(thread_meant(&mut session), Err(ErrorCode::ThreadNotFound));
    let _ = session.conclude("m-3".into(), Ok(Reply::Switched { own: "thread_b".into() }));
    assert_eq!(thread_meant(&mut session), Ok("thread_b".into()));
}

#[test]
fn close_4429_comes_only_after_rate_limited_was_said_repeatedly_in_a_row() {
    let mut session = open_on("thread_a");
    let limited = || Err(ApiError::new(ErrorCode::RateLimited));
    for _ in 1..RATE_LIMITED_MAX {
        assert_eq!(session.conclude("m".into(), limited()).close, None);
    }
    assert_eq!(session.conclude("m".into(), Ok(Reply::Pong)).close, None);
    for _ in 1..RATE_LIMITED_MAX {
        assert_eq!(session.conclude("m".into(), limited()).close, None);
    }
    let last = session.conclude("m".into(), limited());
    assert!(
        matches!(last.answer, Some(ControlFrame::Error(_))),
        "the last one is answered too"
    );
    assert_eq!(last.close.map(|(code, _)| code), Some(CloseCode::RateLimit));
}

#[test]
fn disconnect_closes_with_1000() {
    let mut session = greeted();
    let leave = task(&mut session, &json!({"type": "disconnect"}));
    let conclusion = session.conclude(leave.cause, Ok(Reply::Left));
    assert_eq!(conclusion.close.map(|(code, _)| code), Some(CloseCode::Normal));
    assert!(conclusion.answer.is_none());
}

#[test]
fn a_batch_s_messages_are_judged_one_by_one() {
    let mut session = open_on("thread_a");
    let batch = json!({"type": "batch", "messages": [
        {"type": "ping", "message_id": "m-1"}, {"type": "nonsense", "message_id": "m-2"}, {"type": "batch", "messages": []},
    ]});
    let Ok(Received::Batch(messages)) = session.receive(&batch.to_string(), Place::Frame) else {
        panic!("a batch is taken apart")
    };
    let told: Vec<_> = messages
        .iter()
        .map(|message| match session.receive(message.get(), Place::Batch) {
            Ok(Received::Task(task)) => Ok(task.cause),
            Ok(Received::Batch(_)) => panic!("a batch holds no batch"),
            Err(conclusion) => match conclusion.answer {
                Some(ControlFrame::Error(error)) => Err((error.error_code, error.correlation_id)),
                answer => panic!("a refusal is one error: {answer:?}"),
            },
        })
        .collect();
    let expected = vec![
        Ok("m-1".into()),
        Err((ErrorCode::UnknownMessageType, Some("m-2".into()))),
        Err((ErrorCode::ValidationError, None)),
    ];
    assert_eq!(told, expected);
}

#[test]
fn the_greeting_is_the_two_frames_of_the_handshake_in_order() {
    let session = greeted();
    let types = answer::greeting(session.facts(), 15_000, "0.1.0").map(|frame| frame.frame_type());
    assert_eq!(types, ["connection_established", "handshake_response"]);
}

fn created(thread_id: &str, cause: &str) -> Reply {
    Reply::Created(Box::new(ThreadCreated {
        thread_id: thread_id.into(),
        title: None,
        metadata: serde_json::value::RawValue::from_string("{}".to_owned()).expect("JSON"),
        epoch: Epoch::generate(),
        correlation_id: cause.into(),
        timestamp: Timestamp::now(),
    }))
}

/// A connection in miniature: it carries tasks out as the world allows and writes down what the client is told.
struct Model {
    session: Session,
    told: Vec<Told>,
    threads: BTreeSet<ThreadId>,
    /// The code of the newest error.
    refused_with: Option<ErrorCode>,
    closed: Option<CloseCode>,
}

#[derive(Clone, Debug, PartialEq)]
enum Told {
    Control(&'static str, Option<MessageId>),
    Event,
}

impl Model {
    fn new() -> Self {
        Self {
            session: greeted(),
            told: Vec::new(),
            threads: ["thread_a", "thread_b"].map(ThreadId::from).into(),
            refused_with: None,
            closed: None,
        }
    }

    fn tell(&mut self, frame: &ControlFrame) {
        if let ControlFrame::Error(error) = frame {
            self.refused_with = Some(error.error_code);
        }
        let value = serde_json::to_value(frame).expect("a frame is JSON");
        let cause = value["correlation_id"].as_str().map(MessageId::from);
        self.told.push(Told::Control(frame.frame_type(), cause));
    }

    fn position(thread_id: &ThreadId) -> ThreadPosition {
        ThreadPosition {
            thread_id: thread_id.clone(),
            epoch: Epoch::generate(),
            recovered: false,
            oldest_seq: 1,
            last_seq: 0,
        }
    }

    fn carry_out(&mut self, task: Task, outage: Option<ErrorCode>) {
        let Task {
            cause,
            makes_thread,
            request,
            ..
        } = task;
        if let (Some(thread), None) = (makes_thread, outage) {
            self.threads.insert(thread);
            self.session.offer_taken();
        }
        let result = match outage {
            Some(code) => Err(ApiError::new(code)),
            None => self.world(&cause, request),
        };
        let conclusion = self.session.conclude(cause, result);
        self.conclude(&conclusion);
    }

    fn conclude(&mut self, conclusion: &Conclusion) {
        if let Some(answer) = &conclusion.answer {
            self.tell(answer);
        }
        self.closed = self.closed.or(conclusion.close.map(|(code, _)| code));
    }

    fn world(&mut self, cause: &MessageId, request: Request) -> Result<Reply, ApiError> {
        if let Some(thread) = request.thread()
            && !self.threads.contains(thread)
        {
            return Err(ErrorCode::ThreadNotFound.into());
        }
        Ok(match request {
            Request::Nothing | Request::Confirm { .. } | Request::Typing { .. } => Reply::Quiet,
            Request::Pong => Reply::Pong,
            Request::HeartbeatAck => Reply::HeartbeatAck,
            Request::Leave => Reply::Left,
            Request::Authenticate { .. } => Reply::Authenticated {
                expires_at: Timestamp::now(),
            },
            Request::Acknowledge { own, .. } => {
                self.tell(&answer::handshake_complete(vec![Self::position(&own)], cause.clone()));
                self.told.push(Told::Event);
                Reply::Acknowledged { own }
            }
            Request::SwitchThread { thread_id, .. } => {
                self.tell(&answer::thread_switched(Self::position(&thread_id), cause.clone()));
                self.told.push(Told::Event);
                Reply::Switched { own: thread_id }
            }
            Request::StartRun(StartRun { thread_id, .. }) | Request::StartExample { thread_id, .. } => {
                let frame = answer::message_received(cause.clone(), RunId::generate(), thread_id, Timestamp::now());
                self.tell(&frame);
                self.told.push(Told::Event);
                Reply::Accepted
            }
            Request::StopRun { .. } => {
                // `agent_stopped` is the answer: an event with the message's id.
                self.told.push(Told::Control("agent_stopped", Some(cause.clone())));
                Reply::Quiet
            }
            Request::Broadcast { content } => {
                self.tell(&answer::broadcast(content, "connection_1".into(), cause.clone()));
                Reply::Quiet
            }
            Request::CreateThread { .. } => {
                self.threads.insert("thread_made".into());
                created("thread_made", cause.as_str())
            }
            Request::DeleteThread { thread_id } => {
                self.threads.remove(&thread_id);
                Reply::Deleted { thread_id }
            }
            Request::RenameThread { thread_id, title } => Reply::Renamed { thread_id, title },
            Request::RunStates { .. } => Reply::Runs(Vec::new()),
            Request::ListThreads { .. } => Reply::Threads(ThreadPage {
                threads: Vec::new(),
                next_cursor: None,
            }),
            Request::History { thread_id, .. } => Reply::History(ThreadHistory {
                thread_id,
                events: Vec::new(),
                messages: Vec::new(),
                has_more: false,
                correlation_id: None,
                timestamp: Timestamp::now(),
            }),
            Request::Context { thread_id } => Reply::Context {
                thread_id,
                context: Map::new(),
            },
            Request::Quality { run_id } => Reply::Quality {
                run_id,
                metrics: Map::new(),
            },
            Request::Validated { content_type, issues } => Reply::Validated { content_type, issues },
            Request::Usage { period } => Reply::Usage {
                period,
                runs: 0,
                usage: RunUsage::default(),
            },
        })
    }

    fn send(&mut self, text: &str, place: Place, outage: Option<ErrorCode>) {
        match self.session.receive(text, place) {
            Ok(Received::Task(task)) => self.carry_out(task, outage),
            Ok(Received::Batch(messages)) => {
                for message in messages {
                    self.send(message.get(), Place::Batch, outage);
                }
            }
            Err(conclusion) => self.conclude(&conclusion),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Message(ClientType, Option<&'static str>),
    Nonsense(&'static str),
}

fn steps() -> impl Strategy<Value = Vec<(Step, Option<ErrorCode>)>> {
    let thread = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(vec!["thread_a", "thread_b", "thread_offered", "thread_foreign"]).prop_map(Some),
    ];
    let message =
        (prop::sample::select(ClientType::ALL), thread).prop_map(|(kind, thread)| Step::Message(kind, thread));
    let acknowledgement = Just(Step::Message(ClientType::HandshakeAcknowledged, None));
    let nonsense = prop::sample::select(vec![
        "",
        "[",
        "[]",
        "null",
        r#"{"type": 7}"#,
        r#"{"type": "x"}"#,
        r#"{"type": "auth"}"#,
    ]);
    let step = prop_oneof![8 => message, 1 => acknowledgement, 2 => nonsense.prop_map(Step::Nonsense)];
    let outage = prop_oneof![
        4 => Just(None),
        1 => prop::sample::select(vec![ErrorCode::DatabaseUnavailable, ErrorCode::RateLimited]).prop_map(Some),
    ];
    prop::collection::vec((step, outage), 0..40)
}

/// Messages that are told nothing when all goes well (contract §8).
fn needs_no_answer(client_type: ClientType) -> bool {
    matches!(
        client_type,
        ClientType::Pong
            | ClientType::HeartbeatAck
            | ClientType::Confirmation
            | ClientType::TypingStarted
            | ClientType::TypingStopped
            | ClientType::Disconnect
    )
}

proptest! {
    #[test]
    fn no_order_of_messages_brings_an_event_before_the_handshake_or_another_number_of_answers(steps in steps()) {
        let mut model = Model::new();
        for (number, (step, outage)) in steps.into_iter().enumerate() {
            let before = model.told.len();
            let was_open = model.session.is_open();
            let (text, cause, silent) = match step {
                Step::Nonsense(text) => (text.to_owned(), None, false),
                Step::Message(client_type, thread) => {
                    let mut message = message_of(client_type);
                    let cause = format!("m-{number}");
                    message["message_id"] = json!(cause);
                    if client_type == ClientType::Batch {
                        message["messages"] = json!([{"type": "ping", "message_id": cause}]);
                    }
                    if let Some(thread) = thread {
                        message["thread_id"] = json!(thread);
                    }
                    (message.to_string(), Some(MessageId::from(cause)), needs_no_answer(client_type))
                }
            };
            model.send(&text, Place::Frame, outage);

            let told = &model.told[before..];
            let answers: Vec<_> = told.iter().filter(|frame| matches!(frame, Told::Control(..))).collect();
            let errors = answers.iter().filter(|frame| matches!(frame, Told::Control("error", _))).count();
            prop_assert!(answers.len() == 1 || (silent && answers.is_empty()), "{text}: {answers:?}");
            prop_assert!(errors == 1 || !silent || answers.is_empty());
            for answer in answers {
                let Told::Control(_, told_cause) = answer else { continue };
                prop_assert_eq!(told_cause, &cause);
            }
            if !was_open && told.contains(&Told::Event) {
                let complete = told.iter().position(|frame| matches!(frame, Told::Control("handshake_complete", _)));
                let event = told.iter().position(|frame| *frame == Told::Event);
                prop_assert!(complete < event, "{told:?}");
            }
        }
    }
}
