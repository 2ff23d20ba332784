//! The agents are wired, and answer over records in memory as they do over Postgres.

use std::collections::BTreeMap;

use kingsguard_protocol::event::{EventBody, ToolStatus};
use kingsguard_protocol::{ErrorCode, RunId, ThreadId, UserId};
use pretty_assertions::assert_eq;
use rstest::rstest;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::agents::sink::recorder::Recorder;
use crate::agents::{InMemoryContexts, Job, Outcome, examples};
use crate::tools::{Dataset, InMemoryUsage, Object, SourceError, UsageRow, UsageTotals, dollars};

fn services(rows: Vec<UsageRow>) -> AgentServices {
    AgentServices {
        usage: Arc::new(InMemoryUsage::new(rows)),
        contexts: Arc::new(InMemoryContexts::default()),
        model: Model::Planner,
        tool_limit: Duration::from_secs(10),
    }
}

fn registry(rows: Vec<UsageRow>) -> AgentRegistry {
    AgentRegistry::builtin(services(rows)).expect("the agents are wired")
}

fn job(content: &str) -> Job {
    Job {
        user_id: UserId::generate(),
        thread_id: ThreadId::generate(),
        run_id: RunId::generate(),
        agent_name: None,
        content: content.to_owned(),
        context: None,
        deadline: Instant::now() + Duration::from_secs(30),
    }
}

fn over_example(category: &str, content: &str) -> Job {
    let context = examples::context_for(category).expect("there is such an example");
    Job {
        context: Some(context.get().to_owned()),
        ..job(content)
    }
}

async fn answer(registry: &AgentRegistry, job: Job) -> (Outcome, Arc<Recorder>) {
    let sink = Arc::new(Recorder::default());
    let outcome = registry
        .execute(job, sink.clone(), CancellationToken::new())
        .await
        .expect("it answers");
    check_order(&sink);
    assert!(!outcome.final_response.trim().is_empty() && !outcome.summary.trim().is_empty());
    (outcome, sink)
}

/// What holds for the events of every run that `execute` says: ORD-2, ORD-3, ORD-5, and EVT-2 and EVT-6 in what they say.
fn check_order(sink: &Recorder) {
    let mut tools = BTreeMap::new();
    let mut steps = BTreeMap::new();
    let mut thoughts = 0;
    for said in sink.said() {
        match said.body {
            EventBody::AgentThinking(thought) => {
                thoughts += 1;
                assert!(thought.reasoning.chars().count() >= 10, "{thought:?}");
                assert!(thought.step_number >= 1);
            }
            EventBody::ToolExecuting(tool) => assert!(tools.insert(tool.execution_id, tool.tool_name).is_none()),
            EventBody::ToolCompleted(tool) => {
                assert_eq!(tools.remove(&tool.execution_id), Some(tool.tool_name));
            }
            EventBody::SubagentStarted(step) => {
                assert!(steps.insert((said.agent_name, step.step_number), ()).is_none());
            }
            EventBody::SubagentCompleted(step) => {
                assert!(steps.remove(&(said.agent_name, step.step_number)).is_some());
            }
            EventBody::AgentStarted(_) | EventBody::AgentCompleted(_) | EventBody::AgentStopped(_) => {
                panic!("{} is the run's to say", said.body.event_type());
            }
            _ => {}
        }
    }
    assert!(thoughts >= 1, "at least one thought");
    assert!(tools.is_empty() && steps.is_empty(), "left open: {tools:?} {steps:?}");
}

fn subagents(sink: &Recorder) -> Vec<String> {
    let said = sink.said().into_iter();
    said.filter(|said| matches!(said.body, EventBody::SubagentStarted(_)))
        .map(|said| said.agent_name)
        .collect()
}

fn tool_results(sink: &Recorder) -> BTreeMap<String, Object> {
    let said = sink.said().into_iter();
    said.filter_map(|said| match said.body {
        EventBody::ToolCompleted(tool) => Some((tool.tool_name, tool.results?)),
        _ => None,
    })
    .collect()
}

#[test]
fn every_agent_is_there_and_building_twice_gives_the_same() {
    let registry = registry(Vec::new());
    for name in [
        "triage",
        "data",
        "optimization",
        "actions",
        "reporting",
        "data_helper",
        SUPERVISOR,
    ] {
        assert!(registry.contains(name), "{name} is missing");
    }
    assert!(registry.tool_names().count() >= 10);
    let again = self::registry(Vec::new());
    assert_eq!(registry.names(), again.names());
    assert_eq!(registry.summaries(), again.summaries());
}

#[test]
fn an_agent_with_an_unknown_tool_cannot_be_registered() {
    let catalogue = Arc::new(PriceCatalogue::builtin().expect("the catalogue is well formed"));
    let without_tools = ToolDispatcher::new(Vec::new(), catalogue, Duration::from_secs(1));
    let error =
        AgentRegistry::new(team::builtin(), without_tools, services(Vec::new())).expect_err("tools are missing");
    assert!(matches!(error, RegistryError::UnknownTool { .. }), "{error}");
}

#[test]
fn two_agents_of_one_name_cannot_be_registered() {
    let catalogue = Arc::new(PriceCatalogue::builtin().expect("the catalogue is well formed"));
    let dispatcher = ToolDispatcher::new(tools::builtin(), catalogue, Duration::from_secs(1));
    let twice = team::builtin().into_iter().chain(team::builtin()).collect();
    let error = AgentRegistry::new(twice, dispatcher, services(Vec::new())).expect_err("names repeat");
    assert!(matches!(error, RegistryError::SameName(_)), "{error}");
}

#[tokio::test]
async fn advice_over_sufficient_records_takes_the_whole_workflow() {
    let registry = registry(Vec::new());
    let job = over_example("cost", "How can I spend less?");
    let planned = registry.plan(&job).await;
    let (outcome, sink) = answer(&registry, job).await;
    assert_eq!(
        subagents(&sink),
        ["triage", "data", "optimization", "actions", "reporting"]
    );
    assert_eq!(planned, subagents(&sink));
    let saving = outcome.result["saving_estimate"]["total_saving_microusd"]
        .as_u64()
        .expect("there is a saving");
    assert!(
        outcome.final_response.contains(&dollars(saving)),
        "{}",
        outcome.final_response
    );
    assert!(outcome.usage.input_tokens > 0 && outcome.usage.output_tokens > 0 && outcome.usage.cost_microusd > 0);
}

#[tokio::test]
async fn the_result_holds_exactly_what_the_tools_found_and_parts_add_up_to_the_answer() {
    let (outcome, sink) = answer(&registry(Vec::new()), over_example("latency", "Make it faster")).await;
    for (tool, found) in tool_results(&sink) {
        if tool != "write_report" {
            assert_eq!(outcome.result[&tool], Value::Object(found), "{tool}");
        }
    }
    let parts: Vec<_> = sink
        .said()
        .into_iter()
        .filter_map(|said| match said.body {
            EventBody::PartialResult(part) => Some(part),
            _ => None,
        })
        .collect();
    let whole: String = parts.iter().map(|part| part.content.as_str()).collect();
    assert_eq!(whole, outcome.final_response);
    for (index, part) in parts.iter().enumerate() {
        assert_eq!((part.index as usize, part.is_final), (index, index + 1 == parts.len()));
    }
    assert_eq!(sink.types().iter().filter(|kind| **kind == "final_report").count(), 1);
}

#[tokio::test]
async fn a_listing_says_each_record_in_a_part_of_its_own() {
    let asked = "List my records from 2026-01-03 to 2026-01-04";
    let (outcome, sink) = answer(&registry(Vec::new()), over_example("cost", asked)).await;
    let said = sink.said().into_iter();
    let parts: Vec<_> = said
        .filter_map(|said| match said.body {
            EventBody::PartialResult(part) => Some(part),
            _ => None,
        })
        .collect();
    assert_eq!(parts.len(), 1 + 24 + 1, "what it is about, each record, the rest");
    for (index, part) in parts.iter().enumerate() {
        assert_eq!((part.index as usize, part.is_final), (index, index + 1 == parts.len()));
    }
    assert!(
        parts[1].content.starts_with("2026-01-03T00:00:00.000Z "),
        "{}",
        parts[1].content
    );
    let whole: String = parts.iter().map(|part| part.content.as_str()).collect();
    assert_eq!(whole, outcome.final_response);
    assert_eq!(outcome.result["list_records"]["listed"], 24);
}

#[tokio::test(start_paused = true)]
async fn a_listing_is_no_faster_than_it_was_asked_for() {
    let sink = Arc::new(Recorder::default());
    let began = Instant::now();
    let job = over_example("cost", "List my records from 2026-01-03 to 2026-01-04 at 4 per second");
    registry(Vec::new())
        .execute(job, sink.clone(), CancellationToken::new())
        .await
        .expect("it answers");
    assert!(
        began.elapsed() >= Duration::from_millis(250 * 23),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn without_records_the_data_helper_says_what_to_bring() {
    let registry = registry(Vec::new());
    let (outcome, sink) = answer(&registry, job("How can I spend less?")).await;
    assert_eq!(subagents(&sink), ["triage", "data_helper"]);
    assert!(
        outcome.final_response.contains("POST /api/usage-records"),
        "{}",
        outcome.final_response
    );
    assert_eq!(outcome.result["sufficiency"], "insufficient");
}

#[tokio::test]
async fn an_unknown_request_over_no_records_ends_with_the_data_helper() {
    let (outcome, sink) = answer(&registry(Vec::new()), job("Hello there")).await;
    assert_eq!(subagents(&sink), ["triage", "data_helper"]);
    assert!(outcome.final_response.contains("Hello there"));
}

#[rstest]
#[case("Show my spend from 2026-01-03 to 2026-01-04", 24)]
#[case("Show my spend from 2026-01-03", 144)]
#[case("Show my spend until 2026-01-01", 12)]
#[case("What did I spend in the last 2 days?", 24)]
#[tokio::test]
async fn a_period_takes_the_records_of_its_days(#[case] content: &str, #[case] records: u64) {
    let (outcome, sink) = answer(&registry(Vec::new()), over_example("cost", content)).await;
    assert_eq!(outcome.result["check_data"]["records"], records);
    assert_eq!(outcome.result["spend_by_model"]["total_calls"], records);
    assert_eq!(subagents(&sink)[..2], ["triage", "data"]);
}

#[tokio::test]
async fn a_day_that_does_not_exist_is_a_failed_tool_and_the_whole_time_is_taken_instead() {
    let (outcome, sink) = answer(
        &registry(Vec::new()),
        over_example("cost", "Show my spend from 2026-13-45"),
    )
    .await;
    let failed: Vec<_> = sink
        .said()
        .into_iter()
        .filter_map(|said| match said.body {
            EventBody::ToolCompleted(tool) if !tool.success => Some((tool.tool_name, tool.status)),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [("parse_period".to_owned(), ToolStatus::Error)]);
    assert!(sink.types().contains(&"agent_error"));
    assert!(
        outcome.final_response.contains("2026-13-45 is no day of the calendar"),
        "{}",
        outcome.final_response
    );
    assert_eq!(outcome.result["spend_by_model"]["total_calls"], 168);
}

#[tokio::test]
async fn a_period_without_records_ends_with_the_data_helper() {
    let (_, sink) = answer(
        &registry(Vec::new()),
        over_example("cost", "Show my spend from 2030-01-01"),
    )
    .await;
    assert_eq!(subagents(&sink), ["triage", "data", "data_helper"]);
}

#[rstest]
#[case("What is the trend?", "spend_trend")]
#[case("Which prompts are duplicates?", "duplicate_prompts")]
#[case("How many calls failed?", "error_rate")]
#[case("What will I spend next month?", "spend_forecast")]
#[case("How fast are my models?", "latency_percentiles")]
#[case("Any unusual days?", "usage_anomalies")]
#[case("How many tokens do I use?", "usage_statistics")]
#[case("What are the prices?", "price_list")]
#[case("Are my records valid?", "validate_data")]
#[case("Tell me something", "usage_statistics")]
#[case("List my usage records", "list_records")]
#[tokio::test]
async fn each_topic_is_answered_by_its_tool(#[case] content: &str, #[case] tool: &str) {
    let (outcome, _) = answer(&registry(Vec::new()), over_example("quality", content)).await;
    assert!(outcome.result.get(tool).is_some(), "{}", outcome.result);
}

#[tokio::test]
async fn every_agent_answers_when_it_is_asked_by_name() {
    let registry = registry(Vec::new());
    for name in registry.names() {
        for asked in [
            over_example("cost", "How can I spend less since 2026-01-02?"),
            job("What now?"),
        ] {
            let job = Job {
                agent_name: Some(name.to_owned()),
                ..asked
            };
            let (outcome, _) = answer(&registry, job).await;
            assert!(outcome.result.is_object(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_follow_up_goes_on_with_the_period_of_the_question_before() {
    let registry = registry(Vec::new());
    let first = over_example("cost", "Show my spend from 2026-01-03 to 2026-01-04");
    let next = Job {
        content: "and by feature?".to_owned(),
        ..first.clone()
    };
    let elsewhere = Job {
        thread_id: ThreadId::generate(),
        ..next.clone()
    };
    answer(&registry, first).await;
    let (outcome, _) = answer(&registry, next).await;
    assert_eq!(outcome.result["spend_by_feature"]["total_calls"], 24);
    let (outcome, _) = answer(&registry, elsewhere).await;
    assert_eq!(
        outcome.result["spend_by_feature"]["total_calls"], 168,
        "another thread knows nothing of it"
    );
}

#[tokio::test]
async fn a_credential_in_the_request_is_in_no_event_and_no_answer() {
    let job = over_example("cost", "Use sk-abcdefghijklmnop to show my spend");
    let (outcome, sink) = answer(&registry(Vec::new()), job).await;
    assert!(!format!("{outcome:?}{:?}", sink.said()).contains("abcdefghijklmnop"));
}

#[tokio::test]
async fn watching_ends_with_the_seconds_asked_for() {
    let (outcome, _) = answer(&registry(Vec::new()), job("Watch my usage for 1 second")).await;
    assert_eq!(outcome.result["watch_usage"]["new_records"], 0);
}

#[tokio::test]
async fn a_stopped_run_closes_its_tool_and_its_subagent() {
    let registry = registry(Vec::new());
    let sink = Arc::new(Recorder::default());
    let cancel = CancellationToken::new();
    let stop = async {
        let watches = |sink: &Recorder| {
            sink.said()
                .iter()
                .any(|said| matches!(&said.body, EventBody::ToolExecuting(tool) if tool.tool_name == "watch_usage"))
        };
        while !watches(&sink) {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (ended, ()) = tokio::join!(
        registry.execute(job("Watch my usage for 60 seconds"), sink.clone(), cancel.clone()),
        within(stop)
    );
    assert!(ended.is_err());
    check_order(&sink);
    let last = sink.said().pop().expect("something was said");
    assert!(matches!(last.body, EventBody::SubagentCompleted(step) if !step.success));
}

#[tokio::test(start_paused = true)]
async fn a_run_past_its_deadline_fails_with_agent_timeout_and_leaves_nothing_open() {
    let sink = Arc::new(Recorder::default());
    let job = Job {
        deadline: Instant::now() + Duration::from_millis(300),
        ..job("Watch my usage for 60 seconds")
    };
    let failure = registry(Vec::new())
        .execute(job, sink.clone(), CancellationToken::new())
        .await
        .expect_err("time is over");
    assert_eq!(failure.failure.error_code, ErrorCode::AgentTimeout);
    check_order(&sink);
}

/// Waits for a condition, generously, but not for ever.
async fn within<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .expect("what is waited for happens")
}

#[derive(Debug)]
struct Away;

impl UsageSource for Away {
    fn load<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<Dataset, SourceError>> {
        Box::pin(async { Err(SourceError::Unavailable("gone".into())) })
    }

    fn totals<'a>(&'a self, _user: &'a UserId) -> BoxFuture<'a, Result<UsageTotals, SourceError>> {
        Box::pin(async { Err(SourceError::Unavailable("gone".into())) })
    }
}

#[tokio::test]
async fn a_run_whose_records_cannot_be_read_fails_with_database_unavailable() {
    let services = AgentServices {
        usage: Arc::new(Away),
        ..services(Vec::new())
    };
    let registry = AgentRegistry::builtin(services).expect("the agents are wired");
    let sink = Arc::new(Recorder::default());
    let ended = registry
        .execute(job("How can I spend less?"), sink.clone(), CancellationToken::new())
        .await;
    assert_eq!(
        ended.expect_err("there is nothing to say").failure.error_code,
        ErrorCode::DatabaseUnavailable
    );
    check_order(&sink);
}
