//! What every frame looks like, for review: `cargo insta review` shows what changed. Redactions hide ids, times and
//! durations after checking that they are such.

use std::collections::BTreeMap;

use kingsguard_protocol::client::{
    AgentStatusRequest, Broadcast, CreateThread, DeleteThread, GetAgentContext, GetQualityMetrics, GetThreadHistory,
    GetUsage, Heartbeat, ListThreads, Ping, RenameThread, StopAgent, SwitchThread, TypingStarted, TypingStopped,
    ValidateContent,
};
use kingsguard_testkit::prelude::*;
use nix::sys::signal::Signal;

use crate::redaction::redacted;

covers!("EVT");

/// Compares a frame with its reviewed snapshot in `tests/integration/snapshots`.
fn review(name: &str, frame: &Value) {
    insta::with_settings!({ snapshot_path => "../snapshots", prepend_module_to_snapshot => false }, {
        insta::assert_json_snapshot!(name, redacted(frame));
    });
}

/// The answer to a message, as JSON.
async fn answer(chat: &mut Chat, body: impl Into<ClientBody>) -> Value {
    let message_id = chat.send(body).await;
    json_answer(chat, &message_id).await
}

/// Waits for the tool that goes on until the run is stopped: what came before is the same in every run.
async fn until_it_watches(chat: &mut Chat) {
    chat.expect_event(
        "the tool that watches",
        |event| matches!(&event.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"),
    )
    .await;
}

async fn json_answer(chat: &mut Chat, message_id: &MessageId) -> Value {
    let wanted = json!(message_id);
    chat.expect("the answer", |frame| {
        frame.control().is_some() && frame.json()["correlation_id"] == wanted
    })
    .await
    .json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_frames_look_as_reviewed() {
    TestContext::own(case!("MSG-1", "HSK-1", "HSK-2", "CON-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.open().await;
            let mut frames = vec![chat.next_text().await.json(), chat.next_text().await.json()];
            let message_id = chat.acknowledge(None, Vec::new()).await;
            frames.push(json_answer(&mut chat, &message_id).await);
            let mut other = ada.connect().await;

            let thread: ThreadId = {
                let created = answer(
                    &mut chat,
                    CreateThread {
                        title: Some("Costs".into()),
                        metadata: None,
                    },
                )
                .await;
                let thread = created["thread_id"].as_str().expect("a thread").into();
                frames.push(created);
                thread
            };
            let message_id = chat.say("Watch my usage for 20 seconds").await;
            frames.push(json_answer(&mut chat, &message_id).await);
            let run: RunId = frames.last().expect("just pushed")["run_id"]
                .as_str()
                .expect("a run")
                .into();
            until_it_watches(&mut chat).await;
            frames.push(
                answer(
                    &mut chat,
                    AgentStatusRequest {
                        run_id: Some(run.clone()),
                    },
                )
                .await,
            );
            chat.send(StopAgent {
                run_id: run.clone(),
                reason: Some("enough".into()),
            })
            .await;
            chat.until_completed(&run).await;
            let run = chat.ask("How can I spend less?").await.run_id().clone();

            frames.push(answer(&mut chat, Ping {}).await);
            frames.push(answer(&mut chat, Heartbeat {}).await);
            frames.push(answer(&mut chat, ListThreads::default()).await);
            frames.push(
                answer(
                    &mut chat,
                    GetThreadHistory {
                        limit: Some(1),
                        before: Some(2),
                    },
                )
                .await,
            );
            frames.push(answer(&mut chat, GetAgentContext {}).await);
            let quality = GetQualityMetrics { run_id: run };
            frames.push(answer(&mut chat, quality).await);
            let content = ValidateContent {
                content: "{".into(),
                content_type: "json".into(),
            };
            frames.push(answer(&mut chat, content).await);
            frames.push(answer(&mut chat, GetUsage::default()).await);
            frames.push(
                answer(
                    &mut chat,
                    Broadcast {
                        content: "Hello".into(),
                    },
                )
                .await,
            );
            chat.send_to(&thread, TypingStarted {}).await;
            chat.send_to(&thread, TypingStopped {}).await;
            for frame_type in ["typing_started", "typing_stopped"] {
                let frame = other
                    .expect(frame_type, |frame| frame.json()["type"] == frame_type)
                    .await;
                frames.push(frame.json());
            }
            let auth = kingsguard_protocol::client::Auth {
                token: ada.tokens().access_token,
            };
            frames.push(answer(&mut chat, auth).await);
            for body in [
                ClientBody::from(SwitchThread { resume: None }),
                RenameThread {
                    title: "Spending".into(),
                }
                .into(),
                DeleteThread {}.into(),
            ] {
                let message_id = chat.send_to(&thread, body).await;
                frames.push(json_answer(&mut chat, &message_id).await);
            }
            chat.send_json(&json!({ "type": "nonsense", "message_id": MessageId::generate() }))
                .await;
            frames.push(chat.expect("an error", |frame| frame.error().is_some()).await.json());
            ctx.signal_node(0, Signal::SIGTERM).await;
            frames.push(
                chat.expect("a notice", |frame| frame.json()["type"] == "server_shutdown")
                    .await
                    .json(),
            );

            let mut by_type: BTreeMap<String, Value> = BTreeMap::new();
            for frame in frames {
                let frame_type = frame["type"].as_str().expect("a type").to_owned();
                by_type.entry(frame_type).or_insert(frame);
            }
            let missing: Vec<&&str> = ControlFrame::TYPES
                .iter()
                .filter(|frame_type| !by_type.contains_key(**frame_type))
                .collect();
            assert!(missing.is_empty(), "never seen: {missing:?}");
            for (frame_type, frame) in &by_type {
                review(&format!("control_{frame_type}"), frame);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_run_without_data_look_as_reviewed() {
    TestContext::own(case!("EVT-1", "EVT-2", "EVT-3", "EVT-4", "EVT-5", "EVT-6", "EVT-7"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask("How can I spend less?").await;
            let mut events: Vec<Value> = run.frames().iter().map(Frame::json).collect();
            let message_id = chat.say("Watch my usage for 20 seconds").await;
            let accepted = chat.accepted(&message_id).await;
            until_it_watches(&mut chat).await;
            chat.send(StopAgent {
                run_id: accepted.run_id.clone(),
                reason: Some("enough".into()),
            })
            .await;
            events.extend(
                chat.until_completed(&accepted.run_id)
                    .await
                    .frames()
                    .iter()
                    .map(Frame::json),
            );
            let mut by_type: BTreeMap<String, Value> = BTreeMap::new();
            for mut event in events {
                let seq = event["seq"].take();
                assert!(seq.is_u64(), "{event}");
                event["seq"] = json!("[seq]");
                let event_type = event["type"].as_str().expect("a type").to_owned();
                by_type.entry(event_type).or_insert(event);
            }
            for event_type in [
                "agent_started",
                "agent_thinking",
                "tool_executing",
                "tool_completed",
                "agent_completed",
                "agent_stopped",
            ] {
                assert!(by_type.contains_key(event_type), "never seen: {event_type}");
            }
            for (event_type, event) in &by_type {
                review(&format!("event_{event_type}"), event);
            }
        })
        .await;
}
