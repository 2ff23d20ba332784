//! The REST side (HTTP-1): each call of the contract's table, its status, its body, its refusals.

use kingsguard_protocol::control::UsageReport;
use kingsguard_protocol::http::{
    AgentList, ChatAccepted, HealthResponse, HealthStatus, RunResponse, ThreadPage, ThreadSummary,
};
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

/// Every call of contract §11, as method and path of the OpenAPI document.
const CALLS: [(&str, &str); 21] = [
    ("post", "/auth/register"),
    ("post", "/auth/login"),
    ("post", "/auth/refresh"),
    ("post", "/auth/logout"),
    ("get", "/auth/me"),
    ("post", "/auth/dev_login"),
    ("get", "/api/threads"),
    ("post", "/api/threads"),
    ("get", "/api/threads/{}"),
    ("get", "/api/threads/{}/messages"),
    ("post", "/api/chat/messages"),
    ("get", "/api/chat/stream"),
    ("get", "/api/agents"),
    ("get", "/api/runs/{}"),
    ("post", "/api/usage-records"),
    ("get", "/api/billing/usage"),
    ("post", "/api/websocket/ticket"),
    ("get", "/health/live"),
    ("get", "/health/ready"),
    ("get", "/health"),
    ("get", "/metrics"),
];

fn without_parameter_names(path: &str) -> String {
    path.split('/')
        .map(|part| if part.starts_with('{') { "{}" } else { part })
        .collect::<Vec<_>>()
        .join("/")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openapi_document_lists_every_call_and_resolves() {
    TestContext::wire(case!("HTTP-1"))
        .run(async |ctx| {
            let document = ctx.http().get("/api/openapi.json").await.expect_status(200).json();
            assert!(
                document["openapi"]
                    .as_str()
                    .is_some_and(|version| version.starts_with("3.")),
                "{}",
                document["openapi"]
            );
            let mut listed = Vec::new();
            for (path, methods) in document["paths"].as_object().expect("paths") {
                for (method, call) in methods.as_object().expect("methods") {
                    listed.push((method.clone(), without_parameter_names(path)));
                    let answers = call["responses"].as_object().expect("responses");
                    assert!(
                        answers.keys().any(|status| status.starts_with('2')),
                        "{method} {path} never succeeds"
                    );
                }
            }
            let missing: Vec<_> = CALLS
                .iter()
                .filter(|(method, path)| !listed.contains(&((*method).to_owned(), (*path).to_owned())))
                .collect();
            assert!(missing.is_empty(), "not described: {missing:?}");
            // Every reference leads somewhere.
            let text = document.to_string();
            for reference in text
                .split("\"$ref\":\"#")
                .skip(1)
                .map(|rest| rest.split('"').next().unwrap_or_default())
            {
                assert!(document.pointer(reference).is_some(), "#{reference} leads nowhere");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_of_the_content_type_that_the_openapi_document_says() {
    TestContext::wire(case!("HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let thread_id = ada.create_thread("Costs").await;
            let document = ctx.http().get("/api/openapi.json").await.expect_status(200).json();
            let paths = document["paths"].as_object().expect("paths");
            let described = |path: &str, status: u16| {
                let (_, call) = paths
                    .iter()
                    .find(|(listed, _)| without_parameter_names(listed) == path)?;
                let content = call["get"]["responses"][status.to_string()]["content"].as_object()?;
                Some(content.keys().cloned().collect::<Vec<_>>())
            };
            let mut wrong = Vec::new();
            let mut compared = 0;
            for (path, asked, http) in [
                ("/auth/me", "/auth/me".to_owned(), ada.http()),
                ("/auth/me", "/auth/me".to_owned(), ctx.http()),
                ("/api/threads", "/api/threads".to_owned(), ada.http()),
                ("/api/threads/{}", format!("/api/threads/{thread_id}"), ada.http()),
                ("/api/threads/{}", "/api/threads/thread_x".to_owned(), ada.http()),
                (
                    "/api/threads/{}/messages",
                    format!("/api/threads/{thread_id}/messages"),
                    ada.http(),
                ),
                ("/api/agents", "/api/agents".to_owned(), ada.http()),
                ("/api/billing/usage", "/api/billing/usage".to_owned(), ada.http()),
                ("/api/openapi.json", "/api/openapi.json".to_owned(), ctx.http()),
                ("/health/live", "/health/live".to_owned(), ctx.http()),
                ("/metrics", "/metrics".to_owned(), ctx.http()),
            ] {
                let answer = http.get(&asked).await;
                // RFC 9110 §8.3.1: parameters follow behind a semicolon, and case does not matter.
                let content_type = answer.header("content-type").unwrap_or_default();
                let essence = content_type.split(';').next().unwrap_or_default().trim().to_lowercase();
                let Some(described) = described(path, answer.status()) else {
                    continue;
                };
                compared += 1;
                if !described.contains(&essence) {
                    wrong.push(format!(
                        "{asked}: {} `{content_type}`, not {described:?}",
                        answer.status()
                    ));
                }
            }
            assert!(wrong.is_empty(), "{wrong:#?}");
            assert!(compared > 0, "the document says of no answer what it is");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_path_is_404_and_a_wrong_method_405_with_the_error_body() {
    TestContext::wire(case!("HTTP-1", "ERR-1"))
        .run(async |ctx| {
            let http = ctx.user("ada").await.http();
            for path in [
                "/",
                "/nowhere",
                "/api",
                "/api/threads/",
                "/auth",
                "/health/dead",
                "/ws/",
                "/%ff",
            ] {
                let _error = http.get(path).await.expect_error(ErrorCode::NotFound);
            }
            for path in [
                "/auth/register",
                "/auth/login",
                "/auth/logout",
                "/api/websocket/ticket",
                "/api/usage-records",
            ] {
                let _error = http.get(path).await.expect_error(ErrorCode::MethodNotAllowed);
            }
            for path in [
                "/auth/me",
                "/health",
                "/health/live",
                "/metrics",
                "/api/openapi.json",
                "/api/agents",
            ] {
                let answer = http.post(path, &json!({})).await;
                let _error = answer.expect_error(ErrorCode::MethodNotAllowed);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_a_user_asks_for_his_token() {
    TestContext::wire(case!("HTTP-1", "AUTH-1"))
        .run(async |ctx| {
            for (method, path) in [
                ("GET", "/auth/me"),
                ("POST", "/auth/logout"),
                ("GET", "/api/threads"),
                ("POST", "/api/threads"),
                ("GET", "/api/threads/thread_x"),
                ("GET", "/api/threads/thread_x/messages"),
                ("POST", "/api/chat/messages"),
                ("GET", "/api/chat/stream?thread_id=thread_x"),
                ("GET", "/api/agents"),
                ("GET", "/api/runs/run_x"),
                ("POST", "/api/usage-records"),
                ("GET", "/api/billing/usage"),
                ("POST", "/api/websocket/ticket"),
            ] {
                let method: ::http::Method = method.parse().expect("a method");
                let call = ctx.http().request(method, path).body("{}");
                let _error = ctx.http().send(call).await.expect_error(ErrorCode::AuthRequired);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_is_made_read_and_paged_over_rest() {
    TestContext::wire(case!("HTTP-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let http = ada.http();
            let body = json!({ "title": "Costs", "metadata": { "n": 1 } });
            let made: ThreadSummary = http.post("/api/threads", &body).await.expect_status(201).parse();
            assert!(made.thread_id.is_well_formed());
            assert_eq!(
                (made.title.as_deref(), made.metadata.get(), made.last_seq),
                (Some("Costs"), "{\"n\":1}", 0)
            );
            let read: ThreadSummary = http
                .get(&format!("/api/threads/{}", made.thread_id))
                .await
                .expect_status(200)
                .parse();
            assert_eq!(read, made);
            let bare: ThreadSummary = http.post("/api/threads", &json!({})).await.expect_status(201).parse();
            assert_eq!((bare.title, bare.metadata.get()), (None, "{}"));
            for title in ["c", "d", "e"] {
                ada.create_thread(title).await;
            }
            let mut came = Vec::new();
            let mut path = "/api/threads?limit=2".to_owned();
            loop {
                let page: ThreadPage = http.get(&path).await.expect_status(200).parse();
                assert!(page.threads.len() <= 2);
                came.extend(page.threads.into_iter().map(|thread| thread.title.unwrap_or_default()));
                match page.next_cursor {
                    Some(cursor) => path = format!("/api/threads?limit=2&cursor={cursor}"),
                    None => break,
                }
            }
            assert_eq!(came, ["e", "d", "c", "", "Costs"]);
            for (query, pointer) in [
                ("limit=0", "/limit"),
                ("limit=101", "/limit"),
                ("limit=x", "/limit"),
                ("cursor=x", "/cursor"),
            ] {
                let error = http
                    .get(&format!("/api/threads?{query}"))
                    .await
                    .expect_error(ErrorCode::ValidationError);
                assert_eq!(error.details["pointer"], pointer, "{query}");
            }
            for (body, pointer) in [
                (json!({ "title": 7 }), "/title"),
                (json!({ "metadata": [] }), "/metadata"),
                (json!(7), ""),
            ] {
                let error = http
                    .post("/api/threads", &body)
                    .await
                    .expect_error(ErrorCode::ValidationError);
                assert_eq!(error.details["pointer"], pointer, "{body}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_unknown_things_are_refused_alike_over_rest() {
    TestContext::wire(case!("ISO-2", "HTTP-1"))
        .run(async |ctx| {
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            let mut chat = ada.connect().await;
            let run = chat.ask("What did I spend?").await;
            let (thread, run_id) = (run.accepted().thread_id.to_string(), run.run_id().to_string());
            let http = bob.http();
            let unknown = ThreadId::generate().to_string();
            let without_time = |error: ErrorFrame| {
                let mut body = serde_json::to_value(&error).expect("it is JSON");
                body.as_object_mut().expect("an object").remove("timestamp");
                body
            };
            for suffix in ["", "/messages"] {
                let mut came = Vec::new();
                for id in [thread.as_str(), &unknown, "x", "%27%20OR%201=1", "thread_", "%00"] {
                    let answer = http.get(&format!("/api/threads/{id}{suffix}")).await;
                    came.push(without_time(answer.expect_error(ErrorCode::ThreadNotFound)));
                }
                assert!(came.iter().all(|body| *body == came[0]), "{came:#?}");
            }
            let mut came = Vec::new();
            for id in [run_id.as_str(), RunId::generate().as_str(), "x", "%00"] {
                came.push(without_time(
                    http.get(&format!("/api/runs/{id}"))
                        .await
                        .expect_error(ErrorCode::RunNotFound),
                ));
            }
            assert!(came.iter().all(|body| *body == came[0]), "{came:#?}");
            for id in [thread.as_str(), &unknown, "x"] {
                let answer = http
                    .post("/api/chat/messages", &json!({ "thread_id": id, "content": "x" }))
                    .await;
                let _error = answer.expect_error(ErrorCode::ThreadNotFound);
                let answer = http.get(&format!("/api/chat/stream?thread_id={id}")).await;
                let _error = answer.expect_error(ErrorCode::ThreadNotFound);
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_rest_starts_a_run_that_connections_see() {
    TestContext::wire(case!("HTTP-1", "SEQ-8", "SEQ-6"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let http = ada.http();
            let mut chat = ada.connect().await;
            let thread = chat.thread_id();
            chat.acknowledge(Some(&ada.create_thread("by rest").await), Vec::new())
                .await;
            let followed = chat.expect_complete().await.threads[0].thread_id.clone();
            let body =
                json!({ "message_id": "message_by_rest", "thread_id": followed, "content": "What did I spend?" });
            let accepted: ChatAccepted = http.post("/api/chat/messages", &body).await.expect_status(202).parse();
            assert_eq!(
                (accepted.message_id.as_str(), &accepted.thread_id),
                ("message_by_rest", &followed)
            );
            let run = chat.until_completed(&accepted.run_id).await;
            assert!(
                run.events()
                    .iter()
                    .all(|event| event.header.correlation_id.as_str() == "message_by_rest")
            );
            let again: ChatAccepted = http.post("/api/chat/messages", &body).await.expect_status(202).parse();
            assert_eq!(again.run_id, accepted.run_id);

            let read: RunResponse = http
                .get(&format!("/api/runs/{}", accepted.run_id))
                .await
                .expect_status(200)
                .parse();
            assert_eq!(
                (&read.run.run_id, read.run.status),
                (&accepted.run_id, RunPhase::Completed)
            );
            assert_eq!(
                read.final_response.as_deref(),
                Some(run.completed().final_response.as_str())
            );
            assert_eq!(read.run.usage, run.completed().usage);
            assert!(read.run.ended_at.is_some());

            // Without a thread a new one is made.
            let other: ChatAccepted = http
                .post("/api/chat/messages", &json!({ "text": "And now?" }))
                .await
                .expect_status(202)
                .parse();
            assert!(other.thread_id != followed && other.thread_id != thread);
            let _made = http
                .get(&format!("/api/threads/{}", other.thread_id))
                .await
                .expect_status(200);
            for (body, pointer) in [
                (json!({}), "/content"),
                (json!({ "content": "" }), "/content"),
                (json!({ "content": "x".repeat(8_001) }), "/content"),
                (json!({ "content": "x", "metadata": [] }), "/metadata"),
                (json!({ "payload": { "content": 7 } }), "/payload/content"),
            ] {
                let error = http
                    .post("/api/chat/messages", &body)
                    .await
                    .expect_error(ErrorCode::ValidationError);
                assert_eq!(error.details["pointer"], pointer, "{body}");
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_listed_with_what_they_may_use() {
    TestContext::wire(case!("HTTP-1"))
        .run(async |ctx| {
            let list: AgentList = ctx
                .user("ada")
                .await
                .http()
                .get("/api/agents")
                .await
                .expect_status(200)
                .parse();
            let names: std::collections::BTreeSet<&str> =
                list.agents.iter().map(|agent| agent.agent_name.as_str()).collect();
            assert_eq!(names.len(), list.agents.len(), "each once");
            for name in ["triage", "data", "optimization", "actions", "reporting", "data_helper"] {
                assert!(names.contains(name), "{name} in {names:?}");
            }
            let tools: std::collections::BTreeSet<&String> =
                list.agents.iter().flat_map(|agent| &agent.tool_names).collect();
            assert!(tools.len() >= 10, "at least ten tools: {tools:?}");
            assert!(list.agents.iter().all(|agent| !agent.description.trim().is_empty()));
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn billing_tells_the_same_as_get_usage() {
    TestContext::wire(case!("HTTP-1", "ISO-3"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let run = ada.connect().await.ask("What did I spend?").await;
            let report: UsageReport = ada
                .http()
                .get("/api/billing/usage?period=day")
                .await
                .expect_status(200)
                .parse();
            assert_eq!((report.runs, report.usage), (1, run.completed().usage));
            let error = ada.http().get("/api/billing/usage?period=year").await;
            assert_eq!(
                error.expect_error(ErrorCode::ValidationError).details["pointer"],
                "/period"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_tells_each_dependency_with_state_and_latency() {
    TestContext::wire(case!("OPS-1", "HTTP-1"))
        .run(async |ctx| {
            let live: HealthResponse = ctx.http().get("/health/live").await.expect_status(200).parse();
            assert_eq!(live.status, HealthStatus::Ok);
            for path in ["/health/ready", "/health"] {
                let health: HealthResponse = ctx.http().get(path).await.expect_status(200).parse();
                assert_eq!(health.status, HealthStatus::Ok, "{health:?}");
                assert!(!health.version.is_empty());
                for name in ["postgres", "redis"] {
                    let dependency = &health.dependencies[name];
                    assert_eq!(dependency.status, HealthStatus::Ok, "{name}");
                    assert!(
                        dependency.latency_ms.is_some_and(|latency| latency < 1_000),
                        "{name}: {dependency:?}"
                    );
                }
                assert!(
                    health
                        .dependencies
                        .values()
                        .all(|dependency| dependency.status == HealthStatus::Ok),
                    "{health:?}"
                );
            }
        })
        .await;
}

/// The value of a sample in Prometheus' text, by its name and labels.
fn sample(text: &str, name: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(name) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_happened() {
    TestContext::wire(case!("OPS-2"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let before = ctx.http().get("/metrics").await.expect_status(200).text();
            let mut chat = ada.connect().await;
            let run = chat.ask("What did I spend?").await;
            chat.send_json(&json!({ "type": "nonsense" })).await;
            chat.expect_error(ErrorCode::UnknownMessageType).await;
            let _resumed = ada.resume(&mut chat).await;
            let answer = ctx.http().get("/metrics").await.expect_status(200);
            assert!(
                answer
                    .header("content-type")
                    .is_some_and(|kind| kind.starts_with("text/plain")),
                "{answer:?}"
            );
            let after = answer.text();
            for line in after.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                let value = line.rsplit(' ').next().unwrap_or_default();
                assert!(value.parse::<f64>().is_ok(), "not Prometheus: {line}");
            }
            let rose = |name: &str, label: &str| sample(&after, name, label) - sample(&before, name, label);
            assert!(sample(&after, "kingsguard_connections_open", "") >= 2.0, "{after}");
            assert!(rose("kingsguard_events_sent_total", "type=\"agent_completed\"") >= 1.0);
            assert!(rose("kingsguard_events_sent_total", "") >= run.events().len() as f64);
            assert!(rose("kingsguard_errors_total", "code=\"UNKNOWN_MESSAGE_TYPE\"") >= 1.0);
            assert!(rose("kingsguard_runs_total", "status=\"completed\"") >= 1.0);
            assert!(rose("kingsguard_resumes_total", "") >= 1.0);
            assert!(rose("kingsguard_event_append_seconds_count", "") >= 1.0);
            for name in [
                "kingsguard_drops_total",
                "kingsguard_queue_depth",
                "kingsguard_breaker_state",
            ] {
                assert!(after.contains(name), "{name} is not told");
            }
        })
        .await;
}
