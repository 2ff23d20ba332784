//! Access tokens whose time ends while a run goes on.

use kingsguard_protocol::client::Auth;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::sse::SseStream;
use pretty_assertions::assert_eq;

use crate::people::finds_whole;

covers!("BRG-5");

/// So short that a run can outlast it.
const TOKEN_TTL_MS: u64 = 2_000;
/// Longer than that.
const LONG: &str = "Watch my usage for 3 seconds";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_during_a_run_ends_the_connection_and_not_the_run() {
    TestContext::own(case!("AUTH-6", "SEQ-5", "SEQ-3", "SEQ-1"))
        .with_setting("KINGSGUARD_ACCESS_TOKEN_TTL_MS", TOKEN_TTL_MS)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say(LONG).await;
            let run_id = chat.accepted(&asked).await.run_id;
            chat.expect_error(ErrorCode::AuthTokenExpired).await;
            assert_eq!(
                chat.expect_closed().await,
                Some(CloseCode::AuthenticationEnded.as_u16())
            );
            ada.refused(ada.options(), ErrorCode::AuthTokenExpired).await;
            ada.refresh().await; // the refresh token lives longer
            let mut again = ada.resume(&mut chat).await;
            finds_whole(&mut again, &mut chat, &run_id).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_renewed_during_a_run_keeps_the_connection_to_its_end() {
    TestContext::own(case!("AUTH-6", "SEC-4", "SEQ-1"))
        .with_setting("KINGSGUARD_ACCESS_TOKEN_TTL_MS", TOKEN_TTL_MS)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say(LONG).await;
            let run_id = chat.accepted(&asked).await.run_id;
            let mut renewals = 0;
            let completed = loop {
                let ended = |frame: &Frame| {
                    frame
                        .event()
                        .is_some_and(|event| matches!(event.body, EventBody::AgentCompleted(_)))
                };
                // Half of a token's life: renewed before it ends, and again.
                let wait = std::time::Duration::from_millis(TOKEN_TTL_MS / 2);
                if let Some(frame) = chat.wait_for(wait, ended).await {
                    break frame;
                }
                let token = ada.refresh().await.access_token;
                let renewed = chat.send(Auth { token }).await;
                assert_eq!(chat.answer_to(&renewed).await.frame_type(), "auth_completed");
                renewals += 1;
            };
            assert!(renewals >= 2, "the run outlasted the first token: {renewals} renewals");
            let event = completed.event().expect("just matched");
            assert_eq!(event.header.run_id, run_id);
            let EventBody::AgentCompleted(end) = &event.body else {
                unreachable!("just matched")
            };
            assert_eq!(end.status, RunStatus::Completed);
            assert!(chat.is_open());
            let seqs: Vec<u64> = chat
                .unclaimed()
                .iter()
                .filter_map(|frame| Some(frame.event()?.header.seq))
                .collect();
            assert_eq!(seqs, (1..event.header.seq).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_server_sent_events_ends_when_the_token_that_opened_it_expires() {
    TestContext::own(case!("AUTH-6", "HTTP-1"))
        .with_setting("KINGSGUARD_ACCESS_TOKEN_TTL_MS", TOKEN_TTL_MS)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let thread_id = ada.create_thread("streamed").await;
            let mut stream = SseStream::open(ctx, &ada, &thread_id, None).await;
            ended_by(&mut stream, ErrorCode::AuthTokenExpired).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_server_sent_events_ends_when_the_token_that_opened_it_is_revoked() {
    TestContext::own(case!("AUTH-6", "HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let thread_id = ada.create_thread("streamed").await;
            let mut stream = SseStream::open(ctx, &ada, &thread_id, None).await;
            let began = std::time::Instant::now();
            ada.logout().await;
            ended_by(&mut stream, ErrorCode::AuthTokenRevoked).await;
            let took = ctx.time_since(began);
            assert!(took.as_secs_f64() < 5.0, "ended after {took:?}");
        })
        .await;
}

/// Takes the event that tells why, and the end.
async fn ended_by(stream: &mut SseStream, code: ErrorCode) {
    let told = stream.next().await;
    assert_eq!((told.id, told.event.as_str()), (None, "error"));
    let data: Value = serde_json::from_str(&told.data).expect("JSON");
    assert_eq!(data["error_code"], json!(code), "{data}");
    stream.expect_end().await;
}
