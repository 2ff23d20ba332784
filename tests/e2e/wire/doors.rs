//! The other doors to the same runs: REST and Server-Sent Events.

use kingsguard_protocol::http::ChatAccepted;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::sse::{SseEvent, SseStream};
use pretty_assertions::assert_eq;

use crate::people::{customer, log_of};

covers!("FLOW", "SUB-1");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_by_rest_starts_a_run_that_a_socket_follows() {
    TestContext::wire(case!("HTTP-1", "SEQ-8", "MSG-5"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 81, 60).await;
            let thread_id = ada.create_thread("by REST").await;
            let mut chat = ada.open().await;
            chat.handshake_with(Some(&thread_id), Vec::new()).await;
            let message = json!({ "content": "What did I spend?", "thread_id": thread_id, "message_id": "rest-1" });
            let answer = ada.http().post("/api/chat/messages", &message).await.expect_status(202);
            let accepted: ChatAccepted = answer.parse();
            assert_eq!(
                (accepted.message_id.as_str(), &accepted.thread_id),
                ("rest-1", &thread_id)
            );
            let run = chat.until_completed(&accepted.run_id).await;
            assert_eq!(run.completed().result["spend_by_model"], expected.spend_by_model());
            assert_eq!(run.events()[0].header.correlation_id.as_str(), "rest-1");

            let again: ChatAccepted = ada
                .http()
                .post("/api/chat/messages", &message)
                .await
                .expect_status(202)
                .parse();
            assert_eq!(again.run_id, accepted.run_id, "a repeat names the first run");
            let elsewhere = json!({ "content": "Hello" });
            let fresh: ChatAccepted = ada
                .http()
                .post("/api/chat/messages", &elsewhere)
                .await
                .expect_status(202)
                .parse();
            assert_ne!(fresh.thread_id, thread_id, "without a thread a new one is made");

            let path = format!("/api/threads/{thread_id}/messages?limit=100");
            let history = ada.http().get(&path).await.expect_status(200).json();
            assert_eq!(history["events"].as_array().map(Vec::len), Some(run.events().len()));
            assert_eq!(history["messages"][0]["content"], "What did I spend?");
            assert_eq!(history["has_more"], false);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_server_sent_events_has_the_bytes_of_the_socket_and_resumes() {
    TestContext::wire(case!("HTTP-1", "SEQ-2", "SEQ-3", "SEQ-6"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 82, 60).await;
            let thread_id = ada.create_thread("streamed").await;
            let mut chat = ada.open().await;
            chat.handshake_with(Some(&thread_id), Vec::new()).await;
            let mut live = SseStream::open(ctx, &ada, &thread_id, None).await;
            let run = chat.ask("What did I spend?").await;
            let epoch = &chat.positions()[&thread_id].0;
            let expected: Vec<SseEvent> = run
                .events()
                .iter()
                .zip(log_of(&run))
                .map(|(event, (seq, bytes))| SseEvent {
                    id: Some(format!("{epoch}:{seq}")),
                    event: event.body.event_type().to_owned(),
                    data: bytes,
                })
                .collect();
            assert_eq!(live.take(expected.len()).await, expected);

            let from = format!("{epoch}:3");
            let mut resumed = SseStream::open(ctx, &ada, &thread_id, Some(&from)).await;
            assert_eq!(resumed.take(expected.len() - 3).await, expected[3..]);
            let mut strange = SseStream::open(ctx, &ada, &thread_id, Some("nonsense")).await;
            let told = strange.next().await;
            assert_eq!((told.id, told.event.as_str()), (None, "thread_switched"));
            let data: Value = serde_json::from_str(&told.data).expect("JSON");
            assert_eq!((&data["recovered"], &data["oldest_seq"]), (&json!(false), &json!(1)));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_a_last_event_id_starts_live() {
    TestContext::wire(case!("HTTP-1", "SEQ-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            chat.ask("Hello").await;
            let mut live = SseStream::open(ctx, &ada, &chat.thread_id(), None).await;
            let run = chat.ask("Hello").await;
            let epoch = &chat.positions()[&chat.thread_id()].0;
            let first = format!("{epoch}:{}", run.events()[0].header.seq);
            assert_eq!(live.next().await.id, Some(first), "nothing of what was before");
        })
        .await;
}
