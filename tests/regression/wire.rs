//! Tests that need nothing but a target's address.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use kingsguard_protocol::Timestamp;
use kingsguard_protocol::client::{Ping, StopAgent};
use kingsguard_testkit::prelude::*;
use kingsguard_testkit::recording::{Direction, FrameKind};
use pretty_assertions::assert_eq;

/// Fault of the suite that was replaced: events were recorded where they were sent, with the time of the assertion, and
/// asserted as received.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_carry_the_time_at_which_they_were_made() {
    TestContext::wire(case!("EVT-7", "ORD-7"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let asked = Timestamp::now();
            let run = chat.ask("How can I spend less?").await;
            let recording = ctx.recording();
            for frame in run.frames() {
                let made = frame.event().expect("a run holds events").header.timestamp;
                let entry = &recording.connections[0].entries[frame.index];
                assert_eq!((entry.direction, entry.kind), (Direction::Received, FrameKind::Text));
                assert_eq!(entry.bytes, frame.bytes);
                let here = Timestamp::from(entry.wall);
                assert!(
                    (asked..=here).contains(&made),
                    "made at {made}, asked at {asked}, here at {here}"
                );
            }
        })
        .await;
}

/// Fault of the suite that was replaced: when a tool failed, its end was never told, and nobody noticed because
/// exceptions were swallowed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_tool_is_told_to_its_end_and_the_run_goes_on() {
    TestContext::wire(case!("ORD-3", "EVT-4", "ORD-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask(&ctx.failing_tool_prompt()).await;
            let tools = run.tools();
            let failed: Vec<_> = tools
                .iter()
                .filter_map(|tool| tool.completed.as_ref())
                .filter(|end| !end.success)
                .collect();
            assert!(!failed.is_empty(), "the prompt makes a tool fail: {:?}", run.types());
            for end in &failed {
                assert_eq!((end.status, end.results.as_ref()), (ToolStatus::Error, None));
                assert!(end.error.as_ref().is_some_and(|error| !error.message.trim().is_empty()));
            }
            assert!(tools.iter().all(|tool| tool.completed.is_some()), "{tools:#?}");
            assert_eq!(run.completed().status, RunStatus::Completed);
        })
        .await;
}

/// Fault of the suite that was replaced: a stopped run left tools open for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_closes_its_tools_before_it_ends() {
    TestContext::wire(case!("ORD-3", "ORD-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let message_id = chat.say(&ctx.long_run_prompt(20)).await;
            let run_id = chat.accepted(&message_id).await.run_id;
            let opened = chat
                .expect_event("the tool", |event| matches!(event.body, EventBody::ToolExecuting(_)))
                .await;
            let EventBody::ToolExecuting(opened) = opened.body else {
                unreachable!("just matched")
            };
            chat.send(StopAgent {
                run_id: run_id.clone(),
                reason: None,
            })
            .await;
            let run = chat.until_completed(&run_id).await;
            let ends: Vec<(ToolStatus, bool)> = run
                .events()
                .into_iter()
                .filter_map(|event| match &event.body {
                    EventBody::ToolCompleted(end) if end.execution_id == opened.execution_id => {
                        Some((end.status, end.success))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(ends, [(ToolStatus::Cancelled, false)]);
            assert_eq!(run.completed().status, RunStatus::Cancelled);
        })
        .await;
}

/// Fault of the suite that was replaced: four shapes of events, and validators that accepted all of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_wraps_its_fields() {
    TestContext::wire(case!("EVT-7"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for frame in chat.ask("How can I spend less?").await.frames() {
                let event = frame.json();
                for wrapper in ["payload", "data", "event", "body", "content_type"] {
                    assert!(event.get(wrapper).is_none(), "`{wrapper}` in {event}");
                }
                assert!(
                    event["type"].is_string() && event.get("event_type").is_none(),
                    "{event}"
                );
            }
        })
        .await;
}

/// Fault class: each connection makes its own text of an event, with another order of fields or another time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_connections_and_a_replay_see_the_same_bytes() {
    TestContext::wire(case!("SEQ-2", "SEQ-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut one = ada.connect().await;
            let mut two = ada.open().await;
            two.handshake_with(Some(&one.thread_id()), Vec::new()).await;
            let run = one.ask("How can I spend less?").await;
            let seen = two.until_completed(run.run_id()).await;
            let epoch = one.positions()[&one.thread_id()].0.clone();
            let mut three = ada.open().await;
            let from_start = ThreadResume {
                thread_id: one.thread_id(),
                point: ResumePoint { epoch, after: 0 },
            };
            three.handshake_with(Some(&one.thread_id()), vec![from_start]).await;
            let replayed = three.until_completed(run.run_id()).await;
            let bytes = |run: &RunView| {
                run.frames()
                    .iter()
                    .map(|frame| frame.text().to_owned())
                    .collect::<Vec<_>>()
            };
            assert_eq!(bytes(&seen), bytes(&run));
            assert_eq!(bytes(&replayed), bytes(&run));
        })
        .await;
}

/// Fault class: what a server does not know, it ignores, and the client waits for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_misspelt_type_is_not_met_with_silence() {
    TestContext::wire(case!("MSG-2", "ERR-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let soon = Duration::from_secs(5);
            for misspelt in [
                "user_mesage",
                "usermessage",
                "User_Message",
                "agent_start",
                "stop",
                "hello",
            ] {
                chat.send_json(&json!({ "type": misspelt, "message_id": misspelt, "content": "Hello?" }))
                    .await;
                let frame = chat
                    .wait_for(soon, |frame| frame.json()["correlation_id"] == misspelt)
                    .await;
                let error = frame.as_ref().and_then(Frame::error).expect("an error soon");
                assert_eq!(error.error_code, ErrorCode::UnknownMessageType);
            }
        })
        .await;
}

/// Fault class: a socket is accepted first and its credential judged afterwards, so that a stranger holds a connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_never_gets_as_far_as_a_web_socket() {
    TestContext::wire(case!("AUTH-1", "HTTP-1"))
        .run(async |ctx| {
            let nonsense = ConnectOptions::default().with_protocol("jwt.nonsense");
            for (options, code) in [
                (ConnectOptions::default(), ErrorCode::AuthRequired),
                (nonsense, ErrorCode::AuthTokenInvalid),
            ] {
                let refused = ctx.refused(options, code).await;
                let body: Value = serde_json::from_slice(&refused.body).expect("a JSON error body");
                assert_eq!(body["recovery"], "reauthenticate");
            }
        })
        .await;
}

/// Fault class: two requests look whether an account is there, and both make it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_the_same_time_make_one_account() {
    TestContext::wire(case!("HTTP-1", "ERR-1"))
        .run(async |ctx| {
            let body = json!({
                "email": format!("race.{}@example.test", uuid::Uuid::now_v7().simple()),
                "password": "correct horse battery",
            });
            let http = ctx.http();
            let answers = join_all((0..6).map(|_| http.post("/auth/register", &body))).await;
            let mut statuses: Vec<u16> = answers.iter().map(Answer::status).collect();
            statuses.sort_unstable();
            assert_eq!(statuses, [201, 409, 409, 409, 409, 409]);
        })
        .await;
}

/// Our fault once: the place of a peer that was reset was freed by its own task, which under load ran after the one that
/// judged the next connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_connection_does_not_count_against_the_next() {
    TestContext::wire(case!("CON-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chats = Vec::new();
            for _ in 0..10 {
                chats.push(ada.connect().await);
            }
            let mut connections = BTreeSet::new();
            for _ in 0..20 {
                chats.remove(0).reset_connection().await;
                let chat = ada.connect().await;
                connections.insert(chat.established().connection_id.clone());
                chats.push(chat);
            }
            assert_eq!(connections.len(), 20);
        })
        .await;
}

/// Our fault once: the WebSocket library waits for the whole of what is already known to be refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_is_a_breach_is_not_waited_out() {
    TestContext::wire(case!("CON-1", "CON-3"))
        .run(async |ctx| {
            ctx.needs(Capability::EarlyRefusal);
            let ada = ctx.user("ada").await;
            for (frame, code) in [
                (RawFrame::new(2, "x").not_final(), CloseCode::Unsupported),
                (RawFrame::new(2, "").with_stated_length(1_000), CloseCode::Unsupported),
                (RawFrame::new(9, "").with_stated_length(65_536), CloseCode::Protocol),
                (RawFrame::new(3, "").with_stated_length(1_000), CloseCode::Protocol),
            ] {
                let mut socket = ctx.raw().await;
                socket.upgrade(&ada.options()).await;
                socket.read_until("handshake_response").await;
                socket.send(&frame).await.expect("the connection is open");
                socket.expect_close(code).await;
            }
        })
        .await;
}

/// Fault class: a fault in one message of a connection ends or stalls the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_survives_faulty_messages_beside_it() {
    TestContext::wire(case!("ERR-2", "ORD-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let message_id = chat.say("How can I spend less?").await;
            for text in ["{", "[]", r#"{"type":"nonsense"}"#, r#"{"type":"user_message"}"#] {
                chat.send_text(text).await;
            }
            let run_id = chat.accepted(&message_id).await.run_id;
            let run = chat.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            let errors = [
                ErrorCode::JsonParseError,
                ErrorCode::ValidationError,
                ErrorCode::UnknownMessageType,
                ErrorCode::ValidationError,
            ];
            for code in errors {
                chat.expect_error(code).await;
            }
            let message_id = chat.send(Ping {}).await;
            assert_eq!(chat.answer_to(&message_id).await.frame_type(), "pong");
        })
        .await;
}
