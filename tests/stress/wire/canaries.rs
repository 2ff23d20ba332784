//! Users who put a word of their own into every field that takes text: nobody else ever receives it, at any door.

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use kingsguard_protocol::http::UsageRecord;
use kingsguard_testkit::prelude::*;
use kingsguard_testkit::recording::Direction;
use kingsguard_tests::sse::SseStream;
use pretty_assertions::assert_eq;

covers!("BRG-5");

/// What one user said and was told.
struct Told {
    /// Words that are his alone.
    words: Vec<String>,
    /// What came over REST and Server-Sent Events.
    texts: Vec<String>,
}

/// The alphanumeric parts of a text, which is how a canary stands in it.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.len() >= 8)
}

/// The random part of an id.
fn tail(id: &str) -> String {
    id.rsplit('-').next().unwrap_or_default().to_owned()
}

fn records(word: &str) -> SampleRecords {
    let row = |index: i64| UsageRecord {
        timestamp: (Utc::now() - TimeDelta::hours(index + 1)).into(),
        model: format!("model-{word}"),
        input_tokens: 100,
        output_tokens: 10,
        latency_ms: Some(300),
        feature: Some(format!("feature-{word}")),
        cost_microusd: Some(7),
        prompt_hash: Some(format!("{word}-{index}")),
        success: Some(true),
    };
    SampleRecords::from_rows((0..25).map(row).collect())
}

/// Speaks with a canary in every field that takes text, and reads every door afterwards.
async fn speak(ctx: &TestContext, label: &str) -> Told {
    let user = ctx.user(label).await;
    let word = user.canary().to_owned();
    user.upload(&records(&word)).await;
    let body =
        json!({ "title": format!("title {word}"), "metadata": { "mark": word, &word: [word, { "deep": word }] } });
    let made = user.http().post("/api/threads", &body).await.expect_status(201).json();
    let thread_id = ThreadId::from(made["thread_id"].as_str().expect("a thread has an id"));
    let mut chat = user.open().await;
    chat.handshake_with(Some(&thread_id), Vec::new()).await;
    let mut stream = SseStream::open(ctx, &user, &thread_id, None).await;

    let mut runs = Vec::new();
    let mut events = 0;
    for message in [
        json!({ "type": "user_message", "content": format!("What did I spend? {word}"), "references": [word, { "at": word }],
                "metadata": { "mark": word } }),
        json!({ "type": "start_agent", "agent_name": "triage", "user_request": format!("Spending, {word}"),
                "context": { "note": word } }),
    ] {
        let message_id = MessageId::generate();
        let mut message = message;
        message["message_id"] = json!(message_id);
        chat.send_json(&message).await;
        let accepted = chat.accepted(&message_id).await;
        let run = chat.until_completed(&accepted.run_id).await;
        assert_eq!(run.completed().status, RunStatus::Completed);
        assert!(
            run.frames().iter().any(|frame| frame.text().contains(&word)),
            "his word came back to him"
        );
        events += run.events().len();
        runs.push(accepted.run_id);
    }
    for (message, answer) in [
        (
            json!({ "type": "create_thread", "title": format!("second {word}"), "metadata": { "mark": word } }),
            "thread_created",
        ),
        (
            json!({ "type": "rename_thread", "thread_id": thread_id, "title": format!("renamed {word}") }),
            "thread_renamed",
        ),
        (
            json!({ "type": "broadcast", "content": format!("to all of me {word}") }),
            "broadcast",
        ),
        (
            json!({ "type": "validate_content", "content": word, "content_type": "user_message" }),
            "content_validation_result",
        ),
        (json!({ "type": "list_threads" }), "thread_list"),
        (
            json!({ "type": "get_agent_context", "thread_id": thread_id }),
            "agent_context",
        ),
        (json!({ "type": "get_usage" }), "usage_report"),
    ] {
        chat.send_json(&message).await;
        chat.expect_control(answer).await;
    }

    let mut texts: Vec<String> = stream.take(events).await.into_iter().map(|event| event.data).collect();
    assert!(
        texts.iter().any(|text| text.contains(&word)),
        "his word is in his stream"
    );
    let thread = format!("/api/threads/{thread_id}");
    let run = format!("/api/runs/{}", runs[0]);
    for (path, holds) in [
        ("/auth/me", label),
        ("/api/threads", &word),
        (&thread, &word),
        (&format!("{thread}/messages?limit=100"), &word),
        (&run, thread_id.as_str()),
        ("/api/billing/usage", ""),
        ("/api/agents", ""),
    ] {
        let text = user.http().get(path).await.expect_status(200).text();
        assert!(text.contains(holds), "{path} shows what is his: {text}");
        texts.push(text);
    }
    // A refusal quotes as well.
    let refused = user
        .http()
        .post("/api/chat/messages", &json!({ "thread_id": word, "content": word }))
        .await;
    texts.push(refused.text());
    let mut own = vec![
        word,
        label.to_owned(),
        tail(user.user_id().as_str()),
        tail(thread_id.as_str()),
    ];
    own.extend(runs.iter().map(|run_id| tail(run_id.as_str())));
    Told { words: own, texts }
}

async fn no_word_travels(ctx: &TestContext, users: usize) {
    ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
    let told = join_all((0..users).map(async |nth| speak(ctx, &format!("name{nth:03}of{users}")).await)).await;
    let recording = ctx.recording();
    let labels: Vec<&str> = recording.facts.users.iter().map(|user| user.label.as_str()).collect();
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for told in &told {
        let label = told.words[1].as_str();
        for word in &told.words {
            assert_eq!(
                owners.insert(word, label),
                None,
                "`{word}` would tell nothing: it is of two users"
            );
        }
    }
    let judge = |label: &str, text: &str| {
        let strange = words(text).find(|word| owners.get(word).is_some_and(|owner| *owner != label));
        assert_eq!(
            strange,
            None,
            "a word of {:?} came to {label}: {text}",
            strange.map(|word| owners[word])
        );
    };
    let (mut frames, mut texts) = (0, 0);
    for connection in &recording.connections {
        let label = labels[connection.user.expect("every connection is a user's")];
        for entry in connection
            .entries
            .iter()
            .filter(|entry| entry.direction == Direction::Received)
        {
            judge(label, &String::from_utf8_lossy(&entry.bytes));
            frames += 1;
        }
    }
    for told in &told {
        for text in &told.texts {
            judge(&told.words[1], text);
            texts += 1;
        }
    }
    ctx.figure(&format!("canary_frames_{users}_users"), f64::from(frames), "frames");
    ctx.figure(&format!("canary_texts_{users}_users"), f64::from(texts), "texts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_word_of_25_users_reaches_another_over_socket_stream_or_rest() {
    TestContext::wire(case!("ISO-1", "ISO-2", "ISO-3"))
        .run(async |ctx| no_word_travels(ctx, 25).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_word_of_100_users_reaches_another_over_socket_stream_or_rest() {
    TestContext::wire(case!("ISO-1", "ISO-2", "ISO-3"))
        .run(async |ctx| no_word_travels(ctx, 100).await)
        .await;
}
