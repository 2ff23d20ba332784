//! What every backend shows whose profile says how to provoke it: an answer, a tool, a failing tool, a long run. Nothing
//! here knows the product behind it.

use std::collections::BTreeSet;

use kingsguard_protocol::client::StopAgent;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("EVT", "GOLD");

/// Tools may overlap, so their order says nothing.
fn sorted(names: Vec<Value>) -> Vec<String> {
    let mut sorted: Vec<String> = names.iter().map(Value::to_string).collect();
    sorted.sort();
    sorted
}

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
            assert_eq!(run.told("agent_completed", "status"), ["completed"]);
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
            let begun = sorted(run.told("tool_executing", "tool_name"));
            assert!(!begun.is_empty(), "the prompt calls a tool: {:?}", run.types());
            assert_eq!(sorted(run.told("tool_completed", "tool_name")), begun);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_succeeds_says_so() {
    TestContext::wire(case!("EVT-4"))
        .run(async |ctx| {
            let prompt = ctx.tool_prompt();
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask(&prompt).await;
            let ends = run.told("tool_completed", "success");
            assert!(ends.contains(&json!(true)), "{ends:?}");
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
            let ends = run.told("tool_completed", "success");
            let errors = run.told("tool_completed", "error");
            let mut failed = ends
                .iter()
                .zip(errors)
                .filter(|(success, _)| **success == json!(false))
                .peekable();
            assert!(
                failed.peek().is_some(),
                "the prompt makes a tool fail: {:?}",
                run.types()
            );
            for (_, error) in failed {
                let message = error["message"].as_str().unwrap_or_default();
                assert!(!message.trim().is_empty(), "{error}");
            }
            assert_eq!(chat.ask("Hello").await.told("agent_completed", "status"), ["completed"]);
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
            assert_eq!(run.told("agent_completed", "status"), ["completed"]);
            let took_ms = run.told("agent_completed", "duration_ms");
            assert!(took_ms[0].as_u64().is_some_and(|ms| ms >= 5_000), "{took_ms:?}");
            // The validators judge each gap, less what the machine held up; this says that there were some to judge.
            let said = run.types();
            assert!(said.len() > 2, "nothing came between its start and its end: {said:?}");
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
            let run_id = chat.run_of(&asked).await;
            chat.expect("the run's beginning", |frame| {
                frame.run_id() == Some(&run_id) && frame.event_type() == Some("agent_thinking")
            })
            .await;
            let stop = StopAgent {
                run_id: run_id.clone(),
                reason: None,
            };
            chat.send(stop).await;
            let rest = chat.until_completed(&run_id).await;
            assert_eq!(rest.told("agent_completed", "status"), ["cancelled"]);
            let took_ms = rest.told("agent_completed", "duration_ms");
            assert!(took_ms[0].as_u64().is_some_and(|ms| ms < 20_000), "{took_ms:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_at_once_are_runs_of_their_own() {
    TestContext::wire(case!("ORD-1", "ORD-4", "ORD-6"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let mut asked = Vec::new();
            for question in ["Hello", "Hello again", "And once more"] {
                asked.push(chat.say(question).await);
            }
            let mut runs = BTreeSet::new();
            for message_id in &asked {
                let run_id = chat.run_of(message_id).await;
                let types = chat.until_completed(&run_id).await.types();
                assert_eq!(types.first(), Some(&"agent_started"), "{types:?}");
                runs.insert(run_id);
            }
            assert_eq!(runs.len(), asked.len());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_keeps_the_next_from_nothing() {
    TestContext::wire(case!("CON-6", "ERR-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            for _ in 0..3 {
                let mut chat = ada.connect().await;
                let run = chat.ask("Hello").await;
                assert_eq!(run.told("agent_completed", "status"), ["completed"]);
                chat.drop_connection().await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_comes_in_by_a_token_that_is_not_his() {
    TestContext::wire(case!("AUTH-1", "AUTH-5"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let token = ada.access_token();
            let [header, claims, _] = token.split('.').collect::<Vec<_>>()[..] else {
                panic!("the token is no JWT")
            };
            // {"alg":"none","typ":"JWT"}
            let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}.");
            let signed_by_nobody = format!("{header}.{claims}.{}", "A".repeat(43));
            for strange in ["nonsense", &unsigned, &signed_by_nobody] {
                let refused = ada
                    .try_open(ada.options_with(strange))
                    .await
                    .expect_err("it opens nothing");
                assert_eq!(refused.status, 401, "{strange}");
            }
            let refused = ctx
                .try_open(ConnectOptions::default())
                .await
                .expect_err("nor does none");
            ctx.check("no token is refused with 401", refused.status == 401);
        })
        .await;
}
