//! The model is a scripted HTTP server; everything else is as in production.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use kingsguard_protocol::{ErrorCode, RunId, ThreadId, UserId};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agents::sink::recorder::Recorder;
use crate::agents::{AgentFailure, AgentRegistry, AgentServices, InMemoryContexts, Job, Outcome, examples};
use crate::model::{BreakerState, ModelSettings};
use crate::tools::InMemoryUsage;

/// How long a call of a model that answers may take. Reached only where the machine has no time.
const CALLED_WITHIN: Duration = Duration::from_secs(20);

/// What the scripted model answers, one after the other; the last answer stays.
#[derive(Clone, Debug)]
enum Answer {
    Topic(&'static str, &'static str),
    Says(&'static str),
    Fails(u16),
    Nonsense,
    Hangs,
}

type Script = Arc<Mutex<(VecDeque<Answer>, Vec<Value>)>>;

async fn answer(State(script): State<Script>, Json(asked): Json<Value>) -> Response {
    let next = {
        let mut script = script.lock().expect("no test panics while it answers");
        script.1.push(asked);
        if script.0.len() > 1 {
            script.0.pop_front()
        } else {
            script.0.front().cloned()
        }
    };
    let message = match next.expect("a script has an answer") {
        Answer::Fails(status) => return StatusCode::from_u16(status).expect("a status").into_response(),
        Answer::Nonsense => return "{".into_response(),
        Answer::Hangs => std::future::pending().await,
        Answer::Says(words) => json!({"content": words}),
        Answer::Topic(topic, reasoning) => {
            let arguments = json!({"topic": topic, "reasoning": reasoning}).to_string();
            json!({"content": null, "tool_calls": [{"function": {"name": "choose_topic", "arguments": arguments}}]})
        }
    };
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 10});
    Json(json!({"choices": [{"message": message}], "usage": usage})).into_response()
}

struct Scripted {
    registry: AgentRegistry,
    script: Script,
}

impl Scripted {
    async fn new(answers: &[Answer], falls_back: bool, breaker_failures_max: u64) -> Self {
        let hangs = answers.iter().any(|answer| matches!(answer, Answer::Hangs));
        let script: Script = Arc::new(Mutex::new((answers.iter().cloned().collect(), Vec::new())));
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .with_state(Arc::clone(&script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        let endpoint = OpenAiCompatible::new(ModelSettings {
            url: format!("http://{address}/v1/"),
            name: "gpt-4o-mini".to_owned(),
            api_key: Some("sk-scripted-key".into()),
            timeout: if hangs {
                Duration::from_millis(200)
            } else {
                CALLED_WITHIN
            },
            breaker_failures_max,
            breaker_open: Duration::from_secs(60),
            falls_back,
        })
        .expect("a client can be made");
        let services = AgentServices {
            usage: Arc::new(InMemoryUsage::new(Vec::new())),
            contexts: Arc::new(InMemoryContexts::default()),
            model: Model::OpenAiCompatible(Arc::new(endpoint)),
            tool_limit: Duration::from_secs(10),
        };
        let registry = AgentRegistry::builtin(services).expect("the agents are wired");
        Self { registry, script }
    }

    async fn ask(&self, content: &str) -> (Result<Outcome, AgentFailure>, Arc<Recorder>) {
        let context = examples::context_for("cost").expect("there is such an example");
        let job = Job {
            user_id: UserId::generate(),
            thread_id: ThreadId::generate(),
            run_id: RunId::generate(),
            agent_name: None,
            content: content.to_owned(),
            context: Some(context.get().to_owned()),
            deadline: Instant::now() + Duration::from_secs(30),
        };
        let sink = Arc::new(Recorder::default());
        (
            self.registry.execute(job, sink.clone(), CancellationToken::new()).await,
            sink,
        )
    }

    fn asked(&self) -> Vec<Value> {
        self.script.lock().expect("no test panics while it answers").1.clone()
    }

    fn breaker(&self) -> BreakerState {
        self.registry.model().breaker().expect("an endpoint has one").state()
    }
}

#[tokio::test]
async fn a_model_chooses_the_topic_and_words_the_summary_and_its_tokens_are_billed() {
    let answers = [
        Answer::Topic("errors", "the user worries about quality"),
        Answer::Says("Nothing failed."),
    ];
    let scripted = Scripted::new(&answers, false, 5).await;
    let (outcome, sink) = scripted.ask("Is it any good?").await;
    let outcome = outcome.expect("it answers");
    assert!(outcome.result.get("error_rate").is_some(), "{}", outcome.result);
    assert_eq!(outcome.summary, "Nothing failed.");
    assert_eq!((outcome.usage.input_tokens, outcome.usage.output_tokens), (200, 20));
    assert_eq!(
        outcome.usage.cost_microusd, 42,
        "by the catalogue: (200 × 0.15 + 20 × 0.6) µ$"
    );
    assert!(format!("{:?}", sink.said()).contains("the user worries about quality"));
    let asked = scripted.asked();
    assert_eq!(asked[0]["tools"][0]["function"]["name"], "choose_topic");
    assert_eq!(asked[0]["messages"][1]["content"], "Is it any good?");
}

#[tokio::test]
async fn a_summary_with_a_figure_that_no_tool_found_is_not_used() {
    let scripted = Scripted::new(
        &[Answer::Topic("spend", "money"), Answer::Says("You spent $999999.")],
        false,
        5,
    )
    .await;
    let (outcome, _) = scripted.ask("Show my spend").await;
    let outcome = outcome.expect("it answers");
    assert!(!outcome.summary.contains("999999"), "{}", outcome.summary);
}

#[tokio::test]
async fn a_model_that_fails_once_is_asked_again() {
    let answers = [
        Answer::Fails(500),
        Answer::Topic("spend", "money"),
        Answer::Says("Fine."),
    ];
    let scripted = Scripted::new(&answers, false, 5).await;
    assert!(scripted.ask("Show my spend").await.0.is_ok());
    assert_eq!((scripted.asked().len(), scripted.breaker()), (3, BreakerState::Closed));
}

async fn fails_with(script: Answer, code: ErrorCode) {
    let scripted = Scripted::new(&[script], false, 100).await;
    let (ended, sink) = scripted.ask("Show my spend").await;
    let failure = ended.expect_err("the model is away");
    assert_eq!(failure.failure.error_code, code);
    assert!(!failure.final_response.is_empty());
    let types = sink.types();
    assert!(
        types.contains(&"agent_error") && !types.contains(&"agent_fallback"),
        "{types:?}"
    );
    assert_eq!(types.last(), Some(&"subagent_completed"));
    assert!(!format!("{:?}", sink.said()).contains("127.0.0.1"), "SEC-2");
}

#[tokio::test]
async fn a_run_fails_with_its_model() {
    fails_with(Answer::Fails(503), ErrorCode::ModelUnavailable).await;
    fails_with(Answer::Fails(401), ErrorCode::ModelUnavailable).await;
    fails_with(Answer::Fails(429), ErrorCode::ModelRateLimited).await;
    fails_with(Answer::Nonsense, ErrorCode::ModelUnavailable).await;
    fails_with(Answer::Hangs, ErrorCode::ModelUnavailable).await;
}

#[tokio::test]
async fn the_planner_stands_in_where_that_is_configured() {
    let scripted = Scripted::new(&[Answer::Fails(503)], true, 100).await;
    let (outcome, sink) = scripted.ask("How can I spend less?").await;
    let outcome = outcome.expect("the planner answers");
    assert!(outcome.result.get("saving_estimate").is_some());
    assert_eq!(sink.types().iter().filter(|kind| **kind == "agent_fallback").count(), 1);
    assert_eq!(
        scripted.asked().len(),
        3,
        "one call with its retries, then no more in this run"
    );
}

#[tokio::test]
async fn an_open_breaker_fails_fast_without_asking() {
    let scripted = Scripted::new(&[Answer::Fails(503)], false, 2).await;
    let (first, _) = scripted.ask("Show my spend").await;
    assert!(first.is_err());
    assert_eq!(scripted.breaker(), BreakerState::Open);
    let calls = scripted.asked().len();
    let failure = scripted.ask("Show my spend").await.0.expect_err("the breaker is open");
    assert_eq!(failure.failure.error_code, ErrorCode::CircuitOpen);
    assert_eq!(scripted.asked().len(), calls);
}
