//! One run as a connection saw it.

use kingsguard_protocol::control::MessageReceived;
use kingsguard_protocol::event::{AgentCompleted, AgentStarted, AgentThinking, ToolCompleted, ToolExecuting};
use kingsguard_protocol::{Event, EventBody, RunId};
use serde_json::Value;

use crate::frame::Frame;

/// The events of one run, in the order in which they arrived.
#[derive(Clone, Debug)]
pub struct RunView {
    run_id: RunId,
    frames: Vec<Frame>,
    accepted: Option<MessageReceived>,
}

/// One execution of a tool.
#[derive(Clone, Debug)]
pub struct ToolView {
    /// Its start.
    pub executing: ToolExecuting,
    /// Its end; `None` where the view ends before it.
    pub completed: Option<ToolCompleted>,
}

impl RunView {
    pub(crate) fn new(run_id: RunId, frames: Vec<Frame>) -> Self {
        Self {
            run_id,
            frames,
            accepted: None,
        }
    }

    pub(crate) fn with_acceptance(self, accepted: MessageReceived) -> Self {
        Self {
            accepted: Some(accepted),
            ..self
        }
    }

    /// The run.
    #[must_use]
    pub fn run_id(&self) -> &RunId {
        &self.run_id
    }

    /// The `message_received` that announced it.
    ///
    /// # Panics
    /// The test did not wait for it through [`crate::Chat::ask`].
    #[must_use]
    pub fn accepted(&self) -> &MessageReceived {
        if let Some(frame) = self.frames.first() {
            frame.session().needs_acknowledgement();
        }
        self.accepted.as_ref().expect("the run was asked for with `ask`")
    }

    /// The frames as they arrived.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// The events, in the order in which they arrived.
    #[must_use]
    pub fn events(&self) -> Vec<&Event> {
        self.frames.iter().filter_map(Frame::event).collect()
    }

    /// The events' types, in the order in which they arrived.
    #[must_use]
    pub fn types(&self) -> Vec<&'static str> {
        self.frames.iter().filter_map(Frame::event_type).collect()
    }

    /// One field of each event of a type, in the order in which they arrived; null where it is absent. For what tests ask of
    /// backends that lack other fields.
    #[must_use]
    pub fn told(&self, event_type: &str, field: &str) -> Vec<Value> {
        // Also where no event of the type came: what none tells is not asked of none.
        if let Some(frame) = self.frames.first() {
            frame.session().needs_field(event_type, field);
        }
        let told = self
            .frames
            .iter()
            .filter(|frame| frame.event_type() == Some(event_type));
        told.map(|frame| frame.field(field)).collect()
    }

    /// `agent_started`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn started(&self) -> &AgentStarted {
        self.find("agent_started", |body| match body {
            EventBody::AgentStarted(started) => Some(started),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no agent_started in {:?}", self.types()))
    }

    /// `agent_completed`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn completed(&self) -> &AgentCompleted {
        self.find("agent_completed", |body| match body {
            EventBody::AgentCompleted(completed) => Some(completed),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no agent_completed in {:?}", self.types()))
    }

    /// Every `agent_thinking`.
    #[must_use]
    pub fn thoughts(&self) -> Vec<&AgentThinking> {
        self.all("agent_thinking", |body| match body {
            EventBody::AgentThinking(thinking) => Some(thinking),
            _ => None,
        })
    }

    /// Every execution of a tool, in the order of their starts.
    #[must_use]
    pub fn tools(&self) -> Vec<ToolView> {
        let completed = self.all("tool_completed", |body| match body {
            EventBody::ToolCompleted(completed) => Some(completed),
            _ => None,
        });
        self.all("tool_executing", |body| match body {
            EventBody::ToolExecuting(executing) => Some(executing),
            _ => None,
        })
        .into_iter()
        .map(|executing| ToolView {
            executing: executing.clone(),
            completed: completed
                .iter()
                .find(|end| end.execution_id == executing.execution_id)
                .map(|end| (*end).clone()),
        })
        .collect()
    }

    /// Every execution of the tool with this name.
    #[must_use]
    pub fn tools_named(&self, tool_name: &str) -> Vec<ToolView> {
        self.tools()
            .into_iter()
            .filter(|tool| tool.executing.tool_name == tool_name)
            .collect()
    }

    fn all<'a, T>(&'a self, event_type: &'a str, pick: impl Fn(&'a EventBody) -> Option<&'a T>) -> Vec<&'a T> {
        let of_type = self
            .frames
            .iter()
            .filter(|frame| frame.event_type() == Some(event_type));
        of_type.filter_map(Frame::body).filter_map(pick).collect()
    }

    fn find<'a, T>(&'a self, event_type: &'a str, pick: impl Fn(&'a EventBody) -> Option<&'a T>) -> Option<&'a T> {
        self.all(event_type, pick).first().copied()
    }
}
