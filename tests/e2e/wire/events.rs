//! What each of the five events says, field by field.

use std::collections::BTreeMap;

use kingsguard_protocol::event::Failure;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::expected::planner_cost;
use crate::people::{SPEND_LESS, customer, of_type};

covers!("EVT");

/// Tokens of a text as the built-in planner counts them.
fn tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(4) as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_started_says_what_the_run_was_given() {
    TestContext::wire(case!("EVT-1", "EVT-7"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 1, 100).await;
            let thread_id = ada.create_thread("Costs of März 💶").await;
            let mut chat = ada.open().await;
            chat.handshake_with(Some(&thread_id), Vec::new()).await;
            let question = "How can I spend less on 🦀?";
            let run = chat.ask(question).await;

            let started = of_type(&run, "agent_started");
            assert_eq!(started.len(), 1);
            assert_eq!(started[0]["status"], "started");
            assert_eq!(
                started[0]["context"],
                json!({
                    "agent_names": ["triage", "data", "optimization", "actions", "reporting"],
                    "thread_title": "Costs of März 💶",
                    "input_chars": question.chars().count(),
                })
            );
            assert_eq!(started[0]["thread_id"], thread_id.as_str());
            assert_eq!(started[0]["seq"], 1);
            assert_eq!(started[0]["agent_name"], "supervisor");
            let message = started[0]["message"].as_str().expect("a text for people");
            assert!(!message.trim().is_empty());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_thinking_is_about_the_request_and_counts_its_steps() {
    TestContext::wire(case!("EVT-2", "ORD-2"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 1, 120).await;
            let mut chat = ada.connect().await;
            let question = format!("How can the {} team spend less?", ada.canary());
            let run = chat.ask(&question).await;

            let thoughts = run.thoughts();
            for thought in &thoughts {
                assert!(
                    thought.reasoning.contains(&format!("“{question}”")),
                    "specific to the request: {thought:?}"
                );
            }
            let steps: Vec<(u32, Option<u32>, Option<f64>)> = thoughts
                .iter()
                .map(|thought| (thought.step_number, thought.total_steps, thought.progress))
                .collect();
            assert_eq!(
                steps,
                [
                    (1, Some(5), Some(0.0)),
                    (2, Some(5), Some(0.2)),
                    (3, Some(5), Some(0.4)),
                    (4, Some(5), Some(0.6)),
                    (5, Some(5), Some(0.8)),
                ]
            );
            let records = format!("{} records", expected.rows().len());
            assert!(thoughts[1].reasoning.contains(&records), "{:?}", thoughts[1]);
            let other = chat.ask("How fast are my models?").await;
            let same = other
                .thoughts()
                .iter()
                .any(|thought| thoughts.iter().any(|earlier| earlier.reasoning == thought.reasoning));
            assert!(!same, "another request makes other thoughts");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tool_events_say_what_a_tool_was_given_why_and_what_it_found() {
    TestContext::wire(case!("EVT-3", "EVT-4", "ORD-3"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 2, 150).await;
            let mut chat = ada.connect().await;
            let run = chat.ask("What did I spend?").await;

            let names: Vec<String> = run.tools().into_iter().map(|tool| tool.executing.tool_name).collect();
            assert_eq!(names.len(), 4, "{names:?}");
            assert_eq!((names[0].as_str(), names[3].as_str()), ("check_data", "write_report"));
            // The two between work at the same time, so either may begin.
            let mut between = names[1..3].to_vec();
            between.sort();
            assert_eq!(between, ["spend_by_feature", "spend_by_model"]);
            let spend = &run.tools_named("spend_by_model")[0];
            assert_eq!(
                Value::Object(spend.executing.parameters.clone()),
                json!({ "period": { "from": null, "to": null } })
            );
            assert_eq!(
                spend.executing.tool_purpose,
                "Adds up cost, calls and text lengths by model to answer “What did I spend?”"
            );
            let completed = spend.completed.clone().expect("every tool is answered");
            assert_eq!((completed.status, completed.success), (ToolStatus::Success, true));
            assert_eq!(completed.results.map(Value::Object), Some(expected.spend_by_model()));
            assert_eq!(completed.error, None);

            let check = &run.tools_named("check_data")[0].completed.clone().expect("answered");
            assert_eq!(
                check.results.clone().map(Value::Object),
                Some(json!({
                    "sufficiency": "sufficient",
                    "records": 150,
                    "calendar_days": expected.spend_trend()["days"].as_array().expect("a list").len(),
                    "with_feature": 150,
                    "with_latency": expected.rows().iter().filter(|row| row.latency_ms.is_some()).count(),
                    "with_prompt_hash": 150,
                    "missing": [],
                }))
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_completed_counts_tokens_and_cost_of_exactly_this_run() {
    TestContext::wire(case!("EVT-5", "ISO-3"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 3, 80).await;
            let mut chat = ada.connect().await;
            let mut total = (0, 0, 0);
            for question in [SPEND_LESS, "How slow are my models?"] {
                let run = chat.ask(question).await;
                let usage = run.completed().usage;
                let said: u64 = run.thoughts().iter().map(|thought| tokens(&thought.reasoning)).sum();
                let found: u64 = run
                    .tools()
                    .iter()
                    .filter_map(|tool| tool.completed.as_ref()?.results.clone())
                    .map(|results| tokens(&Value::Object(results).to_string()))
                    .sum();
                assert_eq!(
                    usage.output_tokens,
                    said + tokens(&run.completed().final_response),
                    "{question}"
                );
                assert_eq!(usage.input_tokens, tokens(question) + found, "{question}");
                assert_eq!(
                    usage.cost_microusd,
                    planner_cost(usage.input_tokens, usage.output_tokens),
                    "{question}"
                );
                total = (
                    total.0 + usage.input_tokens,
                    total.1 + usage.output_tokens,
                    total.2 + usage.cost_microusd,
                );
            }
            chat.send_json(&json!({ "type": "get_usage", "message_id": "bill", "period": "all" }))
                .await;
            let bill = chat.answer_to(&MessageId::from("bill")).await;
            let ControlFrame::UsageReport(bill) = bill else {
                panic!("expected usage_report, but {bill:?}")
            };
            assert_eq!(bill.runs, 2);
            assert_eq!(
                (
                    bill.usage.input_tokens,
                    bill.usage.output_tokens,
                    bill.usage.cost_microusd
                ),
                total
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_the_answer_put_together_are_the_answer() {
    TestContext::wire(case!("EVT-6", "EVT-5"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 4, 90).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;

            let parts = of_type(&run, "partial_result");
            let content: String = parts.iter().filter_map(|part| part["content"].as_str()).collect();
            assert_eq!(content, run.completed().final_response);
            let places: Vec<(Option<u64>, Option<bool>)> = parts
                .iter()
                .map(|part| (part["index"].as_u64(), part["final"].as_bool()))
                .collect();
            assert_eq!(
                places,
                [(Some(0), Some(false)), (Some(1), Some(false)), (Some(2), Some(true))]
            );

            let reports = of_type(&run, "final_report");
            assert_eq!(reports.len(), 1);
            assert_eq!(reports[0]["report"]["title"], format!("Answer to “{SPEND_LESS}”"));
            let sections: Vec<&Value> = reports[0]["report"]["sections"]
                .as_array()
                .into_iter()
                .flatten()
                .collect();
            let sources: Vec<&str> = sections
                .iter()
                .filter_map(|section| section["source"].as_str())
                .collect();
            assert_eq!(
                sources,
                [
                    "spend_by_model",
                    "spend_by_feature",
                    "duplicate_prompts",
                    "cheaper_models",
                    "saving_estimate",
                    "action_plan",
                    "check_data",
                ]
            );
            for section in sections {
                let text = section["text"].as_str().expect("words");
                assert!(
                    content.contains(text),
                    "{text:?} of the report does not stand in the answer"
                );
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_fails_closes_its_pair_and_the_run_completes_with_what_it_could_do() {
    TestContext::wire(case!("EVT-4", "EVT-6", "ORD-3", "ORD-4", "ERR-2"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 5, 100).await;
            let mut chat = ada.connect().await;
            let run = chat.ask("Show my spend from 2026-13-45").await;

            let failed = &run.tools_named("parse_period")[0];
            assert_eq!(
                Value::Object(failed.executing.parameters.clone()),
                json!({ "from": "2026-13-45" })
            );
            let end = failed.completed.clone().expect("its pair is closed");
            let message = "2026-13-45 is no day of the calendar; write days as 2026-01-31.";
            assert_eq!((end.success, end.status, end.results), (false, ToolStatus::Error, None));
            assert_eq!(
                end.error,
                Some(Failure {
                    error_code: ErrorCode::ToolFailed,
                    message: message.into()
                })
            );

            let errors = of_type(&run, "agent_error");
            assert_eq!(errors.len(), 1);
            assert_eq!(errors[0]["error_code"], "TOOL_FAILED");
            assert_eq!(errors[0]["message"], message);
            assert_eq!(errors[0]["recovery"], json!(["look at the whole time instead"]));

            let completed = run.completed();
            assert_eq!((completed.status, completed.success), (RunStatus::Completed, true));
            assert_eq!(completed.error, None);
            assert_eq!(completed.result["troubles"][0], message);
            assert_eq!(completed.result["spend_by_model"], expected.spend_by_model());
            assert!(
                completed.final_response.contains(message),
                "{}",
                completed.final_response
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_has_an_id_of_its_own_and_the_time_never_runs_backwards() {
    TestContext::wire(case!("EVT-7", "ORD-7", "SEQ-1"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 6, 100).await;
            let mut chat = ada.connect().await;
            let mut ids = BTreeMap::new();
            let mut times = Vec::new();
            for question in [SPEND_LESS, "What is the trend?"] {
                for event in chat.ask(question).await.events() {
                    assert_eq!(ids.insert(event.header.event_id.to_string(), event.header.seq), None);
                    times.push(event.header.timestamp.as_unix_ms());
                }
            }
            assert!(times.is_sorted(), "{times:?}");
            let seqs: Vec<u64> = (1..=ids.len() as u64).collect();
            let mut came: Vec<u64> = ids.into_values().collect();
            came.sort_unstable();
            assert_eq!(came, seqs);
        })
        .await;
}
