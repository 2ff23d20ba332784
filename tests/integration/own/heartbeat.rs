//! The heartbeat (CON-2): silence ends a connection, any frame keeps it.

use std::time::{Duration, Instant};

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

const INTERVAL: Duration = Duration::from_millis(800);

async fn greeted(ctx: &TestContext) -> RawSocket {
    let ada = ctx.user("ada").await;
    let mut socket = ctx.raw().await;
    socket.upgrade(&ada.options()).await;
    let established = socket.read_until("connection_established").await;
    assert_eq!(established["heartbeat_interval_ms"], json!(INTERVAL.as_millis() as u64));
    socket.read_until("handshake_response").await;
    let acknowledged = json!({ "type": "handshake_acknowledged", "message_id": "message_hello" }).to_string();
    socket
        .send(&RawFrame::text(acknowledged))
        .await
        .expect("the connection is open");
    socket.read_until("handshake_complete").await;
    socket
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_is_dropped_between_two_and_three_intervals() {
    TestContext::own(case!("CON-2"))
        .with_setting("KINGSGUARD_HEARTBEAT_INTERVAL_MS", INTERVAL.as_millis())
        .run(async |ctx| {
            let mut socket = greeted(ctx).await;
            let last_sent = json!({ "type": "ping", "message_id": "message_last" }).to_string();
            let sent = Instant::now();
            socket
                .send(&RawFrame::text(last_sent))
                .await
                .expect("the connection is open");
            let mut pings = 0;
            let mut code = None;
            while let Some(frame) = socket.read_frame().await {
                match frame.opcode {
                    9 => pings += 1,
                    8 => {
                        code = frame.close_code();
                        break;
                    }
                    _ => {}
                }
            }
            let silent_for = sent.elapsed();
            assert!(pings >= 1, "the target sends its own ping at the interval");
            assert!(matches!(code, None | Some(1_001)), "dropped with {code:?}");
            assert!(
                (2 * INTERVAL..=3 * INTERVAL).contains(&silent_for),
                "dropped after {silent_for:?} of silence, the interval is {INTERVAL:?}"
            );
            ctx.figure(
                "silent_peer_dropped_after_intervals",
                silent_for.as_secs_f64() / INTERVAL.as_secs_f64(),
                "intervals",
            );
        })
        .await;
}

/// Answers each ping of the target with what `answer` makes, for eight intervals, and claims that the connection lives.
async fn lives_on(ctx: &TestContext, answer: impl Fn(&[u8]) -> RawFrame) {
    let mut socket = greeted(ctx).await;
    let mut pings = 0;
    while pings < 5 {
        let frame = socket.read_frame().await.expect("the connection is open");
        if frame.opcode == 9 {
            pings += 1;
            socket
                .send(&answer(&frame.payload))
                .await
                .expect("the connection is open");
        }
    }
    let alive = json!({ "type": "ping", "message_id": "message_alive" }).to_string();
    socket
        .send(&RawFrame::text(alive))
        .await
        .expect("the connection is open");
    while socket.read_until("pong").await["correlation_id"] != "message_alive" {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pongs_alone_keep_a_connection() {
    TestContext::own(case!("CON-2"))
        .with_setting("KINGSGUARD_HEARTBEAT_INTERVAL_MS", INTERVAL.as_millis())
        .run(async |ctx| lives_on(ctx, |payload| RawFrame::new(10, payload)).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_frame_keeps_a_connection() {
    TestContext::own(case!("CON-2"))
        .with_setting("KINGSGUARD_HEARTBEAT_INTERVAL_MS", INTERVAL.as_millis())
        .run(async |ctx| {
            let text = json!({ "type": "heartbeat_ack" }).to_string();
            lives_on(ctx, |_| RawFrame::text(text.clone())).await;
        })
        .await;
}
