//! Several turns of one conversation.

use kingsguard_protocol::client::{AgentStatusRequest, UserMessage};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, customer};

covers!("GOLD");

fn seqs(run: &RunView) -> Vec<u64> {
    run.events().iter().map(|event| event.header.seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_asked_at_once_are_answered_one_after_another_in_their_order() {
    TestContext::wire(case!("SEQ-1", "ORD-6", "MSG-5", "TIM-1"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 41, 100).await;
            let mut chat = ada.connect().await;
            let mut asked = Vec::new();
            for question in [
                SPEND_LESS,
                "What is the trend?",
                "How many calls failed?",
                "What did I spend?",
            ] {
                asked.push(chat.say(question).await);
            }
            let mut all = Vec::new();
            let mut results = Vec::new();
            for message_id in asked {
                let run_id = chat.accepted(&message_id).await.run_id;
                let run = chat.until_completed(&run_id).await;
                all.extend(seqs(&run));
                results.push(run.completed().result.clone());
            }
            assert_eq!(
                all,
                (1..=all.len() as u64).collect::<Vec<_>>(),
                "each run follows the one before"
            );
            assert_eq!(results[0]["saving_estimate"], expected.saving_estimate(None));
            assert_eq!(results[1]["spend_trend"], expected.spend_trend());
            assert_eq!(results[2]["error_rate"], expected.error_rate());
            assert_eq!(results[3]["spend_by_feature"], expected.spend_by_feature());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_up_question_goes_on_from_the_days_of_the_one_before() {
    TestContext::wire(case!("EVT-5", "ISO-3"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 42, 300).await;
            let week = expected.newest_days(7);
            let mut chat = ada.connect().await;
            let first = chat.ask("What did I spend in the last 7 days?").await;
            assert_eq!(first.completed().result["spend_by_model"], week.spend_by_model());
            let second = chat.ask("And how slow was it?").await;
            assert_eq!(second.completed().result["period"], first.completed().result["period"]);
            assert_eq!(
                second.completed().result["latency_percentiles"],
                week.latency_percentiles()
            );
            let third = chat.ask("What did I spend?").await;
            assert_eq!(
                third.completed().result["spend_by_model"],
                expected.spend_by_model(),
                "a question of its own is about the whole time"
            );

            let mut elsewhere = ada.connect().await;
            let other = elsewhere.ask("And how slow was it?").await;
            assert_eq!(
                other.completed().result["latency_percentiles"],
                expected.latency_percentiles(),
                "another thread remembers nothing of this one"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_sent_again_names_its_first_run_and_starts_no_other() {
    TestContext::wire(case!("SEQ-8"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let say = |content: &str| ClientMessage {
                message_id: Some(MessageId::from("mine-1")),
                thread_id: None,
                body: ClientBody::from(UserMessage {
                    content: content.into(),
                    references: None,
                    metadata: None,
                }),
            };
            let id = chat.send_message(say("Hello")).await;
            let first = chat.accepted(&id).await;
            chat.send_message(say("Hello")).await;
            let at_once = chat.accepted(&id).await;
            let run = chat.until_completed(&first.run_id).await;
            chat.send_message(say("Something else entirely")).await;
            let later = chat.accepted(&id).await;
            assert_eq!([&at_once.run_id, &later.run_id], [&first.run_id, &first.run_id]);
            assert_eq!((later.message_id, later.thread_id), (first.message_id, first.thread_id));

            let next = chat.ask("What is new?").await;
            assert_eq!(
                next.events()[0].header.seq,
                seqs(&run).len() as u64 + 1,
                "no second run is in the log"
            );
            let mut other = ada.connect().await;
            let id = other.send_message(say("Hello")).await;
            let elsewhere = other.accepted(&id).await;
            assert_ne!(elsewhere.run_id, first.run_id, "another thread has not seen it");
            other.until_completed(&elsewhere.run_id).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_s_state_is_told_while_it_goes_on_and_after() {
    TestContext::wire(case!("MSG-1", "HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say(&ctx.long_run_prompt(2)).await;
            let accepted = chat.accepted(&asked).await;
            chat.expect_event("agent_started", |event| {
                matches!(event.body, EventBody::AgentStarted(_))
            })
            .await;
            let ask = chat.send(AgentStatusRequest { run_id: None }).await;
            let ControlFrame::AgentStatusUpdate(update) = chat.answer_to(&ask).await else {
                panic!("expected agent_status_update")
            };
            let open: Vec<_> = update.runs.iter().map(|run| (run.run_id.clone(), run.status)).collect();
            assert_eq!(open, [(accepted.run_id.clone(), RunPhase::Running)]);

            let run = chat.until_completed(&accepted.run_id).await;
            let ask = chat
                .send(AgentStatusRequest {
                    run_id: Some(accepted.run_id.clone()),
                })
                .await;
            let ControlFrame::AgentStatusUpdate(update) = chat.answer_to(&ask).await else {
                panic!("expected agent_status_update")
            };
            assert_eq!(update.runs.len(), 1);
            assert_eq!(
                (update.runs[0].status, update.runs[0].usage),
                (RunPhase::Completed, run.completed().usage)
            );
            let told = ada
                .http()
                .get(&format!("/api/runs/{}", accepted.run_id))
                .await
                .expect_status(200)
                .json();
            assert_eq!(told["status"], "completed");
            assert_eq!(told["run_id"], accepted.run_id.as_str());
        })
        .await;
}
