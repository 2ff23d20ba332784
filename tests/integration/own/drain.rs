//! Stopping in order (CON-4).

use kingsguard_protocol::Recovery;
use kingsguard_protocol::control::{ServerShutdown, ShutdownReason};
use kingsguard_testkit::prelude::*;
use nix::sys::signal::Signal;
use pretty_assertions::assert_eq;

covers!("BRG-2");

async fn shutdown_notice(chat: &mut Chat) -> ServerShutdown {
    match chat.expect_control("server_shutdown").await {
        ControlFrame::ServerShutdown(notice) => notice,
        other => unreachable!("just matched {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_runs_finish_refuses_what_is_new_and_closes_with_1001() {
    TestContext::own(case!("CON-4", "ORD-4", "AUTH-7", "OPS-1"))
        .with_setting("KINGSGUARD_ALLOWED_ORIGINS", "https://chat.example.test")
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (mut busy, mut idle) = (ada.connect().await, ada.connect().await);
            let first = busy.say("Watch my usage for 2 seconds").await;
            let queued = busy.say("How can I spend less?").await; // accepted, so it counts as running
            let first = busy.accepted(&first).await;
            let queued = busy.accepted(&queued).await;
            ctx.signal_node(0, Signal::SIGTERM).await;
            for chat in [&mut busy, &mut idle] {
                let notice = shutdown_notice(chat).await;
                assert_eq!(
                    (notice.reason, notice.drain_deadline_ms),
                    (ShutdownReason::Stop, 30_000)
                );
            }

            // 503 comes before origin and credential.
            let foreign = ConnectOptions::default().with_origin("https://evil.test");
            for options in [ada.options(), ConnectOptions::default(), foreign] {
                let refused = ctx.refused(options, ErrorCode::ServiceDraining).await;
                let header = |name: &str| {
                    refused
                        .headers
                        .iter()
                        .find(|(known, _)| known == name)
                        .map(|(_, value)| value)
                };
                let seconds: u64 = header("retry-after").expect("Retry-After").parse().expect("in seconds");
                assert!(seconds >= 1, "Retry-After says {seconds}");
            }
            let ready = ctx.http().get("/health/ready").await;
            assert_eq!(
                (ready.status(), &ready.json()["status"]),
                (503, &json!("draining")),
                "a balancer sends nobody here any more"
            );
            assert_eq!(ctx.http().get("/health/live").await.status(), 200);
            let late = idle.say("One more thing").await;
            let error = idle.refusal_of(&late, ErrorCode::ServiceDraining).await;
            assert_eq!(error.recovery, Recovery::Reconnect);

            assert_eq!(
                busy.until_completed(&first.run_id).await.completed().status,
                RunStatus::Completed
            );
            assert_eq!(
                busy.until_completed(&queued.run_id).await.completed().status,
                RunStatus::Completed
            );
            for chat in [&mut busy, &mut idle] {
                assert_eq!(chat.expect_closed().await, Some(CloseCode::GoingAway.as_u16()));
            }
            let code = ctx
                .backend()
                .await
                .wait_for_exit(0)
                .await
                .expect("the node was started");
            assert_eq!(code, Some(0));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_closes_with_1012() {
    TestContext::own(case!("CON-4"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            ctx.signal_node(0, Signal::SIGHUP).await;
            assert_eq!(shutdown_notice(&mut chat).await.reason, ShutdownReason::Restart);
            assert_eq!(chat.expect_closed().await, Some(CloseCode::Restart.as_u16()));
            let code = ctx
                .backend()
                .await
                .wait_for_exit(0)
                .await
                .expect("the node was started");
            assert_eq!(code, Some(0));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_over_the_drain_deadline_ends_failed_with_service_draining() {
    TestContext::own(case!("CON-4", "ORD-4"))
        .with_setting("KINGSGUARD_DRAIN_DEADLINE_MS", 500)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let message_id = chat.say("Watch my usage for 20 seconds").await;
            let accepted = chat.accepted(&message_id).await;
            chat.expect_event("the tool that watches", |event| {
                matches!(event.body, EventBody::ToolExecuting(_))
            })
            .await;
            ctx.signal_node(0, Signal::SIGTERM).await;
            assert_eq!(shutdown_notice(&mut chat).await.drain_deadline_ms, 500);
            let run = chat.until_completed(&accepted.run_id).await;
            let completed = run.completed();
            assert_eq!((completed.status, completed.success), (RunStatus::Failed, false));
            let error = completed.error.as_ref().expect("a failed run says why");
            assert_eq!(error.error_code, ErrorCode::ServiceDraining);
            assert_eq!(chat.expect_closed().await, Some(CloseCode::GoingAway.as_u16()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_said_before_a_restart_is_there_after_it() {
    TestContext::own(case!("SEQ-1", "SEQ-2", "SEQ-5"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let before = chat.ask("How can I spend less?").await;
            let last_seq = before.events().last().expect("a run has events").header.seq;
            ctx.restart_node(0).await;
            let mut again = ada.resume(&mut chat).await;
            let after = again.ask("And by model?").await;
            assert_eq!(after.events()[0].header.seq, last_seq + 1);
            assert_eq!(again.thread_id(), chat.thread_id());
        })
        .await;
}
