//! The bridge while what it stands on is slow, fails for a moment, or is away for longer than a run may last: answers are
//! later, never wrong, and what cannot be made durable ends in an error with a code.

use std::time::Duration;

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer, log_of, of_type};

covers!("BRG-2", "RES");

/// Until the last event of a run has a chance to be written.
const RUN_DEADLINE_MS: u64 = 1_500;

/// The events of a thread as its history tells them.
async fn told(user: &SimulatedUser, thread_id: &ThreadId) -> Vec<Value> {
    let path = format!("/api/threads/{thread_id}/messages?limit=100");
    let history = user.http().get(&path).await.expect_status(200).json();
    history["events"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_services_make_answers_slow_and_not_wrong() {
    TestContext::own(case!("SEQ-1", "ORD-6", "ERR-1", "OPS-1"))
        .with_nodes(0)
        .run(async |ctx| {
            let (postgres, database_url) = ctx.fault_proxy_before_postgres().await;
            let (redis, redis_url) = ctx.fault_proxy_before_redis().await;
            let settings = [
                ("KINGSGUARD_DATABASE_URL", database_url),
                ("KINGSGUARD_REDIS_URL", redis_url),
            ];
            ctx.add_node_with(settings).await;
            let (ada, expected) = customer(ctx, "ada", 71, 60).await;
            let slow = Fault::latency(Duration::from_millis(10)).with_jitter(Duration::from_millis(8));
            let faults = [postgres.inject(slow.clone()), redis.inject(slow)];
            let chats = [ada.connect().await, ada.connect().await, ada.connect().await];
            join_all(chats.map(async |mut chat| {
                let run = chat.ask(SPEND_LESS).await;
                assert_eq!(run.completed().status, RunStatus::Completed);
                assert_eq!(
                    run.completed().result["saving_estimate"],
                    expected.saving_estimate(None)
                );
                let seqs: Vec<u64> = log_of(&run).into_iter().map(|(seq, _)| seq).collect();
                assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
            }))
            .await;
            assert_eq!(ctx.http().get("/health/ready").await.status(), 200, "slow is not away");
            for fault in faults {
                assert!(fault.lift() > 0);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_a_run_may_last_ends_it_with_a_code_and_loses_nothing() {
    TestContext::own(case!("ERR-1", "ERR-3", "ORD-4", "SEQ-2", "MSG-5"))
        .with_nodes(0)
        .with_setting("KINGSGUARD_RUN_DEADLINE_MS", RUN_DEADLINE_MS)
        .run(async |ctx| {
            let (postgres, url) = ctx.fault_proxy_before_postgres().await;
            ctx.add_node_with([("KINGSGUARD_DATABASE_URL", url)]).await;
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say("Watch my usage for 1 second").await;
            let accepted = chat.accepted(&asked).await;
            chat.expect_event("a tool", |event| matches!(event.body, EventBody::ToolExecuting(_)))
                .await;
            let away = postgres.inject(Fault::partition());
            // sleeps because the outage must outlast the run's deadline
            tokio::time::sleep(Duration::from_millis(RUN_DEADLINE_MS * 2)).await;
            let refused = chat.say("Hello").await;
            chat.refusal_of(&refused, ErrorCode::DatabaseUnavailable).await;
            away.lift();

            let rest = chat.until_completed(&accepted.run_id).await;
            let end = rest.completed();
            assert_eq!(
                (end.status == RunStatus::Completed, end.success),
                (false, false),
                "{end:?}"
            );
            let error = end.error.as_ref().expect("it says why");
            assert!(!error.message.trim().is_empty(), "{error:?}");
            let log = told(&ada, &accepted.thread_id).await;
            let seqs: Vec<u64> = log.iter().filter_map(|event| event["seq"].as_u64()).collect();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
            let count = |kind: &str| log.iter().filter(|event| event["type"] == kind).count();
            assert_eq!((count("agent_started"), count("agent_completed")), (1, 1));
            assert_eq!(count("tool_executing"), count("tool_completed"), "every pair is closed");
            assert_eq!(count("subagent_started"), count("subagent_completed"));
            let next = ctx.eventually("work goes on", async || {
                let asked = chat.say("Hello").await;
                match chat.answer_to(&asked).await {
                    ControlFrame::MessageReceived(accepted) => Ok(accepted.run_id),
                    other => Err(format!("{other:?}")),
                }
            });
            let run_id = next.await;
            assert_eq!(
                chat.until_completed(&run_id).await.completed().status,
                RunStatus::Completed
            );
        })
        .await;
}

/// A model that fails for a moment is asked again; the run is the same as if it had not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_call_that_is_tried_again_leaves_no_trace_in_the_run() {
    let fine = || ModelReply::Text("Fine.".into());
    // A run asks twice: to read the request and to word the answer.
    let script = vec![fine(), fine(), ModelReply::HangUp, ModelReply::Status(503, json!({}))];
    let model = ScriptedModel::script(script, fine()).await;
    TestContext::own(case!("ERR-4", "ORD-1", "ORD-4", "SEQ-1"))
        .with_setting("KINGSGUARD_MODEL_URL", model.url())
        .with_setting("KINGSGUARD_MODEL_NAME", "gpt-4o-mini")
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 72, 60).await;
            let mut chat = ada.connect().await;
            let smooth = chat.ask(SPEND_LESS).await;
            assert_eq!(model.requests().len(), 2);
            let tried = chat.ask(SPEND_LESS).await;
            assert_eq!(model.requests().len(), 2 + 4, "two calls failed and were made again");
            for run in [&smooth, &tried] {
                assert_eq!(run.completed().status, RunStatus::Completed);
                assert_eq!(
                    run.completed().result["saving_estimate"],
                    expected.saving_estimate(None)
                );
                assert!(of_type(run, "agent_error").is_empty(), "{:?}", run.types());
            }
            let sorted = |run: &RunView| {
                let mut types = run.types();
                types.sort_unstable(); // tools that work at once end in either order
                types
            };
            assert_eq!(sorted(&tried), sorted(&smooth), "nothing is said twice");
        })
        .await;
}
