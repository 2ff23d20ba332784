//! Where one run speaks: its events go to the bridge, and what it left open is known at every moment.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use kingsguard_protocol::event::{AgentThinking, Failure, SubagentCompleted, ToolCompleted, ToolStatus};
use kingsguard_protocol::{Event, EventBody, ExecutionId, MessageId, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::agents::sink::{EmitEvents, HandedIn, SinkError};
use crate::bridge::{AppendError, Bridge, EventDraft, Moment, Origin, Receipt};
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
    started_at: Option<Moment>,
    spoke_at: Instant,
    tools: Vec<OpenTool>,
    subagents: Vec<OpenSubagent>,
}

#[derive(Clone, Debug)]
struct OpenTool {
    execution_id: ExecutionId,
    tool_name: String,
    agent_name: String,
    since: Moment,
}

#[derive(Clone, Debug)]
struct OpenSubagent {
    agent_name: String,
    step_number: u32,
    since: Moment,
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

    /// The event that opened what an event closes: the duration is what lies between the timestamps of the two, however
    /// busy the machine is (ORD-7).
    fn opened(&self, agent_name: &str, body: &EventBody) -> Option<Moment> {
        match body {
            EventBody::ToolCompleted(tool) => {
                let open = |open: &&OpenTool| open.execution_id == tool.execution_id;
                self.tools.iter().find(open).map(|open| open.since.clone())
            }
            EventBody::SubagentCompleted(step) => {
                let open = |open: &&OpenSubagent| {
                    (open.agent_name.as_str(), open.step_number) == (agent_name, step.step_number)
                };
                self.subagents.iter().find(open).map(|open| open.since.clone())
            }
            EventBody::AgentCompleted(_) => self.started_at.clone(),
            _ => None,
        }
    }

    /// Keeps account of what an event opens and closes; gives the moment of one that opens something.
    fn observe(&mut self, agent_name: &str, body: &EventBody, at: Timestamp) -> Option<Moment> {
        match body {
            EventBody::AgentStarted(_) => return Some(self.started_at.insert(Moment::at(at)).clone()),
            EventBody::AgentThinking(_) => self.thoughts += 1,
            EventBody::ToolExecuting(tool) => {
                let since = Moment::at(at);
                self.tools.push(OpenTool {
                    execution_id: tool.execution_id.clone(),
                    tool_name: tool.tool_name.clone(),
                    agent_name: agent_name.to_owned(),
                    since: since.clone(),
                });
                return Some(since);
            }
            EventBody::ToolCompleted(tool) => self.tools.retain(|open| open.execution_id != tool.execution_id),
            EventBody::SubagentStarted(step) => {
                let since = Moment::at(at);
                self.subagents.push(OpenSubagent {
                    agent_name: agent_name.to_owned(),
                    step_number: step.step_number,
                    since: since.clone(),
                });
                return Some(since);
            }
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
        None
    }
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
            let (header, body) = (&event.header, &event.body);
            // It has its place already.
            let _stored = state.observe(&header.agent_name, body, header.timestamp);
        }
    }

    /// Says an event; `cause` differs from the run's own only for `agent_stopped`.
    async fn say(
        &self,
        agent_name: &str,
        cause: &MessageId,
        body: EventBody,
        end: Option<NewRunEnd>,
    ) -> Result<Timestamp, SinkError> {
        let receipt = self.submit(agent_name, cause, vec![body], end).await?;
        receipt.durable().await.map_err(|error| self.refused(error))
    }

    /// Hands events in, at most as many as the bridge takes together, in a row.
    async fn submit(
        &self,
        agent_name: &str,
        cause: &MessageId,
        bodies: Vec<EventBody>,
        end: Option<NewRunEnd>,
    ) -> Result<Receipt, SinkError> {
        let place = self.bridge.place(bodies.len()).await;
        let place = place.map_err(|error| self.refused(error))?;
        // Held only to queue the events: so nothing can be queued behind the run's last event.
        let mut state = self.lock();
        let made_at = Timestamp::now();
        let mut drafts = Vec::with_capacity(bodies.len());
        for body in bodies {
            // What was closed for agents that did not end in time is not closed again by them (ORD-3, ORD-5).
            if state.ended || !state.is_open(agent_name, &body) {
                return Err(SinkError::RunEnded);
            }
            let draft = EventDraft::new(&self.origin, agent_name, cause, &body, made_at)
                .map_err(|_| self.refused(AppendError::Unwritable))?
                .closing(state.opened(agent_name, &body));
            drafts.push(draft.opening(state.observe(agent_name, &body, made_at)));
        }
        state.spoke_at = Instant::now();
        Ok(place.submit(&self.origin, drafts, end))
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
                duration_ms: tool.since.ms_until(Timestamp::now()),
            };
            self.emit(&tool.agent_name, body.into()).await?;
        }
        for subagent in subagents.into_iter().rev() {
            let body = SubagentCompleted {
                step_number: subagent.step_number,
                success: false,
                duration_ms: subagent.since.ms_until(Timestamp::now()),
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
            .as_ref()
            .map_or(0, |started| started.ms_until(Timestamp::now()))
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

    fn hand_in<'a>(&'a self, agent_name: &'a str, bodies: Vec<EventBody>) -> BoxFuture<'a, HandedIn<'a>> {
        Box::pin(async move {
            let mut receipts = Vec::new();
            let mut bodies = bodies.into_iter();
            loop {
                let chunk: Vec<_> = bodies.by_ref().take(self.bridge.chunk_max()).collect();
                if chunk.is_empty() {
                    break;
                }
                receipts.push(self.submit(agent_name, &self.cause, chunk, None).await?);
            }
            Ok(Box::pin(async move {
                for receipt in receipts {
                    receipt.durable().await.map_err(|error| self.refused(error))?;
                }
                Ok(())
            }) as BoxFuture<'a, _>)
        })
    }
}
