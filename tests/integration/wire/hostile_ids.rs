//! Ids that are not one's own, at every door: whatever stands there, it opens nothing and is refused in one shape (ISO-2).

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("BRG-1");

/// Texts that are no id of `own`'s user: strange ones, wrong forms of his own id, and somebody else's.
fn strange_ids(own: &str, foreign: &str) -> Vec<String> {
    let (prefix, body) = own.split_once('_').expect("a prefix and a UUID");
    let mut ids: Vec<String> = [
        " ",
        "\t\r\n",
        "null",
        "undefined",
        "0",
        "-1",
        "true",
        "registry",
        "%",
        "_",
        "thread_%",
        "run_________________________________________",
        "../../etc/passwd",
        "..\\..\\windows\\system32",
        "' OR '1'='1",
        "\"; DROP TABLE threads; --",
        "<script>alert(1)</script>",
        "a\r\nSet-Cookie: session=1",
        "{\"$gt\":\"\"}",
        "{{7*7}}${7*7}",
        "$(reboot)`reboot`",
        "🧵🔥",
        "\u{202e}daerht",
        "ＴＨＲＥＡＤ",
        foreign,
    ]
    .map(str::to_owned)
    .to_vec();
    ids.extend([
        own.to_uppercase(),
        format!(" {own}"),
        format!("{own} "),
        format!("{own}\n"),
        format!("{own}\u{200b}"),
        format!("{own}%"),
        format!("{own},{foreign}"),
        format!("{own}/../{foreign}"),
        own[..own.len() - 1].to_owned(),
        format!("{own}0"),
        body.to_owned(),
        format!("{prefix}_{prefix}_{body}"),
        format!("_{own}"),
        foreign.to_uppercase(),
        "x".repeat(1_000),
        "🧵".repeat(2_560),
    ]);
    ids
}

/// Every byte of a text as `%XX`, for a path or a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What a refusal says, without what differs by design.
fn shape(error: ErrorFrame) -> Value {
    let mut shape = serde_json::to_value(&error).expect("an error is JSON");
    let fields = shape.as_object_mut().expect("an error is an object");
    fields.remove("timestamp");
    fields.remove("correlation_id");
    shape
}

fn assert_alike(door: &str, came: &[Value]) {
    let strange = came.iter().find(|shape| **shape != came[0]);
    assert!(
        strange.is_none(),
        "{door} tells ids apart: {strange:#?} and {:#?}",
        came[0]
    );
}

/// Sends `message` with each id in `field` and takes the refusals.
async fn refuse_all(chat: &mut Chat, message: &Value, field: &str, ids: &[String], code: ErrorCode) {
    let mut came = Vec::new();
    for id in ids {
        let message_id = MessageId::generate();
        let mut asked = message.clone();
        asked["message_id"] = json!(message_id);
        match field {
            "resume" => {
                asked["resume"] = json!([{ "thread_id": id, "epoch": "epoch_of_another", "after": 0 }]);
            }
            _ => asked[field] = json!(id),
        }
        chat.send_json(&asked).await;
        came.push(shape(chat.refusal_of(&message_id, code).await));
    }
    assert_alike(&format!("{message} by {field}"), &came);
}

/// Everything that a thread's owner is told of it.
async fn told(user: &SimulatedUser, thread_id: &ThreadId) -> (Value, Value) {
    let path = format!("/api/threads/{thread_id}");
    let summary = user.http().get(&path).await.expect_status(200).json();
    let answer = user.http().get(&format!("{path}/messages")).await;
    let mut history = answer.expect_status(200).json();
    history["timestamp"].take(); // when it was told
    (summary, history)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strange_thread_id_opens_nothing_in_any_message() {
    TestContext::wire(case!("ISO-2", "SEC-1", "ERR-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true); // a flood from several users
            let ada = ctx.user("ada").await;
            let mut hers = ada.connect().await;
            let thread_id = hers.ask("What did I spend?").await.accepted().thread_id.clone();
            let before = told(&ada, &thread_id).await;
            let doors = [
                (json!({ "type": "user_message", "content": "x" }), "thread_id"),
                (
                    json!({ "type": "start_agent", "agent_name": "triage", "user_request": "x" }),
                    "thread_id",
                ),
                (
                    json!({ "type": "example_message", "content": "x", "category": "cost" }),
                    "thread_id",
                ),
                (json!({ "type": "switch_thread" }), "thread_id"),
                (
                    json!({ "type": "switch_thread", "resume": { "epoch": "x", "after": 0 } }),
                    "thread_id",
                ),
                (json!({ "type": "rename_thread", "title": "mine now" }), "thread_id"),
                (json!({ "type": "delete_thread" }), "thread_id"),
                (json!({ "type": "get_thread_history" }), "thread_id"),
                (json!({ "type": "get_agent_context" }), "thread_id"),
                (json!({ "type": "typing_started" }), "thread_id"),
                (json!({ "type": "typing_stopped" }), "thread_id"),
                (json!({ "type": "handshake_acknowledged" }), "thread_id"),
                (json!({ "type": "handshake_acknowledged" }), "resume"),
            ];
            // Two doors for each user: all of it stays below `frames_per_second_max`.
            join_all(doors.chunks(2).map(async |doors| {
                let eve = ctx.user("eve").await;
                let own = eve.create_thread("own").await;
                let mut chat = eve.connect().await;
                let before = told(&eve, &own).await;
                let ids = strange_ids(own.as_str(), thread_id.as_str());
                for (message, field) in doors.iter().filter(|(message, _)| ctx.is_claimed(message)) {
                    refuse_all(&mut chat, message, field, &ids, ErrorCode::ThreadNotFound).await;
                }
                assert_eq!(told(&eve, &own).await, before, "a wrong form of an id is not the id");
                let listed = eve.http().get("/api/threads").await.expect_status(200).json();
                assert_eq!(
                    listed["threads"].as_array().map(Vec::len),
                    Some(1),
                    "nothing was made: {listed}"
                );
                let after = chat.ask("Hello").await;
                assert_eq!(after.completed().status, RunStatus::Completed);
            }))
            .await;
            assert_eq!(told(&ada, &thread_id).await, before);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strange_run_id_opens_nothing_in_any_message_or_path() {
    TestContext::wire(case!("ISO-2", "SEC-1", "ERR-1"))
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true); // a flood from several users
            let mut hers = ctx.user("ada").await.connect().await;
            let foreign = hers.ask("What did I spend?").await.run_id().clone();
            let doors = ["stop_agent", "agent_status_request", "get_quality_metrics"];
            let doors = doors.iter().filter(|door| ctx.is_claimed(&json!({ "type": door })));
            join_all(doors.map(async |door| {
                let eve = ctx.user("eve").await;
                let mut chat = eve.connect().await;
                let own = chat.ask("Hello").await.run_id().clone();
                let ids = strange_ids(own.as_str(), foreign.as_str());
                refuse_all(
                    &mut chat,
                    &json!({ "type": door }),
                    "run_id",
                    &ids,
                    ErrorCode::RunNotFound,
                )
                .await;
                let mut came = Vec::new();
                for id in &ids {
                    let answer = eve.http().get(&format!("/api/runs/{}", encoded(id))).await;
                    came.push(shape(answer.expect_error(ErrorCode::RunNotFound)));
                }
                assert_alike("GET /api/runs", &came);
            }))
            .await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strange_thread_id_opens_nothing_over_rest_and_server_sent_events() {
    TestContext::wire(case!("ISO-2", "SEC-1", "HTTP-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let mut hers = ada.connect().await;
            let thread_id = hers.ask("What did I spend?").await.accepted().thread_id.clone();
            let own = eve.create_thread("own").await;
            let before = (told(&ada, &thread_id).await, told(&eve, &own).await);
            let http = eve.http();
            let mut came = Vec::new();
            for id in strange_ids(own.as_str(), thread_id.as_str()) {
                let path = encoded(&id);
                let rename = json!({ "title": "mine now" });
                let message = json!({ "thread_id": id, "content": "x" });
                for answer in [
                    http.get(&format!("/api/threads/{path}")).await,
                    http.get(&format!("/api/threads/{path}/messages")).await,
                    http.patch(&format!("/api/threads/{path}"), &rename).await,
                    http.delete(&format!("/api/threads/{path}")).await,
                    http.post("/api/chat/messages", &message).await,
                    http.get(&format!("/api/chat/stream?thread_id={path}")).await,
                ] {
                    came.push(shape(answer.expect_error(ErrorCode::ThreadNotFound)));
                }
            }
            assert_alike("REST", &came);
            let after = (told(&ada, &thread_id).await, told(&eve, &own).await);
            assert_eq!(after, before, "nothing was renamed, deleted or said");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_is_no_text_is_refused_at_its_pointer() {
    TestContext::wire(case!("MSG-4", "SEC-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            for value in [json!(7), json!(-1.5), json!(true), json!([]), json!({ "$ne": null })] {
                for (mut message, field) in [
                    (json!({ "type": "user_message", "content": "x" }), "thread_id"),
                    (json!({ "type": "switch_thread" }), "thread_id"),
                    (json!({ "type": "stop_agent" }), "run_id"),
                    (json!({ "type": "ping" }), "message_id"),
                ] {
                    message[field] = value.clone();
                    chat.send_json(&message).await;
                    let error = chat.expect_error(ErrorCode::ValidationError).await;
                    assert_eq!(error.details["pointer"], format!("/{field}"), "{message}");
                }
                let answer = ada
                    .http()
                    .post("/api/chat/messages", &json!({ "thread_id": value, "content": "x" }))
                    .await;
                let error = answer.expect_error(ErrorCode::ValidationError);
                assert_eq!(error.details["pointer"], "/thread_id", "{value}");
            }
        })
        .await;
}
