//! Stated limits hold (LIM-1, CON-6, SEC-3).

use std::time::{Duration, Instant};

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use super::hostile::is_alive;

covers!("FLOW");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_limited_in_code_points_not_bytes() {
    TestContext::wire(case!("LIM-1", "MSG-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let most = chat.established().limits.content_chars_max;
            let chars =
                |text: &str, more: u64| text.repeat(usize::try_from(most + more).expect("a limit of thousands"));
            let run = chat.ask(&chars("😀", 0)).await;
            assert_eq!(run.started().context.input_chars, most);
            for (message, pointer) in [
                (json!({ "type": "user_message", "content": chars("😀", 1) }), "/content"),
                (
                    json!({ "type": "user_message", "payload": { "text": chars("x", 1) } }),
                    "/payload/text",
                ),
                (
                    json!({ "type": "start_agent", "agent_name": "triage", "user_request": chars("x", 1) }),
                    "/user_request",
                ),
                (
                    json!({ "type": "example_message", "content": chars("x", 1), "category": "x" }),
                    "/content",
                ),
            ] {
                if !ctx.is_claimed(&message) {
                    continue;
                }
                chat.send_json(&message).await;
                let error = chat.expect_error(ErrorCode::ValidationError).await;
                assert_eq!(error.details["pointer"], pointer);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_messages_pass_at_once_and_the_next_is_told_when_to_come_back() {
    TestContext::wire(case!("LIM-1", "SEC-3"))
        .run(async |ctx| {
            // A burst is no normal load: TIM-1 is not judged here.
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut one, mut two) = (ada.connect().await, ada.connect().await);
            let began = Instant::now();
            let mut sent = Vec::new();
            for _ in 0..15 {
                sent.push((one.say("What did I spend?").await, true));
                sent.push((two.say("What did I spend?").await, false));
            }
            let mut accepted = 0;
            let mut waits = Vec::new();
            for (message_id, is_first) in &sent {
                let chat = if *is_first { &mut one } else { &mut two };
                match chat.answer_to(message_id).await {
                    ControlFrame::MessageReceived(_) => accepted += 1,
                    ControlFrame::Error(error) if error.error_code == ErrorCode::RateLimited => {
                        waits.push(error.retry_after_ms.expect("a limit says when to come back"));
                    }
                    other => panic!("expected message_received or RATE_LIMITED, but {other:?}"),
                }
            }
            // 60 a minute: one more for each second that sending and answering took.
            let refilled = began.elapsed().as_secs() as usize + 1;
            assert!(
                (20..=20 + refilled).contains(&accepted),
                "{accepted} of 30 accepted, over two connections"
            );
            let longest = waits.iter().copied().max().expect("some were refused");
            assert!((1..=60_000).contains(&longest), "{waits:?}");

            // Another user is not affected.
            let run = bob.connect().await.ask("What did I spend?").await;
            assert_eq!(run.completed().status, RunStatus::Completed);

            // sleeps because the refusal says how long to wait, and coming back then must work
            tokio::time::sleep(Duration::from_millis(longest)).await;
            let message_id = one.say("What did I spend?").await;
            one.accepted(&message_id).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_ten_connections_and_a_cut_one_frees_its_place_at_once() {
    TestContext::wire(case!("LIM-1", "CON-6", "SEC-3"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chats = Vec::new();
            for _ in 0..10 {
                chats.push(ada.connect().await);
            }
            let refused = ada.refused(ada.options(), ErrorCode::ConnectionLimit).await;
            let retry_after = refused.headers.iter().find(|(name, _)| name == "retry-after");
            assert!(
                retry_after.is_some_and(|(_, value)| value.parse::<u64>().is_ok()),
                "{:?}",
                refused.headers
            );
            bob.connect().await;
            for round in 0..10 {
                let mut gone = chats.remove(0);
                match round % 3 {
                    0 => gone.drop_connection().await,
                    1 => gone.reset_connection().await,
                    _ => assert_eq!(gone.close().await, Some(1_000)),
                }
                chats.push(ada.connect().await); // not counted against it
                ada.refused(ada.options(), ErrorCode::ConnectionLimit).await;
            }
            // Those that stayed are undisturbed.
            for chat in &mut chats {
                is_alive(chat).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_over_rest_and_to_a_named_agent_are_counted_like_all_others() {
    TestContext::wire(case!("LIM-1", "SEC-3", "ERR-1"))
        .run(async |ctx| {
            // A burst is no normal load: TIM-1 is not judged here.
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let burst = 20;
            let thread_id = ada.create_thread("by REST").await;
            let body = json!({ "content": "Hello", "thread_id": thread_id });
            let (mut accepted, began) = (0, Instant::now());
            loop {
                let answer = ada.http().post("/api/chat/messages", &body).await;
                if answer.status() != 202 {
                    let error = answer.expect_error(ErrorCode::RateLimited);
                    assert!(error.retry_after_ms.is_some());
                    break;
                }
                accepted += 1;
                let most = burst + 1 + began.elapsed().as_secs();
                assert!(accepted <= most, "{accepted} accepted over REST");
            }
            let mut chat = bob.connect().await;
            let (mut accepted, began) = (0, Instant::now());
            loop {
                let start = json!({
                    "type": "start_agent", "message_id": format!("message_{accepted}"), "agent_name": "triage",
                    "user_request": "Hello",
                });
                chat.send_json(&start).await;
                match chat.answer_to(&format!("message_{accepted}").as_str().into()).await {
                    ControlFrame::MessageReceived(_) => accepted += 1,
                    ControlFrame::Error(error) if error.error_code == ErrorCode::RateLimited => break,
                    other => panic!("expected message_received or RATE_LIMITED, but {other:?}"),
                }
                let most = burst + 1 + began.elapsed().as_secs();
                assert!(accepted <= most, "{accepted} accepted by start_agent");
            }
            // The thing is judged before the limit is (ERR-1).
            let unknown = json!({
                "type": "start_agent", "message_id": "message_unknown", "agent_name": "nobody", "user_request": "Hello",
            });
            chat.send_json(&unknown).await;
            chat.refusal_of(&"message_unknown".into(), ErrorCode::AgentNotFound)
                .await;
        })
        .await;
}
