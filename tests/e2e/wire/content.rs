//! What users write: any text, too much of it, nothing, and what must never be shown.

use kingsguard_protocol::client::{ExampleMessage, GetThreadHistory, StopAgent, UserMessage};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use rstest::rstest;

use crate::expected::Expected;
use crate::people::{customer, origins};

covers!("GOLD", "FLOW");

/// What the thread's history has as the user's newest message.
async fn kept(chat: &mut Chat) -> (String, Value) {
    let thread_id = chat.thread_id();
    let ask = chat
        .send_to(
            &thread_id,
            GetThreadHistory {
                limit: None,
                before: None,
            },
        )
        .await;
    let ControlFrame::ThreadHistory(history) = chat.answer_to(&ask).await else {
        panic!("expected thread_history")
    };
    let message = history
        .messages
        .iter()
        .rev()
        .find(|message| serde_json::to_value(message.role).is_ok_and(|role| role == "user"))
        .expect("the user's message is kept");
    (
        message.content.clone(),
        serde_json::from_str(message.metadata.get()).expect("metadata is JSON"),
    )
}

#[rstest]
#[case::scripts("Grüße, 日本語, العربية, हिन्दी, עברית")]
#[case::emoji("👩‍👩‍👧‍👦 🏳️‍🌈 🦀 e\u{301} \u{200d}\u{202e}abc\u{202c}")]
#[case::markup("<script>alert('x')</script> & \"quotes\" \\ / `ticks` ${HOME} {{7*7}}")]
#[case::sql("Robert'); DROP TABLE events;-- ' OR 1=1")]
#[case::white("tab\tline\nreturn\r\nnothing\u{b}\u{c}\u{7f}end")]
#[case::edges("\u{ffff}\u{10ffff}\u{e000}\u{feff}\u{fffd}")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_text_comes_back_as_it_was_written(#[case] text: &str) {
    TestContext::wire(case!("SEC-1", "EVT-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let metadata = json!({ "text": text, "big": 9_007_199_254_740_993_u64, "small": -1, "none": null });
            let body = UserMessage {
                content: text.to_owned(),
                references: None,
                metadata: Some(serde_json::value::to_raw_value(&metadata).expect("it is JSON")),
            };
            let message_id = chat.send(body).await;
            let run_id = chat.accepted(&message_id).await.run_id;
            let run = chat.until_completed(&run_id).await;
            assert_eq!(run.started().context.input_chars, text.chars().count() as u64);
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                run.thoughts()[0].reasoning.contains(&format!("“{words}”")),
                "{:?} quotes {words:?}",
                run.thoughts()[0]
            );
            assert_eq!(kept(&mut chat).await, (text.to_owned(), metadata));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_8_000_characters_is_taken_and_one_more_is_refused_at_its_pointer() {
    TestContext::wire(case!("LIM-1", "MSG-4", "SEC-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            for (letter, chars) in [("a", 8_000), ("🦀", 8_000)] {
                let text = letter.repeat(chars);
                let run = chat.ask(&text).await;
                assert_eq!(run.started().context.input_chars, 8_000);
                assert_eq!(kept(&mut chat).await.0, text, "nothing is cut from what the user wrote");
            }
            for letter in ["a", "🦀"] {
                let message_id = chat.say(&letter.repeat(8_001)).await;
                let refusal = chat.refusal_of(&message_id, ErrorCode::ValidationError).await;
                assert_eq!(refusal.details["pointer"], "/content");
            }
            let run = chat.ask("Hello").await;
            assert_eq!(run.started().context.input_chars, 5, "the connection goes on");
        })
        .await;
}

#[rstest]
#[case::null(json!({ "type": "user_message", "content": null }), "/content")]
#[case::missing(json!({ "type": "user_message" }), "/content")]
#[case::empty(json!({ "type": "user_message", "content": "" }), "/content")]
#[case::number(json!({ "type": "user_message", "content": 5 }), "/content")]
#[case::in_payload(json!({ "type": "user_message", "payload": { "content": null } }), "/payload/content")]
#[case::metadata(json!({ "type": "user_message", "content": "x", "metadata": [] }), "/metadata")]
#[case::references(json!({ "type": "user_message", "content": "x", "references": {} }), "/references")]
#[case::agent(json!({ "type": "start_agent", "agent_name": null, "user_request": "x" }), "/agent_name")]
#[case::request(json!({ "type": "start_agent", "agent_name": "data", "user_request": 1 }), "/user_request")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_is_null_or_wrong_is_refused_by_its_pointer_and_starts_nothing(
    #[case] mut message: Value,
    #[case] pointer: &str,
) {
    TestContext::wire(case!("MSG-4", "ERR-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            message["message_id"] = json!("wrong-1");
            chat.send_json(&message).await;
            let refusal = chat
                .refusal_of(&MessageId::from("wrong-1"), ErrorCode::ValidationError)
                .await;
            let pointers = [pointer, pointer.trim_start_matches("/payload")];
            let told = refusal.details["pointer"].as_str().expect("a pointer");
            assert!(pointers.contains(&told), "{told} is not among {pointers:?}");
            assert!(
                refusal.details["expected"]
                    .as_str()
                    .is_some_and(|expected| !expected.is_empty())
            );
            assert_eq!(chat.ask("Hello").await.events()[0].header.seq, 1, "nothing was started");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nulls_and_unknown_fields_beside_a_message_change_nothing() {
    TestContext::wire(case!("MSG-0"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let message = json!({
                "type": "chat", "message_id": "odd-1", "thread_id": null, "timestamp": "2026-01-01T10:00:00",
                "run_id": "my own idea", "event_id": null, "user_id": "user_of_somebody", "colour": ["blue"],
                "payload": { "content": "Hello", "references": null, "metadata": null, "thread_id": null, "x": {} },
            });
            chat.send_json(&message).await;
            let accepted = chat.accepted(&MessageId::from("odd-1")).await;
            assert_eq!(accepted.thread_id, chat.thread_id());
            assert_ne!(accepted.run_id, RunId::from("my own idea"));
            let run = chat.until_completed(&accepted.run_id).await;
            assert_eq!(origins(&run)[0].2, ada.user_id().as_str(), "nothing is taken on trust");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_example_is_worked_on_with_its_own_stored_records() {
    TestContext::wire(case!("MSG-1", "EVT-5", "ISO-3"))
        .run(async |ctx| {
            let (ada, own) = customer(ctx, "ada", 61, 50).await;
            let mut chat = ada.connect().await;
            let body = ExampleMessage {
                content: "What did I spend?".into(),
                category: "cost".into(),
            };
            let message_id = chat.send(body).await;
            let run_id = chat.accepted(&message_id).await.run_id;
            let run = chat.until_completed(&run_id).await;
            let example = Expected::example_of_costs();
            assert_eq!(run.completed().result["spend_by_model"], example.spend_by_model());
            assert_eq!(run.completed().result["spend_by_feature"], example.spend_by_feature());
            let next = chat.ask("What did I spend?").await;
            assert_eq!(
                next.completed().result["spend_by_model"],
                own.spend_by_model(),
                "one's own stay one's own"
            );

            let unknown = ExampleMessage {
                content: "Hello".into(),
                category: "poetry".into(),
            };
            let message_id = chat.send(unknown).await;
            let refusal = chat.refusal_of(&message_id, ErrorCode::ValidationError).await;
            assert_eq!(refusal.details["pointer"], "/category");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_in_a_question_or_in_records_are_in_no_event() {
    TestContext::wire(case!("EVT-8", "AUTH-8"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let secret = |kind: &str| format!("Zq{kind}{}", ada.canary());
            let jwt = format!("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ{}.c2lnbmF0dXJl", secret("jwt"));
            let csv = format!(
                "timestamp,model,input_tokens,output_tokens,latency_ms,feature,cost_microusd\n\
                 2026-01-01T00:00:00Z,gpt-4o,10,10,100,password={},50\n\
                 2026-01-02T00:00:00Z,sk-{},10,10,100,search,50\n",
                secret("feature"),
                secret("model"),
            );
            let stored = ada
                .http()
                .post_as("/api/usage-records", "text/csv", csv)
                .await
                .expect_status(201);
            assert_eq!(stored.json()["stored"], 2);
            let thread_id = ada.create_thread(&format!("api_key={}", secret("title"))).await;
            let mut chat = ada.open().await;
            chat.handshake_with(Some(&thread_id), Vec::new()).await;
            let question = format!(
                "What did I spend? My password={} and key sk-{} with Authorization: Bearer {} and {jwt}",
                secret("word"),
                secret("key"),
                secret("bearer"),
            );
            let runs = [
                chat.ask(&question).await,
                chat.ask_agent("cost_analyst", &question).await,
            ];
            assert_eq!(
                kept(&mut chat).await.0,
                question,
                "one's own words in one's own history are left alone"
            );
            let watched = chat.say("Watch my usage for 25 seconds").await;
            let run_id = chat.accepted(&watched).await.run_id;
            let reason = format!("since secret: {}", secret("reason"));
            chat.send(StopAgent {
                run_id: run_id.clone(),
                reason: Some(reason),
            })
            .await;
            let stopped = chat.until_completed(&run_id).await;
            for frame in runs.iter().chain([&stopped]).flat_map(RunView::frames) {
                assert!(!frame.text().contains("Zq"), "a credential stands in {}", frame.text());
            }
            let spend = &runs[0].completed().result["spend_by_model"];
            assert_eq!(spend["total_cost_microusd"], 100, "the figures are there all the same");
            assert_eq!(spend["total_calls"], 2);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blanks_around_a_text_are_a_part_of_it() {
    TestContext::wire(case!("SEC-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let content = "\n\t  What did I spend? \u{a0}\u{3000} \r\n";
            let title = "  in the middle \t";
            let thread_id = ada.create_thread(title).await;
            let stored = ada.http().get(&format!("/api/threads/{thread_id}")).await.json();
            assert_eq!(stored["title"], title);
            let mut chat = ada.connect().await;
            let run = chat.ask(content).await;
            assert_eq!(run.started().context.input_chars, content.chars().count() as u64);
            assert_eq!(kept(&mut chat).await.0, content);
        })
        .await;
}
