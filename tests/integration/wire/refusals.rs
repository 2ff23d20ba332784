//! What is refused, with which code and where the fault is (MSG-2, MSG-3, MSG-4, ERR-1).

use kingsguard_protocol::Recovery;
use kingsguard_protocol::client::Ping;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("CONN");

/// Claims that nothing but what was asked for came, and that the connection stays.
async fn stays_and_said_nothing_more(chat: &mut Chat) {
    let message_id = chat.send(Ping {}).await;
    assert_eq!(chat.next_text().await.json()["correlation_id"], json!(message_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_type_is_refused_by_its_name() {
    TestContext::wire(case!("MSG-2", "ERR-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for name in [
                "user_mesage",
                "USER_MESSAGE",
                "",
                " ping",
                "agent_started",
                "message_received",
                "💥",
                "drop table",
            ] {
                chat.send_json(&json!({ "type": name, "message_id": "message_odd", "content": "x" }))
                    .await;
                let error = chat
                    .refusal_of(&"message_odd".into(), ErrorCode::UnknownMessageType)
                    .await;
                assert_eq!(error.details["message_type"], name);
                assert_eq!(error.recovery, Recovery::FixRequest);
            }
            stays_and_said_nothing_more(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_that_is_no_json_is_refused_with_line_and_column() {
    TestContext::wire(case!("MSG-3", "ERR-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for (text, line, column) in [
                ("x", 1, 1),
                ("{\"type\": ping}", 1, 10),
                ("{\n  \"type\": \"ping\",\n  oops\n}", 3, 3),
                ("{\"type\":\"ping\"} {", 1, 17),
                ("{'type': 'ping'}", 1, 2),
                ("{\"type\": 01}", 1, 11),
                ("{\"type\": \"\\x\"}", 1, 12),
            ] {
                chat.send_text(text).await;
                let error = chat.expect_error(ErrorCode::JsonParseError).await;
                let place = (error.details["line"].as_u64(), error.details["column"].as_u64());
                assert_eq!(place, (Some(line), Some(column)), "{text:?}");
                assert_eq!(error.correlation_id, None);
            }
            // Where a text breaks off there is no character to point at; the line is certain.
            for (text, line) in [("", 1), ("{", 1), ("{\"type\":\"ping\",\n", 2), ("\"", 1), ("[1,", 1)] {
                chat.send_text(text).await;
                let error = chat.expect_error(ErrorCode::JsonParseError).await;
                assert_eq!(error.details["line"].as_u64(), Some(line), "{text:?}");
                assert!(error.details["column"].is_u64(), "{text:?}");
            }
            stays_and_said_nothing_more(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_envelope_is_refused_at_its_pointer() {
    TestContext::wire(case!("MSG-4", "ERR-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let long = "i".repeat(129);
            for (message, pointer) in [
                (json!([]), ""),
                (json!(null), ""),
                (json!("ping"), ""),
                (json!(7), ""),
                (json!({}), "/type"),
                (json!({ "type": null }), "/type"),
                (json!({ "type": 7 }), "/type"),
                (json!({ "type": ["ping"] }), "/type"),
                (json!({ "payload": { "type": "ping" } }), "/type"),
                (json!({ "type": "ping", "payload": [] }), "/payload"),
                (json!({ "type": "ping", "payload": "x" }), "/payload"),
                (json!({ "type": "ping", "message_id": 7 }), "/message_id"),
                (json!({ "type": "ping", "message_id": "" }), "/message_id"),
                (json!({ "type": "ping", "message_id": long }), "/message_id"),
                (
                    json!({ "type": "ping", "payload": { "message_id": {} } }),
                    "/payload/message_id",
                ),
                (json!({ "type": "ping", "thread_id": 7 }), "/thread_id"),
                (
                    json!({ "type": "ping", "payload": { "thread_id": [] } }),
                    "/payload/thread_id",
                ),
                (json!({ "type": "ping", "timestamp": 1_700_000_000 }), "/timestamp"),
                (json!({ "type": "ping", "timestamp": "yesterday" }), "/timestamp"),
                (
                    json!({ "type": "ping", "timestamp": "2026-02-30T08:15:30Z" }),
                    "/timestamp",
                ),
                // The envelope is judged before the type.
                (json!({ "type": "nonsense", "message_id": 7 }), "/message_id"),
            ] {
                chat.send_json(&message).await;
                let error = chat.expect_error(ErrorCode::ValidationError).await;
                let came = error.details["pointer"]
                    .as_str()
                    .map(|came| came.replacen("/payload/type", "/type", 1));
                assert_eq!(came.as_deref(), Some(pointer), "{message}");
                assert!(
                    error.details["expected"].as_str().is_some_and(|text| !text.is_empty()),
                    "{message}"
                );
            }
            stays_and_said_nothing_more(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_faulty_field_is_refused_at_its_pointer_in_both_forms() {
    TestContext::wire(case!("MSG-4", "ERR-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let thread = chat.thread_id();
            let rows = [
                ("user_message", json!({}), "/content"),
                ("user_message", json!({ "content": null }), "/content"),
                ("user_message", json!({ "content": "" }), "/content"),
                ("user_message", json!({ "content": 7 }), "/content"),
                ("chat", json!({ "text": ["x"] }), "/text"),
                ("user_input", json!({ "message": {} }), "/message"),
                (
                    "user_message",
                    json!({ "content": "x", "references": {} }),
                    "/references",
                ),
                ("user_message", json!({ "content": "x", "metadata": [] }), "/metadata"),
                ("user_message", json!({ "content": "x", "metadata": "x" }), "/metadata"),
                ("start_agent", json!({ "user_request": "x" }), "/agent_name"),
                (
                    "start_agent",
                    json!({ "agent_name": 7, "user_request": "x" }),
                    "/agent_name",
                ),
                ("execute_agent", json!({ "agent_name": "triage" }), "/user_request"),
                (
                    "agent_request",
                    json!({ "agent_name": "triage", "user_request": "" }),
                    "/user_request",
                ),
                (
                    "start_agent",
                    json!({ "agent_name": "triage", "user_request": "x", "context": 7 }),
                    "/context",
                ),
                ("stop_agent", json!({}), "/run_id"),
                ("stop_agent", json!({ "run_id": 7 }), "/run_id"),
                ("agent_status_request", json!({ "run_id": [] }), "/run_id"),
                ("confirmation", json!({ "status": "confirmed" }), "/event_id"),
                ("confirmation", json!({ "event_id": "event_x" }), "/status"),
                (
                    "confirmation",
                    json!({ "event_id": "event_x", "status": "maybe" }),
                    "/status",
                ),
                ("create_thread", json!({ "title": 7 }), "/title"),
                ("create_thread", json!({ "metadata": "x" }), "/metadata"),
                ("list_threads", json!({ "limit": 0 }), "/limit"),
                ("list_threads", json!({ "limit": 101 }), "/limit"),
                ("list_threads", json!({ "limit": 1.5 }), "/limit"),
                ("list_threads", json!({ "cursor": 7 }), "/cursor"),
                ("list_threads", json!({ "cursor": "no cursor of ours" }), "/cursor"),
                ("switch_thread", json!({}), "/thread_id"),
                ("switch_thread", json!({ "thread_id": null }), "/thread_id"),
                ("switch_thread", json!({ "thread_id": thread, "resume": [] }), "/resume"),
                (
                    "switch_thread",
                    json!({ "thread_id": thread, "resume": { "after": 0 } }),
                    "/resume/epoch",
                ),
                (
                    "switch_thread",
                    json!({ "thread_id": thread, "resume": { "epoch": "x" } }),
                    "/resume/after",
                ),
                ("rename_thread", json!({ "title": "x" }), "/thread_id"),
                ("rename_thread", json!({ "thread_id": thread }), "/title"),
                ("delete_thread", json!({}), "/thread_id"),
                ("get_thread_history", json!({ "limit": 101 }), "/limit"),
                ("get_thread_history", json!({ "limit": -1 }), "/limit"),
                ("get_thread_history", json!({ "before": "7" }), "/before"),
                ("get_thread_history", json!({ "before": -7 }), "/before"),
                ("auth", json!({}), "/token"),
                ("auth", json!({ "token": 7 }), "/token"),
                ("broadcast", json!({}), "/content"),
                ("example_message", json!({ "category": "x" }), "/content"),
                ("example_message", json!({ "content": "x" }), "/category"),
                ("get_quality_metrics", json!({}), "/run_id"),
                ("validate_content", json!({ "content_type": "json" }), "/content"),
                ("validate_content", json!({ "content": "x" }), "/content_type"),
                ("get_usage", json!({ "period": "year" }), "/period"),
                ("get_usage", json!({ "period": 7 }), "/period"),
                ("batch", json!({}), "/messages"),
                ("batch", json!({ "messages": {} }), "/messages"),
                ("disconnect", json!({ "reason": 7 }), "/reason"),
            ];
            for (name, fields, pointer) in rows {
                let mut at_root = fields.clone();
                at_root["type"] = json!(name);
                at_root["message_id"] = json!("message_root");
                if !ctx.is_claimed(&at_root) {
                    continue;
                }
                chat.send_json(&at_root).await;
                let error = chat
                    .refusal_of(&"message_root".into(), ErrorCode::ValidationError)
                    .await;
                assert_eq!(error.details["pointer"], pointer, "{at_root}");
                assert!(
                    error.details["expected"].as_str().is_some_and(|text| !text.is_empty()),
                    "{at_root}"
                );

                let in_payload = json!({ "type": name, "message_id": "message_payload", "payload": fields });
                chat.send_json(&in_payload).await;
                let error = chat
                    .refusal_of(&"message_payload".into(), ErrorCode::ValidationError)
                    .await;
                let came = error.details["pointer"].as_str().unwrap_or_default();
                let written = fields.pointer(pointer).is_some();
                let is_there = came == format!("/payload{pointer}") || (!written && came == pointer);
                assert!(is_there, "{in_payload} is refused at {came}");
            }
            stays_and_said_nothing_more(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_are_judged_in_the_contracts_order() {
    TestContext::wire(case!("ERR-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let nowhere = ThreadId::generate();
            for (message, code) in [
                // type before fields
                (
                    json!({ "type": "no_such", "content": 7 }),
                    ErrorCode::UnknownMessageType,
                ),
                // fields before thing
                (
                    json!({ "type": "user_message", "thread_id": nowhere, "content": 7 }),
                    ErrorCode::ValidationError,
                ),
                // thing
                (
                    json!({ "type": "user_message", "thread_id": nowhere, "content": "x" }),
                    ErrorCode::ThreadNotFound,
                ),
                (
                    json!({ "type": "start_agent", "thread_id": nowhere, "agent_name": "triage", "user_request": "x" }),
                    ErrorCode::ThreadNotFound,
                ),
            ] {
                if !ctx.is_claimed(&message) {
                    continue;
                }
                chat.send_json(&message).await;
                chat.expect_error(code).await;
            }
            stays_and_said_nothing_more(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_frame_says_everything_that_section_9_asks_for() {
    TestContext::wire(case!("ERR-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            chat.send_json(&json!({ "type": "nonsense", "message_id": "message_x" }))
                .await;
            let frame = chat.expect("an error", |frame| frame.error().is_some()).await.json();
            let mut fields: Vec<&str> = frame
                .as_object()
                .expect("an object")
                .keys()
                .map(String::as_str)
                .collect();
            fields.sort_unstable();
            assert_eq!(
                fields,
                [
                    "correlation_id",
                    "details",
                    "error_code",
                    "message",
                    "recovery",
                    "timestamp",
                    "type"
                ]
            );
            assert_eq!(frame["type"], "error");
            assert_eq!(frame["details"], json!({ "message_type": "nonsense" }));
            assert!(
                frame["message"]
                    .as_str()
                    .is_some_and(|text| text.split_whitespace().count() >= 4),
                "{frame}"
            );
        })
        .await;
}
