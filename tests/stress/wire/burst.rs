//! More at once than anyone would type.

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("STRESS");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_messages_is_accepted_up_to_the_stated_limit_and_then_refused_one_by_one() {
    TestContext::wire(case!("LIM-1", "SEC-3", "ERR-1", "SEQ-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);
            let limits = adas.established().limits;
            let limits = serde_json::to_value(limits).expect("limits are JSON");
            let burst = usize::try_from(limits["messages_burst_max"].as_u64().expect("stated")).expect("small");
            let mut asked = Vec::new();
            for _ in 0..burst + 15 {
                asked.push(adas.say("Hello").await);
            }
            let mut runs = Vec::new();
            let mut refused = Vec::new();
            for message_id in &asked {
                match adas.answer_to(message_id).await {
                    ControlFrame::MessageReceived(accepted) => runs.push(accepted.run_id),
                    ControlFrame::Error(error) => {
                        assert_eq!(error.error_code, ErrorCode::RateLimited);
                        assert!(error.retry_after_ms.is_some_and(|wait| wait > 0), "{error:?}");
                        refused.push(error);
                    }
                    other => panic!("expected one answer to each message, but {other:?}"),
                }
            }
            assert_eq!(runs.len() + refused.len(), asked.len(), "none is silent");
            assert!(
                runs.len() >= burst,
                "{} of a stated burst of {burst} were accepted",
                runs.len()
            );
            assert!(refused.len() >= 10, "the limit holds: {} were refused", refused.len());
            let others = bobs.ask("Hello").await;
            assert_eq!(
                others.completed().status,
                RunStatus::Completed,
                "another user is not held back"
            );
            let mut last = 0;
            for run_id in &runs {
                let run = adas.until_completed(run_id).await;
                assert_eq!(run.completed().status, RunStatus::Completed);
                for event in run.events() {
                    last += 1;
                    assert_eq!(event.header.seq, last);
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_repeated_eighty_times_is_one_run() {
    TestContext::wire(case!("SEQ-8", "SEQ-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let ada = ctx.user("ada").await;
            let mut phone = ada.connect().await;
            let warm = phone.ask("Hello").await;
            let thread_id = phone.thread_id();
            let mut desk = ada.open().await;
            desk.handshake_with(Some(&thread_id), Vec::new()).await;
            let message = json!({ "type": "chat", "message_id": "again", "content": "Hello" });
            for _ in 0..40 {
                phone.send_json(&message).await;
                desk.send_json(&message).await;
            }
            let id = MessageId::from("again");
            let first = phone.accepted(&id).await;
            for _ in 0..39 {
                assert_eq!(phone.accepted(&id).await.run_id, first.run_id);
            }
            for _ in 0..40 {
                assert_eq!(desk.accepted(&id).await.run_id, first.run_id);
            }
            let run = phone.until_completed(&first.run_id).await;
            let next = phone.ask("Hello").await;
            assert_eq!(
                next.events()[0].header.seq,
                (warm.events().len() + run.events().len()) as u64 + 1,
                "nothing else is in the log"
            );
        })
        .await;
}
