//! What every backend shows whose profile says how to provoke it: an answer, a tool, a failing tool, a long run. Nothing
//! here knows the product behind it.

use std::time::Duration;

use kingsguard_protocol::client::StopAgent;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("EVT", "GOLD");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_begins_thinks_and_ends() {
    TestContext::wire(case!("ORD-1", "ORD-2", "ORD-4", "EVT-1", "EVT-2", "EVT-5", "SEQ-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask("Hello").await;
            let types = run.types();
            assert_eq!(
                (types.first(), types.last()),
                (Some(&"agent_started"), Some(&"agent_completed"))
            );
            assert!(!run.thoughts().is_empty(), "{types:?}");
            assert_eq!(run.completed().status, RunStatus::Completed);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_is_told_at_its_beginning_and_at_its_end() {
    TestContext::wire(case!("ORD-3", "ORD-7", "EVT-3", "EVT-4"))
        .run(async |ctx| {
            let prompt = ctx.tool_prompt();
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask(&prompt).await;
            let tools = run.tools();
            assert!(!tools.is_empty(), "the prompt calls a tool: {:?}", run.types());
            let ends: Vec<_> = tools
                .iter()
                .map(|tool| tool.completed.as_ref().map(|end| end.tool_name.as_str()))
                .collect();
            let names: Vec<_> = tools
                .iter()
                .map(|tool| Some(tool.executing.tool_name.as_str()))
                .collect();
            assert_eq!(ends, names);
            let succeeded = tools
                .iter()
                .filter_map(|tool| tool.completed.as_ref())
                .any(|end| end.success);
            assert!(succeeded, "{tools:#?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_fails_says_so_and_the_run_ends_all_the_same() {
    TestContext::wire(case!("ORD-3", "ORD-4", "EVT-4", "ERR-2"))
        .run(async |ctx| {
            let prompt = ctx.failing_tool_prompt();
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask(&prompt).await;
            let failed: Vec<_> = run
                .tools()
                .into_iter()
                .filter_map(|tool| tool.completed)
                .filter(|end| !end.success)
                .collect();
            assert!(!failed.is_empty(), "the prompt makes a tool fail: {:?}", run.types());
            for end in &failed {
                assert!(
                    end.error.as_ref().is_some_and(|error| !error.message.trim().is_empty()),
                    "{end:?}"
                );
            }
            assert_eq!(chat.ask("Hello").await.completed().status, RunStatus::Completed);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_is_never_silent_for_five_seconds() {
    TestContext::wire(case!("TIM-2", "ORD-4"))
        .run(async |ctx| {
            let prompt = ctx.long_run_prompt(6);
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask(&prompt).await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            assert!(run.completed().duration_ms >= 5_000, "{:?}", run.completed());
            // The validators judge each gap; this says that there was one to judge.
            let longest = Timing::of_gaps(&ctx.recording()).max();
            assert!(longest < Duration::from_secs(5), "{longest:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_run_that_is_stopped_ends_cancelled_before_its_time() {
    TestContext::wire(case!("ORD-3", "ORD-4", "EVT-6", "MSG-1"))
        .run(async |ctx| {
            let prompt = ctx.long_run_prompt(25);
            let mut chat = ctx.user("ada").await.connect().await;
            let asked = chat.say(&prompt).await;
            let run_id = chat.accepted(&asked).await.run_id;
            chat.expect_event("the run's beginning", |event| {
                event.header.run_id == run_id && matches!(event.body, EventBody::AgentThinking(_))
            })
            .await;
            let stop = StopAgent {
                run_id: run_id.clone(),
                reason: None,
            };
            chat.send(stop).await;
            let rest = chat.until_completed(&run_id).await;
            assert_eq!(rest.completed().status, RunStatus::Cancelled);
            assert!(rest.completed().duration_ms < 20_000, "{:?}", rest.completed());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_users_at_once_hear_their_own_words_only() {
    TestContext::wire(case!("ISO-1", "ISO-3", "ORD-6"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut hers, mut his) = (ada.connect().await, bob.connect().await);
            let (say_hers, say_his) = (format!("Hello, {}", ada.canary()), format!("Hello, {}", bob.canary()));
            let (her_run, his_run) = tokio::join!(hers.ask(&say_hers), his.ask(&say_his));
            for (run, foreign) in [(&her_run, bob.canary()), (&his_run, ada.canary())] {
                assert!(run.frames().iter().all(|frame| !frame.text().contains(foreign)));
            }
            assert_ne!(her_run.run_id(), his_run.run_id());
        })
        .await;
}
