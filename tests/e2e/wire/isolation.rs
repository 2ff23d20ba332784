//! Many users at once, and nothing of one reaches another. That no canary travels is judged by the kit's validators; here
//! each user sees his own in every place where his words go, so that the judgement is not empty.

use chrono::{TimeDelta, Utc};
use kingsguard_protocol::client::{Broadcast, UserMessage};
use kingsguard_protocol::http::UsageRecord;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::oracle::assert_no_oracle;
use pretty_assertions::assert_eq;

use crate::people::{of_type, origins};

covers!("BRG-5");

fn say(content: String, metadata: Value) -> UserMessage {
    UserMessage {
        content,
        references: None,
        metadata: Some(serde_json::value::to_raw_value(&metadata).expect("it is JSON")),
    }
}

/// Twenty-five records whose feature, model and prompts carry a word.
fn marked(word: &str, cost: u64) -> SampleRecords {
    let row = |index: i64| UsageRecord {
        timestamp: (Utc::now() - TimeDelta::hours(3 * index + 1)).into(),
        model: format!("model-{word}"),
        input_tokens: 100,
        output_tokens: 10,
        latency_ms: Some(250),
        feature: Some(format!("feature-{word}")),
        cost_microusd: Some(cost),
        prompt_hash: Some(format!("prompt-{word}-{}", index % 5)),
        success: Some(true),
    };
    SampleRecords::from_rows((0..25).map(row).collect())
}

async fn converse(ctx: &TestContext, nth: u64) {
    let user = ctx.user(&format!("user{nth}")).await;
    let word = user.canary().to_owned();
    user.upload(&marked(&word, 1_000 + nth)).await;
    let thread_id = user.create_thread(&format!("title {word}")).await;
    let mut chat = user.open().await;
    chat.handshake_with(Some(&thread_id), Vec::new()).await;
    for round in 0..3 {
        let message_id = chat
            .send(say(
                format!("What did I spend? {word} {round}"),
                json!({ "mark": word }),
            ))
            .await;
        let accepted = chat.accepted(&message_id).await;
        let run = chat.until_completed(&accepted.run_id).await;
        assert_eq!(
            origins(&run),
            [(
                message_id.to_string(),
                accepted.run_id.to_string(),
                user.user_id().to_string()
            )]
        );
        assert_eq!(
            run.started().context.thread_title.as_deref(),
            Some(format!("title {word}").as_str())
        );
        let spend = &run.completed().result["spend_by_model"];
        assert_eq!(
            spend["total_cost_microusd"],
            25 * (1_000 + nth),
            "exactly the user's own records"
        );
        assert_eq!(spend["models"][0]["model"], format!("model-{word}"));
        assert_eq!(
            run.completed().result["spend_by_feature"]["features"][0]["feature"],
            format!("feature-{word}")
        );
        assert!(
            of_type(&run, "agent_thinking")[0]["reasoning"]
                .to_string()
                .contains(&word)
        );
    }
    let run = chat.ask("Which prompts repeat?").await;
    let prompts = run.completed().result["duplicate_prompts"]["prompts"].clone();
    assert_eq!(prompts.as_array().map(Vec::len), Some(5));
    assert!(prompts.to_string().contains(&format!("prompt-{word}-0")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_users_at_once_see_their_own_words_and_figures_and_nobody_else_s() {
    TestContext::wire(case!("ISO-1", "ISO-3", "ORD-6"))
        .run(async |ctx| {
            futures_util::future::join_all((0..10).map(|nth| converse(ctx, nth))).await;
            let seen: std::collections::BTreeSet<_> = ctx
                .recording()
                .connections
                .iter()
                .filter_map(|connection| connection.user)
                .collect();
            assert_eq!(seen.len(), 10);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_reaches_all_connections_of_its_user_and_nobody_else() {
    TestContext::wire(case!("ISO-1", "MSG-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let (mut phone, mut desk, mut eves) = (ada.connect().await, ada.connect().await, eve.connect().await);
            let content = format!("lunch {}", ada.canary());
            phone
                .send(Broadcast {
                    content: content.clone(),
                })
                .await;
            for chat in [&mut phone, &mut desk] {
                let frame = chat
                    .expect("the broadcast", |frame| {
                        frame
                            .control()
                            .is_some_and(|control| matches!(control, ControlFrame::Broadcast(_)))
                    })
                    .await;
                assert_eq!(frame.json()["content"], content.as_str());
            }
            // A whole run of hers comes after the broadcast; it would have come before its end.
            eves.ask("Hello").await;
            let strange = eves
                .unclaimed()
                .iter()
                .find(|frame| frame.text().contains(ada.canary()));
            assert!(strange.is_none(), "{strange:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_thread_takes_as_long_to_refuse_as_one_that_never_was() {
    TestContext::wire(case!("ISO-2")).run(assert_no_oracle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_thread_and_one_that_never_was_are_refused_alike_everywhere() {
    TestContext::wire(case!("ISO-2", "ISO-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let thread_id = ada.create_thread("mine").await;
            let mut eves = eve.connect().await;
            let unknown = ThreadId::generate();
            for message in [
                json!({ "type": "user_message", "content": "Hello" }),
                json!({ "type": "start_agent", "agent_name": "data", "user_request": "Hello" }),
                json!({ "type": "switch_thread" }),
                json!({ "type": "rename_thread", "title": "hers" }),
                json!({ "type": "delete_thread" }),
                json!({ "type": "get_thread_history" }),
                json!({ "type": "get_agent_context" }),
                json!({ "type": "typing_started" }),
            ] {
                let mut told = Vec::new();
                for id in [thread_id.as_str(), unknown.as_str(), "../../etc/passwd", "' OR 1=1 --"] {
                    let message_id = MessageId::generate();
                    let mut asked = message.clone();
                    asked["thread_id"] = json!(id);
                    asked["message_id"] = json!(message_id.as_str());
                    eves.send_json(&asked).await;
                    let refusal = eves.refusal_of(&message_id, ErrorCode::ThreadNotFound).await;
                    told.push((refusal.message, refusal.details, refusal.recovery));
                }
                told.dedup();
                assert_eq!(told.len(), 1, "{message} tells foreign from unknown: {told:?}");
            }
            for path in ["", "/messages"] {
                let mut told = Vec::new();
                for id in [thread_id.as_str(), unknown.as_str()] {
                    let answer = eve.http().get(&format!("/api/threads/{id}{path}")).await;
                    let refusal = answer.expect_error(ErrorCode::ThreadNotFound);
                    told.push((refusal.message, refusal.details));
                }
                assert_eq!(told[0], told[1]);
            }
            let mine = ada
                .http()
                .get(&format!("/api/threads/{thread_id}"))
                .await
                .expect_status(200)
                .json();
            assert_eq!(
                (&mine["title"], &mine["last_seq"]),
                (&json!("mine"), &json!(0)),
                "nothing happened to it"
            );
        })
        .await;
}
