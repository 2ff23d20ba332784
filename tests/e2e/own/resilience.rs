//! Waiting that is bounded, failures that stay where they are, and what a node says of its services.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use sqlx::{Connection as _, PgConnection};

covers!("RES");

/// ERR-3: from the return of Postgres to resumed work.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How long a request waits for a connection to Postgres in these tests.
const ACQUIRE_TIMEOUT_MS: u64 = 300;
/// How long a statement may take in Postgres in these tests.
const STATEMENT_TIMEOUT_MS: u64 = 800;
/// Within which every request has its answer then; a busy machine takes the rest.
const TOLD_WITHIN: Duration = Duration::from_millis(STATEMENT_TIMEOUT_MS + 1_500);

/// More requests at once than the pool has connections, while no statement ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_connection_to_postgres_busy_waiting_is_bounded_and_told() {
    TestContext::own(case!("ERR-1", "ERR-3"))
        .with_setting("KINGSGUARD_DATABASE_CONNECTIONS_MAX", 2)
        .with_setting("KINGSGUARD_DATABASE_ACQUIRE_TIMEOUT_MS", ACQUIRE_TIMEOUT_MS)
        .with_setting("KINGSGUARD_DATABASE_STATEMENT_TIMEOUT_MS", STATEMENT_TIMEOUT_MS)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chats = Vec::new();
            for _ in 0..6 {
                chats.push(ada.connect().await);
            }
            let url = ctx.backend().await.database_url();
            let mut in_the_way = PgConnection::connect(&url).await.expect("the test's own database");
            sqlx::raw_sql("BEGIN; LOCK TABLE threads IN ACCESS EXCLUSIVE MODE")
                .execute(&mut in_the_way)
                .await
                .expect("nobody holds it long");
            let asked_at = Instant::now();
            join_all(chats.iter_mut().map(async |chat| {
                let asked = chat.say("Hello").await;
                chat.refusal_of(&asked, ErrorCode::DatabaseUnavailable).await;
                let took = ctx.time_since(asked_at);
                assert!(took < TOLD_WITHIN, "told after {took:?}");
                assert!(chat.is_open());
            }))
            .await;
            in_the_way.close().await.expect("Postgres says goodbye");
            for chat in &mut chats {
                assert_eq!(chat.ask("Hello").await.completed().status, RunStatus::Completed);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_more_requests_than_connections_to_postgres_are_all_answered() {
    TestContext::own(case!("ERR-1"))
        .with_setting("KINGSGUARD_DATABASE_CONNECTIONS_MAX", 2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            ada.create_thread("Spending").await;
            let answers = join_all((0..60).map(|_| async { ada.http().get("/api/threads").await })).await;
            for answer in &answers {
                match answer.status() {
                    200 => assert_eq!(answer.json()["threads"].as_array().map(Vec::len), Some(1)),
                    503 => assert_eq!(answer.json()["error_code"], "DATABASE_UNAVAILABLE"),
                    other => panic!("{other}: {}", answer.text()),
                }
            }
            ctx.check("some were served", answers.iter().any(|answer| answer.status() == 200));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_accepted_before_postgres_went_away_is_ended_soon_after_its_return() {
    TestContext::own(case!("ERR-3", "MSG-5", "SEQ-1", "SEQ-2", "ORD-4"))
        .with_nodes(0)
        .run(async |ctx| {
            let (postgres, url) = ctx.fault_proxy_before_postgres().await;
            ctx.add_node_with([("KINGSGUARD_DATABASE_URL", url)]).await;
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say("Watch my usage for 1 second").await;
            let accepted = chat.accepted(&asked).await;
            let away = postgres.inject(Fault::partition());
            ctx.eventually("readiness says no", async || {
                let answer = ctx.http().get("/health/ready").await;
                if answer.status() == 503 {
                    Ok(())
                } else {
                    Err(answer.text())
                }
            })
            .await;
            away.lift();
            let back = Instant::now();
            let run = chat.until_completed(&accepted.run_id).await;
            let took = ctx.time_since(back);
            assert!(took < BACK_WITHIN, "{took:?}");
            let seen: Vec<u64> = run.events().iter().map(|event| event.header.seq).collect();
            assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());

            let path = format!("/api/threads/{}/messages", accepted.thread_id);
            let history = ada.http().get(&path).await.expect_status(200).json();
            assert_eq!(history["messages"][0]["content"], "Watch my usage for 1 second");
            assert_eq!(history["events"].as_array().map(Vec::len), Some(seen.len()));
        })
        .await;
}

fn thinking_with(model: &ScriptedModel) -> kingsguard_testkit::context::Builder {
    TestContext::own(case!("ERR-4", "ERR-2"))
        .with_setting("KINGSGUARD_MODEL_URL", model.url())
        .with_setting("KINGSGUARD_MODEL_NAME", "gpt-4o-mini")
        .with_setting("KINGSGUARD_BREAKER_FAILURES_MAX", 1)
        .with_setting("KINGSGUARD_BREAKER_OPEN_MS", 300)
}

/// The state of the model's breaker as health and as metrics have it.
async fn breaker(ctx: &TestContext) -> (String, String) {
    let health = ctx.http().get("/health").await.json();
    let said = health["dependencies"]["model"]["message"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let metrics = ctx.http().get("/metrics").await.text();
    let gauge = metrics
        .lines()
        .find(|line| line.starts_with("kingsguard_breaker_state{"));
    let value = gauge
        .and_then(|line| line.rsplit(' ').next())
        .unwrap_or_default()
        .to_owned();
    (said, value)
}

fn is_closed() -> (String, String) {
    ("circuit breaker is closed".to_owned(), "0".to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_breaker_s_state_stands_in_health_and_metrics() {
    let model = ScriptedModel::always(ModelReply::HangUp).await;
    thinking_with(&model)
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            assert_eq!(breaker(ctx).await, is_closed());
            let failed = chat.ask("Hello").await;
            assert_eq!(failed.completed().status, RunStatus::Failed);
            let (said, gauge) = breaker(ctx).await;
            assert!(
                said == "circuit breaker is open" || said == "circuit breaker is half_open",
                "{said}"
            );
            assert_eq!(gauge, "2", "it changes with the next call only");

            model.then_always(ModelReply::Text("Fine.".into()));
            ctx.eventually("an answer", async || match chat.ask("Hello").await.completed().status {
                RunStatus::Completed => Ok(()),
                other => Err(format!("{other:?}")),
            })
            .await;
            assert_eq!(breaker(ctx).await, is_closed());
        })
        .await;
}

/// One user's request that the model will not take says nothing about the model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_model_refuses_does_not_shut_the_model_off_for_others() {
    let model = ScriptedModel::always(ModelReply::Status(400, json!({ "error": "content" }))).await;
    thinking_with(&model)
        .run(async |ctx| {
            for name in ["ada", "bob"] {
                let run = ctx.user(name).await.connect().await.ask("Hello").await;
                let error = run.completed().error.as_ref().map(|error| error.error_code);
                assert_eq!(
                    error,
                    Some(ErrorCode::ModelUnavailable),
                    "{name} was let through and refused"
                );
            }
            assert_eq!(model.requests().len(), 2, "once each: a refusal is not tried again");
            assert_eq!(breaker(ctx).await, is_closed());
        })
        .await;
}
