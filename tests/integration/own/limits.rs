//! Limits that the test lowers, so that it reaches them (LIM-1, SEC-3).

use kingsguard_protocol::client::{CreateThread, Ping};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configured_limits_are_the_stated_ones() {
    TestContext::own(case!("LIM-1", "HSK-1"))
        .with_setting("KINGSGUARD_MESSAGE_BYTES_MAX", 20_000)
        .with_setting("KINGSGUARD_CONTENT_CHARS_MAX", 50)
        .with_setting("KINGSGUARD_CONNECTIONS_PER_USER_MAX", 2)
        .with_setting("KINGSGUARD_CONNECTIONS_PER_ADDRESS_MAX", 30)
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 61)
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 3)
        .with_setting("KINGSGUARD_FRAMES_PER_SECOND_MAX", 101)
        .with_setting("KINGSGUARD_THREADS_PER_USER_MAX", 7)
        .with_setting("KINGSGUARD_QUEUE_FRAMES_MAX", 500)
        .with_setting("KINGSGUARD_QUEUE_BYTES_MAX", 500_000)
        .with_setting("KINGSGUARD_LOGINS_PER_MINUTE_MAX", 99)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let stated = serde_json::to_value(chat.established().limits).expect("it is JSON");
            let expected = json!({
                "message_bytes_max": 20_000, "content_chars_max": 50, "connections_per_user_max": 2,
                "connections_per_address_max": 30, "messages_per_minute_max": 61, "messages_burst_max": 3,
                "frames_per_second_max": 101, "threads_per_user_max": 7, "queue_frames_max": 500,
                "queue_bytes_max": 500_000, "logins_per_minute_max": 99,
            });
            assert_eq!(stated, expected);
            let message_id = chat.say(&"x".repeat(51)).await;
            chat.refusal_of(&message_id, ErrorCode::ValidationError).await;
            let _second = ada.connect().await;
            ada.refused(ada.options(), ErrorCode::ConnectionLimit).await;
            chat.send_text(&json!({ "type": "ping", "padding": "x".repeat(20_000) }).to_string())
                .await;
            assert_eq!(chat.expect_closed().await, Some(CloseCode::TooLarge.as_u16()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many_connections_over_all_users() {
    TestContext::own(case!("LIM-1", "SEC-3", "CON-6"))
        .with_setting("KINGSGUARD_CONNECTIONS_PER_ADDRESS_MAX", 3)
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chats = vec![ada.connect().await, ada.connect().await, bob.connect().await];
            ada.refused(ada.options(), ErrorCode::ConnectionLimit).await;
            bob.refused(bob.options(), ErrorCode::ConnectionLimit).await;
            chats.remove(0).drop_connection().await;
            let chat = bob.connect().await;
            assert_eq!(chat.established().limits.connections_per_address_max, 3);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_of_an_address_are_limited() {
    TestContext::own(case!("LIM-1", "SEC-3"))
        .with_setting("KINGSGUARD_LOGINS_PER_MINUTE_MAX", 5)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut refused = None;
            for _ in 0..8 {
                let answer = ada.try_login(ada.password()).await;
                if answer.status() == 429 {
                    refused = Some(answer);
                    break;
                }
                let _logged_in = answer.expect_status(200);
            }
            let answer = refused.expect("the sixth login or one soon after is refused");
            let seconds = answer.retry_after_seconds().expect("Retry-After");
            let error = answer.expect_error(ErrorCode::RateLimited);
            let wait_ms = error.retry_after_ms.expect("a limit says when to come back");
            assert!(
                (1..=60_000).contains(&wait_ms) && seconds * 1_000 >= wait_ms,
                "{wait_ms} ms, {seconds} s"
            );
            // Who is logged in goes on.
            let _me = ada.http().get("/auth/me").await.expect_status(200);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_is_refused_and_then_closed_with_4429() {
    TestContext::own(case!("LIM-1", "SEC-3", "ERR-2"))
        .with_setting("KINGSGUARD_FRAMES_PER_SECOND_MAX", 100)
        .with_setting("KINGSGUARD_RATE_LIMITED_MAX", 10)
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut flooding, mut beside) = (ada.connect().await, bob.connect().await);
            for _ in 0..1_000 {
                if flooding.try_send_text(r#"{"type":"ping"}"#).await.is_err() {
                    break;
                }
            }
            assert_eq!(flooding.expect_closed().await, Some(CloseCode::RateLimit.as_u16()));
            let answers: Vec<String> = flooding
                .unclaimed()
                .iter()
                .filter_map(|frame| frame.control().map(crate::messages::answer_name))
                .collect();
            let pongs = answers.iter().filter(|name| *name == "pong").count();
            assert!(pongs >= 98, "{pongs} of the first 100 frames were answered"); // the handshake took some
            assert_eq!(answers[answers.len() - 10..], vec!["RATE_LIMITED"; 10]);
            let waits = flooding
                .unclaimed()
                .iter()
                .filter_map(|frame| frame.error().map(|error| error.retry_after_ms));
            assert!(waits.into_iter().all(|wait| wait.is_some_and(|wait| wait >= 1)));
            let message_id = beside.send(Ping {}).await;
            assert_eq!(beside.answer_to(&message_id).await.frame_type(), "pong");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_of_a_batch_counts() {
    TestContext::own(case!("LIM-1"))
        .with_setting("KINGSGUARD_FRAMES_PER_SECOND_MAX", 100)
        .with_setting("KINGSGUARD_RATE_LIMITED_MAX", 1_000)
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let fifty = json!({ "type": "batch", "messages": vec![json!({ "type": "ping" }); 50] }).to_string();
            for _ in 0..4 {
                chat.send_text(&fifty).await;
            }
            let mut refused = 0;
            for _ in 0..200 {
                let frame = chat.expect("an answer", |frame| frame.control().is_some()).await;
                match frame.control() {
                    Some(ControlFrame::Pong(_)) => {}
                    Some(ControlFrame::Error(error)) if error.error_code == ErrorCode::RateLimited => refused += 1,
                    other => panic!("expected pong or RATE_LIMITED, but {other:?}"),
                }
            }
            assert!(
                refused > 0,
                "200 messages within four frames passed a limit of 100 a second"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threads_of_a_user_are_limited_over_socket_and_rest() {
    TestContext::own(case!("LIM-1"))
        .with_setting("KINGSGUARD_THREADS_PER_USER_MAX", 3)
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chat = ada.connect().await;
            ada.create_thread("one").await;
            ada.create_thread("two").await;
            let message_id = chat.send(CreateThread::default()).await;
            let third = chat.answer_to(&message_id).await;
            // The offered thread counts once it is used; acknowledging uses it.
            let name = crate::messages::answer_name(&third);
            assert!(name == "thread_created" || name == "QUOTA_EXCEEDED", "{third:?}");
            let message_id = chat.send(CreateThread::default()).await;
            chat.refusal_of(&message_id, ErrorCode::QuotaExceeded).await;
            let _refused = ada
                .http()
                .post("/api/threads", &json!({}))
                .await
                .expect_error(ErrorCode::QuotaExceeded);
            bob.create_thread("his first").await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_judged_before_the_limit_is() {
    TestContext::own(case!("ERR-1", "LIM-1"))
        .with_setting("KINGSGUARD_FRAMES_PER_SECOND_MAX", 100)
        .with_setting("KINGSGUARD_RATE_LIMITED_MAX", 1_000)
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let mut messages = vec![json!({ "type": "ping" }); 49];
            messages.push(json!({ "type": "get_thread_history", "thread_id": "thread_of_nobody" }));
            let batch = json!({ "type": "batch", "messages": messages }).to_string();
            for _ in 0..6 {
                chat.send_text(&batch).await;
            }
            let mut codes = std::collections::BTreeMap::new();
            for _ in 0..300 {
                let frame = chat.expect("an answer", |frame| frame.control().is_some()).await;
                if let Some(ControlFrame::Error(error)) = frame.control() {
                    *codes.entry(format!("{:?}", error.error_code)).or_insert(0) += 1;
                }
            }
            assert_eq!(codes.get("ThreadNotFound"), Some(&6), "{codes:?}");
            assert!(codes.contains_key("RateLimited"), "{codes:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_thread_makes_room_for_another() {
    TestContext::own(case!("LIM-1"))
        .with_setting("KINGSGUARD_THREADS_PER_USER_MAX", 2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (one, _two) = (ada.create_thread("one").await, ada.create_thread("two").await);
            let third = ada.http().post("/api/threads", &json!({})).await;
            let _full = third.expect_error(ErrorCode::QuotaExceeded);
            let deleted = ada.http().delete(&format!("/api/threads/{one}")).await;
            assert!(deleted.status() < 300, "{deleted:?}");
            ada.create_thread("three").await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_ended_are_not_counted_as_open() {
    TestContext::own(case!("OPS-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let open = async || {
                let text = ctx.http().get("/metrics").await.expect_status(200).text();
                let line = text
                    .lines()
                    .find(|line| line.starts_with("kingsguard_connections_open"));
                let value = line.and_then(|line| line.rsplit(' ').next()).expect("it is told");
                value.parse::<f64>().expect("a number")
            };
            let (mut one, mut two) = (ada.connect().await, ada.connect().await);
            assert_eq!(open().await, 2.0);
            assert_eq!(one.close().await, Some(1_000));
            two.drop_connection().await;
            ctx.eventually("no connection is open", async || match open().await {
                0.0 => Ok(()),
                left => Err(format!("{left} are")),
            })
            .await;
        })
        .await;
}
