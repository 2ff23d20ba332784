//! What one connection says to the user's others (typing, broadcast), and that nobody else hears it (ISO-1).

use kingsguard_protocol::client::{Broadcast, Ping, TypingStarted, TypingStopped};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

/// Claims that nothing came on a connection up to the answer of a ping.
async fn heard_nothing(chat: &mut Chat) {
    let message_id = chat.send(Ping {}).await;
    assert_eq!(chat.next_text().await.json()["correlation_id"], json!(message_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_reaches_the_users_other_connections_and_nobody_else() {
    TestContext::wire(case!("MSG-1", "ISO-1"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut typing, mut other, mut third) = (ada.connect().await, ada.connect().await, ada.connect().await);
            let mut his = bob.connect().await;
            let thread = ada.create_thread("typed in").await;
            let started = typing.send_to(&thread, TypingStarted {}).await;
            let stopped = typing.send_to(&thread, TypingStopped {}).await;
            let who = typing.established().connection_id.clone();
            for chat in [&mut other, &mut third] {
                for (frame_type, cause) in [("typing_started", &started), ("typing_stopped", &stopped)] {
                    let mut frame = chat.next_text().await.json();
                    let said_at = frame.as_object_mut().expect("an object").remove("timestamp");
                    assert!(said_at.is_some());
                    let expected = json!({
                        "type": frame_type, "thread_id": thread, "connection_id": who, "correlation_id": cause,
                    });
                    assert_eq!(frame, expected);
                }
            }
            heard_nothing(&mut typing).await;
            heard_nothing(&mut his).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_reaches_all_connections_of_the_user_and_of_nobody_else() {
    TestContext::wire(case!("MSG-1", "ISO-1"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut one, mut two) = (ada.connect().await, ada.connect().await);
            let mut his = bob.connect().await;
            let content = format!("To all of me: {} <b>&amp;</b> \u{202e}😀", ada.canary());
            let cause = one
                .send(Broadcast {
                    content: content.clone(),
                })
                .await;
            let who = one.established().connection_id.clone();
            for chat in [&mut one, &mut two] {
                match chat.expect_control("broadcast").await {
                    ControlFrame::Broadcast(notice) => {
                        assert_eq!(
                            (&notice.content, &notice.connection_id, &notice.correlation_id),
                            (&content, &who, &cause)
                        );
                    }
                    other => unreachable!("just matched {other:?}"),
                }
                heard_nothing(chat).await;
            }
            heard_nothing(&mut his).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_at_once_see_only_their_own_runs() {
    TestContext::wire(case!("ISO-1", "ISO-3", "ERR-2"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut hers, mut his) = (ada.connect().await, bob.connect().await);
            let hers_asked = hers.say(&format!("How can I spend less on {}?", ada.canary())).await;
            let his_asked = his.say(&format!("How can I spend less on {}?", bob.canary())).await;
            let (hers_accepted, his_accepted) = (hers.accepted(&hers_asked).await, his.accepted(&his_asked).await);
            let hers_run = hers.until_completed(&hers_accepted.run_id).await;
            let his_run = his.until_completed(&his_accepted.run_id).await;
            for (run, user) in [(&hers_run, &ada), (&his_run, &bob)] {
                assert!(run.events().iter().all(|event| event.header.user_id == user.user_id()));
            }
            heard_nothing(&mut hers).await;
            heard_nothing(&mut his).await;
        })
        .await;
}
