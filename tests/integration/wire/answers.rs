//! Every message type is answered as stated, with its `message_id` as `correlation_id` (MSG-0, MSG-1).

use kingsguard_protocol::client::{
    AgentStatusRequest, Auth, ClientType, CreateThread, GetQualityMetrics, GetUsage, Ping, StartAgent, StopAgent,
    ValidateContent,
};
use kingsguard_protocol::control::{RunPhase, UsagePeriod};
use kingsguard_protocol::http::TokenResponse;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use super::hostile::is_alive;
use crate::messages::{self, Given};

covers!("CONN");

/// What answers a type where all is well; `None` where nothing does.
fn stated_answer(kind: ClientType) -> Option<&'static str> {
    Some(match kind {
        ClientType::HandshakeAcknowledged => "handshake_complete",
        ClientType::UserMessage | ClientType::StartAgent | ClientType::ExampleMessage => "message_received",
        ClientType::AgentStatusRequest => "agent_status_update",
        ClientType::CreateThread => "thread_created",
        ClientType::ListThreads => "thread_list",
        ClientType::SwitchThread => "thread_switched",
        ClientType::RenameThread => "thread_renamed",
        ClientType::DeleteThread => "thread_deleted",
        ClientType::GetThreadHistory => "thread_history",
        ClientType::GetAgentContext => "agent_context",
        ClientType::Ping => "pong",
        ClientType::Heartbeat => "heartbeat_ack",
        ClientType::Auth => "auth_completed",
        ClientType::Broadcast => "broadcast",
        ClientType::GetQualityMetrics => "quality_metrics",
        ClientType::ValidateContent => "content_validation_result",
        ClientType::GetUsage => "usage_report",
        ClientType::Batch => "pong", // of the message in it
        ClientType::Confirmation
        | ClientType::Pong
        | ClientType::HeartbeatAck
        | ClientType::TypingStarted
        | ClientType::TypingStopped => return None,
        // They end a run and the connection: tests of their own.
        ClientType::StopAgent | ClientType::Disconnect => return None,
    })
}

/// Sends a message and says what answered it: the control frame that carries its id, up to the pong that follows; with the
/// thread that it names, where that is not the one meant.
async fn answers(chat: &mut Chat, message: &Value, message_id: &MessageId, meant: &ThreadId) -> Vec<String> {
    chat.send_json(message).await;
    let marker = chat.send(Ping {}).await;
    let mut answers = Vec::new();
    loop {
        let frame = chat.expect("control frame", |frame| frame.control().is_some()).await;
        let json = frame.json();
        let cause = &json["correlation_id"];
        if *cause == json!(marker) {
            return answers;
        }
        if *cause == json!(message_id) || cause == "message_in_batch" {
            let name = messages::answer_name(frame.control().expect("just matched"));
            let is_about_another =
                name != "thread_created" && json["thread_id"].is_string() && json["thread_id"] != json!(meant);
            answers.push(match is_about_another {
                true => format!("{name} of {}", json["thread_id"]),
                false => name,
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_is_answered_as_stated_by_every_name_at_the_root_and_in_payload() {
    TestContext::wire(case!("MSG-1", "MSG-0", "ISO-1"))
        .run(async |ctx| {
            let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
            let mut eves = eve.connect().await;
            let mut chat = ada.connect().await;
            let run = chat.ask("How can I spend less?").await;
            let given = Given {
                run_id: run.run_id().clone(),
                ..Given::of(&ada, &chat.thread_id())
            };
            let mut came = Vec::new();
            let mut expected = Vec::new();
            for kind in ClientType::ALL.iter().copied() {
                if matches!(kind, ClientType::StopAgent | ClientType::Disconnect) {
                    continue;
                }
                for name in kind.names() {
                    for form in [messages::at_root, messages::in_payload] {
                        let message_id = MessageId::generate();
                        let victim = match kind {
                            ClientType::DeleteThread => ada.create_thread("to be deleted").await,
                            _ => given.thread_id.clone(),
                        };
                        let given = Given {
                            thread_id: victim,
                            run_id: given.run_id.clone(),
                            token: given.token.clone(),
                        };
                        let message = form(kind, name, &message_id, &given);
                        if !ctx.is_claimed(&message) {
                            continue;
                        }
                        came.push((*name, answers(&mut chat, &message, &message_id, &given.thread_id).await));
                        let stated: Vec<String> = stated_answer(kind).into_iter().map(str::to_owned).collect();
                        expected.push((*name, stated));
                    }
                }
            }
            assert_eq!(came, expected);
            assert!(chat.is_open());
            let marker = eves.send(Ping {}).await;
            eves.answer_to(&marker).await;
            let strange = eves.unclaimed();
            assert_eq!(strange.len(), 0, "somebody else heard of it: {strange:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_closes_with_1000_in_both_forms() {
    TestContext::wire(case!("MSG-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            for message in [
                json!({ "type": "disconnect" }),
                json!({ "type": "disconnect", "reason": "done" }),
                json!({ "type": "disconnect", "payload": { "reason": null } }),
            ] {
                let mut chat = ada.connect().await;
                chat.send_json(&message).await;
                assert_eq!(chat.expect_closed().await, Some(1_000), "{message}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_an_id_is_answered_with_one_of_the_server() {
    TestContext::wire(case!("MSG-1", "MSG-0"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for message in [
                json!({ "type": "ping" }),
                json!({ "type": "ping", "message_id": null }),
                json!({ "type": "ping", "payload": { "message_id": null } }),
            ] {
                chat.send_json(&message).await;
                match chat.expect_control("pong").await {
                    ControlFrame::Pong(pong) => assert!(pong.correlation_id.is_well_formed(), "{pong:?}"),
                    other => unreachable!("just matched {other:?}"),
                }
            }
            chat.send_json(&json!({ "type": "ping", "payload": { "message_id": "mine, in payload" } }))
                .await;
            match chat.expect_control("pong").await {
                ControlFrame::Pong(pong) => assert_eq!(pong.correlation_id.as_str(), "mine, in payload"),
                other => unreachable!("just matched {other:?}"),
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_fields_nulls_and_any_usual_timestamp_are_accepted() {
    TestContext::wire(case!("MSG-0"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for (row, extra) in [
                json!({ "timestamp": "2026-01-31T08:15:30Z" }),
                json!({ "timestamp": "2026-01-31T08:15:30.123456789+02:00" }),
                json!({ "timestamp": "2026-01-31T08:15:30" }),
                json!({ "timestamp": "2026-01-31T08:15:30.5" }),
                json!({ "timestamp": null }),
                json!({ "thread_id": null, "run_id": "my own wording", "payload": null }),
                json!({ "run_id": 7, "user_id": "user_of_somebody_else", "": "", "seq": -1 }),
                json!({ "payload": {}, "deep": [[[{ "a": [1, 2.5e-3, null, true] }]]] }),
            ]
            .into_iter()
            .enumerate()
            {
                let mut message = extra;
                let id = format!("message_row_{row}");
                message["type"] = json!("ping");
                message["message_id"] = json!(id);
                chat.send_json(&message).await;
                let frame = chat.next_text().await.json();
                assert_eq!(
                    (&frame["type"], &frame["correlation_id"]),
                    (&json!("pong"), &json!(id)),
                    "{message}"
                );
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_may_stand_under_its_aliases() {
    TestContext::wire(case!("MSG-1", "MSG-0"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            for field in ["content", "text", "message"] {
                let content = format!("What did I spend? Asked by {field}");
                chat.send_json(&json!({ "type": "chat", "message_id": field, "payload": { field: content } }))
                    .await;
                let accepted = chat.accepted(&field.into()).await;
                chat.until_completed(&accepted.run_id).await;
                let path = format!("/api/threads/{}/messages", accepted.thread_id);
                let history = ada.http().get(&path).await.expect_status(200).json();
                let said = history["messages"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .find(|said| said["message_id"] == field);
                assert_eq!(said.expect("it is stored")["content"], content);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_received_names_message_run_and_thread_and_the_run_carries_its_cause() {
    TestContext::wire(case!("MSG-1", "MSG-5", "EVT-7", "TIM-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let run = chat.ask("How can I spend less?").await;
            let accepted = run.accepted();
            assert_eq!(accepted.message_id, accepted.correlation_id);
            assert_eq!(accepted.thread_id, chat.thread_id());
            assert!(accepted.run_id.is_well_formed());
            for event in run.events() {
                assert_eq!(event.header.correlation_id, accepted.message_id);
                assert_eq!(event.header.thread_id, accepted.thread_id);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_agent_runs_the_agent_that_it_names() {
    TestContext::wire(case!("MSG-1", "EVT-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let agents = ada.http().get("/api/agents").await.expect_status(200).json();
            let names: Vec<String> = agents["agents"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|agent| agent["agent_name"].as_str().map(str::to_owned))
                .collect();
            assert!(names.len() >= 6, "at least five agents and data_helper: {names:?}");
            let mut chat = ada.connect().await;
            for name in &names {
                let run = chat.ask_agent(name, "What did I spend, and on which model?").await;
                assert_eq!(run.events()[0].header.agent_name, *name, "{:?}", run.started());
                assert_eq!(
                    run.completed().status,
                    RunStatus::Completed,
                    "{name}: {:?}",
                    run.completed()
                );
            }
            let message_id = chat
                .send(StartAgent {
                    agent_name: "nobody".into(),
                    user_request: "Hello?".into(),
                    context: None,
                })
                .await;
            chat.refusal_of(&message_id, ErrorCode::AgentNotFound).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_agent_is_answered_by_agent_stopped_with_its_own_cause_and_then_cancelled() {
    TestContext::wire(case!("MSG-1", "ORD-3", "ORD-4", "EVT-6"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            let cause = chat.say(&ctx.long_run_prompt(20)).await;
            let accepted = chat.accepted(&cause).await;
            let run_id = accepted.run_id.clone();
            chat.expect_event("the tool that watches", |event| {
                matches!(event.body, EventBody::ToolExecuting(_))
            })
            .await;
            let request = AgentStatusRequest {
                run_id: Some(run_id.clone()),
            };
            let asked = chat.send(request.clone()).await;
            assert_eq!(phases(&chat.answer_to(&asked).await), [RunPhase::Running]);
            let open = chat.send(AgentStatusRequest::default()).await;
            assert_eq!(phases(&chat.answer_to(&open).await), [RunPhase::Running]);

            let reason = Some("I have seen enough".to_owned());
            let stop = chat
                .send(StopAgent {
                    run_id: run_id.clone(),
                    reason,
                })
                .await;
            let run = chat.until_completed(&run_id).await;
            let stopped = run
                .events()
                .into_iter()
                .find_map(|event| match &event.body {
                    EventBody::AgentStopped(stopped) => {
                        Some((event.header.correlation_id.clone(), stopped.reason.clone()))
                    }
                    _ => None,
                })
                .expect("agent_stopped");
            assert_eq!(stopped, (stop, "I have seen enough".to_owned()));
            assert_eq!(
                (run.completed().status, run.completed().success),
                (RunStatus::Cancelled, false)
            );
            let last = run.events().last().map(|event| event.header.correlation_id.clone());
            assert_eq!(last, Some(cause), "agent_completed carries the cause of the run");

            let asked = chat.send(request).await;
            assert_eq!(phases(&chat.answer_to(&asked).await), [RunPhase::Cancelled]);
            let open = chat.send(AgentStatusRequest::default()).await;
            assert_eq!(phases(&chat.answer_to(&open).await), []);
            let again = chat.send(StopAgent { run_id, reason: None }).await;
            chat.refusal_of(&again, ErrorCode::Conflict).await;
            let unknown = chat
                .send(StopAgent {
                    run_id: RunId::generate(),
                    reason: None,
                })
                .await;
            chat.refusal_of(&unknown, ErrorCode::RunNotFound).await;
        })
        .await;
}

fn phases(frame: &ControlFrame) -> Vec<RunPhase> {
    match frame {
        ControlFrame::AgentStatusUpdate(update) => update.runs.iter().map(|run| run.status).collect(),
        other => panic!("expected agent_status_update, but {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quality_metrics_count_the_runs_own_events() {
    TestContext::wire(case!("MSG-1", "ISO-2"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chat = ada.connect().await;
            let run = chat.ask("How can I spend less?").await;
            let message_id = chat
                .send(GetQualityMetrics {
                    run_id: run.run_id().clone(),
                })
                .await;
            let metrics = match chat.answer_to(&message_id).await {
                ControlFrame::QualityMetrics(metrics) => metrics,
                other => panic!("expected quality_metrics, but {other:?}"),
            };
            assert_eq!(metrics.run_id, *run.run_id());
            let counted = Value::Object(metrics.metrics).to_string();
            let events = run.events().len();
            let tools = run.tools().len();
            assert!(counted.contains(&events.to_string()), "{events} events in {counted}");
            assert!(counted.contains(&tools.to_string()), "{tools} tools in {counted}");
            let mut his = bob.connect().await;
            for run_id in [run.run_id().clone(), RunId::generate(), "../runs".into()] {
                let message_id = his.send(GetQualityMetrics { run_id }).await;
                his.refusal_of(&message_id, ErrorCode::RunNotFound).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn validate_content_judges_without_starting_anything() {
    TestContext::wire(case!("MSG-1"))
        .run(async |ctx| {
            let mut chat = ctx.user("ada").await.connect().await;
            for (content, content_type, valid) in [
                ("What did I spend?".to_owned(), "user_message", true),
                (" ".to_owned(), "user_message", false),
                ("😀".repeat(8_000), "user_message", true),
                ("😀".repeat(8_001), "user_message", false),
                ("{\"a\": [1, 2]}".to_owned(), "json", true),
                ("{\"a\": [1, 2}".to_owned(), "json", false),
            ] {
                let message_id = chat
                    .send(ValidateContent {
                        content,
                        content_type: content_type.into(),
                    })
                    .await;
                match chat.answer_to(&message_id).await {
                    ControlFrame::ContentValidationResult(result) => {
                        assert_eq!((result.valid, result.issues.is_empty()), (valid, valid), "{result:?}");
                        assert_eq!(result.content_type, content_type);
                    }
                    other => panic!("expected content_validation_result, but {other:?}"),
                }
            }
            let open = chat.send(AgentStatusRequest::default()).await;
            assert_eq!(phases(&chat.answer_to(&open).await), []);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_the_sum_over_the_users_own_runs() {
    TestContext::wire(case!("MSG-1", "ISO-3"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chat = ada.connect().await;
            let mut spent = kingsguard_protocol::event::RunUsage::default();
            for question in ["How can I spend less?", "And by model?"] {
                let usage = chat.ask(question).await.completed().usage;
                spent.input_tokens += usage.input_tokens;
                spent.output_tokens += usage.output_tokens;
                spent.cost_microusd += usage.cost_microusd;
            }
            for period in [
                None,
                Some(UsagePeriod::Day),
                Some(UsagePeriod::Week),
                Some(UsagePeriod::All),
            ] {
                let message_id = chat.send(GetUsage { period }).await;
                match chat.answer_to(&message_id).await {
                    ControlFrame::UsageReport(report) => {
                        assert_eq!(
                            (report.runs, report.usage, report.period),
                            (2, spent, period.unwrap_or_default())
                        );
                    }
                    other => panic!("expected usage_report, but {other:?}"),
                }
            }
            let mut his = bob.connect().await;
            let message_id = his.send(GetUsage { period: None }).await;
            match his.answer_to(&message_id).await {
                ControlFrame::UsageReport(report) => assert_eq!((report.runs, report.usage), (0, Default::default())),
                other => panic!("expected usage_report, but {other:?}"),
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_with_another_users_or_a_bad_token_changes_nothing() {
    TestContext::wire(case!("AUTH-6", "MSG-1"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chat = ada.connect().await;
            for (token, code) in [
                (bob.access_token(), ErrorCode::AuthForbidden),
                ("nonsense".to_owned(), ErrorCode::AuthTokenInvalid),
            ] {
                chat.send_json(&json!({ "type": "auth", "message_id": "message_auth", "token": token }))
                    .await;
                chat.refusal_of(&"message_auth".into(), code).await;
            }
            // Still hers: her thread can be made and is hers.
            let message_id = chat
                .send(CreateThread {
                    title: Some("hers".into()),
                    metadata: None,
                })
                .await;
            let created = match chat.answer_to(&message_id).await {
                ControlFrame::ThreadCreated(created) => created.thread_id,
                other => panic!("expected thread_created, but {other:?}"),
            };
            let _hers = ada
                .http()
                .get(&format!("/api/threads/{created}"))
                .await
                .expect_status(200);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_token_ends_its_connections_with_4401_within_5_s() {
    TestContext::wire(case!("AUTH-6", "SEC-4"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let (mut one, mut two) = (ada.connect().await, ada.connect().await);
            let revoked = ada.tokens();
            ada.login().await; // another family
            let mut other = ada.connect().await;
            let began = std::time::Instant::now();
            let http = ctx.http().with_bearer(revoked.access_token.reveal());
            let _ended = http.post("/auth/logout", &json!({})).await.expect_status(200);
            for chat in [&mut one, &mut two] {
                chat.expect_error(ErrorCode::AuthTokenRevoked).await;
                assert_eq!(
                    chat.expect_closed().await,
                    Some(CloseCode::AuthenticationEnded.as_u16())
                );
            }
            let took = ctx.time_since(began);
            assert!(took.as_secs_f64() < 5.0, "ended after {took:?}");
            ctx.figure("revocation_to_close_ms", took.as_secs_f64() * 1_000.0, "ms");
            is_alive(&mut other).await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_auth_a_connection_lives_and_dies_with_the_fresh_token() {
    TestContext::wire(case!("AUTH-6", "MSG-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let first = ada.tokens();
            let (mut moved, mut stayed) = (ada.connect().await, ada.connect().await);
            let second = ada.login().await; // another family
            let third = ada.login().await;
            let message_id = moved
                .send(Auth {
                    token: second.access_token.clone(),
                })
                .await;
            assert_eq!(moved.answer_to(&message_id).await.frame_type(), "auth_completed");
            let log_out = async |tokens: &TokenResponse| {
                let http = ctx.http().with_bearer(tokens.access_token.reveal());
                let _ended = http.post("/auth/logout", &json!({})).await.expect_status(200);
            };
            // The token that it came with does not matter any more: what stayed with that ends, and this does not.
            log_out(&first).await;
            stayed.expect_error(ErrorCode::AuthTokenRevoked).await;
            is_alive(&mut moved).await;
            // A revoked token of the same user is no fresh one.
            log_out(&third).await;
            let message_id = moved
                .send(Auth {
                    token: third.access_token.clone(),
                })
                .await;
            moved.refusal_of(&message_id, ErrorCode::AuthTokenRevoked).await;
            is_alive(&mut moved).await;
            log_out(&second).await;
            moved.expect_error(ErrorCode::AuthTokenRevoked).await;
            assert_eq!(
                moved.expect_closed().await,
                Some(CloseCode::AuthenticationEnded.as_u16())
            );
        })
        .await;
}
