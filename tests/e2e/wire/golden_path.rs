//! What a user comes for: register, bring records, connect, ask, and get numbers that are true.

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use rstest::rstest;

use crate::expected::{dollars, percent};
use crate::people::{SPEND_LESS, agents_of, customer, origins};

covers!("GOLD", "SUB-2", "JRN");

/// The first of the events that are of one of the five kinds, in order and without repeats.
fn five(run: &RunView) -> Vec<&'static str> {
    let kinds = [
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "agent_completed",
    ];
    let mut seen: Vec<&'static str> = Vec::new();
    for kind in run.types() {
        if kinds.contains(&kind) && !seen.contains(&kind) {
            seen.push(kind);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_path_a_new_user_brings_records_asks_and_receives_the_five_events_in_order() {
    TestContext::wire(case!(
        "EVT-1", "EVT-2", "EVT-3", "EVT-4", "EVT-5", "ORD-1", "ORD-4", "MSG-5"
    ))
    .run(async |ctx| {
        let (ada, expected) = customer(ctx, "ada", 1, 400).await;
        let mut chat = ada.connect().await;
        let run = chat.ask(SPEND_LESS).await;

        assert_eq!(
            five(&run),
            [
                "agent_started",
                "agent_thinking",
                "tool_executing",
                "tool_completed",
                "agent_completed"
            ]
        );
        assert_eq!(run.types().first(), Some(&"agent_started"));
        assert_eq!(run.types().last(), Some(&"agent_completed"));
        assert_eq!(
            agents_of(&run),
            ["triage", "data", "optimization", "actions", "reporting"]
        );
        assert_eq!(run.started().context.agent_names, agents_of(&run));
        let accepted = run.accepted();
        assert_eq!(
            origins(&run),
            [(
                accepted.message_id.to_string(),
                accepted.run_id.to_string(),
                ada.user_id().to_string()
            )],
            "every event names its cause, its run and its user"
        );
        assert_eq!(accepted.thread_id, chat.thread_id());
        assert_eq!(accepted.correlation_id, accepted.message_id);
        assert_eq!(
            (run.completed().status, run.completed().success),
            (RunStatus::Completed, true)
        );
        assert_eq!(
            run.completed().result["saving_estimate"],
            expected.saving_estimate(None),
            "the answer's figures are those of the CSV"
        );
    })
    .await;
}

/// What is asked, the topic that is understood, and the tools with the figures that they must find.
type Question<'a> = (&'a str, &'a str, Vec<(&'a str, Value)>);

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_path_every_figure_equals_the_one_computed_from_the_same_csv(#[values(2, 3, 4)] seed: u64) {
    TestContext::wire(case!("EVT-5", "EVT-4"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", seed, 100 + 50 * usize::try_from(seed).expect("small")).await;
            let mut chat = ada.connect().await;
            let whole_time = json!({ "from": null, "to": null });
            let questions: [Question; 8] = [
                (
                    SPEND_LESS,
                    "save",
                    vec![
                        ("spend_by_model", expected.spend_by_model()),
                        ("spend_by_feature", expected.spend_by_feature()),
                        ("duplicate_prompts", expected.duplicate_prompts()),
                        ("cheaper_models", expected.cheaper_models(None)),
                        ("saving_estimate", expected.saving_estimate(None)),
                    ],
                ),
                (
                    "Find something cheaper under 900 ms",
                    "save",
                    vec![
                        ("cheaper_models", expected.cheaper_models(Some(900))),
                        ("saving_estimate", expected.saving_estimate(Some(900))),
                    ],
                ),
                (
                    "What did I spend?",
                    "spend",
                    vec![
                        ("spend_by_model", expected.spend_by_model()),
                        ("spend_by_feature", expected.spend_by_feature()),
                    ],
                ),
                (
                    "What is the trend?",
                    "trend",
                    vec![
                        ("spend_trend", expected.spend_trend()),
                        ("usage_anomalies", expected.usage_anomalies()),
                    ],
                ),
                (
                    "What will it cost in the next 2 weeks? Please forecast",
                    "forecast",
                    vec![
                        ("spend_trend", expected.spend_trend()),
                        ("spend_forecast", expected.spend_forecast(14)),
                    ],
                ),
                (
                    "How slow are my models?",
                    "latency",
                    vec![
                        ("latency_percentiles", expected.latency_percentiles()),
                        ("slowest_features", expected.slowest_features()),
                    ],
                ),
                (
                    "How many calls failed?",
                    "errors",
                    vec![("error_rate", expected.error_rate())],
                ),
                (
                    "Give me statistics",
                    "statistics",
                    vec![("usage_statistics", expected.usage_statistics())],
                ),
            ];
            for (question, topic, figures) in questions {
                let run = chat.ask(question).await;
                let completed = run.completed();
                assert_eq!(completed.status, RunStatus::Completed, "{question}");
                assert_eq!(completed.result["topic"], topic, "{question}");
                assert_eq!(completed.result["sufficiency"], "sufficient", "{question}");
                assert_eq!(completed.result["period"], whole_time, "{question}");
                assert_eq!(completed.result["troubles"], json!([]), "{question}");
                for (tool_name, figure) in figures {
                    assert_eq!(
                        completed.result[tool_name], figure,
                        "{tool_name} in the result of {question:?}"
                    );
                    let tools = run.tools_named(tool_name);
                    let found: Vec<Value> = tools
                        .into_iter()
                        .filter_map(|tool| tool.completed?.results.map(Value::Object))
                        .collect();
                    assert_eq!(found, [figure], "what the tool {tool_name} found for {question:?}");
                }
            }
        })
        .await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_path_the_answer_is_worded_with_the_numbers_of_the_csv(#[values(5, 6)] seed: u64) {
    TestContext::wire(case!("EVT-5"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", seed, 300).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            let answer = &run.completed().final_response;

            let saving = expected.saving_estimate(None);
            let figure = |name: &str| saving[name].as_u64().expect("a number");
            let mut sentences = vec![
                format!("{} for {} calls", dollars(expected.cost()), expected.rows().len()),
                format!(
                    "Together up to {} of {} ({}): {} by answering repeats from a cache, {} by cheaper models for the rest; {} \
                     for 30 days",
                    dollars(figure("total_saving_microusd")),
                    dollars(expected.cost()),
                    percent(figure("saving_basis_points")),
                    dollars(figure("repeats_saving_microusd")),
                    dollars(figure("models_saving_microusd")),
                    dollars(figure("monthly_saving_microusd")),
                ),
                format!("{} usage records", expected.rows().len()),
            ];
            for model in expected.spend_by_model()["models"].as_array().expect("a list").iter().take(3) {
                sentences.push(format!(
                    "{} {} ({})",
                    model["model"].as_str().expect("a name"),
                    dollars(model["cost_microusd"].as_u64().expect("a number")),
                    percent(model["share_basis_points"].as_u64().expect("a number")),
                ));
            }
            for sentence in sentences {
                assert!(answer.contains(&sentence), "{sentence:?} does not stand in {answer:?}");
            }
            assert_eq!(
                run.completed().summary,
                format!(
                    "Up to {} of {} can be saved.",
                    dollars(figure("total_saving_microusd")),
                    dollars(expected.cost())
                )
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_path_days_named_in_the_question_bound_the_figures() {
    TestContext::wire(case!("EVT-5"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 8, 600).await;
            let mut chat = ada.connect().await;

            let day = expected.rows()[300].at.date_naive();
            let run = chat.ask(&format!("Show my spend on {day}")).await;
            assert_eq!(
                run.completed().result["spend_by_model"],
                expected.on(day).spend_by_model()
            );
            assert_eq!(
                run.completed().result["period"],
                json!({
                    "from": format!("{day}T00:00:00.000Z"),
                    "to": format!("{}T00:00:00.000Z", day + chrono::Duration::days(1)),
                })
            );

            let run = chat.ask("Show my spend in the last 7 days").await;
            assert_eq!(
                run.completed().result["spend_by_feature"],
                expected.newest_days(7).spend_by_feature()
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn golden_path_json_and_csv_bring_the_same_figures() {
    TestContext::wire(case!("HTTP-1", "EVT-5"))
        .run(async |ctx| {
            let records = SampleRecords::generate(9, 200);
            let (ada, bob) = (ctx.user("ada").await, ctx.user("bob").await);
            ada.upload_csv(&records).await;
            bob.upload(&records).await;
            let (mut adas, mut bobs) = (ada.connect().await, bob.connect().await);
            let (by_csv, by_json) = tokio::join!(adas.ask(SPEND_LESS), bobs.ask(SPEND_LESS));
            assert_eq!(by_csv.completed().result, by_json.completed().result);
            assert_eq!(by_csv.completed().final_response, by_json.completed().final_response);
            let expected = crate::expected::Expected::from_csv(&records.to_csv());
            assert_eq!(by_csv.completed().result["spend_by_model"], expected.spend_by_model());
        })
        .await;
}
