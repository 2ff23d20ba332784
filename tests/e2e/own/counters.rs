//! Metrics are not about right: they equal what was counted at the receivers.

use std::collections::BTreeMap;

use kingsguard_protocol::client::SwitchThread;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::counters::{by_label, events_received};
use pretty_assertions::assert_eq;

covers!("BRG-3");

fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(label, count)| (label.to_owned(), count)).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_counted_as_often_as_it_was_received_live_and_replayed() {
    TestContext::own(case!("OPS-2", "SEQ-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut first = ada.connect().await;
            let thread_id = first.thread_id();
            let run = first.ask("What did I spend?").await;
            let epoch = first.positions()[&thread_id].0.clone();
            let from = |after| ResumePoint {
                epoch: epoch.clone(),
                after,
            };

            let mut resumed = ada.open().await;
            let resume = vec![ThreadResume {
                thread_id: thread_id.clone(),
                point: from(0),
            }];
            resumed.handshake_with(Some(&thread_id), resume).await;
            let mut switched = ada.connect().await;
            let resume = Some(from(3));
            switched.send_to(&thread_id, SwitchThread { resume }).await;
            let mut strange = ada.connect().await;
            let resume = Some(from(1_000));
            strange.send_to(&thread_id, SwitchThread { resume }).await;
            strange.expect_control("thread_switched").await;

            let next = first.ask("And by model?").await;
            for chat in [&mut resumed, &mut switched, &mut strange] {
                chat.until_completed(next.run_id()).await;
            }
            first.send_json(&json!({ "type": "nonsense" })).await;
            first.expect_error(ErrorCode::UnknownMessageType).await;

            let metrics = ctx.http().get("/metrics").await.expect_status(200).text();
            let sent = by_label(&metrics, "kingsguard_events_sent_total", "type");
            assert_eq!(sent, events_received(ctx));
            let (of_run, of_next) = (run.events().len() as u64, next.events().len() as u64);
            let all = (of_run + of_next) + (of_run + of_next) + (of_run - 3 + of_next) + of_next;
            assert_eq!(
                sent.values().sum::<u64>(),
                all,
                "two live, one replayed, one from the fourth on"
            );

            let stored = by_label(&metrics, "kingsguard_events_stored_total", "type");
            assert_eq!(stored.values().sum::<u64>(), of_run + of_next);
            let told = |name: &str, label: &str| by_label(&metrics, name, label);
            assert_eq!(
                told("kingsguard_resumes_total", "outcome"),
                counts([("recovered", 2), ("refused", 1)])
            );
            assert_eq!(
                told("kingsguard_connections_total", "outcome"),
                counts([("accepted", 4)])
            );
            assert_eq!(
                told("kingsguard_errors_total", "code"),
                counts([("UNKNOWN_MESSAGE_TYPE", 1)])
            );
            ctx.eventually("both runs are counted", async || {
                let metrics = ctx.http().get("/metrics").await.text();
                let ended = by_label(&metrics, "kingsguard_runs_total", "status");
                if ended == counts([("completed", 2)]) {
                    Ok(())
                } else {
                    Err(format!("{ended:?}"))
                }
            })
            .await;
        })
        .await;
}
