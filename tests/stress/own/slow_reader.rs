//! A reader that does not read.

use std::time::Duration;

use kingsguard_protocol::client::GetThreadHistory;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::counters::by_label;
use pretty_assertions::assert_eq;

covers!("STRESS");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_closed_delays_nobody_and_gets_everything_by_resume() {
    TestContext::own(case!("SEQ-7", "SEQ-3", "ERR-2", "OPS-2"))
        .with_setting("KINGSGUARD_QUEUE_FRAMES_MAX", 64)
        .with_setting("KINGSGUARD_MESSAGE_BYTES_MAX", 65_536)
        .with_setting("KINGSGUARD_QUEUE_BYTES_MAX", 262_144)
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 10_000)
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 10_000)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            ada.upload(&SampleRecords::generate(1, 200)).await;
            let mut steady = ada.connect().await;
            for _ in 0..4 {
                steady.ask("How can I spend less?").await;
            }
            let thread_id = steady.thread_id();
            let mut slow = ada.open().await;
            slow.handshake_with(Some(&thread_id), Vec::new()).await;
            slow.ask("Hello").await;
            let limits = serde_json::to_value(slow.established().limits).expect("limits are JSON");
            assert_eq!(
                (&limits["queue_frames_max"], &limits["queue_bytes_max"]),
                (&json!(64), &json!(262_144))
            );

            slow.pause_reading();
            // Answers of a hundred events each fill the sockets' own buffers and then the queue.
            for _ in 0..90 {
                let ask = ClientMessage {
                    message_id: Some(MessageId::generate()),
                    thread_id: Some(thread_id.clone()),
                    body: GetThreadHistory {
                        limit: Some(100),
                        before: None,
                    }
                    .into(),
                };
                let text = serde_json::to_string(&ask).expect("client messages are JSON");
                if slow.try_send_text(&text).await.is_err() {
                    break;
                }
            }
            let mut missed = Vec::new();
            for _ in 0..10 {
                let run = steady.ask("How can I spend less?").await;
                missed.extend(run.frames().iter().map(|frame| frame.text().to_owned()));
            }
            let gaps = Timing::of_gaps(&ctx.recording());
            ctx.check("nobody else waits", gaps.percentile(99.0) < Duration::from_secs(1));

            slow.continue_reading();
            slow.expect_error(ErrorCode::SlowConsumer).await;
            assert_eq!(slow.expect_closed().await, Some(4409));
            let metrics = ctx.http().get("/metrics").await.expect_status(200).text();
            let dropped = by_label(&metrics, "kingsguard_drops_total", "what");
            assert_eq!(dropped.get("slow_consumer"), Some(&1), "{dropped:?}");
            let mut again = ada.resume(&mut slow).await;
            let mut frames = Vec::new();
            for frame in slow.unclaimed().iter().filter(|frame| frame.event().is_some()) {
                frames.push(frame.text().to_owned());
            }
            while frames.len() < missed.len() {
                let frame = again.expect("event", |frame| frame.event().is_some()).await;
                frames.push(frame.text().to_owned());
            }
            assert_eq!(
                frames, missed,
                "what came before the end and after the resume is the whole"
            );
        })
        .await;
}
