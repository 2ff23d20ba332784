//! Services that go away and come back.

use std::time::{Duration, Instant};

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer};

covers!("BRG-2");

async fn readiness(ctx: &TestContext) -> (u16, String) {
    let answer = ctx.http().get("/health/ready").await;
    (answer.status(), answer.text())
}

/// What `/health/ready` says of the node as a whole, whatever it says of single dependencies.
async fn health(ctx: &TestContext) -> (u16, Value) {
    let answer = ctx.http().get("/health/ready").await;
    (answer.status(), answer.json()["status"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_redis_away_chat_goes_on_and_health_says_degraded() {
    TestContext::own(case!("ERR-3", "OPS-1"))
        .with_nodes(0)
        .run(async |ctx| {
            let (redis, url) = ctx.fault_proxy_before_redis().await;
            ctx.add_node_with([("KINGSGUARD_REDIS_URL", url)]).await;
            let (ada, expected) = customer(ctx, "ada", 95, 60).await;
            let mut chat = ada.connect().await;
            chat.ask("Hello").await;
            let away = redis.inject(Fault::partition());
            ctx.eventually("health says that Redis is away", async || {
                let text = ctx.http().get("/health").await.text();
                if text.contains("degraded") { Ok(()) } else { Err(text) }
            })
            .await;
            assert_eq!(
                health(ctx).await,
                (200, json!("degraded")),
                "it works, so it stays ready"
            );
            let run = chat.ask(SPEND_LESS).await;
            assert_eq!(
                run.completed().result["saving_estimate"],
                expected.saving_estimate(None)
            );
            let mut fresh = ada.connect().await;
            let run = fresh.ask("What did I spend?").await;
            assert_eq!(run.completed().result["spend_by_model"], expected.spend_by_model());
            assert_eq!(ctx.http().get("/health/live").await.status(), 200);

            away.lift();
            ctx.eventually("health is whole again", async || {
                let (status, text) = readiness(ctx).await;
                if status == 200 && !text.contains("degraded") {
                    Ok(())
                } else {
                    Err(text)
                }
            })
            .await;
            assert_eq!(chat.ask("Hello").await.completed().status, RunStatus::Completed);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_postgres_away_new_work_is_refused_connections_stay_and_work_resumes_by_itself() {
    TestContext::own(case!("ERR-3", "OPS-1"))
        .with_nodes(0)
        .run(async |ctx| {
            let (postgres, url) = ctx.fault_proxy_before_postgres().await;
            ctx.add_node_with([("KINGSGUARD_DATABASE_URL", url)]).await;
            let http = ctx.http();
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            chat.ask("Hello").await;

            let away = postgres.inject(Fault::partition());
            let refused = chat.say("Hello").await;
            chat.refusal_of(&refused, ErrorCode::DatabaseUnavailable).await;
            ctx.eventually("readiness says no", async || {
                let answer = http.get("/health/ready").await;
                if answer.status() == 503 {
                    Ok(())
                } else {
                    Err(answer.text())
                }
            })
            .await;
            assert_eq!(http.get("/health/live").await.status(), 200);
            assert!(chat.is_open());

            away.lift();
            let back = Instant::now();
            loop {
                let asked = chat.say("Hello").await;
                match chat.answer_to(&asked).await {
                    ControlFrame::MessageReceived(accepted) => {
                        let run = chat.until_completed(&accepted.run_id).await;
                        assert_eq!(run.completed().status, RunStatus::Completed);
                        break;
                    }
                    ControlFrame::Error(error) => assert_eq!(error.error_code, ErrorCode::DatabaseUnavailable),
                    other => panic!("expected an answer to a message, but {other:?}"),
                }
                assert!(
                    ctx.time_since(back) < Duration::from_secs(5),
                    "work has not resumed after 5 s"
                );
            }
        })
        .await;
}
