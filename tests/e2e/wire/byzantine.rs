//! Clients that lie: about who they are, what they have, and what was said before.

use futures_util::future::join_all;
use kingsguard_protocol::client::SwitchThread;
use kingsguard_testkit::prelude::*;
use kingsguard_tests::sse::SseStream;
use pretty_assertions::assert_eq;

use crate::people::{log_of, origins};

covers!("BRG-5");

/// A thread's whole log as its owner is told it over REST.
async fn log(user: &SimulatedUser, thread_id: &ThreadId) -> Value {
    let path = format!("/api/threads/{thread_id}/messages?limit=100");
    let mut told = user.http().get(&path).await.expect_status(200).json();
    told["timestamp"].take(); // when it was told
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_a_client_claims_for_its_message_are_not_taken_on_trust() {
    TestContext::wire(case!("MSG-0", "ISO-1", "ISO-3", "SEQ-8"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let (mut hers, mut eves) = (ada.connect().await, eve.connect().await);
            let run = hers.ask("What did I spend?").await;
            let thread_id = hers.thread_id();
            let before = log(&ada, &thread_id).await;
            let header = run.events()[0].header.clone();
            let forged = json!({
                "user_id": ada.user_id(), "run_id": run.run_id(), "event_id": header.event_id, "seq": 1,
                "connection_id": hers.established().connection_id, "session_token": hers.offer().session_token,
                "agent_name": "admin", "correlation_id": header.correlation_id, "content": "Hello",
                "message_id": header.correlation_id,
            });
            let mut at_root = forged.clone();
            at_root["type"] = json!("user_message");
            let mut payload = forged.clone();
            payload["content"] = json!("Hello again");
            let in_payload = json!({ "type": "user_message", "message_id": "message_of_eve", "payload": payload });
            // The message_id is ada's as well: it means something in her threads only.
            for (message, message_id) in [
                (at_root, header.correlation_id.clone()),
                (in_payload, "message_of_eve".into()),
            ] {
                eves.send_json(&message).await;
                let accepted = eves.accepted(&message_id).await;
                assert_eq!(accepted.thread_id, eves.thread_id());
                assert_ne!(accepted.run_id, *run.run_id());
                let own = eves.until_completed(&accepted.run_id).await;
                assert_eq!(
                    origins(&own),
                    [(
                        message_id.to_string(),
                        accepted.run_id.to_string(),
                        eve.user_id().to_string()
                    )]
                );
                assert_eq!(own.completed().status, RunStatus::Completed);
            }
            assert_eq!(log(&ada, &thread_id).await, before);
            // A run of hers comes after all of it; whatever leaked would have come before its end.
            let next = hers.ask("Hello").await;
            assert_eq!(next.events()[0].header.seq, run.events().len() as u64 + 1);
            let stray: Vec<&Frame> = hers
                .unclaimed()
                .iter()
                .filter(|frame| frame.event().is_some())
                .collect();
            assert!(stray.is_empty(), "{stray:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_replayed_do_nothing_twice_and_nothing_for_a_stranger() {
    TestContext::wire(case!("SEQ-8", "ISO-2", "AUTH-6", "ORD-4"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let thread_id = ada.create_thread("mine").await;
            let mut chat = ada.connect().await;
            let said = json!({
                "type": "user_message", "message_id": "said", "thread_id": thread_id,
                "content": ctx.long_run_prompt(2),
            });
            let renamed =
                json!({ "type": "rename_thread", "message_id": "renamed", "thread_id": thread_id, "title": "hers" });
            let token = json!({ "type": "auth", "message_id": "token", "token": ada.access_token() });
            chat.send_json(&said).await;
            let run_id = chat.accepted(&"said".into()).await.run_id;
            let stopped = json!({ "type": "stop_agent", "message_id": "stopped", "run_id": run_id });

            let mut eves = eve.connect().await;
            for (frame, id, code) in [
                (&said, "said", ErrorCode::ThreadNotFound),
                (&renamed, "renamed", ErrorCode::ThreadNotFound),
                (&stopped, "stopped", ErrorCode::RunNotFound),
                (&token, "token", ErrorCode::AuthForbidden),
            ] {
                for _ in 0..3 {
                    eves.send_json(frame).await;
                    eves.refusal_of(&id.into(), code).await;
                }
            }
            // And by himself, over two connections, while the run goes on and after it.
            let mut other = ada.connect().await;
            for _ in 0..5 {
                for chat in [&mut chat, &mut other] {
                    chat.send_json(&said).await;
                    assert_eq!(chat.accepted(&"said".into()).await.run_id, run_id);
                }
            }
            let run = chat.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed, "nobody stopped it");
            chat.send_json(&said).await;
            assert_eq!(chat.accepted(&"said".into()).await.run_id, run_id);

            let told = log(&ada, &thread_id).await;
            assert_eq!(
                told["messages"].as_array().map(Vec::len),
                Some(2),
                "one question, one answer: {told}"
            );
            assert_eq!(told["events"].as_array().map(Vec::len), Some(run.events().len()));
            let summary = ada.http().get(&format!("/api/threads/{thread_id}")).await.json();
            assert_eq!(summary["title"], "mine");
        })
        .await;
}

/// Cursors that are no place in a log of `last` events: as JSON, and whether they are of a good shape.
fn lies(last: u64) -> Vec<(String, bool)> {
    let good = [last + 1, 1_000_000, u64::from(u32::MAX), i64::MAX as u64, u64::MAX];
    let mut lies: Vec<(String, bool)> = good.iter().map(|after| (after.to_string(), true)).collect();
    lies.push(("99999999999999999999999999".into(), true)); // an integer above every `seq`
    for bad in [
        "-1",
        "-9223372036854775808",
        "1.5",
        "\"3\"",
        "true",
        "null",
        "[3]",
        "{}",
    ] {
        lies.push((bad.into(), false));
    }
    lies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_lies_is_refused_or_not_recovered_and_never_skips_an_event() {
    TestContext::wire(case!("SEQ-3", "HSK-2", "MSG-4", "ISO-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let (mut hers, mut eves) = (ada.connect().await, eve.connect().await);
            let run = hers.ask("What did I spend?").await;
            let (thread_id, last) = (hers.thread_id(), run.events().len() as u64);
            let epoch = hers.positions()[&thread_id].0.to_string();
            eves.ask("Hello").await;
            let foreign = eves.positions()[&eves.thread_id()].0.to_string();
            let mut elsewhere = ada.connect().await;
            elsewhere.ask("Hello").await;
            let other = elsewhere.positions()[&elsewhere.thread_id()].0.to_string();

            let mut points: Vec<(String, String, bool)> = Vec::new();
            points.extend(lies(last).into_iter().map(|(after, good)| (epoch.clone(), after, good)));
            for strange in [&foreign, &other, &epoch.to_uppercase(), &format!("{epoch}x"), "0", "🧵"].map(ToString::to_string) {
                assert_ne!(strange, epoch, "an epoch belongs to one thread");
                points.push((strange, "3".into(), true));
            }
            // One connection each by the handshake and by switching, told again and again.
            let (mut by_handshake, mut by_switch) = (ada.connect().await, ada.connect().await);
            for (epoch_said, after, is_good) in &points {
                let epoch_said = json!(epoch_said);
                by_handshake
                    .send_text(&format!(
                        r#"{{"type":"handshake_acknowledged","message_id":"lie","resume":[{{"thread_id":"{thread_id}","epoch":{epoch_said},"after":{after}}}]}}"#
                    ))
                    .await;
                by_switch
                    .send_text(&format!(
                        r#"{{"type":"switch_thread","message_id":"lie","thread_id":"{thread_id}","resume":{{"epoch":{epoch_said},"after":{after}}}}}"#
                    ))
                    .await;
                let answers = [
                    (by_handshake.answer_to(&"lie".into()).await, "/resume/0/after"),
                    (by_switch.answer_to(&"lie".into()).await, "/resume/after"),
                ];
                for (answer, pointer) in answers {
                    let position = match answer {
                        ControlFrame::HandshakeComplete(complete) => {
                            complete.threads.into_iter().find(|position| position.thread_id == thread_id)
                        }
                        ControlFrame::ThreadSwitched(switched) => Some(switched.position),
                        ControlFrame::Error(error) => {
                            assert!(!is_good, "{epoch_said} {after}: {error:?}");
                            assert_eq!(error.error_code, ErrorCode::ValidationError);
                            assert_eq!(error.details["pointer"], pointer, "{after}");
                            continue;
                        }
                        other => panic!("expected a position or an error, but {other:?}"),
                    };
                    assert!(is_good, "{after} is no place");
                    let position = position.expect("the thread was named");
                    assert_eq!(
                        (position.recovered, position.oldest_seq, position.last_seq, position.epoch.as_str()),
                        (false, 1, last, epoch.as_str()),
                        "{epoch_said} {after}"
                    );
                }
            }
            // Not recovered means live from there on: the next run whole, and nothing of what was before.
            let next = hers.ask("Hello").await;
            for chat in [&mut by_handshake, &mut by_switch] {
                let seen = chat.until_completed(next.run_id()).await;
                assert_eq!(log_of(&seen), log_of(&next));
                let stray: Vec<&Frame> = chat.unclaimed().iter().filter(|frame| frame.event().is_some()).collect();
                assert!(stray.is_empty(), "{stray:?}");
            }
            // The truth still helps.
            let resume = Some(ResumePoint {
                epoch: epoch.as_str().into(),
                after: last,
            });
            by_switch.send_to(&thread_id, SwitchThread { resume }).await;
            let again = by_switch.until_completed(next.run_id()).await;
            assert_eq!(log_of(&again), log_of(&next));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_event_id_that_lies_is_told_as_not_recovered() {
    TestContext::wire(case!("SEQ-3", "HTTP-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let (mut chat, mut eves) = (ada.connect().await, eve.connect().await);
            let run = chat.ask("What did I spend?").await;
            eves.ask("Hello").await;
            let (thread_id, last) = (chat.thread_id(), run.events().len() as u64);
            let epoch = chat.positions()[&thread_id].0.clone();
            let foreign = eves.positions()[&eves.thread_id()].0.clone();
            for lie in [
                format!("{epoch}:{}", last + 1),
                format!("{epoch}:{}", u64::MAX),
                format!("{epoch}:99999999999999999999999999"),
                format!("{epoch}:-1"),
                format!("{epoch}:"),
                format!(":{last}"),
                format!("{foreign}:1"),
                last.to_string(),
            ] {
                let mut stream = SseStream::open(ctx, &ada, &thread_id, Some(&lie)).await;
                let told = stream.next().await;
                assert_eq!((told.id, told.event.as_str()), (None, "thread_switched"), "{lie}");
                let told: Value = serde_json::from_str(&told.data).expect("JSON");
                assert_eq!(
                    (&told["recovered"], &told["last_seq"], &told["epoch"]),
                    (&json!(false), &json!(last), &json!(epoch)),
                    "{lie}"
                );
            }
            let mut honest = SseStream::open(ctx, &ada, &thread_id, Some(&format!("{epoch}:{}", last - 1))).await;
            assert_eq!(honest.next().await.id, Some(format!("{epoch}:{last}")));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_ten_that_race_for_one_ticket_one_gets_in() {
    TestContext::wire(case!("AUTH-4", "AUTH-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let ticket = ada.ticket().await;
            let options = || ConnectOptions::default().with_ticket(ticket.ticket.reveal());
            let came = join_all((0..10).map(|_| ada.try_open(options()))).await;
            let (got_in, refused): (Vec<_>, Vec<_>) = came.into_iter().partition(Result::is_ok);
            assert_eq!((got_in.len(), refused.len()), (1, 9));
            for refusal in refused.into_iter().filter_map(Result::err) {
                let body: Value = serde_json::from_slice(&refusal.body).expect("an error body is JSON");
                assert_eq!(
                    (refusal.status, &body["error_code"]),
                    (401, &json!("AUTH_TOKEN_INVALID"))
                );
            }
            for chat in got_in {
                let mut chat = chat.expect("it was accepted");
                chat.handshake().await;
                assert_eq!(chat.ask("Hello").await.completed().status, RunStatus::Completed);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_clients_with_one_token_the_one_that_misbehaves_hurts_itself_only() {
    TestContext::wire(case!("ERR-2", "SEQ-6", "CON-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (mut good, mut bad) = (ada.connect().await, ada.connect().await);
            let first = good.ask("Hello").await;
            let thread_id = good.thread_id();
            bad.send_to(&thread_id, SwitchThread { resume: None }).await;
            bad.expect_control("thread_switched").await;
            let asked = good.say(&ctx.long_run_prompt(1)).await;
            let run_id = good.accepted(&asked).await.run_id;
            bad.send_text("{").await;
            bad.expect_error(ErrorCode::JsonParseError).await;
            bad.send_json(&json!({ "type": "handshake_acknowledged", "thread_id": "thread_of_nobody" }))
                .await;
            bad.expect_error(ErrorCode::ThreadNotFound).await;
            bad.send_binary(&[0, 159, 146, 150]).await.expect("it is still open");
            assert_eq!(bad.expect_closed().await, Some(1003));
            let run = good.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            assert_eq!(run.events()[0].header.seq, first.events().len() as u64 + 1);
            let whole: Vec<u64> = run.events().iter().map(|event| event.header.seq).collect();
            let from = whole[0];
            assert_eq!(whole, (from..from + whole.len() as u64).collect::<Vec<_>>());
        })
        .await;
}
