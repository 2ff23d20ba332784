//! A client that knows the contract only loosely and must be served all the same (MSG-0, AUTH-2, AUTH-3).

use std::time::{Duration, Instant};

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("CONN");

/// How long this client waits for `handshake_response`.
const ITS_PATIENCE: Duration = Duration::from_secs(2);

const FIVE: [&str; 5] = [
    "agent_started",
    "agent_thinking",
    "tool_executing",
    "tool_completed",
    "agent_completed",
];

/// What every event carries at its root (contract §4).
const HEADER: [&str; 9] = [
    "type",
    "event_id",
    "seq",
    "timestamp",
    "user_id",
    "thread_id",
    "run_id",
    "agent_name",
    "correlation_id",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outside_client_completes_a_run_and_finds_the_five_events_flat_at_the_root() {
    TestContext::wire(case!(
        "AUTH-2", "AUTH-3", "HSK-1", "HSK-2", "MSG-0", "EVT-7", "ORD-1", "ORD-4"
    ))
    .run(async |ctx| {
        let ada = ctx.user("ada").await;
        let token = ada.access_token();
        let offered = [
            format!("jwt.local.{token}"),
            format!("jwt-auth.local.{token}"),
            format!("bearer.local.{token}"),
            format!("staging-auth.{token}"),
            format!("jwt.{token}"),
            format!("jwt-auth.{token}"),
            format!("bearer.{token}"),
        ];
        let asked = Instant::now();
        let mut chat = ada
            .open_with(ConnectOptions::default().with_protocols(offered.clone()))
            .await;
        let echoed = ctx.recording().connections[0].selected_protocol.clone();
        assert!(
            echoed.is_none() || echoed.as_ref() == Some(&offered[0]),
            "echoed {echoed:?}"
        );

        let response = chat
            .wait_for(ITS_PATIENCE.saturating_sub(asked.elapsed()), |frame| {
                frame.json()["type"] == "handshake_response"
            })
            .await
            .expect("handshake_response within 2 s")
            .json();
        for field in [
            "thread_id",
            "run_id",
            "request_id",
            "session_token",
            "timestamp",
            "message",
        ] {
            assert!(
                response[field].as_str().is_some_and(|text| !text.is_empty()),
                "`{field}` in {response}"
            );
        }
        chat.send_json(&json!({
            "type": "handshake_acknowledged",
            "thread_id": response["thread_id"],
            "timestamp": "2026-01-31T08:15:30.123456",
        }))
        .await;
        chat.expect_established().await; // it came before; this client did not look at it
        let complete = chat.next_text().await.json(); // exactly one frame
        assert_eq!(complete["type"], "handshake_complete", "{complete}");

        chat.send_json(&json!({
            "type": "user_message",
            "payload": {
                "content": "How can I spend less on AI?",
                "thread_id": null,
                "run_id": "run number 7, in my own words",
                "references": null,
                "metadata": null,
                "user_agent": "outside/0.1",
                "priority": 3,
            },
            "run_id": "another of my own",
            "timestamp": "2026-01-31T08:15:30",
            "agent_type": null,
            "client": { "version": [1, 2] },
        }))
        .await;
        let mut events = Vec::new();
        while events
            .last()
            .is_none_or(|event: &Value| event["type"] != "agent_completed")
        {
            let frame = chat.next_text().await.json();
            assert_ne!(frame["type"], "error", "{frame}");
            if frame.get("seq").is_some() {
                events.push(frame);
            }
        }
        let last = events.last().expect("the loop ended with one").clone();
        assert_eq!(last["status"], "completed", "{last}");
        assert!(
            last["final_response"]
                .as_str()
                .is_some_and(|text| !text.trim().is_empty()),
            "{last}"
        );
        for event_type in FIVE {
            let event = events
                .iter()
                .find(|event| event["type"] == event_type)
                .unwrap_or_else(|| panic!("no {event_type} among {} events", events.len()));
            for field in HEADER {
                assert!(!event[field].is_null(), "`{field}` at the root of {event}");
            }
            assert!(
                event.get("payload").is_none() && event.get("data").is_none(),
                "{event} is wrapped"
            );
        }
        // Nothing of the client's own ids is taken on trust.
        for event in &events {
            assert_eq!(event["thread_id"], response["thread_id"]);
            assert_eq!(event["user_id"], json!(ada.user_id()));
            let run_id = event["run_id"].as_str().unwrap_or_default();
            assert!(RunId::from(run_id).is_well_formed(), "{event}");
        }
        chat.drop_connection().await; // leaves without a close frame
        let listed = ada.connect().await;
        assert_eq!(listed.established().limits.connections_per_user_max, 10);
    })
    .await;
}
