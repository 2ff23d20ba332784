//! The handshake deadline (HSK-4).

use kingsguard_protocol::client::Ping;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_acknowledge_within_the_deadline_is_closed_with_4408() {
    TestContext::own(case!("HSK-4"))
        .with_setting("KINGSGUARD_HANDSHAKE_DEADLINE_MS", 600)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut on_time = ada.connect().await;
            let mut silent = ada.open().await;
            let established = silent.expect_established().await;
            silent.expect_offer().await;
            // What needs no handshake is answered and does not move the deadline.
            let message_id = silent.send(Ping {}).await;
            assert_eq!(silent.answer_to(&message_id).await.frame_type(), "pong");
            assert_eq!(
                silent.expect_closed().await,
                Some(CloseCode::HandshakeDeadline.as_u16())
            );
            let waited = kingsguard_protocol::Timestamp::now().as_unix_ms() - established.timestamp.as_unix_ms();
            assert!(waited >= 590, "closed after {waited} ms of 600");
            let message_id = on_time.send(Ping {}).await;
            assert_eq!(on_time.answer_to(&message_id).await.frame_type(), "pong");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_acknowledgement_does_not_stop_the_deadline() {
    TestContext::own(case!("HSK-4", "HSK-2"))
        .with_setting("KINGSGUARD_HANDSHAKE_DEADLINE_MS", 600)
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.open().await;
            chat.expect_offer().await;
            let unknown = ThreadId::generate();
            let message_id = chat.acknowledge(Some(&unknown), Vec::new()).await;
            chat.refusal_of(&message_id, ErrorCode::ThreadNotFound).await;
            assert_eq!(chat.expect_closed().await, Some(CloseCode::HandshakeDeadline.as_u16()));
        })
        .await;
}
