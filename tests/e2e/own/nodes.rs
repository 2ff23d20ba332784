//! Several nodes are one service.

use kingsguard_protocol::client::{Broadcast, Ping, StopAgent, TypingStarted};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer, log_of};

covers!("SUB-1");

/// A connection to a node that follows a thread from its first event.
async fn follow(ctx: &TestContext, user: &SimulatedUser, node: usize, chat: &Chat) -> Chat {
    let mut other = user
        .open_with(user.options().with_base_url(&ctx.node_url(node).await))
        .await;
    let thread_id = chat.thread_id();
    let epoch = chat.positions()[&thread_id].0.clone();
    let resume = vec![ThreadResume {
        thread_id: thread_id.clone(),
        point: ResumePoint { epoch, after: 0 },
    }];
    other.handshake_with(Some(&thread_id), resume).await;
    other
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_on_one_node_streams_to_a_socket_on_another_with_the_same_bytes() {
    TestContext::own(case!("SEQ-6", "SEQ-1", "SEQ-2"))
        .with_nodes(2)
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 91, 60).await;
            let mut near = ada.connect().await;
            let warm = near.ask("Hello").await;
            let mut far = follow(ctx, &ada, 1, &near).await;
            let replayed = far.until_completed(warm.run_id()).await;
            assert_eq!(log_of(&warm), log_of(&replayed));
            let run = near.ask(SPEND_LESS).await;
            let live = far.until_completed(run.run_id()).await;
            assert_eq!(log_of(&run), log_of(&live));

            let back = far.ask("What did I spend?").await;
            let same = near.until_completed(back.run_id()).await;
            assert_eq!(log_of(&back), log_of(&same), "the other way round likewise");
            let first = back.events()[0].header.seq;
            assert_eq!(
                first,
                (warm.events().len() + run.events().len()) as u64 + 1,
                "both nodes count one log"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_on_one_node_is_stopped_through_another() {
    TestContext::own(case!("EVT-6", "ORD-4", "SEQ-6"))
        .with_nodes(2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut near = ada.connect().await;
            near.ask("Hello").await;
            let mut far = follow(ctx, &ada, 1, &near).await;
            let asked = near.say("Watch my usage for 25 seconds").await;
            let run_id = near.accepted(&asked).await.run_id;
            far.expect_event(
                "watch_usage",
                |event| matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"),
            )
            .await;
            let stop = far
                .send(StopAgent {
                    run_id: run_id.clone(),
                    reason: Some("from afar".into()),
                })
                .await;
            let run = near.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Cancelled);
            let stopped: Vec<_> = run
                .events()
                .into_iter()
                .filter_map(|event| match &event.body {
                    EventBody::AgentStopped(stopped) => {
                        Some((stopped.reason.clone(), event.header.correlation_id.clone()))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(stopped, [("from afar".to_owned(), stop)]);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_message_is_recognised_by_every_node() {
    TestContext::own(case!("SEQ-8", "SEQ-6"))
        .with_nodes(2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut near = ada.connect().await;
            near.ask("Hello").await;
            let mut far = follow(ctx, &ada, 1, &near).await;
            let message = json!({ "type": "user_message", "message_id": "twice", "content": "Hello" });
            near.send_json(&message).await;
            far.send_json(&message).await;
            let (first, second) = (
                near.accepted(&MessageId::from("twice")).await,
                far.accepted(&MessageId::from("twice")).await,
            );
            assert_eq!(first.run_id, second.run_id);
            let run = near.until_completed(&first.run_id).await;
            let next = near.ask("Hello").await;
            let last = run.events().last().expect("it has events").header.seq;
            assert_eq!(next.events()[0].header.seq, last + 1, "one run, not two");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_revoked_on_one_node_ends_its_connections_on_every_other() {
    TestContext::own(case!("AUTH-6", "AUTH-1"))
        .with_nodes(2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let far_url = ctx.node_url(1).await;
            let mut far = ada.connect_with(ada.options().with_base_url(&far_url)).await;
            let revoked = ada.access_token();
            let began = std::time::Instant::now();
            ada.logout().await;
            far.expect_error(ErrorCode::AuthTokenRevoked).await;
            assert_eq!(far.expect_closed().await, Some(CloseCode::AuthenticationEnded.as_u16()));
            let took = ctx.time_since(began);
            assert!(took.as_secs_f64() < 5.0, "ended after {took:?}");
            let refused = ctx.http().at(&far_url).with_bearer(&revoked).get("/auth/me").await;
            let _error = refused.expect_error(ErrorCode::AuthTokenRevoked);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing_and_broadcasts_reach_the_users_connections_on_other_nodes() {
    TestContext::own(case!("MSG-1", "ISO-1"))
        .with_nodes(2)
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let far_url = ctx.node_url(1).await;
            let mut near = ada.connect().await;
            let mut far = ada.connect_with(ada.options().with_base_url(&far_url)).await;
            let mut his = bob.connect_with(bob.options().with_base_url(&far_url)).await;
            let thread_id = ada.create_thread("typed in").await;
            near.send_to(&thread_id, TypingStarted {}).await;
            far.expect_control("typing_started").await;
            let content = format!("To all of me: {}", ada.canary());
            let said = near
                .send(Broadcast {
                    content: content.clone(),
                })
                .await;
            for chat in [&mut near, &mut far] {
                match chat.expect_control("broadcast").await {
                    ControlFrame::Broadcast(notice) => {
                        assert_eq!((&notice.content, &notice.correlation_id), (&content, &said));
                    }
                    other => panic!("expected broadcast, but {other:?}"),
                }
            }
            let message_id = his.send(Ping {}).await;
            assert_eq!(his.next_text().await.json()["correlation_id"], json!(message_id));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_of_one_node_works_once_on_all_of_them() {
    TestContext::own(case!("AUTH-4"))
        .with_nodes(2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let far_url = ctx.node_url(1).await;
            let ticket = ada.ticket().await;
            let options = || ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            ada.connect_with(options().with_base_url(&far_url)).await;
            ada.refused(options(), ErrorCode::AuthTokenInvalid).await;
        })
        .await;
}
