//! A repeated `message_id` starts no second run (SEQ-8).

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("FLOW");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_names_the_first_run_whatever_its_content() {
    TestContext::wire(case!("SEQ-8", "MSG-5"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let thread = chat.thread_id();
            let send = |content: &str| {
                json!({ "type": "user_message", "message_id": "message_once", "thread_id": thread, "content": content })
            };
            chat.send_json(&send("How can I spend less?")).await;
            let first = chat.accepted(&"message_once".into()).await;
            chat.until_completed(&first.run_id).await;
            let mut other = ada.connect().await;
            for content in ["How can I spend less?", "Something else altogether"] {
                for chat in [&mut chat, &mut other] {
                    chat.send_json(&send(content)).await;
                    let again = chat.accepted(&"message_once".into()).await;
                    assert_eq!((&again.run_id, &again.thread_id), (&first.run_id, &first.thread_id), "{content}");
                }
            }
            let repeated = json!({
                "type": "start_agent", "message_id": "message_once", "thread_id": thread,
                "agent_name": "triage", "user_request": "another type",
            });
            chat.send_json(&repeated).await;
            assert_eq!(chat.accepted(&"message_once".into()).await.run_id, first.run_id);
            // What is not valid is refused all the same.
            chat.send_json(&json!({ "type": "user_message", "message_id": "message_once", "content": 7 })).await;
            chat.refusal_of(&"message_once".into(), ErrorCode::ValidationError).await;

            // One run, one message.
            let path = format!("/api/threads/{thread}/messages?limit=100");
            let history = ada.http().get(&path).await.expect_status(200).json();
            let said: Vec<&Value> = history["messages"]
                .as_array()
                .expect("a list")
                .iter()
                .filter(|message| message["role"] == "user")
                .map(|message| &message["content"])
                .collect();
            assert_eq!(said, [&json!("How can I spend less?")]);
            let started = history["events"].as_array().expect("a list").iter();
            assert_eq!(started.filter(|event| event["type"] == "agent_started").count(), 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_in_another_thread_is_another_message() {
    TestContext::wire(case!("SEQ-8"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut runs = std::collections::BTreeSet::new();
            for user in [&ada, &ada, &bob] {
                let mut chat = user.connect().await;
                chat.send_json(&json!({ "type": "chat", "message_id": "1", "content": "What did I spend?" }))
                    .await;
                let accepted = chat.accepted(&"1".into()).await;
                chat.until_completed(&accepted.run_id).await;
                runs.insert(accepted.run_id);
            }
            assert_eq!(runs.len(), 3);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_sent_at_once_start_one_run() {
    TestContext::wire(case!("SEQ-8", "ORD-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let shared = ada.create_thread("shared").await;
            // Both follow the thread before the run begins: who comes with a repeat may come after its end.
            let (mut one, mut two) = (ada.open().await, ada.open().await);
            for chat in [&mut one, &mut two] {
                chat.handshake_with(Some(&shared), Vec::new()).await;
            }
            let message = json!({
                "type": "user_message", "message_id": "message_once",
                "thread_id": shared, "content": "What did I spend?",
            });
            for _ in 0..4 {
                one.send_json(&message).await;
                two.send_json(&message).await;
            }
            let mut named = std::collections::BTreeSet::new();
            for _ in 0..4 {
                named.insert(one.accepted(&"message_once".into()).await.run_id);
                named.insert(two.accepted(&"message_once".into()).await.run_id);
            }
            assert_eq!(named.len(), 1, "{named:?}");
            for run_id in &named {
                one.until_completed(run_id).await;
                two.until_completed(run_id).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_recognised_before_any_limit_is_judged() {
    TestContext::wire(case!("SEQ-8", "LIM-1", "ERR-1"))
        .run(async |ctx| {
            // A burst is no normal load: TIM-1 is not judged here.
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let first = chat.ask("What did I spend?").await;
            let accepted = first.accepted().clone();
            // Use up the allowance.
            let mut limited = false;
            while !limited {
                let message_id = chat.say("What did I spend?").await;
                limited = matches!(chat.answer_to(&message_id).await, ControlFrame::Error(error) if error.error_code == ErrorCode::RateLimited);
            }
            let repeat = json!({ "type": "user_message", "message_id": accepted.message_id, "content": "Again?" });
            chat.send_json(&repeat).await;
            assert_eq!(chat.accepted(&accepted.message_id).await.run_id, accepted.run_id);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_repeats_a_message_on_another_connection_follows_its_run() {
    TestContext::wire(case!("SEQ-6", "SEQ-8"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (mut chat, mut other) = (ada.connect().await, ada.connect().await);
            let message = json!({
                "type": "user_message", "message_id": "message_once", "thread_id": chat.thread_id(),
                "content": ctx.long_run_prompt(2),
            });
            chat.send_json(&message).await;
            let run_id = chat.accepted(&"message_once".into()).await.run_id;
            other.send_json(&message).await;
            assert_eq!(other.accepted(&"message_once".into()).await.run_id, run_id);
            chat.until_completed(&run_id).await;
            other
                .expect_event("the end of the run", |event| {
                    event.header.run_id == run_id && matches!(event.body, EventBody::AgentCompleted(_))
                })
                .await;
        })
        .await;
}
