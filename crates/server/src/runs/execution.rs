//! One run from `agent_started` to its one `agent_completed`, on every path (ORD-4).

use std::sync::Arc;
use std::time::Duration;

use kingsguard_protocol::control::RunPhase;
use kingsguard_protocol::event::{
    AgentCompleted, AgentStarted, AgentStopped, Failure, ProgressUpdate, RunStatus, RunUsage, StartedContext,
    StartedStatus, ToolStatus,
};
use kingsguard_protocol::{ErrorCode, Event, EventBody, Timestamp};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::sink::RunSink;
use crate::agents::sink::{EmitEvents, SinkError};
use crate::agents::{AgentFailure, AgentRegistry, Job, Outcome};
use crate::bridge::writer::{GIVE_UP_AFTER, RETRY_PAUSE};
use crate::bridge::{Bridge, Origin};
use crate::redact;
use crate::sabotage::{self, Fault};
use crate::store::Store;
use crate::store::events::{self, Fence, NewRunEnd};
use crate::store::runs::{OwnedRun, StopRequest};
use crate::store::{runs as run_store, threads};
use crate::telemetry;

/// Who speaks for a run for which no agent was named.
pub const DEFAULT_AGENT: &str = "supervisor";
/// How often a run is looked at for silence.
const SILENCE_CHECK: Duration = Duration::from_millis(250);

/// How long a run may take, and how it stays in touch.
#[derive(Clone, Copy, Debug)]
pub struct RunTimes {
    /// From `agent_started` to `agent_completed` at the latest (TIM-4).
    pub deadline: Duration,
    /// Silence after which `progress_update` is said (TIM-2).
    pub silence_max: Duration,
}

impl RunTimes {
    /// Kept back from the deadline for closing tools and saying the last event.
    fn closing(self) -> Duration {
        (self.deadline / 10).min(Duration::from_secs(1))
    }
}

/// What a run is told from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Signal {
    /// Nothing: go on.
    #[default]
    GoOn,
    /// The user wants it ended.
    Stop(StopRequest),
    /// The drain deadline passed (CON-4).
    Drain,
}

/// Waits until a run is told to end; a sender that is gone means the process ends.
async fn told(signal: &mut watch::Receiver<Signal>) -> Signal {
    match signal.wait_for(|signal| *signal != Signal::GoOn).await {
        Ok(signal) => signal.clone(),
        Err(_) => Signal::Drain,
    }
}

/// Everything a run needs.
#[derive(Debug)]
pub struct Execution {
    pub store: Store,
    pub bridge: Bridge,
    pub registry: Arc<AgentRegistry>,
    pub times: RunTimes,
    pub run: OwnedRun,
    pub signal: watch::Receiver<Signal>,
}

/// How a run came to its end.
enum End {
    Answered(Outcome),
    Failed(AgentFailure),
    Stopped(StopRequest),
    TimedOut,
    Drained,
    /// The node that ran it stopped before it ended.
    Orphaned,
}

impl From<Signal> for End {
    fn from(told: Signal) -> Self {
        match told {
            Signal::Stop(stop) => Self::Stopped(stop),
            Signal::Drain | Signal::GoOn => Self::Drained,
        }
    }
}

impl Execution {
    /// Runs to the end. Errors are logged where they happen; what cannot be written now is ended later by whoever owns
    /// the run then.
    pub async fn finish(mut self) {
        if sabotage::planted(Fault::MemoryPerRun) {
            std::mem::forget(vec![1_u8; sabotage::LEAKED_BYTES]);
        }
        let lost = CancellationToken::new();
        let origin = Origin {
            user_id: self.run.user_id.clone(),
            thread_id: self.run.thread_id.clone(),
            fence: Fence {
                run_id: self.run.run_id.clone(),
                fence: self.run.fence,
            },
        };
        let sink = RunSink::new(self.bridge.clone(), origin, self.run.message_id.clone(), lost.clone());
        if let Err(error) = self.run_to_end(&sink, &lost).await {
            tracing::warn!(run_id = %self.run.run_id, error = %error, "run could not be ended here");
            return;
        }
        if let Err(error) = threads::purge(self.store.database(), &self.run.thread_id).await {
            tracing::warn!(thread_id = %self.run.thread_id, error = %error, "deleted thread not purged");
        }
    }

    fn agent_name(&self) -> String {
        self.run.agent_name.clone().unwrap_or_else(|| DEFAULT_AGENT.to_owned())
    }

    async fn run_to_end(&mut self, sink: &Arc<RunSink>, lost: &CancellationToken) -> Result<(), ExecutionError> {
        let end = if self.run.phase == RunPhase::Running.as_str() {
            let logged =
                insist(|| events::of_run(self.store.database(), &self.run.thread_id, &self.run.run_id)).await?;
            let said = logged
                .iter()
                .map(|event| serde_json::from_str::<Event>(&event.frame))
                .collect::<Result<Vec<_>, _>>()?;
            sink.restore(&said);
            self.ensure_started(sink).await?;
            let is_stopped = said
                .iter()
                .any(|event| matches!(event.body, EventBody::AgentStopped(_)));
            if is_stopped {
                // Its node died between the two events that answer a stop.
                return self
                    .say_end(sink, self.run.stop.clone().map_or(End::Orphaned, End::Stopped))
                    .await;
            }
            End::Orphaned
        } else {
            let begin = || run_store::begin(self.store.database(), &self.run.run_id, self.run.fence);
            if !insist(begin).await? {
                return Ok(());
            }
            self.ensure_started(sink).await?;
            self.work(sink, lost).await?
        };
        let end = self.answer_stop(sink, end).await?;
        self.say_end(sink, end).await
    }

    /// A stop that was accepted by any node is answered, whatever ends the run meanwhile (ERR-1).
    async fn answer_stop(&self, sink: &RunSink, end: End) -> Result<End, ExecutionError> {
        if matches!(end, End::Stopped(_)) {
            return Ok(end); // answered already, while the agents worked
        }
        let stop = insist(|| run_store::stop_of(self.store.database(), &self.run.run_id)).await?;
        let Some(stop) = stop else {
            return Ok(end);
        };
        self.say_stopped(sink, &stop).await?;
        Ok(End::Stopped(stop))
    }

    async fn say_stopped(&self, sink: &RunSink, stop: &StopRequest) -> Result<(), ExecutionError> {
        let body = AgentStopped {
            reason: redact::text(&stop.reason).into_owned(),
        };
        sink.stopped(&self.agent_name(), &stop.cause, body.into()).await?;
        Ok(())
    }

    async fn ensure_started(&self, sink: &RunSink) -> Result<(), ExecutionError> {
        if sink.has_started() {
            return Ok(());
        }
        let job = self.job(Instant::now());
        let body = AgentStarted {
            status: StartedStatus::Started,
            message: format!("Working on: {}", excerpt(&self.run.input)),
            context: StartedContext {
                agent_names: self.registry.plan(&job).await,
                thread_title: self.thread_title().await?,
                input_chars: self.run.input.chars().count() as u64,
            },
        };
        sink.emit(&self.agent_name(), body.into()).await?;
        Ok(())
    }

    async fn thread_title(&self) -> Result<Option<String>, sqlx::Error> {
        let thread = insist(|| threads::get(self.store.database(), &self.run.user_id, &self.run.thread_id)).await?;
        let title = thread
            .and_then(|thread| thread.title)
            .filter(|title| !title.trim().is_empty());
        Ok(title.map(|title| redact::text(&title).into_owned()))
    }

    fn job(&self, deadline: Instant) -> Job {
        Job {
            user_id: self.run.user_id.clone(),
            thread_id: self.run.thread_id.clone(),
            run_id: self.run.run_id.clone(),
            agent_name: self.run.agent_name.clone(),
            content: self.run.input.clone(),
            context: self.run.context.clone(),
            deadline,
        }
    }

    /// Lets the agents work until they answer or something ends them.
    async fn work(&mut self, sink: &Arc<RunSink>, lost: &CancellationToken) -> Result<End, ExecutionError> {
        let told_before = self.signal.borrow().clone();
        if told_before != Signal::GoOn {
            // Agents that were let loose first would call tools while the stop is still being said.
            let end = End::from(told_before);
            if let End::Stopped(stop) = &end {
                self.say_stopped(sink, stop).await?;
            }
            return Ok(end);
        }
        let deadline = Instant::now() + self.times.deadline - self.times.closing();
        let cancel = lost.child_token();
        let mut agents = tokio::spawn({
            let (registry, job) = (self.registry.clone(), self.job(deadline));
            let (sink, cancel): (Arc<dyn EmitEvents>, _) = (sink.clone(), cancel.clone());
            async move { registry.execute(job, sink, cancel).await }
        });
        let mut look = tokio::time::interval(SILENCE_CHECK);
        let mut signal = self.signal.clone();
        let end = loop {
            tokio::select! {
                biased;
                told = told(&mut signal) => break End::from(told),
                done = &mut agents => return Ok(match done {
                    Ok(Ok(outcome)) => End::Answered(outcome),
                    Ok(Err(failure)) => End::Failed(failure),
                    Err(error) => {
                        tracing::error!(run_id = %self.run.run_id, error = %error, "agents panicked");
                        End::Failed(panicked())
                    }
                }),
                () = tokio::time::sleep_until(deadline) => break End::TimedOut,
                _ = look.tick() => {
                    if sink.silence() >= self.times.silence_max {
                        let seconds = sink.duration_ms() / 1000;
                        let message = format!("Still working on it after {seconds} s: {}", excerpt(&self.run.input));
                        let body = ProgressUpdate { message, progress: None };
                        sink.emit(&self.agent_name(), body.into()).await?;
                    }
                }
            }
        };
        if let End::Stopped(stop) = &end {
            self.say_stopped(sink, stop).await?;
        }
        cancel.cancel();
        self.let_agents_end(agents).await;
        Ok(end)
    }

    /// Cancelled agents close their tools by themselves; those that do not in time are ended.
    async fn let_agents_end(&self, mut agents: JoinHandle<Result<Outcome, AgentFailure>>) {
        let grace = self.times.closing() / 2;
        if tokio::time::timeout(grace, &mut agents).await.is_err() {
            tracing::warn!(run_id = %self.run.run_id, "agents did not end when cancelled");
            agents.abort();
            if let Err(error) = agents.await
                && error.is_panic()
            {
                tracing::error!(run_id = %self.run.run_id, error = %error, "agents panicked");
            }
        }
    }

    async fn say_end(&self, sink: &RunSink, end: End) -> Result<(), ExecutionError> {
        let agent_name = self.agent_name();
        let ending = Ending::new(end, self.times.deadline);
        let failure = ending.error.clone().unwrap_or_else(|| Failure {
            error_code: ErrorCode::AgentFailed,
            message: "the run ended before the tool did".into(),
        });
        sink.close_open(ending.open_tools, &failure).await?;
        let thought = format!(
            "The request \"{}\" ends here: {}",
            excerpt(&self.run.input),
            ending.summary
        );
        sink.ensure_thought(&agent_name, thought).await?;
        let stored = NewRunEnd {
            run_id: self.run.run_id.clone(),
            thread_id: self.run.thread_id.clone(),
            message_id: self.run.message_id.to_string(),
            phase: ending.status.as_str(),
            final_response: ending.final_response.clone(),
            input_tokens: ending.usage.input_tokens,
            output_tokens: ending.usage.output_tokens,
            cost_microusd: ending.usage.cost_microusd,
            ended_at: Timestamp::now().as_datetime(),
        };
        let status = ending.status;
        let body = AgentCompleted {
            status,
            success: status == RunStatus::Completed,
            final_response: ending.final_response,
            result: ending.result,
            summary: ending.summary,
            duration_ms: sink.duration_ms(),
            usage: ending.usage,
            error: ending.error,
        };
        let duration = Duration::from_millis(body.duration_ms);
        sink.complete(&agent_name, body.into(), stored).await?;
        telemetry::run_ended(status.into(), duration);
        Ok(())
    }
}

/// What the last event says.
struct Ending {
    status: RunStatus,
    final_response: String,
    result: Value,
    summary: String,
    usage: RunUsage,
    error: Option<Failure>,
    open_tools: ToolStatus,
}

impl Ending {
    fn new(end: End, deadline: Duration) -> Self {
        let not_done = |status, error_code, open_tools, message: String| Self {
            status,
            result: Value::String(message.clone()),
            summary: message.clone(),
            final_response: message.clone(),
            usage: RunUsage::default(),
            error: (status != RunStatus::Cancelled).then_some(Failure { error_code, message }),
            open_tools,
        };
        match end {
            End::Answered(outcome) => Self {
                status: RunStatus::Completed,
                final_response: outcome.final_response,
                result: outcome.result,
                summary: outcome.summary,
                usage: outcome.usage,
                error: None,
                open_tools: ToolStatus::Error,
            },
            End::Failed(failure) => {
                // Agents know the deadline too, and may see it a moment before the run does (TIM-4).
                let (status, open_tools) = match failure.failure.error_code {
                    ErrorCode::AgentTimeout => (RunStatus::TimedOut, ToolStatus::Timeout),
                    _ => (RunStatus::Failed, ToolStatus::Error),
                };
                Self {
                    status,
                    result: Value::String(failure.final_response.clone()),
                    final_response: failure.final_response,
                    summary: failure.summary,
                    usage: failure.usage,
                    error: Some(failure.failure),
                    open_tools,
                }
            }
            End::Stopped(stop) => not_done(
                RunStatus::Cancelled,
                ErrorCode::AgentFailed,
                ToolStatus::Cancelled,
                format!("Stopped as you asked: {}", redact::text(&stop.reason)),
            ),
            End::TimedOut => not_done(
                RunStatus::TimedOut,
                ErrorCode::AgentTimeout,
                ToolStatus::Timeout,
                format!(
                    "This took longer than the {} ms that a run may take. Ask for less at once.",
                    deadline.as_millis()
                ),
            ),
            End::Drained => not_done(
                RunStatus::Failed,
                ErrorCode::ServiceDraining,
                ToolStatus::Cancelled,
                "The service had to stop before this was done. Send the message again.".into(),
            ),
            End::Orphaned => not_done(
                RunStatus::Failed,
                ErrorCode::AgentFailed,
                ToolStatus::Error,
                "The server that worked on this stopped before it was done. Send the message again.".into(),
            ),
        }
    }
}

/// Asks again while Postgres is away, as long as the writer does: a run that was given up here would be taken up again from
/// its log, which does not hold yet what it has said last.
async fn insist<T, F: Future<Output = Result<T, sqlx::Error>>>(ask: impl Fn() -> F) -> Result<T, sqlx::Error> {
    let give_up_at = Instant::now() + GIVE_UP_AFTER;
    loop {
        match ask().await {
            Err(error) if Instant::now() < give_up_at => {
                tracing::warn!(error = %error, "run waits for the database");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// Why a run could not be brought to its end here.
#[derive(Debug, thiserror::Error)]
enum ExecutionError {
    #[error("run's log cannot be written")]
    Sink(#[from] SinkError),
    #[error("database did not answer")]
    Store(#[from] sqlx::Error),
    #[error("log of the run does not read")]
    Log(#[from] serde_json::Error),
}

fn panicked() -> AgentFailure {
    let message = "Something went wrong on our side. Send the message again.".to_owned();
    AgentFailure {
        failure: Failure {
            error_code: ErrorCode::AgentFailed,
            message: message.clone(),
        },
        final_response: message.clone(),
        summary: message,
        usage: RunUsage::default(),
    }
}

/// Characters of the user's words that status lines repeat.
const EXCERPT_CHARS_MAX: usize = 120;

/// The beginning of the user's words, without what looks like a credential (AUTH-8).
fn excerpt(input: &str) -> String {
    let shown = redact::text(input.trim());
    let mut words = shown.chars();
    let mut excerpt: String = words.by_ref().take(EXCERPT_CHARS_MAX).collect();
    if words.next().is_some() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn failed_with(error_code: ErrorCode) -> Ending {
        let text = "there is no answer".to_owned();
        let failure = AgentFailure {
            failure: Failure {
                error_code,
                message: text.clone(),
            },
            final_response: text.clone(),
            summary: text,
            usage: RunUsage::default(),
        };
        Ending::new(End::Failed(failure), Duration::from_secs(30))
    }

    #[test]
    fn agents_that_see_the_deadline_before_the_run_does_let_it_time_out() {
        let ending = failed_with(ErrorCode::AgentTimeout);
        assert_eq!(
            (ending.status, ending.open_tools),
            (RunStatus::TimedOut, ToolStatus::Timeout)
        );
        let ending = failed_with(ErrorCode::AgentFailed);
        assert_eq!(
            (ending.status, ending.open_tools),
            (RunStatus::Failed, ToolStatus::Error)
        );
    }
}
