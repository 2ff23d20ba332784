//! The one way to run a tool: it says `tool_executing`, runs the tool within its bounds, and says exactly one
//! `tool_completed`, whatever happens (EVT-3, EVT-4, ORD-3).

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kingsguard_protocol::event::{Failure, ToolCompleted, ToolExecuting, ToolStatus};
use kingsguard_protocol::{ErrorCode, ExecutionId, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PriceCatalogue;
use super::figures::Object;
use super::source::RunData;
use crate::agents::sink::{EmitEvents, SinkError};
use crate::redact;
use crate::telemetry;

/// Permission to run a tool once. Only the dispatcher can make one.
#[derive(Debug)]
pub struct DispatchToken {
    _made_by_the_dispatcher: (),
}

/// Something that an agent can have done.
pub trait Tool: fmt::Debug + Send + Sync {
    /// Its name on the wire.
    fn name(&self) -> &'static str;

    /// What it computes, in a sentence, for people and models.
    fn description(&self) -> &'static str;

    /// How long it may take with these parameters; `limit` is what the configuration allows a tool.
    fn time_limit(&self, limit: Duration, _parameters: &Object) -> Duration {
        limit
    }

    /// Does it. Only the dispatcher can call this, because only it can make the token.
    fn run(&self, token: DispatchToken, call: ToolCall) -> BoxFuture<'_, Result<Object, ToolError>>;
}

/// What a tool gets.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// What the tool works on.
    pub inputs: ToolInputs,
    /// The user's usage records, loaded once a run.
    pub data: Arc<RunData>,
}

/// What a tool works on, besides the records.
#[derive(Clone, Debug)]
pub struct ToolInputs {
    /// What the agent asked, as it asked.
    pub parameters: Object,
    /// Prices of models.
    pub catalogue: Arc<PriceCatalogue>,
    /// What other tools found in this run so far, by tool name.
    pub findings: Arc<Object>,
}

/// Why a tool could not do what it was asked, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// For machines.
    pub code: ErrorCode,
    /// For people; says what to do.
    pub message: String,
}

impl ToolError {
    /// A failure of the tool itself (`TOOL_FAILED`).
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            code: ErrorCode::ToolFailed,
            message: message.into(),
        }
    }
}

/// What an agent asks the dispatcher for.
#[derive(Clone, Debug)]
pub struct ToolRequest {
    /// The tool's name.
    pub tool_name: String,
    /// What the tool is given.
    pub parameters: Object,
    /// What the tool is used for here, for people.
    pub purpose: String,
    /// What other tools found so far.
    pub findings: Arc<Object>,
}

/// Why a run cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The run was stopped.
    #[error("run was stopped")]
    Cancelled,
    /// The run's deadline passed.
    #[error("deadline of the run passed")]
    DeadlinePassed,
    /// The run's events cannot be written.
    #[error("event could not be said")]
    Sink(#[from] SinkError),
}

/// How a tool's call ended other than well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolFailure {
    /// The tool could not; the agent may go on without it.
    #[error("{}", .0.message)]
    Failed(Failure),
    /// The run cannot go on.
    #[error(transparent)]
    Halted(#[from] Halt),
}

/// What one run gives to everything that happens in it.
#[derive(Clone, Debug)]
pub struct RunScope {
    /// Where events go.
    pub sink: Arc<dyn EmitEvents>,
    /// Ends when the run is stopped.
    pub cancel: CancellationToken,
    /// When the run is over.
    pub deadline: Instant,
    /// The user's usage records.
    pub data: Arc<RunData>,
}

impl RunScope {
    /// Whether the run may go on.
    ///
    /// # Errors
    /// It was stopped, or its deadline passed.
    pub fn check(&self) -> Result<(), Halt> {
        if self.cancel.is_cancelled() {
            Err(Halt::Cancelled)
        } else if Instant::now() >= self.deadline {
            Err(Halt::DeadlinePassed)
        } else {
            Ok(())
        }
    }
}

/// Runs tools. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ToolDispatcher {
    tools: Arc<BTreeMap<&'static str, Box<dyn Tool>>>,
    catalogue: Arc<PriceCatalogue>,
    tool_limit: Duration,
}

impl ToolDispatcher {
    /// A dispatcher of these tools; each may take `tool_limit` unless it says otherwise. Of two tools of one name the later
    /// stays, so building from the same list twice gives the same.
    #[must_use]
    pub fn new(tools: Vec<Box<dyn Tool>>, catalogue: Arc<PriceCatalogue>, tool_limit: Duration) -> Self {
        Self {
            tools: Arc::new(tools.into_iter().map(|tool| (tool.name(), tool)).collect()),
            catalogue,
            tool_limit,
        }
    }

    /// Every tool's name, sorted.
    pub fn tool_names(&self) -> impl Iterator<Item = &'static str> {
        self.tools.keys().copied()
    }

    /// What the tool of that name computes.
    #[must_use]
    pub fn description(&self, tool_name: &str) -> Option<&'static str> {
        self.tools.get(tool_name).map(|tool| tool.description())
    }

    /// The prices that tools compute with.
    #[must_use]
    pub fn catalogue(&self) -> &Arc<PriceCatalogue> {
        &self.catalogue
    }

    /// Runs one tool for an agent that may use `permitted`, with the pair of events around it.
    ///
    /// The pair is completed even if the caller is dropped meanwhile: the execution lives in a task of its own, which a
    /// dropped caller cancels.
    ///
    /// # Errors
    /// [`ToolFailure::Failed`] when the tool could not, including one that does not exist or is not permitted;
    /// [`ToolFailure::Halted`] when the run cannot go on.
    pub async fn call(
        &self,
        scope: &RunScope,
        agent_name: &'static str,
        permitted: &[&str],
        request: ToolRequest,
    ) -> Result<Object, ToolFailure> {
        scope.check()?;
        let is_permitted = permitted.contains(&request.tool_name.as_str());
        let cancel = scope.cancel.child_token();
        let _cancels_when_dropped = cancel.clone().drop_guard();
        let scope = RunScope {
            cancel,
            ..scope.clone()
        };
        let dispatcher = self.clone();
        let execution =
            tokio::spawn(async move { dispatcher.execute(&scope, agent_name, is_permitted, request).await });
        match execution.await {
            Ok(ended) => ended,
            // The task catches the panics of tools; what is left is the runtime going down.
            Err(_) => Err(Halt::Cancelled.into()),
        }
    }

    async fn execute(
        &self,
        scope: &RunScope,
        agent_name: &str,
        is_permitted: bool,
        request: ToolRequest,
    ) -> Result<Object, ToolFailure> {
        let execution_id = ExecutionId::generate();
        let tool_name = redact::cut(&redact::text(&request.tool_name)).into_owned();
        let executing = ToolExecuting {
            execution_id: execution_id.clone(),
            tool_name: tool_name.clone(),
            parameters: redact::object(&request.parameters),
            tool_purpose: redact::cut(&redact::text(&request.purpose)).into_owned(),
        };
        let started = scope
            .sink
            .emit(agent_name, executing.into())
            .await
            .map_err(Halt::from)?;
        let ending = self.run_tool(scope, agent_name, is_permitted, request).await;
        let (status, halt) = match &ending {
            Ending::Success(_) => (ToolStatus::Success, None),
            Ending::Error(_) => (ToolStatus::Error, None),
            Ending::Timeout(_, halt) => (ToolStatus::Timeout, *halt),
            Ending::Cancelled(_) => (ToolStatus::Cancelled, Some(Halt::Cancelled)),
        };
        let result = match ending {
            Ending::Success(results) => Ok(redact::object(&results)),
            Ending::Error(failure) | Ending::Timeout(failure, _) | Ending::Cancelled(failure) => Err(failure),
        };
        let completed = ToolCompleted {
            execution_id,
            tool_name,
            success: result.is_ok(),
            status,
            results: result.as_ref().ok().cloned(),
            error: result.as_ref().err().cloned(),
            duration_ms: since(started),
        };
        if is_permitted {
            // Only names that agents list become a label.
            telemetry::tool_called(&completed.tool_name, status_word(status));
        }
        scope
            .sink
            .emit(agent_name, completed.into())
            .await
            .map_err(Halt::from)?;
        match (result, halt) {
            (_, Some(halt)) => Err(halt.into()),
            (result, None) => result.map_err(ToolFailure::Failed),
        }
    }

    async fn run_tool(&self, scope: &RunScope, agent_name: &str, is_permitted: bool, request: ToolRequest) -> Ending {
        let Some(tool) = self.tools.get(request.tool_name.as_str()).filter(|_| is_permitted) else {
            return Ending::Error(Failure {
                error_code: ErrorCode::ToolNotFound,
                message: format!(
                    "The agent {agent_name} has no tool named {:?}; ask for one of its own tools.",
                    redact::cut(&redact::text(&request.tool_name))
                ),
            });
        };
        let own_limit = tool.time_limit(self.tool_limit, &request.parameters);
        let limit_ends = Instant::now() + own_limit;
        let call = ToolCall {
            inputs: ToolInputs {
                parameters: request.parameters,
                catalogue: Arc::clone(&self.catalogue),
                findings: request.findings,
            },
            data: Arc::clone(&scope.data),
        };
        let token = DispatchToken {
            _made_by_the_dispatcher: (),
        };
        // The call itself can panic, before it gives a future.
        let running = AssertUnwindSafe(async { tool.run(token, call).await }).catch_unwind();
        tokio::select! {
            biased;
            () = scope.cancel.cancelled() => Ending::Cancelled(Failure {
                error_code: ErrorCode::ToolFailed,
                message: format!("The run was stopped before {} was done.", tool.name()),
            }),
            ended = running => match ended {
                Ok(Ok(results)) => Ending::Success(results),
                Ok(Err(error)) => Ending::Error(Failure {
                    error_code: error.code,
                    message: redact::cut(&redact::text(&error.message)).into_owned(),
                }),
                Err(_panic) => {
                    tracing::error!(tool_name = tool.name(), agent_name, "tool panicked");
                    Ending::Error(Failure {
                        error_code: ErrorCode::ToolFailed,
                        message: format!("{} failed by a fault of its own; the run goes on without it.", tool.name()),
                    })
                }
            },
            () = tokio::time::sleep_until(limit_ends.min(scope.deadline)) => Ending::Timeout(
                Failure {
                    error_code: ErrorCode::ToolTimeout,
                    message: format!("{} was not done within its time; ask for less.", tool.name()),
                },
                (scope.deadline <= limit_ends).then_some(Halt::DeadlinePassed),
            ),
        }
    }
}

fn status_word(status: ToolStatus) -> &'static str {
    match status {
        ToolStatus::Success => "success",
        ToolStatus::Error => "error",
        ToolStatus::Timeout => "timeout",
        ToolStatus::Cancelled => "cancelled",
    }
}

/// How an execution ended.
enum Ending {
    Success(Object),
    Error(Failure),
    Timeout(Failure, Option<Halt>),
    Cancelled(Failure),
}

/// Milliseconds from an event's own timestamp to now, by the clock that gives events their timestamps (ORD-7).
#[must_use]
pub(crate) fn since(started: Timestamp) -> u64 {
    u64::try_from(Timestamp::now().as_unix_ms() - started.as_unix_ms()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
