//! `batch`: each message is answered as if it were sent alone, in order.

use kingsguard_protocol::client::Ping;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::messages::answer_name;

/// The control frames that come up to the answer of a `ping` sent afterwards: cause and name of each.
async fn answers(chat: &mut Chat, batch: &Value) -> Vec<(String, String)> {
    chat.send_json(batch).await;
    let marker = chat.send(Ping {}).await;
    let mut answers = Vec::new();
    loop {
        let frame = chat.expect("control frame", |frame| frame.control().is_some()).await;
        let cause = frame.json()["correlation_id"].as_str().unwrap_or_default().to_owned();
        if cause == marker.as_str() {
            return answers;
        }
        answers.push((cause, answer_name(frame.control().expect("just matched"))));
    }
}

fn rows(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(cause, name)| ((*cause).to_owned(), (*name).to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_answered_in_order_and_a_fault_spoils_no_other() {
    TestContext::wire(case!("MSG-1", "MSG-2", "MSG-4", "ERR-2"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let batch = json!({ "type": "batch", "message_id": "message_batch", "messages": [
                { "type": "heartbeat", "message_id": "m1" },
                { "type": "nonsense", "message_id": "m2" },
                { "type": "user_message", "message_id": "m3", "payload": { "content": 7 } },
                { "type": "list_threads", "message_id": "m4" },
                { "type": "batch", "message_id": "m5", "messages": [{ "type": "ping", "message_id": "inner" }] },
                { "type": "get_thread_history", "message_id": "m6", "thread_id": "nowhere" },
                7,
                { "type": "pong", "message_id": "m8" },
                { "type": "ping", "message_id": "m9" },
            ]});
            let came = answers(&mut chat, &batch).await;
            assert_eq!(
                came,
                rows(&[
                    ("m1", "heartbeat_ack"),
                    ("m2", "UNKNOWN_MESSAGE_TYPE"),
                    ("m3", "VALIDATION_ERROR"),
                    ("m4", "thread_list"),
                    ("m5", "VALIDATION_ERROR"),
                    ("m6", "THREAD_NOT_FOUND"),
                    ("", "VALIDATION_ERROR"),
                    ("m9", "pong"),
                ])
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pointers_in_a_batch_are_relative_to_the_message() {
    TestContext::wire(case!("MSG-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            chat.send_json(&json!({ "type": "batch", "payload": { "messages": [
                { "type": "ping" },
                { "type": "rename_thread", "message_id": "m1", "thread_id": "x", "title": 7 },
                { "type": "rename_thread", "message_id": "m2", "payload": { "thread_id": "x", "title": 7 } },
            ]}}))
            .await;
            let first = chat.refusal_of(&"m1".into(), ErrorCode::ValidationError).await;
            let second = chat.refusal_of(&"m2".into(), ErrorCode::ValidationError).await;
            assert_eq!(
                (&first.details["pointer"], &second.details["pointer"]),
                (&json!("/title"), &json!("/payload/title"))
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_holds_one_to_fifty_messages() {
    TestContext::wire(case!("MSG-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let of = |message_id: &str, count: usize| {
                let messages: Vec<Value> = (0..count)
                    .map(|n| json!({ "type": "ping", "message_id": format!("m{n}") }))
                    .collect();
                json!({ "type": "batch", "message_id": message_id, "messages": messages })
            };
            let fifty: Vec<(String, String)> = (0..50).map(|n| (format!("m{n}"), "pong".to_owned())).collect();
            assert_eq!(answers(&mut chat, &of("message_fifty", 50)).await, fifty);
            for (message_id, count) in [("message_none", 0), ("message_many", 51)] {
                chat.send_json(&of(message_id, count)).await;
                let error = chat.refusal_of(&message_id.into(), ErrorCode::ValidationError).await;
                assert_eq!(error.details["pointer"], "/messages", "{count} messages");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_message_of_a_batch_changes_holds_for_the_next() {
    TestContext::wire(case!("MSG-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            chat.send_json(&json!({ "type": "batch", "messages": [
                { "type": "create_thread", "message_id": "m1", "title": "made in a batch" },
                { "type": "user_message", "message_id": "m2", "content": "What did I spend?" },
            ]}))
            .await;
            let created = match chat.answer_to(&"m1".into()).await {
                ControlFrame::ThreadCreated(created) => created.thread_id,
                other => panic!("expected thread_created, but {other:?}"),
            };
            let accepted = chat.accepted(&"m2".into()).await;
            assert_eq!(accepted.thread_id, created);
            let run = chat.until_completed(&accepted.run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_in_a_batch_ends_it() {
    TestContext::wire(case!("MSG-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            chat.send_json(&json!({ "type": "batch", "messages": [
                { "type": "ping", "message_id": "m1" },
                { "type": "disconnect" },
            ]}))
            .await;
            assert_eq!(chat.answer_to(&"m1".into()).await.frame_type(), "pong");
            assert_eq!(chat.expect_closed().await, Some(1_000));
        })
        .await;
}
