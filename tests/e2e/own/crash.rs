//! A node that dies in the middle of its work.

use std::time::{Duration, Instant};

use kingsguard_protocol::client::GetThreadHistory;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("BRG-2", "SUB-1");

/// SEQ-9: from taking over to the end of the run.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

async fn history(chat: &mut Chat, thread_id: &ThreadId) -> (Vec<Value>, Vec<String>) {
    let ask = chat
        .send_to(
            thread_id,
            GetThreadHistory {
                limit: Some(100),
                before: None,
            },
        )
        .await;
    let ControlFrame::ThreadHistory(page) = chat.answer_to(&ask).await else {
        panic!("expected thread_history")
    };
    let events = page
        .events
        .iter()
        .map(|event| serde_json::from_str(event.get()).expect("JSON"))
        .collect();
    (
        events,
        page.messages.into_iter().map(|message| message.content).collect(),
    )
}

async fn watching(chat: &mut Chat) -> RunId {
    let asked = chat.say("Watch my usage for 25 seconds").await;
    let run_id = chat.accepted(&asked).await.run_id;
    chat.expect_event(
        "watch_usage",
        |event| matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"),
    )
    .await;
    run_id
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events.iter().filter_map(|event| event["seq"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_whose_node_is_killed_and_restarted_ends_soon_and_leaves_no_hole() {
    TestContext::own(case!("SEQ-9", "SEQ-1", "SEQ-2", "ORD-3", "ORD-4", "ORD-5"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run_id = watching(&mut chat).await;
            ctx.kill_node(0).await;
            chat.expect_closed().await;
            ctx.start_node(0).await;
            let back = Instant::now();
            let mut again = ada.resume(&mut chat).await;
            let rest = again.until_completed(&run_id).await;
            let took = ctx.time_since(back);
            assert!(took < ENDED_WITHIN, "{took:?}");
            assert_eq!(
                (rest.completed().status, rest.completed().success),
                (RunStatus::Failed, false)
            );
            assert!(rest.completed().error.is_some(), "it says why");

            let (events, _) = history(&mut again, &chat.thread_id()).await;
            assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
            let count = |kind: &str| events.iter().filter(|event| event["type"] == kind).count();
            assert_eq!(count("agent_started"), 1);
            assert_eq!(count("agent_completed"), 1);
            assert_eq!(count("tool_executing"), count("tool_completed"), "every pair is closed");
            assert_eq!(count("subagent_started"), count("subagent_completed"));

            let next = again.ask("Hello").await;
            assert_eq!(
                next.events()[0].header.seq,
                events.len() as u64 + 1,
                "the log goes on where it ended"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_ends_the_run_of_a_dead_one() {
    TestContext::own(case!("SEQ-9", "SEQ-1", "SEQ-6", "ORD-4"))
        .with_nodes(2)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let options = ada.options().with_base_url(&ctx.node_url(1).await);
            let thread_id = chat.thread_id();
            let run_id = watching(&mut chat).await;
            let mut other = ada.open_with(options).await;
            let epoch = chat.positions()[&thread_id].0.clone();
            let resume = vec![ThreadResume {
                thread_id: thread_id.clone(),
                point: ResumePoint { epoch, after: 0 },
            }];
            other.handshake_with(Some(&thread_id), resume).await;
            ctx.kill_node(0).await;
            let died = Instant::now();
            let run = other.until_completed(&run_id).await;
            let took = ctx.time_since(died);
            // It must be noticed first, which takes a lease, and then ended.
            assert!(took < Duration::from_secs(3) + ENDED_WITHIN, "{took:?}");
            assert_eq!(run.completed().status, RunStatus::Failed);
            let numbers: Vec<u64> = run.events().iter().map(|event| event.header.seq).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_accepted_survives_the_death_of_its_node() {
    TestContext::own(case!("MSG-5", "SEQ-9", "SEQ-8"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say("Hello from before the crash").await;
            let accepted = chat.accepted(&asked).await;
            ctx.kill_node(0).await;
            chat.expect_closed().await;
            ctx.start_node(0).await;
            let back = Instant::now();
            let mut again = ada.connect().await;
            ctx.eventually("the run's end", async || {
                let told = ada.http().get(&format!("/api/runs/{}", accepted.run_id)).await.json();
                let ended = ["completed", "failed"].iter().any(|status| told["status"] == *status);
                if ended { Ok(()) } else { Err(told.to_string()) }
            })
            .await;
            let took = ctx.time_since(back);
            assert!(took < ENDED_WITHIN, "{took:?}");
            let (events, messages) = history(&mut again, &accepted.thread_id).await;
            assert_eq!(messages[0], "Hello from before the crash");
            let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
            assert_eq!(kinds.first(), Some(&"agent_started"));
            assert_eq!(kinds.iter().filter(|kind| **kind == "agent_completed").count(), 1);
            assert_eq!(kinds.last(), Some(&"agent_completed"));
            assert!(kinds.contains(&"agent_thinking"));
            assert_eq!(seqs(&events), (1..=events.len() as u64).collect::<Vec<_>>());
        })
        .await;
}
