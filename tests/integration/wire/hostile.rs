//! Hostile input (SEC-1): refused with a clear error, or stored and returned verbatim; never executed, never a crash.

use kingsguard_protocol::client::{CreateThread, Ping, UserMessage};
use kingsguard_protocol::control::ThreadHistory;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use serde_json::value::RawValue;

covers!("BRG-1");

/// The backend still answers this connection.
pub(super) async fn is_alive(chat: &mut Chat) {
    let message_id = chat.send(Ping {}).await;
    assert_eq!(chat.answer_to(&message_id).await.frame_type(), "pong");
}

const HOSTILE_TEXTS: [&str; 14] = [
    "'; DROP TABLE threads; --",
    "\" OR \"1\"=\"1",
    "<script>alert(document.cookie)</script>",
    "<img src=x onerror=alert(1)>",
    "../../../../etc/passwd",
    "..\\..\\windows\\system32",
    "${jndi:ldap://127.0.0.1/a}",
    "{{7*7}} {% raw %} <%= 7*7 %>",
    "$(rm -rf /) `id` | cat ; &&",
    "%00%0a%0d%2e%2e%2f",
    "👩‍👩‍👧‍👦🏳️‍🌈 e\u{301} \u{202e}desrever\u{202c} \u{feff}\u{200b}",
    "line\r\nbreak\ttab \u{1}\u{1f}\u{7f}\u{85}\u{2028}",
    "NULL null undefined NaN true [] {} -0 1e999",
    "{\"type\":\"disconnect\"}",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_texts_are_stored_and_returned_verbatim() {
    TestContext::wire(case!("SEC-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            for text in HOSTILE_TEXTS {
                let metadata = RawValue::from_string(json!({ text: text }).to_string()).expect("it is JSON");
                let body = CreateThread {
                    title: Some(text.to_owned()),
                    metadata: Some(metadata.clone()),
                };
                let message_id = chat.send(body).await;
                let created = match chat.answer_to(&message_id).await {
                    ControlFrame::ThreadCreated(created) => created,
                    other => panic!("{text:?} is no title: {other:?}"),
                };
                assert_eq!(created.title.as_deref(), Some(text));
                assert_eq!(created.metadata.get(), metadata.get());
                let stored = ada
                    .http()
                    .get(&format!("/api/threads/{}", created.thread_id))
                    .await
                    .json();
                assert_eq!(
                    (&stored["title"], &stored["metadata"]),
                    (&json!(text), &json!({ text: text }))
                );
            }
            // All of them as one content, through an agent and into the history.
            let content = HOSTILE_TEXTS.join("\n");
            let run = chat.ask(&content).await;
            assert_eq!(run.started().context.input_chars, content.chars().count() as u64);
            let path = format!("/api/threads/{}/messages", chat.thread_id());
            let history: ThreadHistory = ada.http().get(&path).await.expect_status(200).parse();
            assert_eq!(history.messages[0].content, content);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_comes_back_as_it_was_integers_exactly() {
    TestContext::wire(case!("SEC-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let metadata = "{\"big\":123456789012345678901234567890,\"u64\":18446744073709551615,\
                            \"i64\":-9223372036854775808,\"beyond\":9007199254740993,\"real\":0.1,\
                            \"exponent\":1.5e300,\"minus_zero\":-0,\"nested\":{\"list\":[1,null,true,\"\\u00e4\"]}}";
            let message = UserMessage {
                content: "What did I spend?".into(),
                references: None,
                metadata: Some(RawValue::from_string(metadata.to_owned()).expect("it is JSON")),
            };
            let message_id = chat.send(message).await;
            let accepted = chat.accepted(&message_id).await;
            chat.until_completed(&accepted.run_id).await;
            let path = format!("/api/threads/{}/messages", accepted.thread_id);
            let answer = ada.http().get(&path).await.expect_status(200);
            let history: ThreadHistory = answer.parse();
            let said = history
                .messages
                .iter()
                .find(|said| said.message_id == message_id)
                .expect("it is stored");
            for integer in [
                "123456789012345678901234567890",
                "18446744073709551615",
                "-9223372036854775808",
                "9007199254740993",
            ] {
                assert!(
                    said.metadata.get().contains(integer),
                    "{integer} in {}",
                    said.metadata.get()
                );
            }
            let numbers = |text: &str| serde_json::from_str::<Value>(text).expect("it is JSON");
            assert_eq!(numbers(said.metadata.get()), numbers(metadata));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deep_nesting_is_refused() {
    TestContext::wire(case!("SEC-1", "MSG-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
            for text in [
                format!(
                    "{{\"type\":\"user_message\",\"content\":\"x\",\"metadata\":{}}}",
                    deep("{\"a\":", "}")
                ),
                format!(
                    "{{\"type\":\"user_message\",\"content\":\"x\",\"references\":{}}}",
                    deep("[", "]")
                ),
                format!("{{\"type\":\"ping\",\"unknown\":{}}}", deep("[", "]")),
                deep("[", "]"),
            ] {
                chat.send_text(&text).await;
                chat.expect_error(ErrorCode::ValidationError).await;
            }
            chat.send_text(&"[".repeat(100_000)).await;
            let error = chat.expect("an error", |frame| frame.error().is_some()).await;
            let code = error.error().expect("just matched").error_code;
            assert!(
                matches!(code, ErrorCode::ValidationError | ErrorCode::JsonParseError),
                "{code}"
            );
            is_alive(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicate_keys_and_lone_surrogates_are_refused() {
    TestContext::wire(case!("SEC-1", "MSG-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for text in [
                r#"{"type":"ping","type":"disconnect"}"#,
                r#"{"type":"user_message","content":"a","content":"b"}"#,
                r#"{"type":"user_message","payload":{"content":"a","content":"b"}}"#,
                r#"{"type":"user_message","content":"a","metadata":{"a":1,"a":2}}"#,
                r#"{"type":"user_message","content":"a","metadata":{"a":1,"\u0061":2}}"#,
                r#"{"type":"user_message","content":"\ud800"}"#,
                r#"{"type":"user_message","content":"\udc00\ud800"}"#,
                r#"{"type":"user_message","content":"a","metadata":{"a":"\ud83d"}}"#,
                r#"{"type":"user_message","content":"a","metadata":{"\ud83d":1}}"#,
            ] {
                chat.send_text(text).await;
                let error = chat.expect_error(ErrorCode::ValidationError).await;
                assert!(error.details["pointer"].is_string(), "{text}: {error:?}");
            }
            // A pair of surrogates is a character.
            chat.send_text(r#"{"type":"ping","message_id":"\ud83d\ude00"}"#).await;
            assert_eq!(chat.answer_to(&"😀".into()).await.frame_type(), "pong");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nul_is_refused_or_returned_verbatim() {
    TestContext::wire(case!("SEC-1", "ERR-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let message_id = chat
                .send(CreateThread {
                    title: Some("a\0b".into()),
                    metadata: None,
                })
                .await;
            match chat.answer_to(&message_id).await {
                ControlFrame::Error(error) => {
                    assert_eq!(error.error_code, ErrorCode::ValidationError);
                    assert_eq!(error.details["pointer"], "/title");
                }
                ControlFrame::ThreadCreated(created) => assert_eq!(created.title.as_deref(), Some("a\0b")),
                other => panic!("expected a refusal or the title, but {other:?}"),
            }
            is_alive(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_10_kb_are_refused_clearly() {
    TestContext::wire(case!("SEC-1", "ERR-1", "ISO-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let long = "x".repeat(10_240);
            for (message, code) in [
                (
                    json!({ "type": "ping", "message_id": long }),
                    ErrorCode::ValidationError,
                ),
                (
                    json!({ "type": "user_message", "thread_id": long, "content": "x" }),
                    ErrorCode::ThreadNotFound,
                ),
                (json!({ "type": "stop_agent", "run_id": long }), ErrorCode::RunNotFound),
                (
                    json!({ "type": "agent_status_request", "run_id": long }),
                    ErrorCode::RunNotFound,
                ),
                (json!({ "type": long }), ErrorCode::UnknownMessageType),
                (
                    json!({ "type": "start_agent", "agent_name": long, "user_request": "x" }),
                    ErrorCode::AgentNotFound,
                ),
            ] {
                chat.send_json(&message).await;
                let frame = chat.expect("an error", |frame| frame.error().is_some()).await;
                assert_eq!(frame.error().expect("just matched").error_code, code);
                assert!(
                    frame.bytes.len() < 2_048,
                    "an error repeats at most a part: {} bytes",
                    frame.bytes.len()
                );
            }
            let _quiet = chat
                .send_json(&json!({ "type": "confirmation", "event_id": long, "status": "confirmed" }))
                .await;
            is_alive(&mut chat).await;
            let path = format!("/api/threads/{long}");
            let _unknown = ada.http().get(&path).await.expect_error(ErrorCode::ThreadNotFound);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_numbers_are_refused_or_mean_what_they_say() {
    TestContext::wire(case!("SEC-1", "MSG-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            chat.send_text(r#"{"type":"list_threads","limit":99999999999999999999999999}"#)
                .await;
            assert_eq!(
                chat.expect_error(ErrorCode::ValidationError).await.details["pointer"],
                "/limit"
            );
            chat.send_text(r#"{"type":"list_threads","limit":1e2}"#).await;
            let frame = chat.next_text().await; // 100, or refused as written
            let is_fault = frame
                .error()
                .is_some_and(|error| error.error_code == ErrorCode::ValidationError);
            assert!(is_fault || frame.json()["type"] == "thread_list", "{}", frame.text());
            let before = r#"{"type":"get_thread_history","message_id":"m","before":18446744073709551616}"#;
            chat.send_text(before).await;
            let answer = chat.answer_to(&"m".into()).await;
            let name = crate::messages::answer_name(&answer);
            assert!(name == "thread_history" || name == "VALIDATION_ERROR", "{answer:?}");
            is_alive(&mut chat).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_4_mib_of_keys_is_answered_and_delays_nobody() {
    TestContext::wire(case!("SEC-1", "SEC-3", "ERR-2"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut hers, mut his) = (ada.connect().await, bob.connect().await);
            let keys: Vec<String> = (0..200_000).map(|n| format!("\"k{n}\":{n}")).collect();
            let text = format!(
                "{{\"type\":\"ping\",\"message_id\":\"m\",\"unknown\":{{{}}}}}",
                keys.join(",")
            );
            hers.send_text(&text).await;
            let began = std::time::Instant::now();
            is_alive(&mut his).await;
            ctx.figure(
                "answer_beside_a_large_frame_ms",
                began.elapsed().as_secs_f64() * 1_000.0,
                "ms",
            );
            assert_eq!(hers.answer_to(&"m".into()).await.frame_type(), "pong");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_error_shows_how_the_backend_is_made() {
    TestContext::wire(case!("SEC-2", "ERR-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let mut said = String::new();
            for text in [
                "{",
                r#"{"type":"nonsense"}"#,
                r#"{"type":"list_threads","cursor":"' OR 1=1"}"#,
                r#"{"type":"get_thread_history","thread_id":"'; SELECT pg_sleep(1)"}"#,
                r#"{"type":"auth","token":"a.b.c"}"#,
                r#"{"type":"stop_agent","run_id":"../../x"}"#,
            ] {
                chat.send_text(text).await;
                let frame = chat.expect("an error", |frame| frame.error().is_some()).await;
                said.push_str(&frame.error().expect("just matched").message);
            }
            for path in [
                "/api/threads/%00",
                "/api/threads?limit=x",
                "/api/threads?cursor='",
                "/nowhere/../x",
                "/api/runs/%2e%2e",
            ] {
                said.push_str(&ada.http().get(path).await.text());
            }
            let said = said.to_lowercase();
            for word in [
                "select ",
                "sqlx",
                "postgres",
                "redis",
                "panicked",
                ".rs:",
                "/src/",
                "127.0.0.1",
                "serde",
                "backtrace",
                "tokio",
            ] {
                assert!(!said.contains(word), "an error says {word:?}: {said}");
            }
        })
        .await;
}
