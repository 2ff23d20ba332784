//! Runs that are stopped, and what can no longer be stopped.

use kingsguard_protocol::client::StopAgent;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer, of_type};

covers!("EVT");

fn stop(run_id: &RunId, reason: Option<&str>) -> StopAgent {
    StopAgent {
        run_id: run_id.clone(),
        reason: reason.map(str::to_owned),
    }
}

/// Waits until a tool of a run executes.
async fn working(chat: &mut Chat, run_id: &RunId) {
    chat.expect_event("a tool", |event| {
        event.header.run_id == *run_id && matches!(event.body, EventBody::ToolExecuting(_))
    })
    .await;
}

/// Waits until a run's `watch_usage` executes.
async fn watching(chat: &mut Chat, run_id: &RunId) -> Event {
    chat.expect_event("watch_usage", |event| {
        event.header.run_id == *run_id
            && matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage")
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_run_says_so_closes_its_tools_and_ends_cancelled() {
    TestContext::wire(case!("EVT-6", "ORD-3", "ORD-4", "ORD-5", "MSG-1"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 31, 60).await;
            let mut chat = ada.connect().await;
            let asked = chat.say("Watch my usage for 25 seconds").await;
            let run_id = chat.accepted(&asked).await.run_id;
            let executing = watching(&mut chat, &run_id).await;
            let stopping = chat.send(stop(&run_id, Some("seen enough"))).await;
            let rest = chat.until_completed(&run_id).await;

            let stopped = of_type(&rest, "agent_stopped");
            assert_eq!(stopped.len(), 1);
            assert_eq!(stopped[0]["reason"], "seen enough");
            assert_eq!(stopped[0]["correlation_id"], stopping.as_str(), "the stop is its cause");
            let ends = of_type(&rest, "tool_completed");
            let EventBody::ToolExecuting(tool) = &executing.body else {
                unreachable!("just matched")
            };
            let end = ends.last().expect("the tool's pair is closed");
            assert_eq!(end["execution_id"], tool.execution_id.as_str());
            assert_eq!((&end["status"], &end["success"]), (&json!("cancelled"), &json!(false)));
            let place = |event_type: &str| rest.types().iter().position(|known| *known == event_type);
            assert!(place("agent_stopped") < place("agent_completed"));

            let completed = rest.completed();
            assert_eq!((completed.status, completed.success), (RunStatus::Cancelled, false));
            let causes: Vec<Value> = of_type(&rest, "agent_completed");
            assert_eq!(causes[0]["correlation_id"], asked.as_str());

            let next = chat.ask("What did I spend?").await;
            assert_eq!(
                next.completed().result["spend_by_model"],
                expected.spend_by_model(),
                "the thread goes on"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_stopped_before_its_turn_still_begins_thinks_and_ends() {
    TestContext::wire(case!("ORD-1", "ORD-2", "ORD-4", "EVT-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let first = chat.say(&ctx.long_run_prompt(25)).await;
            let first = chat.accepted(&first).await.run_id;
            working(&mut chat, &first).await;
            let second = chat.say(SPEND_LESS).await;
            let second = chat.accepted(&second).await.run_id;
            chat.send(stop(&second, None)).await;
            chat.send(stop(&first, None)).await;
            let (first, second) = (chat.until_completed(&first).await, chat.until_completed(&second).await);
            assert_eq!(first.completed().status, RunStatus::Cancelled);
            assert_eq!(second.completed().status, RunStatus::Cancelled);
            assert_eq!(second.types().first(), Some(&"agent_started"));
            assert!(!second.thoughts().is_empty());
            assert_eq!(second.tools().len(), 0, "it never got to work");
            assert_eq!(of_type(&second, "agent_stopped").len(), 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_has_ended_cannot_be_stopped() {
    TestContext::wire(case!("MSG-1", "ERR-1", "ORD-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask("Hello").await;
            let again = chat.send(stop(run.run_id(), None)).await;
            let refusal = chat.refusal_of(&again, ErrorCode::Conflict).await;
            assert_eq!(refusal.correlation_id, Some(again));
            let next = chat.ask("Hello").await;
            let last = run
                .events()
                .last()
                .map(|event| event.header.seq)
                .expect("it has events");
            assert_eq!(next.events()[0].header.seq, last + 1, "nothing was added to the log");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_run_and_one_that_never_was_are_refused_alike() {
    TestContext::wire(case!("ISO-2", "ERR-1", "MSG-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let (mut adas, mut eves) = (ada.connect().await, eve.connect().await);
            let asked = adas.say(&ctx.long_run_prompt(3)).await;
            let run_id = adas.accepted(&asked).await.run_id;
            working(&mut adas, &run_id).await;

            let foreign = eves.send(stop(&run_id, Some("mine now"))).await;
            let foreign = eves.refusal_of(&foreign, ErrorCode::RunNotFound).await;
            let unknown = eves.send(stop(&RunId::generate(), Some("mine now"))).await;
            let unknown = eves.refusal_of(&unknown, ErrorCode::RunNotFound).await;
            let malformed = eves.send(stop(&RunId::from("../../etc/passwd"), None)).await;
            let malformed = eves.refusal_of(&malformed, ErrorCode::RunNotFound).await;
            assert_eq!(
                (&foreign.message, &foreign.details),
                (&unknown.message, &unknown.details)
            );
            assert_eq!(
                (&foreign.message, &foreign.details),
                (&malformed.message, &malformed.details)
            );

            let run = adas.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed, "nobody else stops a run");
        })
        .await;
}
