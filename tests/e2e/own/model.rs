//! A language model in place of the planner: one that works, and every way in which one does not.

use std::time::Duration;

use kingsguard_protocol::client::StopAgent;
use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use rstest::rstest;

use crate::expected::{dollars, model_cost};
use crate::people::{SPEND_LESS, customer, of_type};

covers!("SUB-4", "RES");

const MODEL: &str = "gpt-4o-mini";
const KEY: &str = "key-of-the-model-endpoint";

/// A test whose backend thinks with this model.
fn with_model(case: kingsguard_testkit::case::Case, model: &ScriptedModel) -> Builder {
    TestContext::own(case)
        .with_setting("KINGSGUARD_MODEL_URL", model.url())
        .with_setting("KINGSGUARD_MODEL_NAME", MODEL)
        .with_setting("KINGSGUARD_MODEL_API_KEY", KEY)
        .with_setting("KINGSGUARD_MODEL_TIMEOUT_MS", 400)
}

/// The model reads the request: it calls the function that it is asked to call.
fn reading(topic: &str, reasoning: &str) -> ModelReply {
    let arguments = json!({ "topic": topic, "reasoning": reasoning }).to_string();
    let call =
        json!({ "id": "call-1", "type": "function", "function": { "name": "choose_topic", "arguments": arguments } });
    ModelReply::Status(
        200,
        json!({
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": null, "tool_calls": [call] } }],
            "usage": { "prompt_tokens": 120, "completion_tokens": 30 },
        }),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_reads_the_request_words_the_summary_and_is_billed_as_it_reports() {
    let script = vec![reading("spend", "They would like to know where the money went.")];
    let model = ScriptedModel::script(script, ModelReply::Text("Most of it went to few models.".into())).await;
    with_model(case!("EVT-2", "EVT-5", "AUTH-8"), &model)
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 101, 60).await;
            let mut chat = ada.connect().await;
            let run = chat.ask("Where did it all go?").await;
            let completed = run.completed();
            assert_eq!(completed.result["topic"], "spend", "the model chose it");
            assert_eq!(completed.result["spend_by_model"], expected.spend_by_model());
            assert_eq!(completed.summary, "Most of it went to few models.");
            assert!(
                run.thoughts()[0]
                    .reasoning
                    .ends_with("They would like to know where the money went.")
            );
            let usage = completed.usage;
            assert_eq!(
                (usage.input_tokens, usage.output_tokens),
                (130, 35),
                "as the endpoint reports"
            );
            assert_eq!(usage.cost_microusd, model_cost(MODEL, 130, 35));

            model.assert_asked_properly();
            let requests = model.requests();
            assert_eq!(requests.len(), 2);
            for request in &requests {
                assert_eq!(
                    (request.bearer.as_deref(), &request.body["model"]),
                    (Some(KEY), &json!(MODEL))
                );
            }
            assert_eq!(requests[0].body["tools"][0]["function"]["name"], "choose_topic");
            assert_eq!(requests[0].body["messages"][1]["content"], "Where did it all go?");
            assert_eq!(
                requests[1].body["messages"][1]["content"],
                completed.final_response.as_str()
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_figure_that_a_model_makes_up_is_not_passed_on() {
    let script = vec![reading("spend", "They spent 424242 dollars.")];
    let model = ScriptedModel::script(script, ModelReply::Text("You spent $424242 in total.".into())).await;
    with_model(case!("EVT-5", "EVT-2"), &model)
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 102, 60).await;
            let mut chat = ada.connect().await;
            let run = chat.ask("Where did it all go?").await;
            let made_up = run.frames().iter().find(|frame| frame.text().contains("424242"));
            assert!(made_up.is_none(), "{made_up:?}");
            assert_eq!(
                run.completed().summary,
                format!("{} was spent in the whole time.", dollars(expected.cost()))
            );
        })
        .await;
}

#[rstest]
#[case::failing(ModelReply::Status(500, json!({ "error": "internal" })), ErrorCode::ModelUnavailable, 3)]
#[case::hanging_up(ModelReply::HangUp, ErrorCode::ModelUnavailable, 3)]
#[case::babbling(ModelReply::Garbage(b"<html>".to_vec()), ErrorCode::ModelUnavailable, 3)]
#[case::silent(ModelReply::Silent, ErrorCode::ModelUnavailable, 3)]
#[case::limiting(ModelReply::RateLimited(1), ErrorCode::ModelRateLimited, 3)]
#[case::refusing(ModelReply::Status(401, json!({ "error": "key" })), ErrorCode::ModelUnavailable, 1)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_does_not_answer_ends_the_run_failed_with_its_code(
    #[case] reply: ModelReply,
    #[case] code: ErrorCode,
    #[case] tries: usize,
) {
    let model = ScriptedModel::always(reply).await;
    with_model(case!("ORD-4", "EVT-5", "EVT-6", "ERR-4"), &model)
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 103, 60).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            let completed = run.completed();
            assert_eq!((completed.status, completed.success), (RunStatus::Failed, false));
            let error = completed.error.clone().expect("it says why");
            assert_eq!(error.error_code, code);
            assert!(!completed.final_response.is_empty());
            assert_eq!(of_type(&run, "agent_completed").len(), 1);
            let told = of_type(&run, "agent_error");
            assert_eq!(told.len(), 1);
            assert_eq!(
                (&told[0]["error_code"], &told[0]["recovery"]),
                (&json!(code.as_str()), &json!(["end the run"]))
            );
            assert_eq!(model.requests().len(), tries, "retries, and no storm of them");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_fallback_the_planner_stands_in_and_the_figures_are_the_same() {
    let model = ScriptedModel::always(ModelReply::HangUp).await;
    with_model(case!("EVT-6", "EVT-5", "ORD-4"), &model)
        .with_setting("KINGSGUARD_MODEL_FALLBACK", "planner")
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 104, 60).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            let fallbacks = of_type(&run, "agent_fallback");
            assert_eq!(fallbacks.len(), 1, "it is told once");
            assert_eq!(
                (&fallbacks[0]["from_agent"], &fallbacks[0]["to_agent"]),
                (&json!("triage"), &json!("planner"))
            );
            assert_eq!(run.completed().status, RunStatus::Completed);
            assert_eq!(
                run.completed().result["saving_estimate"],
                expected.saving_estimate(None)
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_repeated_failures_the_breaker_fails_fast_and_closes_again_when_the_model_is_back() {
    let model = ScriptedModel::always(ModelReply::HangUp).await;
    with_model(case!("ERR-4", "ORD-4"), &model)
        .with_setting("KINGSGUARD_BREAKER_FAILURES_MAX", 3)
        .with_setting("KINGSGUARD_BREAKER_OPEN_MS", 2_000)
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 1_000)
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 1_000)
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 105, 60).await;
            let mut chat = ada.connect().await;
            let first = chat.ask(SPEND_LESS).await;
            let code = |run: &RunView| run.completed().error.as_ref().map(|error| error.error_code);
            assert_eq!(code(&first), Some(ErrorCode::ModelUnavailable));
            let asked = model.requests().len();
            assert_eq!(asked, 3);
            let health = ctx.http().get("/health").await.text();
            assert!(health.contains("open"), "health shows the breaker: {health}");

            let fast = chat.ask(SPEND_LESS).await;
            assert_eq!(code(&fast), Some(ErrorCode::CircuitOpen));
            assert_eq!(model.requests().len(), asked, "the model is left alone");
            let at = |event_type: &str| {
                let found = fast
                    .events()
                    .into_iter()
                    .find(|event| event.body.event_type() == event_type);
                found.expect("it happened").header.timestamp.as_unix_ms()
            };
            let took = at("agent_error") - at("subagent_started");
            assert!(took < 100, "failing fast took {took} ms");

            model.then_always(ModelReply::Text("Fine.".into()));
            ctx.eventually("the breaker closes", async || {
                let run = chat.ask("Hello").await;
                match run.completed().status {
                    RunStatus::Completed => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            assert!(model.requests().len() > asked);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_model_takes_its_time_the_run_shows_signs_of_life_and_can_be_stopped() {
    let model = ScriptedModel::always(ModelReply::Silent).await;
    with_model(case!("TIM-2", "ORD-4", "EVT-6"), &model)
        .with_setting("KINGSGUARD_MODEL_TIMEOUT_MS", 20_000)
        .with_setting("KINGSGUARD_SILENCE_MAX_MS", 200)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say(SPEND_LESS).await;
            let run_id = chat.accepted(&asked).await.run_id;
            for _ in 0..2 {
                chat.expect_event("a sign of life", |event| {
                    matches!(event.body, EventBody::ProgressUpdate(_))
                })
                .await;
            }
            chat.send(StopAgent {
                run_id: run_id.clone(),
                reason: None,
            })
            .await;
            let run = chat.until_completed(&run_id).await;
            assert_eq!(run.completed().status, RunStatus::Cancelled);
            assert_eq!(model.requests().len(), 1);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_never_answers_does_not_hold_a_run_beyond_its_deadline() {
    let model = ScriptedModel::always(ModelReply::Silent).await;
    with_model(case!("TIM-4", "ORD-4", "ORD-5"), &model)
        .with_setting("KINGSGUARD_MODEL_TIMEOUT_MS", 20_000)
        .with_setting("KINGSGUARD_RUN_DEADLINE_MS", 1_000)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            assert_eq!(run.completed().status, RunStatus::TimedOut);
            assert!(
                run.completed().duration_ms <= 1_500,
                "{} ms",
                run.completed().duration_ms
            );
            assert_eq!(
                of_type(&run, "subagent_started").len(),
                of_type(&run, "subagent_completed").len()
            );
            let next = Duration::from_millis(run.completed().duration_ms);
            ctx.check("the deadline was waited for", next >= Duration::from_millis(900));
        })
        .await;
}
