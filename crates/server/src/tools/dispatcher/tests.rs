//! Every way a tool can end has its pair of events.

use std::time::Duration;

use kingsguard_protocol::{EventBody, UserId};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::*;
use crate::agents::sink::recorder::Recorder;
use crate::tools::{InMemoryUsage, figures};

#[derive(Debug)]
enum Act {
    Finds,
    Fails,
    Panics,
    PanicsBeforeItBegins,
    Hangs,
}

#[derive(Debug)]
struct Actor(&'static str, Act);

impl Tool for Actor {
    fn name(&self) -> &'static str {
        self.0
    }

    fn description(&self) -> &'static str {
        "Acts as the test says"
    }

    fn run(&self, _token: DispatchToken, call: ToolCall) -> BoxFuture<'_, Result<Object, ToolError>> {
        match self.1 {
            Act::PanicsBeforeItBegins => panic!("on purpose, early"),
            Act::Finds => Box::pin(async move { Ok(call.inputs.parameters) }),
            Act::Fails => Box::pin(async { Err(ToolError::failed("it cannot, see sk-abcdefghijkl")) }),
            Act::Panics => Box::pin(async { panic!("on purpose") }),
            Act::Hangs => Box::pin(std::future::pending()),
        }
    }
}

/// How long a tool may take.
const LIMIT: Duration = Duration::from_millis(300);

const ALL: &[&str] = &["finds", "fails", "panics", "panics_early", "hangs"];

fn dispatcher() -> ToolDispatcher {
    let tools: Vec<Box<dyn Tool>> = vec![
        Box::new(Actor("finds", Act::Finds)),
        Box::new(Actor("fails", Act::Fails)),
        Box::new(Actor("panics", Act::Panics)),
        Box::new(Actor("panics_early", Act::PanicsBeforeItBegins)),
        Box::new(Actor("hangs", Act::Hangs)),
    ];
    let catalogue = PriceCatalogue::builtin().expect("the catalogue is well formed");
    ToolDispatcher::new(tools, Arc::new(catalogue), LIMIT)
}

fn scope(sink: &Arc<Recorder>) -> RunScope {
    let source = Arc::new(InMemoryUsage::new(Vec::new()));
    RunScope {
        sink: Arc::clone(sink) as Arc<dyn EmitEvents>,
        cancel: CancellationToken::new(),
        deadline: Instant::now() + Duration::from_secs(60),
        data: Arc::new(RunData::new(source, UserId::generate())),
    }
}

fn request(tool_name: &str) -> ToolRequest {
    ToolRequest {
        tool_name: tool_name.to_owned(),
        parameters: figures::object(json!({"model": "gpt-4o", "password": "hunter2"})),
        purpose: "shows how a tool ends".to_owned(),
        findings: Arc::default(),
    }
}

/// The one pair of the recording, checked for what every pair has.
fn pair(sink: &Recorder) -> (ToolExecuting, ToolCompleted) {
    let said = sink.said();
    assert_eq!(said.len(), 2, "one pair and nothing else: {said:?}");
    match (said[0].body.clone(), said[1].body.clone()) {
        (EventBody::ToolExecuting(executing), EventBody::ToolCompleted(completed)) => {
            assert_eq!(executing.execution_id, completed.execution_id);
            assert_eq!(executing.tool_name, completed.tool_name);
            assert_eq!(completed.success, completed.status == ToolStatus::Success);
            assert_eq!(completed.success, completed.results.is_some());
            assert_eq!(completed.success, completed.error.is_none());
            let apart = (said[1].at.as_unix_ms() - said[0].at.as_unix_ms()).unsigned_abs();
            assert!(completed.duration_ms <= apart + 50, "{completed:?} over {apart} ms");
            (executing, completed)
        }
        other => panic!("no pair: {other:?}"),
    }
}

async fn ends(tool_name: &str, expected: ToolStatus, code: Option<ErrorCode>) -> ToolCompleted {
    let sink = Arc::new(Recorder::default());
    let ended = dispatcher().call(&scope(&sink), "data", ALL, request(tool_name)).await;
    let (_, completed) = pair(&sink);
    assert_eq!(completed.status, expected);
    assert_eq!(completed.error.as_ref().map(|error| error.error_code), code);
    assert_eq!(ended.is_ok(), completed.success);
    completed
}

#[tokio::test]
async fn a_tool_that_finds_something_ends_as_success_with_redacted_values() {
    let sink = Arc::new(Recorder::default());
    let found = dispatcher()
        .call(&scope(&sink), "data", ALL, request("finds"))
        .await
        .expect("it finds");
    let (executing, completed) = pair(&sink);
    let expected = figures::object(json!({"model": "gpt-4o", "password": redact::REDACTED}));
    assert_eq!(
        (executing.parameters, completed.results),
        (expected.clone(), Some(expected.clone()))
    );
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_tool_that_cannot_ends_as_error_without_the_credential_in_its_words() {
    let sink = Arc::new(Recorder::default());
    let ended = dispatcher().call(&scope(&sink), "data", ALL, request("fails")).await;
    let (_, completed) = pair(&sink);
    assert_eq!(completed.status, ToolStatus::Error);
    let failure = completed.error.expect("it says why");
    assert_eq!(failure.message, "it cannot, see [redacted]");
    assert_eq!(ended, Err(ToolFailure::Failed(failure)));
}

#[tokio::test]
async fn a_tool_that_panics_ends_as_error() {
    ends("panics", ToolStatus::Error, Some(ErrorCode::ToolFailed)).await;
    ends("panics_early", ToolStatus::Error, Some(ErrorCode::ToolFailed)).await;
}

#[tokio::test]
async fn a_tool_that_takes_too_long_ends_as_timeout_and_the_run_may_go_on() {
    let completed = ends("hangs", ToolStatus::Timeout, Some(ErrorCode::ToolTimeout)).await;
    assert!(u128::from(completed.duration_ms) >= LIMIT.as_millis(), "{completed:?}");
}

#[tokio::test]
async fn an_unknown_tool_and_one_that_is_not_permitted_end_as_error() {
    ends("no_such_tool", ToolStatus::Error, Some(ErrorCode::ToolNotFound)).await;
    let sink = Arc::new(Recorder::default());
    let ended = dispatcher()
        .call(&scope(&sink), "data", &["fails"], request("finds"))
        .await;
    assert_eq!(
        pair(&sink).1.error.map(|error| error.error_code),
        Some(ErrorCode::ToolNotFound)
    );
    assert!(matches!(ended, Err(ToolFailure::Failed(_))));
}

#[tokio::test]
async fn a_tool_of_a_stopped_run_ends_as_cancelled() {
    let sink = Arc::new(Recorder::default());
    let scope = scope(&sink);
    let dispatcher = dispatcher();
    let stop = async {
        while sink.said().is_empty() {
            tokio::task::yield_now().await;
        }
        scope.cancel.cancel();
    };
    let (ended, ()) = tokio::join!(dispatcher.call(&scope, "data", ALL, request("hangs")), stop);
    assert_eq!(ended, Err(ToolFailure::Halted(Halt::Cancelled)));
    assert_eq!(pair(&sink).1.status, ToolStatus::Cancelled);
    let again = dispatcher.call(&scope, "data", ALL, request("finds")).await;
    assert_eq!(
        again,
        Err(ToolFailure::Halted(Halt::Cancelled)),
        "nothing begins in a stopped run"
    );
    assert_eq!(sink.said().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tool_at_the_run_s_deadline_ends_as_timeout_and_the_run_cannot_go_on() {
    let sink = Arc::new(Recorder::default());
    let scope = RunScope {
        deadline: Instant::now() + Duration::from_millis(20),
        ..scope(&sink)
    };
    let ended = dispatcher().call(&scope, "data", ALL, request("hangs")).await;
    assert_eq!(ended, Err(ToolFailure::Halted(Halt::DeadlinePassed)));
    assert_eq!(pair(&sink).1.status, ToolStatus::Timeout);
}

#[tokio::test]
async fn a_tool_whose_caller_is_gone_is_still_completed() {
    let sink = Arc::new(Recorder::default());
    let scope = scope(&sink);
    let dispatcher = dispatcher();
    {
        let mut call = Box::pin(dispatcher.call(&scope, "data", ALL, request("hangs")));
        while sink.said().is_empty() {
            let _ = futures_util::poll!(&mut call);
            tokio::task::yield_now().await;
        }
    }
    while sink.said().len() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pair(&sink).1.status, ToolStatus::Cancelled);
}

#[tokio::test]
async fn tools_overlap_and_each_has_its_own_pair() {
    let sink = Arc::new(Recorder::default());
    let scope = scope(&sink);
    let dispatcher = dispatcher();
    let calls = ["finds", "hangs", "fails", "panics"].map(|tool| dispatcher.call(&scope, "data", ALL, request(tool)));
    futures_util::future::join_all(calls).await;
    let said = sink.said();
    let ids = |completed: bool| -> std::collections::BTreeSet<String> {
        said.iter()
            .filter_map(|said| match &said.body {
                EventBody::ToolExecuting(tool) if !completed => Some(tool.execution_id.to_string()),
                EventBody::ToolCompleted(tool) if completed => Some(tool.execution_id.to_string()),
                _ => None,
            })
            .collect()
    };
    assert_eq!((said.len(), ids(true).len()), (8, 4));
    assert_eq!(ids(false), ids(true));
}

#[tokio::test]
async fn nothing_runs_when_it_cannot_be_said() {
    let sink = Arc::new(Recorder::that_refuses_after(0));
    let ended = dispatcher().call(&scope(&sink), "data", ALL, request("finds")).await;
    assert_eq!(ended, Err(ToolFailure::Halted(Halt::Sink(SinkError::LogUnavailable))));
}
