//! Which agents take part, and in which order: by how sufficient the records are, or by name.

use chrono::{TimeDelta, Utc};
use kingsguard_protocol::http::UsageRecord;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::{SPEND_LESS, agents_of, customer, of_type};

covers!("SUB-3", "PIPE", "VAL");

/// Records that name neither a prompt nor a feature.
fn bare(count: i64) -> SampleRecords {
    let row = |index: i64| UsageRecord {
        timestamp: (Utc::now() - TimeDelta::hours(index + 1)).into(),
        model: "gpt-4o".into(),
        input_tokens: 1_000,
        output_tokens: 100,
        latency_ms: Some(700),
        feature: None,
        cost_microusd: Some(3_500),
        prompt_hash: None,
        success: None,
    };
    SampleRecords::from_rows((0..count).map(row).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sufficient_records_lead_from_triage_over_optimization_to_reporting() {
    TestContext::wire(case!("EVT-1", "ORD-5"))
        .run(async |ctx| {
            let (ada, _) = customer(ctx, "ada", 21, 60).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            assert_eq!(
                agents_of(&run),
                ["triage", "data", "optimization", "actions", "reporting"]
            );
            assert_eq!(run.completed().result["sufficiency"], "sufficient");
            let run = chat.ask("What did I spend?").await;
            assert_eq!(
                agents_of(&run),
                ["triage", "data", "reporting"],
                "who only asks gets no advice"
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_records_bring_in_the_data_helper_who_says_what_is_missing() {
    TestContext::wire(case!("EVT-1", "EVT-5", "ORD-5"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            ada.upload(&bare(30)).await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            assert_eq!(
                agents_of(&run),
                ["triage", "data", "data_helper", "optimization", "actions", "reporting"]
            );
            assert_eq!(run.started().context.agent_names, agents_of(&run));
            let completed = run.completed();
            assert_eq!(
                (completed.status, &completed.result["sufficiency"]),
                (RunStatus::Completed, &json!("partial"))
            );
            assert_eq!(
                completed.result["check_data"]["missing"],
                json!([{ "what": "prompt_hash", "why": "prompt_hash shows which prompts are sent again" }])
            );
            assert_eq!(completed.result["spend_by_model"]["total_cost_microusd"], 30 * 3_500);
            assert!(
                completed
                    .final_response
                    .contains("prompt_hash shows which prompts are sent again")
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_records_the_data_helper_says_how_to_bring_them() {
    TestContext::wire(case!("EVT-1", "EVT-5", "ORD-5"))
        .run(async |ctx| {
            ctx.needs(Capability::DataImport);
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask(SPEND_LESS).await;
            assert_eq!(agents_of(&run), ["triage", "data_helper"]);
            assert_eq!(run.started().context.agent_names, agents_of(&run));
            let completed = run.completed();
            assert_eq!(completed.result["sufficiency"], "insufficient");
            assert_eq!(completed.result["import_guide"]["call"], "POST /api/usage-records");
            assert_eq!(completed.result.get("spend_by_model"), None, "no figure is made up");
            assert_eq!(
                completed.summary,
                "There are no usage records yet; bring some and ask again."
            );
            assert!(
                completed.final_response.contains("POST /api/usage-records"),
                "{}",
                completed.final_response
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_needs_are_looked_into_by_the_data_agent() {
    TestContext::wire(case!("EVT-1", "ORD-5"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 22, 60).await;
            let mut chat = ada.connect().await;
            let day = expected.rows()[0].at.date_naive();
            let run = chat.ask(&format!("How can I spend less since {day}?")).await;
            assert_eq!(
                run.started().context.agent_names,
                ["triage", "data", "optimization", "reporting"]
            );
            assert_eq!(agents_of(&run), ["triage", "data", "optimization", "reporting"]);
            assert_eq!(run.completed().result["spend_by_model"], expected.spend_by_model());

            let run = chat.ask("How can I spend less until 1999-12-31?").await;
            assert_eq!(
                agents_of(&run),
                ["triage", "data", "data_helper"],
                "the data agent found no records"
            );
            assert_eq!(run.completed().result["check_data"]["records"], 0);
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_listed_agent_can_be_asked_by_name() {
    TestContext::wire(case!("MSG-1", "EVT-1", "HTTP-1"))
        .run(async |ctx| {
            let (ada, expected) = customer(ctx, "ada", 23, 80).await;
            let listed = ada.http().get("/api/agents").await.expect_status(200).json();
            let names: Vec<String> = listed["agents"]
                .as_array()
                .expect("a list of agents")
                .iter()
                .filter_map(|agent| agent["agent_name"].as_str().map(str::to_owned))
                .collect();
            for needed in [
                "supervisor",
                "triage",
                "data",
                "optimization",
                "actions",
                "reporting",
                "data_helper",
            ] {
                assert!(names.contains(&needed.to_owned()), "{needed} is not among {names:?}");
            }
            let mut chat = ada.connect().await;
            for name in names {
                let run = chat.ask_agent(&name, SPEND_LESS).await;
                let completed = run.completed();
                assert_eq!(
                    (completed.status, completed.success),
                    (RunStatus::Completed, true),
                    "{name}"
                );
                assert!(
                    completed.final_response.contains(SPEND_LESS),
                    "{name}: {}",
                    completed.final_response
                );
                for event in of_type(&run, "agent_thinking") {
                    let thinks = event["agent_name"].as_str().expect("a name");
                    assert!(
                        name == "supervisor" || thinks == name,
                        "{thinks} thinks in a run of {name}"
                    );
                }
                if name == "supervisor" {
                    assert_eq!(completed.result["saving_estimate"], expected.saving_estimate(None));
                } else {
                    assert_eq!(run.started().context.agent_names, std::slice::from_ref(&name));
                    assert_eq!(agents_of(&run), Vec::<String>::new(), "{name} works alone");
                }
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_exist_is_refused_by_its_name() {
    TestContext::wire(case!("MSG-1", "ERR-1"))
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let ask = kingsguard_protocol::client::StartAgent {
                agent_name: "oracle".into(),
                user_request: SPEND_LESS.into(),
                context: None,
            };
            let message_id = chat.send(ask).await;
            let refusal = chat.refusal_of(&message_id, ErrorCode::AgentNotFound).await;
            assert_eq!(refusal.correlation_id, Some(message_id));
            let run = chat.ask("Hello").await;
            assert_eq!(run.started().context.input_chars, 5, "the connection goes on");
        })
        .await;
}
