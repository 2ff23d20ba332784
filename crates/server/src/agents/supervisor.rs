//! Leads the agents through a request.

use std::collections::VecDeque;
use std::sync::Arc;

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::event::{Failure, RunUsage, SubagentCompleted, SubagentStarted};
use tokio_util::sync::CancellationToken;

use super::answer::compose;
use super::case::Case;
use super::desk::{Desk, WorkError};
use super::job::{AgentFailure, Job, Outcome};
use super::memory::{Memory, context_after};
use super::plan;
use super::registry::{Agent, AgentRegistry, SUPERVISOR};
use super::sink::EmitEvents;
use crate::tools::{Halt, Object, RunData, RunScope, Sufficiency, UsageSource, since};

impl AgentRegistry {
    /// The agents that are expected to take part, in order, for `agent_started`.
    pub async fn plan(&self, job: &Job) -> Vec<String> {
        let names: &[&str] = match job.agent_name.as_deref() {
            Some(name) if name != SUPERVISOR => &[name],
            _ => {
                let context = self.context(job).await;
                let case = Case::new(&job.content, &Memory::read(&context));
                let data = RunData::new(self.source(job), job.user_id.clone());
                let totals = data.totals().await.ok();
                plan::order(plan::sufficiency(&case.reading, totals.as_ref()), case.reading.topic)
            }
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Works on a run until there is an answer, a failure, or `cancel`. Says everything through `sink` but
    /// `agent_started`, `agent_stopped` and `agent_completed`, which are the run's. When it returns, every tool and
    /// subagent that it opened is closed.
    ///
    /// # Errors
    /// As [`AgentFailure`] says.
    pub async fn execute(
        &self,
        job: Job,
        sink: Arc<dyn EmitEvents>,
        cancel: CancellationToken,
    ) -> Result<Outcome, AgentFailure> {
        let context = self.context(&job).await;
        let mut case = Case::new(&job.content, &Memory::read(&context));
        let scope = RunScope {
            sink,
            cancel,
            deadline: job.deadline,
            data: Arc::new(RunData::new(self.source(&job), job.user_id.clone())),
        };
        let worked = match job.agent_name.as_deref() {
            None | Some(SUPERVISOR) => self.lead(&scope, &mut case).await,
            Some(name) => match self.get(name) {
                Some(agent) => self.work_alone(agent, &scope, &mut case).await,
                None => Err(WorkError::failed(
                    ErrorCode::AgentNotFound,
                    "There is no agent of this name.",
                )),
            },
        };
        match worked {
            Ok(mut outcome) => {
                outcome.usage = self.priced(outcome.usage);
                self.remember(&job, &case, &context).await;
                Ok(outcome)
            }
            Err(error) => Err(failure(&case, error, self.priced(case.usage))),
        }
    }

    /// Where the records of this run come from.
    fn source(&self, job: &Job) -> Arc<dyn UsageSource> {
        let category = job.context.as_deref().and_then(super::examples::category_of);
        match category.and_then(|category| self.examples.get(&category)) {
            Some(example) => example,
            None => Arc::clone(&self.services.usage),
        }
    }

    async fn context(&self, job: &Job) -> Object {
        match self.services.contexts.load(&job.user_id, &job.thread_id).await {
            Ok(context) => context,
            Err(error) => {
                // A question can be answered without what was said before.
                tracing::warn!(run_id = %job.run_id, error = &error as &dyn std::error::Error, "thread context not read");
                Object::new()
            }
        }
    }

    async fn remember(&self, job: &Job, case: &Case, before: &Object) {
        let context = context_after(case, before);
        if let Err(error) = self.services.contexts.save(&job.user_id, &job.thread_id, context).await {
            tracing::warn!(run_id = %job.run_id, error = &error as &dyn std::error::Error, "thread context not kept");
        }
    }

    fn priced(&self, usage: RunUsage) -> RunUsage {
        let price = self.dispatcher.catalogue().price(self.services.model.name());
        RunUsage {
            cost_microusd: price.map_or(0, |price| price.cost_microusd(usage.input_tokens, usage.output_tokens)),
            ..usage
        }
    }

    fn desk<'run>(
        &'run self,
        agent: &'run dyn Agent,
        scope: &'run RunScope,
        (step_number, total_steps): (u32, u32),
    ) -> Desk<'run> {
        Desk {
            agent,
            dispatcher: &self.dispatcher,
            scope,
            step_number,
            total_steps,
            model: &self.services.model,
        }
    }

    async fn work_alone(&self, agent: &dyn Agent, scope: &RunScope, case: &mut Case) -> Result<Outcome, WorkError> {
        let desk = self.desk(agent, scope, (1, 1));
        agent.work(&desk, case).await?;
        compose(&desk, case).await
    }

    /// The workflow: the order is chosen by how sufficient the records are, and chosen again once they were checked.
    async fn lead(&self, scope: &RunScope, case: &mut Case) -> Result<Outcome, WorkError> {
        let totals = scope.data.totals().await.ok();
        case.sufficiency = plan::sufficiency(&case.reading, totals.as_ref());
        let mut left: VecDeque<&str> = plan::order(case.sufficiency, case.reading.topic)
            .iter()
            .copied()
            .collect();
        let mut step_number = 0u32;
        loop {
            let Some(name) = left.pop_front() else {
                return Err(WorkError::failed(
                    ErrorCode::AgentFailed,
                    "No agent was left to answer; ask again.",
                ));
            };
            let Some(agent) = self.get(name) else {
                return Err(WorkError::failed(
                    ErrorCode::AgentNotFound,
                    format!("The agent {name} is not there."),
                ));
            };
            step_number += 1;
            let total_steps = step_number + u32::try_from(left.len()).unwrap_or(u32::MAX - step_number);
            let desk = self.desk(agent, scope, (step_number, total_steps));
            let outcome = self.step(&desk, agent, case).await?;
            if let Some(outcome) = outcome {
                return Ok(outcome);
            }
            if case.sufficiency == Sufficiency::Insufficient && !left.contains(&"data_helper") {
                left = VecDeque::from(["data_helper"]);
            }
        }
    }

    /// One subagent's step, with its pair of events around it; the last one answers. The step ends with an outcome
    /// only where nobody comes after it.
    async fn step(&self, desk: &Desk<'_>, agent: &dyn Agent, case: &mut Case) -> Result<Option<Outcome>, WorkError> {
        let step_number = desk.step_number;
        desk.scope.check()?;
        let sink = &desk.scope.sink;
        let started = sink
            .emit(agent.name(), SubagentStarted { step_number }.into())
            .await
            .map_err(Halt::from)?;
        let worked = async {
            agent.work(desk, case).await?;
            let goes_on_elsewhere = case.sufficiency == Sufficiency::Insufficient && agent.name() != "data_helper";
            if desk.is_last_step() && !goes_on_elsewhere {
                compose(desk, case).await.map(Some)
            } else {
                Ok(None)
            }
        }
        .await;
        let completed = SubagentCompleted {
            step_number,
            success: worked.is_ok(),
            duration_ms: since(started),
        };
        // Said on every path, also when the run was stopped; what cannot be said any more is closed by the run.
        let said = sink.emit(agent.name(), completed.into()).await;
        let outcome = worked?;
        said.map_err(Halt::from)?;
        Ok(outcome)
    }
}

fn failure(case: &Case, error: WorkError, usage: RunUsage) -> AgentFailure {
    let failure = match error {
        WorkError::Failed(failure) => failure,
        WorkError::Halted(Halt::Cancelled) => Failure {
            error_code: ErrorCode::AgentFailed,
            message: "The run was stopped.".to_owned(),
        },
        WorkError::Halted(Halt::DeadlinePassed) => Failure {
            error_code: ErrorCode::AgentTimeout,
            message: "This took longer than a run may take; ask for less.".to_owned(),
        },
        WorkError::Halted(Halt::Sink(_)) => Failure {
            error_code: ErrorCode::DatabaseUnavailable,
            message: "What was found could not be written down; ask again in a moment.".to_owned(),
        },
    };
    AgentFailure {
        final_response: format!("There is no answer to {}: {}", case.quote(), failure.message),
        summary: failure.message.clone(),
        failure,
        usage,
    }
}
