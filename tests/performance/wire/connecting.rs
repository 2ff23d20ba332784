//! How long it takes to connect, to be greeted, and to have a message accepted.

use std::time::Instant;

use kingsguard_testkit::prelude::*;

use crate::thresholds::{ACCEPTED_WITHIN, GREETED_WITHIN};

covers!("JRN");

/// Connections and messages that are measured.
const ROUNDS: u32 = 60;

fn figures(ctx: &TestContext, name: &str, timing: &Timing) {
    ctx.figure(&format!("{name}_p50"), timing.percentile_ms(50.0), "ms");
    ctx.figure(&format!("{name}_p99"), timing.percentile_ms(99.0), "ms");
    ctx.figure_of_times(name, timing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_greeted_within_its_bound() {
    TestContext::wire(case!("HSK-1", "HSK-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (mut connect, mut handshake) = (Timing::default(), Timing::default());
            for _ in 0..ROUNDS {
                let began = Instant::now();
                let mut chat = ada.open().await;
                connect.record(began.elapsed());
                let upgraded = Instant::now();
                chat.handshake().await;
                handshake.record(upgraded.elapsed());
                chat.close().await;
            }
            figures(ctx, "connect_ms", &connect);
            figures(ctx, "handshake_ms", &handshake);
            assert!(handshake.percentile(99.0) < GREETED_WITHIN, "{handshake:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_accepted_within_its_bound() {
    TestContext::wire(case!("TIM-1", "MSG-5"))
        .run(async |ctx| {
            for nth in 0..4 {
                let user = ctx.user(&format!("user{nth}")).await;
                let mut chat = user.connect().await;
                for _ in 0..15 {
                    let run = chat.ask("Hello").await;
                    assert_eq!(run.completed().status, RunStatus::Completed);
                }
            }
            let acceptance = Timing::of_acceptance(&ctx.recording());
            assert_eq!(acceptance.count(), u64::from(ROUNDS));
            figures(ctx, "message_received_ms", &acceptance);
            assert!(acceptance.percentile(99.0) < ACCEPTED_WITHIN, "{acceptance:?}");
        })
        .await;
}
