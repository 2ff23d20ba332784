//! Order and pairing inside a run, and the sequence over runs.

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer};

covers!("EVT", "BRG-3");

/// What happened in a run, in a word an event.
fn story(run: &RunView) -> Vec<String> {
    run.events()
        .into_iter()
        .map(|event| match &event.body {
            EventBody::ToolExecuting(tool) => format!("{}>", tool.tool_name),
            EventBody::ToolCompleted(tool) => format!("<{}", tool.tool_name),
            EventBody::SubagentStarted(step) => format!("{} {}>", step.step_number, event.header.agent_name),
            EventBody::SubagentCompleted(step) => format!("<{} {}", step.step_number, event.header.agent_name),
            other => other.event_type().to_owned(),
        })
        .collect()
}

fn place(story: &[String], what: &str) -> usize {
    let found: Vec<usize> = (0..story.len()).filter(|place| story[*place] == what).collect();
    assert_eq!(found.len(), 1, "{what} happens once in {story:#?}");
    found[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_agent_s_work_lies_between_its_start_and_its_end() {
    TestContext::wire(case!("ORD-1", "ORD-4", "ORD-5", "EVT-6"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 11, 100).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            let story = story(&run);

            assert_eq!(place(&story, "agent_started"), 0);
            assert_eq!(place(&story, "agent_completed"), story.len() - 1);
            let steps = ["1 triage", "2 data", "3 optimization", "4 actions", "5 reporting"];
            let mut last = 0;
            for step in steps {
                let (start, end) = (place(&story, &format!("{step}>")), place(&story, &format!("<{step}")));
                assert!(last < start && start < end, "{step} in {story:#?}");
                last = end;
            }
            for event in run.events() {
                if let EventBody::SubagentCompleted(step) = &event.body {
                    assert!(step.success, "{event:?}");
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_one_agent_overlap_and_each_is_answered_once() {
    TestContext::wire(case!("ORD-3", "ORD-6"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 12, 400).await;
            let mut chat = ada.connect().await;
            // Whether one ends before the next begins is the scheduler's choice; that none waits for another shows in time.
            let mut overlapped = false;
            let mut run = chat.ask(SPEND_LESS).await;
            for _ in 0..8 {
                let story = story(&run);
                let tools = ["spend_by_model", "spend_by_feature", "duplicate_prompts"];
                let starts: Vec<usize> = tools.iter().map(|tool| place(&story, &format!("{tool}>"))).collect();
                let ends: Vec<usize> = tools.iter().map(|tool| place(&story, &format!("<{tool}"))).collect();
                for (start, end) in starts.iter().zip(&ends) {
                    assert!(start < end, "each begins before it ends: {story:#?}");
                }
                overlapped |= starts.iter().max() < ends.iter().min();
                if overlapped {
                    break;
                }
                run = chat.ask(SPEND_LESS).await;
            }
            assert!(overlapped, "the tools of one agent never overlap");

            let mut executions: Vec<String> = run
                .tools()
                .iter()
                .map(|tool| tool.executing.execution_id.to_string())
                .collect();
            let count = executions.len();
            executions.sort();
            executions.dedup();
            assert_eq!(executions.len(), count, "each execution has an id of its own");
            for tool in run.tools() {
                let end = tool.completed.expect("each is answered");
                assert_eq!(
                    (end.execution_id, end.tool_name),
                    (tool.executing.execution_id, tool.executing.tool_name)
                );
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_different_threads_overlap_and_each_alone_is_whole() {
    TestContext::wire(case!("ORD-6", "SEQ-1", "SEQ-6"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 13, 100).await;
            let mut chat = ada.connect().await;
            let mut runs = Vec::new();
            for name in ["one", "two", "three"] {
                let thread_id = ada.create_thread(name).await;
                let body = ClientBody::from(kingsguard_protocol::client::UserMessage {
                    content: SPEND_LESS.into(),
                    references: None,
                    metadata: None,
                });
                let message_id = chat.send_to(&thread_id, body).await;
                runs.push((thread_id, message_id));
            }
            for (thread_id, message_id) in runs {
                let accepted = chat.accepted(&message_id).await;
                assert_eq!(accepted.thread_id, thread_id);
                let run = chat.until_completed(&accepted.run_id).await;
                let seqs: Vec<u64> = run.events().iter().map(|event| event.header.seq).collect();
                assert_eq!(
                    seqs,
                    (1..=seqs.len() as u64).collect::<Vec<_>>(),
                    "each thread counts from 1"
                );
                assert!(run.events().iter().all(|event| event.header.thread_id == thread_id));
                assert_eq!(
                    run.completed().result["saving_estimate"],
                    expected.saving_estimate(None)
                );
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_question_over_the_same_records_tells_the_same_story() {
    TestContext::wire(case!("ORD-1", "ORD-3", "ORD-5"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 14, 100).await;
            let mut chat = ada.connect().await;
            let (first, second) = (
                chat.ask("What is my error rate?").await,
                chat.ask("What is my error rate?").await,
            );
            assert_eq!(story(&first), story(&second));
            assert_eq!(first.completed().result, second.completed().result);
            assert_eq!(first.completed().usage, second.completed().usage);
        })
        .await;
}
