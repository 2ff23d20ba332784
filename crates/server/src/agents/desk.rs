//! Where one agent works: the only place from which it can think aloud, use tools and answer.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use kingsguard_protocol::event::{AgentError, AgentThinking, Failure};
use kingsguard_protocol::{ErrorCode, EventBody};
use serde_json::Value;

use super::case::Case;
use super::registry::Agent;
use super::sink::SinkError;
use crate::redact;
use crate::tools::{Halt, Object, RunScope, ToolDispatcher, ToolFailure, ToolRequest};

/// Why an agent's work ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The run cannot go on.
    #[error(transparent)]
    Halted(#[from] Halt),
    /// The agent could not; the run fails with this.
    #[error("{}", .0.message)]
    Failed(Failure),
}

impl WorkError {
    /// A failure with a code and words for people.
    pub fn failed(error_code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Failed(Failure {
            error_code,
            message: message.into(),
        })
    }
}

/// One agent's place in one run.
#[derive(Debug)]
pub struct Desk<'run> {
    pub(super) agent: &'run dyn Agent,
    pub(super) dispatcher: &'run ToolDispatcher,
    pub(super) scope: &'run RunScope,
    pub(super) step_number: u32,
    pub(super) total_steps: u32,
    pub(super) model: &'run crate::model::Model,
}

impl Desk<'_> {
    /// Whether this is the last step, whose agent answers.
    #[must_use]
    pub fn is_last_step(&self) -> bool {
        self.step_number == self.total_steps
    }

    /// Says an event.
    ///
    /// # Errors
    /// The run cannot go on.
    pub async fn say(&self, body: EventBody) -> Result<(), Halt> {
        self.scope.check()?;
        self.scope.sink.emit(self.agent.name(), body).await?;
        Ok(())
    }

    /// Says several events in a row; the future that this gives resolves once all of them are durable.
    ///
    /// # Errors
    /// The run cannot go on.
    pub async fn hand_in(&self, bodies: Vec<EventBody>) -> Result<BoxFuture<'_, Result<(), SinkError>>, Halt> {
        self.scope.check()?;
        Ok(self.scope.sink.hand_in(self.agent.name(), bodies).await?)
    }

    /// Thinks aloud.
    ///
    /// # Errors
    /// The run cannot go on.
    pub async fn think(&self, case: &mut Case, reasoning: String) -> Result<(), Halt> {
        case.usage.output_tokens += self.model.planner_tokens(&reasoning);
        let done = f64::from(self.step_number - 1) / f64::from(self.total_steps);
        self.say(
            AgentThinking {
                reasoning: redact::cut(&redact::text(&reasoning)).into_owned(),
                step_number: self.step_number,
                total_steps: Some(self.total_steps),
                progress: Some((done * 100.0).round() / 100.0),
            }
            .into(),
        )
        .await
    }

    /// Uses one tool and keeps what it finds. A tool that fails leaves a trouble in the case, says `agent_error` with what
    /// is done `instead`, and the agent goes on; the answer is whether the tool found something.
    ///
    /// # Errors
    /// The run cannot go on.
    pub async fn use_tool(
        &self,
        case: &mut Case,
        tool_name: &str,
        parameters: Object,
        purpose: String,
        instead: &str,
    ) -> Result<bool, Halt> {
        let request = ToolRequest {
            tool_name: tool_name.to_owned(),
            parameters,
            purpose,
            findings: Arc::clone(&case.findings),
        };
        let ended = self
            .dispatcher
            .call(self.scope, self.agent.name(), self.agent.tool_names(), request)
            .await;
        self.settle(case, tool_name, ended, instead).await
    }

    /// Uses several tools at the same time over the case's period.
    ///
    /// # Errors
    /// The run cannot go on.
    pub async fn use_tools(
        &self,
        case: &mut Case,
        uses: Vec<(&'static str, Object)>,
        purpose: &str,
    ) -> Result<(), Halt> {
        let calls = uses.iter().map(|(tool_name, parameters)| {
            let request = ToolRequest {
                tool_name: (*tool_name).to_owned(),
                parameters: parameters.clone(),
                purpose: format!(
                    "{} {purpose}",
                    self.dispatcher
                        .description(tool_name)
                        .unwrap_or("Looks into the records")
                ),
                findings: Arc::clone(&case.findings),
            };
            self.dispatcher
                .call(self.scope, self.agent.name(), self.agent.tool_names(), request)
        });
        let ended = join_all(calls).await;
        for ((tool_name, _), ended) in uses.iter().zip(ended) {
            self.settle(case, tool_name, ended, "answer without it").await?;
        }
        Ok(())
    }

    async fn settle(
        &self,
        case: &mut Case,
        tool_name: &str,
        ended: Result<Object, ToolFailure>,
        instead: &str,
    ) -> Result<bool, Halt> {
        match ended {
            Ok(found) => {
                case.usage.input_tokens += self.model.planner_tokens(&Value::Object(found.clone()).to_string());
                case.keep(tool_name, found);
                Ok(true)
            }
            Err(ToolFailure::Halted(halt)) => Err(halt),
            Err(ToolFailure::Failed(failure)) => {
                case.troubles.push(failure.message.clone());
                case.tool_failure = Some((failure.error_code, failure.message.clone()));
                self.say(
                    AgentError {
                        error_code: failure.error_code,
                        message: failure.message,
                        recovery: vec![instead.to_owned()],
                    }
                    .into(),
                )
                .await?;
                Ok(false)
            }
        }
    }
}
