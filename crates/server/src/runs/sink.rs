//! Where one run speaks: its events go to the bridge, and what it left open is known at every moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use kingsguard_protocol::event::{AgentThinking, Failure, SubagentCompleted, ToolCompleted, ToolStatus};
use kingsguard_protocol::{Event, EventBody, ExecutionId, MessageId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::agents::sink::{EmitEvents, SinkError};
use crate::bridge::{AppendError, Bridge, EventDraft, Origin};
use crate::store::events::NewRunEnd;

/// The sink of one run. After its last event nothing more can be said in it (ORD-4).
#[derive(Debug)]
pub struct RunSink {
    bridge: Bridge,
    origin: Origin,
    cause: MessageId,
    /// Cancelled when the run turns out to belong to another node.
    lost: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ended: bool,
    thoughts: u32,
    started_at: Option<Timestamp>,
    spoke_at: Instant,
    tools: Vec<OpenTool>,
    subagents: Vec<OpenSubagent>,
}

#[derive(Clone, Debug)]
struct OpenTool {
    execution_id: ExecutionId,
    tool_name: String,
    agent_name: String,
    since: Timestamp,
}

#[derive(Clone, Debug)]
struct OpenSubagent {
    agent_name: String,
    step_number: u32,
    since: Timestamp,
}

impl State {
    /// Whether what an event closes is open; `true` for events that close nothing.
    fn is_open(&self, agent_name: &str, body: &EventBody) -> bool {
        match body {
            EventBody::ToolCompleted(tool) => self.tools.iter().any(|open| open.execution_id == tool.execution_id),
            EventBody::SubagentCompleted(step) => self
                .subagents
                .iter()
                .any(|open| (open.agent_name.as_str(), open.step_number) == (agent_name, step.step_number)),
            _ => true,
        }
    }

    /// Sets the duration of what an event closes from the very instants that the two events carry, so that they agree
    /// however busy the machine is (ORD-7).
    fn measure(&self, agent_name: &str, body: &mut EventBody, at: Timestamp) {
        match body {
            EventBody::ToolCompleted(tool) => {
                if let Some(open) = self.tools.iter().find(|open| open.execution_id == tool.execution_id) {
                    tool.duration_ms = ms_between(open.since, at);
                }
            }
            EventBody::SubagentCompleted(step) => {
                let open = |open: &&OpenSubagent| {
                    (open.agent_name.as_str(), open.step_number) == (agent_name, step.step_number)
                };
                if let Some(open) = self.subagents.iter().find(open) {
                    step.duration_ms = ms_between(open.since, at);
                }
            }
            EventBody::AgentCompleted(run) => {
                run.duration_ms = self.started_at.map_or(0, |started| ms_between(started, at));
            }
            _ => {}
        }
    }

    /// Keeps account of what an event opens and closes.
    fn observe(&mut self, agent_name: &str, body: &EventBody, at: Timestamp) {
        match body {
            EventBody::AgentStarted(_) => self.started_at = Some(at),
            EventBody::AgentThinking(_) => self.thoughts += 1,
            EventBody::ToolExecuting(tool) => self.tools.push(OpenTool {
                execution_id: tool.execution_id.clone(),
                tool_name: tool.tool_name.clone(),
                agent_name: agent_name.to_owned(),
                since: at,
            }),
            EventBody::ToolCompleted(tool) => self.tools.retain(|open| open.execution_id != tool.execution_id),
            EventBody::SubagentStarted(step) => self.subagents.push(OpenSubagent {
                agent_name: agent_name.to_owned(),
                step_number: step.step_number,
                since: at,
            }),
            EventBody::SubagentCompleted(step) => self
                .subagents
                .retain(|open| (open.agent_name.as_str(), open.step_number) != (agent_name, step.step_number)),
            EventBody::AgentCompleted(_) => self.ended = true,
            EventBody::PartialResult(_)
            | EventBody::FinalReport(_)
            | EventBody::ProgressUpdate(_)
            | EventBody::AgentError(_)
            | EventBody::AgentFallback(_)
            | EventBody::AgentStopped(_) => {}
        }
    }
}

/// The milliseconds from one instant to another; 0 where the clock went backwards.
fn ms_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_unix_ms() - from.as_unix_ms()).unwrap_or(0)
}

impl RunSink {
    /// The sink of a run that was caused by the message `cause`.
    #[must_use]
    pub fn new(bridge: Bridge, origin: Origin, cause: MessageId, lost: CancellationToken) -> Arc<Self> {
        let state = State {
            ended: false,
            thoughts: 0,
            started_at: None,
            spoke_at: Instant::now(),
            tools: Vec::new(),
            subagents: Vec::new(),
        };
        Arc::new(Self {
            bridge,
            origin,
            cause,
            lost,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // `observe` leaves the state consistent before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes account of what the run had said before this node took it over.
    pub fn restore(&self, events: &[Event]) {
        let mut state = self.lock();
        for event in events {
            state.observe(&event.header.agent_name, &event.body, event.header.timestamp);
        }
    }

    /// Says an event; `cause` differs from the run's own only for `agent_stopped`.
    async fn say(
        &self,
        agent_name: &str,
        cause: &MessageId,
        mut body: EventBody,
        end: Option<NewRunEnd>,
    ) -> Result<Timestamp, SinkError> {
        let place = self.bridge.place().await.map_err(|error| self.refused(error))?;
        let receipt = {
            // Held only to queue the event: so nothing can be queued behind the run's last event.
            let mut state = self.lock();
            // What was closed for agents that did not end in time is not closed again by them (ORD-3, ORD-5).
            if state.ended || !state.is_open(agent_name, &body) {
                return Err(SinkError::RunEnded);
            }
            let made_at = Timestamp::now();
            state.measure(agent_name, &mut body, made_at);
            let draft = EventDraft::new(self.origin.clone(), agent_name, cause, &body, made_at, end)
                .map_err(|_| self.refused(AppendError::Unwritable))?;
            state.observe(agent_name, &body, made_at);
            state.spoke_at = Instant::now();
            place.submit(draft)
        };
        receipt
            .durable()
            .await
            .map(|stored| stored.timestamp)
            .map_err(|error| self.refused(error))
    }

    fn refused(&self, error: AppendError) -> SinkError {
        match error {
            AppendError::Fenced => {
                tracing::warn!(run_id = %self.origin.fence.run_id, "run was taken over by another node");
                self.lock().ended = true;
                self.lost.cancel();
                SinkError::RunEnded
            }
            AppendError::Unavailable | AppendError::Unwritable => {
                tracing::error!(run_id = %self.origin.fence.run_id, error = %error, "event not said");
                SinkError::LogUnavailable
            }
        }
    }

    /// Says `agent_stopped`, the one event that answers another message than the run's own.
    pub async fn stopped(&self, agent_name: &str, cause: &MessageId, body: EventBody) -> Result<Timestamp, SinkError> {
        self.say(agent_name, cause, body, None).await
    }

    /// Says the run's last event and stores its end with it.
    pub async fn complete(&self, agent_name: &str, body: EventBody, end: NewRunEnd) -> Result<Timestamp, SinkError> {
        self.say(agent_name, &self.cause, body, Some(end)).await
    }

    /// Closes what the run left open: tools as `status`, subagents as not successful (ORD-3, ORD-5).
    pub async fn close_open(&self, status: ToolStatus, failure: &Failure) -> Result<(), SinkError> {
        let (tools, subagents) = {
            let state = self.lock();
            (state.tools.clone(), state.subagents.clone())
        };
        for tool in tools {
            let body = ToolCompleted {
                execution_id: tool.execution_id,
                tool_name: tool.tool_name,
                success: false,
                status,
                results: None,
                error: Some(failure.clone()),
                duration_ms: ms_between(tool.since, Timestamp::now()),
            };
            self.emit(&tool.agent_name, body.into()).await?;
        }
        for subagent in subagents.into_iter().rev() {
            let body = SubagentCompleted {
                step_number: subagent.step_number,
                success: false,
                duration_ms: ms_between(subagent.since, Timestamp::now()),
            };
            self.emit(&subagent.agent_name, body.into()).await?;
        }
        Ok(())
    }

    /// Says one thought if the run had none (ORD-2).
    pub async fn ensure_thought(&self, agent_name: &str, reasoning: String) -> Result<(), SinkError> {
        if self.lock().thoughts > 0 {
            return Ok(());
        }
        let body = AgentThinking {
            reasoning,
            step_number: 1,
            total_steps: None,
            progress: None,
        };
        self.emit(agent_name, body.into()).await.map(drop)
    }

    /// Whether `agent_started` was said.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.lock().started_at.is_some()
    }

    /// Milliseconds since `agent_started`.
    #[must_use]
    pub fn duration_ms(&self) -> u64 {
        self.lock()
            .started_at
            .map_or(0, |started| ms_between(started, Timestamp::now()))
    }

    /// How long the run has been silent (TIM-2).
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.lock().spoke_at.elapsed()
    }
}

impl EmitEvents for RunSink {
    fn emit<'a>(&'a self, agent_name: &'a str, body: EventBody) -> BoxFuture<'a, Result<Timestamp, SinkError>> {
        Box::pin(self.say(agent_name, &self.cause, body, None))
    }
}
