//! The other doors to the same runs: REST and Server-Sent Events.

use kingsguard_protocol::http::ChatAccepted;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::people::{customer, log_of};

/// One event of a stream, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SseEvent {
    id: Option<String>,
    event: String,
    data: String,
}

/// A stream of Server-Sent Events over a plain HTTP/1.0 connection, whose body ends with the connection.
struct SseStream {
    lines: tokio::io::Lines<BufReader<TcpStream>>,
}

impl SseStream {
    async fn open(ctx: &TestContext, user: &SimulatedUser, thread_id: &ThreadId, last: Option<&str>) -> Self {
        let address = ctx.http_url().trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address).await.expect("the target listens");
        let last = last
            .map(|last| format!("Last-Event-ID: {last}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "GET /api/chat/stream?thread_id={thread_id} HTTP/1.0\r\nHost: {address}\r\nAccept: text/event-stream\r\n\
             Authorization: Bearer {}\r\n{last}\r\n",
            user.access_token()
        );
        stream.write_all(request.as_bytes()).await.expect("the target reads");
        let mut lines = BufReader::new(stream).lines();
        let mut head = Vec::new();
        loop {
            let line = lines
                .next_line()
                .await
                .expect("HTTP is text")
                .expect("a head comes first");
            if line.is_empty() {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(
            head.iter()
                .any(|line| line.starts_with("content-type: text/event-stream")),
            "{head:?}"
        );
        Self { lines }
    }

    async fn next(&mut self) -> SseEvent {
        let mut event = SseEvent {
            id: None,
            event: String::new(),
            data: String::new(),
        };
        loop {
            let line = tokio::time::timeout(kingsguard_testkit::PATIENCE, self.lines.next_line())
                .await
                .expect("the stream goes on")
                .expect("the stream is text")
                .expect("the stream stays open");
            if line.is_empty() && !event.event.is_empty() {
                return event;
            }
            match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                Some(("id", id)) => event.id = Some(id.to_owned()),
                Some(("event", name)) => event.event = name.to_owned(),
                Some(("data", data)) => event.data.push_str(data),
                _ => {} // comments keep the connection alive
            }
        }
    }

    async fn take(&mut self, count: usize) -> Vec<SseEvent> {
        let mut events = Vec::new();
        while events.len() < count {
            events.push(self.next().await);
        }
        events
    }
}

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
