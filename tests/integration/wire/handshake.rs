//! The handshake (HSK-1, HSK-2, HSK-3): order and content of its frames, resuming, what is refused before it.

use std::collections::BTreeSet;

use kingsguard_protocol::client::{ClientType, HandshakeAcknowledged, Ping, UserMessage};
use kingsguard_protocol::{ConnectionId, Epoch, Limits, PROTOCOL_VERSION};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::messages;

covers!("CONN");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greeting_is_connection_established_and_then_handshake_response() {
    TestContext::wire(case!("HSK-1", "LIM-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.open().await;
            let (first, second) = (chat.next_frame().await, chat.next_frame().await);
            let (established, response) = (first.json(), second.json());
            assert_eq!(
                (&established["type"], &response["type"]),
                (&json!("connection_established"), &json!("handshake_response"))
            );
            assert!(ConnectionId::from(established["connection_id"].as_str().unwrap_or_default()).is_well_formed());
            assert_eq!(established["protocol_version"], PROTOCOL_VERSION);
            assert!(
                established["server_version"]
                    .as_str()
                    .is_some_and(|version| !version.is_empty())
            );
            assert!(
                established["heartbeat_interval_ms"]
                    .as_u64()
                    .is_some_and(|interval| interval > 0)
            );
            let stated: Limits = serde_json::from_value(established["limits"].clone()).expect("every limit is stated");
            assert_eq!(
                (
                    stated.message_bytes_max,
                    stated.content_chars_max,
                    stated.connections_per_user_max,
                    stated.messages_per_minute_max,
                    stated.messages_burst_max,
                ),
                (5 * 1024 * 1024, 8_000, 10, 60, 20)
            );
            assert!(stated.frames_per_second_max >= 100, "{stated:?}");
            assert!(stated.queue_frames_max > 0 && stated.queue_bytes_max > 0, "{stated:?}");
            assert!(
                stated.connections_per_address_max > 0 && stated.logins_per_minute_max > 0,
                "{stated:?}"
            );
            assert!(stated.threads_per_user_max > 0, "{stated:?}");
            assert!(
                ThreadId::from(response["thread_id"].as_str().unwrap_or_default()).is_well_formed(),
                "{response}"
            );
            assert!(
                RunId::from(response["run_id"].as_str().unwrap_or_default()).is_well_formed(),
                "{response}"
            );
            for field in ["request_id", "session_token", "message", "timestamp"] {
                assert!(
                    response[field].as_str().is_some_and(|text| !text.trim().is_empty()),
                    "{response}"
                );
            }
            let recording = ctx.recording();
            let upgraded = recording.connections[0].upgraded_us.expect("it was upgraded");
            let greeted_ms = (second.at_us - upgraded) as f64 / 1_000.0;
            ctx.figure("greeting_after_upgrade_ms", greeted_ms, "ms");
            assert!(greeted_ms < 1_000.0, "greeted after {greeted_ms} ms");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_the_greeting_are_new_on_every_connection_and_open_nothing() {
    TestContext::wire(case!("HSK-1", "AUTH-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut seen = BTreeSet::new();
            for _ in 0..3 {
                let mut chat = ada.open().await;
                seen.insert(chat.expect_established().await.connection_id.to_string());
                let offer = chat.expect_offer().await;
                seen.extend([offer.session_token.clone(), offer.request_id, offer.run_id.to_string()]);
                let by_session_token = ConnectOptions::default().with_bearer(&offer.session_token);
                ctx.refused(by_session_token, ErrorCode::AuthTokenInvalid).await;
            }
            assert_eq!(seen.len(), 12, "{seen:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_frame_after_the_acknowledgement_is_handshake_complete_with_the_offered_thread() {
    TestContext::wire(case!("HSK-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.open().await;
            chat.expect_established().await;
            let offer = chat.expect_offer().await;
            let message_id = chat.acknowledge(None, Vec::new()).await;
            let complete = chat.next_frame().await.json();
            let position = &complete["threads"][0];
            let epoch = position["epoch"].as_str().expect("an epoch");
            assert!(!epoch.is_empty());
            assert_eq!(
                (&complete["type"], &complete["correlation_id"], &complete["threads"]),
                (
                    &json!("handshake_complete"),
                    &json!(message_id),
                    &json!([{ "thread_id": offer.thread_id, "epoch": epoch, "recovered": false, "oldest_seq": 1, "last_seq": 0 }])
                )
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_the_handshake_is_refused_before_it_and_nothing_else_is() {
    TestContext::wire(case!("HSK-3", "ERR-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.open().await;
            chat.expect_established().await;
            let offer = chat.expect_offer().await;
            let given = messages::Given::of(&ada, &offer.thread_id);
            let mut came = Vec::new();
            let mut expected = Vec::new();
            for kind in ClientType::ALL.iter().filter(|kind| kind.needs_handshake()) {
                for name in kind.names() {
                    let message_id = MessageId::generate();
                    let message = messages::at_root(*kind, name, &message_id, &given);
                    if !ctx.is_claimed(&message) {
                        continue;
                    }
                    chat.send_json(&message).await;
                    came.push((*name, messages::answer_name(&chat.answer_to(&message_id).await)));
                    expected.push((*name, "HANDSHAKE_REQUIRED".to_owned()));
                }
            }
            for (kind, answer) in [
                (ClientType::Ping, "pong"),
                (ClientType::Heartbeat, "heartbeat_ack"),
                (ClientType::Auth, "auth_completed"),
                (ClientType::HandshakeAcknowledged, "handshake_complete"),
            ] {
                let name = kind.names()[0];
                let message_id = MessageId::generate();
                // Quiet ones in between: whatever they were answered would stand before the next answer.
                chat.send_json(&json!({ "type": "pong" })).await;
                chat.send_json(&json!({ "type": "heartbeat_ack" })).await;
                let message = messages::at_root(kind, name, &message_id, &given);
                if !ctx.is_claimed(&message) {
                    continue;
                }
                chat.send_json(&message).await;
                let frame = chat.next_text().await;
                assert_eq!(frame.json()["correlation_id"], json!(message_id));
                came.push((name, messages::answer_name(frame.control().expect("a control frame"))));
                expected.push((name, answer.to_owned()));
            }
            assert_eq!(came, expected);
            let mut leaving = ada.open().await;
            leaving.expect_offer().await;
            leaving.send_json(&json!({ "type": "disconnect" })).await;
            assert_eq!(leaving.expect_closed().await, Some(1_000));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_message_is_judged_before_the_handshake() {
    TestContext::wire(case!("ERR-1", "MSG-2", "MSG-3", "MSG-4", "HSK-3"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.open().await;
            chat.expect_offer().await;
            chat.send_text("{").await;
            chat.expect_error(ErrorCode::JsonParseError).await;
            chat.send_text("[]").await;
            chat.expect_error(ErrorCode::ValidationError).await;
            chat.send_json(&json!({ "type": "user_mesage", "content": "x" })).await;
            chat.expect_error(ErrorCode::UnknownMessageType).await;
            chat.send_json(&json!({ "type": "user_message", "thread_id": 7 })).await;
            let error = chat.expect_error(ErrorCode::ValidationError).await;
            assert_eq!(error.details["pointer"], "/thread_id");
            // Fields come after the handshake.
            chat.send_json(&json!({ "type": "user_message" })).await;
            chat.expect_error(ErrorCode::HandshakeRequired).await;
            chat.acknowledge(None, Vec::new()).await;
            assert_eq!(chat.expect_complete().await.threads.len(), 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_thread_may_be_acknowledged_and_its_position_is_told() {
    TestContext::wire(case!("HSK-2", "SEQ-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut first = ada.connect().await;
            let run = first.ask("How can I spend less?").await;
            let last_seq = run.events().last().expect("a run has events").header.seq;
            let mut second = ada.open().await;
            let complete = second.handshake_with(Some(&first.thread_id()), Vec::new()).await;
            assert_eq!(complete.threads.len(), 1);
            let position = &complete.threads[0];
            assert_eq!(
                (
                    &position.thread_id,
                    position.recovered,
                    position.oldest_seq,
                    position.last_seq
                ),
                (&first.thread_id(), false, 1, last_seq)
            );
            assert_eq!(position.epoch, first.positions()[&first.thread_id()].0);
            // It follows live from here: nothing old, everything new.
            let run = first.ask("And by model?").await;
            let seen = second.until_completed(run.run_id()).await;
            let bytes = |run: &RunView| run.frames().iter().map(|frame| frame.bytes.clone()).collect::<Vec<_>>();
            assert_eq!(bytes(&seen), bytes(&run));
            assert_eq!(seen.events()[0].header.seq, last_seq + 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_acknowledgement_is_answered_afresh() {
    TestContext::wire(case!("HSK-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let offered = chat.thread_id();
            let other = ada.create_thread("other").await;
            let message_id = chat.acknowledge(Some(&other), Vec::new()).await;
            let complete = chat.expect_complete().await;
            assert_eq!(
                (&complete.correlation_id, &complete.threads[0].thread_id),
                (&Some(message_id), &other)
            );
            // Messages without a thread mean the newly acknowledged one.
            let message_id = chat.say("Where does this go?").await;
            assert_eq!(chat.accepted(&message_id).await.thread_id, other);
            // Without `thread_id` the offered thread is meant, the second time too.
            chat.acknowledge(None, Vec::new()).await;
            let complete = chat.expect_complete().await;
            assert_eq!(complete.threads[0].thread_id, offered);
        })
        .await;
}

fn resume(thread_id: &ThreadId, epoch: &Epoch, after: u64) -> ThreadResume {
    ThreadResume {
        thread_id: thread_id.clone(),
        point: ResumePoint {
            epoch: epoch.clone(),
            after,
        },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resuming_an_unknown_or_foreign_thread_yields_one_error_and_the_client_may_try_again() {
    TestContext::wire(case!("HSK-2", "ISO-2", "ERR-1"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mine = ada.create_thread("mine").await;
            let his = bob.connect().await;
            let (his_epoch, _) = his.positions()[&his.thread_id()].clone();
            let mut chat = ada.open().await;
            chat.expect_established().await;
            chat.expect_offer().await;
            let mut came = Vec::new();
            for (own, resumed) in [
                (None, vec![resume(&his.thread_id(), &his_epoch, 0)]),
                (None, vec![resume(&ThreadId::generate(), &his_epoch, 0)]),
                (
                    None,
                    vec![
                        resume(&mine, &his_epoch, 0),
                        resume(&"no thread at all".into(), &his_epoch, 0),
                    ],
                ),
                (Some(his.thread_id()), vec![]),
                (Some(ThreadId::generate()), vec![]),
                (Some("../../etc/passwd".into()), vec![]),
            ] {
                let message_id = chat.acknowledge(own.as_ref(), resumed).await;
                let mut error = chat.refusal_of(&message_id, ErrorCode::ThreadNotFound).await;
                error.correlation_id = None;
                let mut body = serde_json::to_value(&error).expect("it is JSON");
                body.as_object_mut().expect("an object").remove("timestamp");
                came.push(body);
                // Still not acknowledged: exactly one error, and nothing changed.
                let message_id = chat.say("Hello?").await;
                chat.refusal_of(&message_id, ErrorCode::HandshakeRequired).await;
            }
            assert!(came.iter().all(|body| *body == came[0]), "no oracle: {came:#?}");
            chat.acknowledge(Some(&mine), Vec::new()).await;
            assert_eq!(chat.expect_complete().await.threads[0].thread_id, mine);
            assert_eq!(chat.unclaimed().len(), 0, "{:?}", chat.unclaimed());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_thread_twice_is_refused_at_its_pointer() {
    TestContext::wire(case!("HSK-2", "MSG-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mine = ada.create_thread("mine").await;
            let epoch = Epoch::from("any");
            let mut chat = ada.open().await;
            chat.expect_offer().await;
            let twice = vec![resume(&mine, &epoch, 0), resume(&mine, &epoch, 0)];
            let message_id = chat.acknowledge(None, twice.clone()).await;
            let error = chat.refusal_of(&message_id, ErrorCode::ValidationError).await;
            let pointer = error.details["pointer"].as_str().expect("a pointer");
            assert!(pointer.starts_with("/resume/1"), "{pointer}");
            chat.send_json(
                &json!({ "type": "handshake_acknowledged", "payload": HandshakeAcknowledged { resume: twice } }),
            )
            .await;
            let error = chat.expect_error(ErrorCode::ValidationError).await;
            let pointer = error.details["pointer"].as_str().expect("a pointer");
            assert!(pointer.starts_with("/payload/resume/1"), "{pointer}");
            for (bad, pointer) in [
                (json!({ "resume": {} }), "/resume"),
                (json!({ "resume": [7] }), "/resume/0"),
                (
                    json!({ "resume": [{ "epoch": "x", "after": 0 }] }),
                    "/resume/0/thread_id",
                ),
                (
                    json!({ "resume": [{ "thread_id": mine, "after": 0 }] }),
                    "/resume/0/epoch",
                ),
                (
                    json!({ "resume": [{ "thread_id": mine, "epoch": "x" }] }),
                    "/resume/0/after",
                ),
                (
                    json!({ "resume": [{ "thread_id": mine, "epoch": "x", "after": -1 }] }),
                    "/resume/0/after",
                ),
                (
                    json!({ "resume": [{ "thread_id": mine, "epoch": "x", "after": "0" }] }),
                    "/resume/0/after",
                ),
            ] {
                let mut message = bad.clone();
                message["type"] = json!("handshake_acknowledged");
                chat.send_json(&message).await;
                let error = chat.expect_error(ErrorCode::ValidationError).await;
                assert_eq!(error.details["pointer"], pointer, "{bad}");
            }
            chat.acknowledge(None, Vec::new()).await;
            chat.expect_complete().await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_resume_replays_what_was_missed_byte_for_byte() {
    TestContext::wire(case!("SEQ-3", "SEQ-2", "HSK-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut first = ada.connect().await;
            let thread = first.thread_id();
            let run = first.ask("How can I spend less?").await;
            let (epoch, last_seq) = first.positions()[&thread].clone();
            let bytes: Vec<Vec<u8>> = run.frames().iter().map(|frame| frame.bytes.clone()).collect();
            for after in [0, 1, last_seq - 1, last_seq] {
                let mut again = ada.open().await;
                let complete = again
                    .handshake_with(Some(&thread), vec![resume(&thread, &epoch, after)])
                    .await;
                let position = &complete.threads[0];
                assert_eq!(
                    complete.threads.len(),
                    1,
                    "one entry for a thread that is own and resumed"
                );
                assert_eq!(
                    (position.recovered, position.last_seq),
                    (true, last_seq),
                    "after {after}"
                );
                let mut replayed = Vec::new();
                for _ in after..last_seq {
                    replayed.push(again.next_frame().await.bytes);
                }
                assert_eq!(
                    replayed,
                    bytes[usize::try_from(after).expect("small")..],
                    "after {after}"
                );
                // Nothing more: the next frame is the answer to a ping.
                let message_id = again.send(Ping {}).await;
                assert_eq!(again.next_frame().await.json()["correlation_id"], json!(message_id));
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_that_cannot_be_granted_says_so_and_goes_on_live() {
    TestContext::wire(case!("SEQ-3", "HSK-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut first = ada.connect().await;
            let thread = first.thread_id();
            first.ask("How can I spend less?").await;
            let (epoch, last_seq) = first.positions()[&thread].clone();
            for point in [
                resume(&thread, &"another-epoch".into(), 1),
                resume(&thread, &epoch, last_seq + 1),
                resume(&thread, &epoch, u64::from(u32::MAX)),
            ] {
                let mut again = ada.open().await;
                let complete = again.handshake_with(Some(&thread), vec![point]).await;
                let position = &complete.threads[0];
                assert_eq!(
                    (
                        position.recovered,
                        position.oldest_seq,
                        position.last_seq,
                        &position.epoch
                    ),
                    (false, 1, last_seq, &epoch)
                );
                let message_id = again.send(Ping {}).await;
                assert_eq!(again.next_frame().await.json()["correlation_id"], json!(message_id));
            }
            let mut live = ada.open().await;
            live.handshake_with(Some(&thread), vec![resume(&thread, &"gone".into(), 0)])
                .await;
            let run = first.ask("And by model?").await;
            assert_eq!(
                live.until_completed(run.run_id()).await.events()[0].header.seq,
                last_seq + 1
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_threads_resume_in_one_acknowledgement() {
    TestContext::wire(case!("HSK-2", "SEQ-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let mut runs = Vec::new();
            for title in ["one", "two"] {
                let thread = ada.create_thread(title).await;
                let content = format!("What do I spend on {title}?");
                let message_id = chat
                    .send_to(
                        &thread,
                        UserMessage {
                            content,
                            references: None,
                            metadata: None,
                        },
                    )
                    .await;
                let accepted = chat.accepted(&message_id).await;
                assert_eq!(accepted.thread_id, thread);
                runs.push((thread, chat.until_completed(&accepted.run_id).await));
            }
            let mut again = ada.open().await;
            again.expect_established().await;
            let offer = again.expect_offer().await;
            // A thread's epoch is told by following it; writing to it followed it.
            let mut switched = ada.connect().await;
            let mut points = Vec::new();
            for (thread, _) in &runs {
                switched.acknowledge(Some(thread), Vec::new()).await;
                let complete = switched.expect_complete().await;
                points.push(resume(thread, &complete.threads[0].epoch, 0));
            }
            again.acknowledge(None, points).await;
            let complete = again.expect_complete().await;
            let told: BTreeSet<&ThreadId> = complete.threads.iter().map(|position| &position.thread_id).collect();
            let meant: BTreeSet<&ThreadId> = runs
                .iter()
                .map(|(thread, _)| thread)
                .chain([&offer.thread_id])
                .collect();
            assert_eq!(told, meant);
            for (_, run) in &runs {
                let replay = again.until_completed(run.run_id()).await;
                assert_eq!(replay.types(), run.types());
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_acknowledgement_that_is_refused_changes_nothing() {
    TestContext::wire(case!("HSK-2", "SEQ-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (mut chat, mut other) = (ada.connect().await, ada.connect().await);
            let own = chat.thread_id();
            chat.acknowledge(Some(&ThreadId::generate()), Vec::new()).await;
            chat.expect_error(ErrorCode::ThreadNotFound).await;
            // What it followed it follows still, and its own thread is its own.
            let message = json!({ "type": "chat", "message_id": "1", "thread_id": own, "content": "Hello" });
            other.send_json(&message).await;
            let run_id = other.accepted(&"1".into()).await.run_id;
            other.until_completed(&run_id).await;
            chat.until_completed(&run_id).await;
            let message_id = chat.say("Where does this go?").await;
            assert_eq!(chat.accepted(&message_id).await.thread_id, own);
        })
        .await;
}
