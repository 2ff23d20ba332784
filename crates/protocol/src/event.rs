//! Events: the frames of a thread's log (contract §4).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{ErrorCode, EventId, ExecutionId, MessageId, RunId, ThreadId, Timestamp, UserId};

/// One event of a thread's log. On the wire it is one flat object: `type`, the own fields and the header side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// What every event carries.
    #[serde(flatten)]
    pub header: EventHeader,
    /// What this kind of event carries.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What every event carries (contract §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventHeader {
    /// Names this event for good.
    pub event_id: EventId,
    /// Place in the thread's log, from 1, rising by exactly 1 (SEQ-1).
    #[schemars(range(min = 1))]
    pub seq: u64,
    /// When the backend made the event; never goes backwards within a thread (ORD-7).
    pub timestamp: Timestamp,
    /// Whose thread it is.
    pub user_id: UserId,
    /// The thread that the event is part of.
    pub thread_id: ThreadId,
    /// The run that the event is part of.
    pub run_id: RunId,
    /// The agent that speaks.
    #[schemars(length(min = 1))]
    pub agent_name: String,
    /// The `message_id` of the client message that caused it.
    pub correlation_id: MessageId,
}

macro_rules! event_bodies {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What one kind of event carries, named by `type`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "type")]
        pub enum EventBody {
            $($(#[$doc])* #[serde(rename = $text)] $name($name),)*
        }

        impl EventBody {
            /// Every event type of the contract, as `type` has it.
            pub const TYPES: &'static [&'static str] = &[$($text),*];

            /// The event's `type`.
            #[must_use]
            pub fn event_type(&self) -> &'static str {
                match self { $(Self::$name(_) => $text),* }
            }
        }

        $(impl From<$name> for EventBody {
            fn from(body: $name) -> Self {
                Self::$name(body)
            }
        })*
    };
}

event_bodies! {
    /// EVT-1: the run has begun.
    AgentStarted = "agent_started";
    /// EVT-2: what the agent considers.
    AgentThinking = "agent_thinking";
    /// EVT-3: a tool starts.
    ToolExecuting = "tool_executing";
    /// EVT-4: a tool ended, well or not.
    ToolCompleted = "tool_completed";
    /// EVT-5: the run has ended, on whatever path.
    AgentCompleted = "agent_completed";
    /// EVT-6: another agent takes over a step.
    SubagentStarted = "subagent_started";
    /// EVT-6: that step ended.
    SubagentCompleted = "subagent_completed";
    /// EVT-6: a part of the answer.
    PartialResult = "partial_result";
    /// EVT-6: the report behind the answer.
    FinalReport = "final_report";
    /// EVT-6: work goes on.
    ProgressUpdate = "progress_update";
    /// EVT-6: an agent met an error.
    AgentError = "agent_error";
    /// EVT-6: another agent stands in.
    AgentFallback = "agent_fallback";
    /// EVT-6: the user stopped the run.
    AgentStopped = "agent_stopped";
}

/// EVT-1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStarted {
    /// Always `started`.
    pub status: StartedStatus,
    /// What is about to happen, for people.
    #[schemars(length(min = 1))]
    pub message: String,
    /// What the run was given.
    pub context: StartedContext,
}

/// The only status of `agent_started`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartedStatus {
    /// The run has begun.
    Started,
}

/// What a run was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StartedContext {
    /// The agents that are planned to take part, in order.
    pub agent_names: Vec<String>,
    /// The thread's title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_title: Option<String>,
    /// Unicode code points of the user's message.
    pub input_chars: u64,
}

/// EVT-2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentThinking {
    /// What the agent considers: at least 10 characters, specific to the request.
    #[schemars(length(min = 10))]
    pub reasoning: String,
    /// Which step of the run this is, from 1.
    #[schemars(range(min = 1))]
    pub step_number: u32,
    /// How many steps are planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u32>,
    /// How far the run is, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub progress: Option<f64>,
}

/// EVT-3.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolExecuting {
    /// Names this execution; its `tool_completed` has the same.
    pub execution_id: ExecutionId,
    /// The tool's name.
    #[schemars(length(min = 1))]
    pub tool_name: String,
    /// What the tool was given, redacted (EVT-8).
    pub parameters: Map<String, Value>,
    /// What the tool is used for here, for people.
    #[schemars(length(min = 1))]
    pub tool_purpose: String,
}

/// EVT-4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToolCompleted {
    /// The `execution_id` of its `tool_executing`.
    pub execution_id: ExecutionId,
    /// The tool's name.
    #[schemars(length(min = 1))]
    pub tool_name: String,
    /// Whether the tool did what it was asked.
    pub success: bool,
    /// How it ended.
    pub status: ToolStatus,
    /// What the tool found, redacted (EVT-8); present when successful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Map<String, Value>>,
    /// Why it did not; present when not successful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// How long the tool took, in milliseconds.
    pub duration_ms: u64,
}

/// How a tool's execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It did what it was asked.
    Success,
    /// It could not.
    Error,
    /// Its time limit passed.
    Timeout,
    /// Its run was stopped.
    Cancelled,
}

/// Why something did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// For machines.
    pub error_code: ErrorCode,
    /// For people; says what to do.
    pub message: String,
}

/// EVT-5.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AgentCompleted {
    /// How the run ended.
    pub status: RunStatus,
    /// Whether it did what it was asked.
    pub success: bool,
    /// The answer, never empty.
    #[schemars(length(min = 1))]
    pub final_response: String,
    /// The answer's figures (object) or text.
    #[schemars(with = "ObjectOrText")]
    pub result: Value,
    /// The answer in a sentence.
    #[schemars(length(min = 1))]
    pub summary: String,
    /// From `agent_started` to here, in milliseconds.
    pub duration_ms: u64,
    /// What the run used.
    pub usage: RunUsage,
    /// Why it did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// The schema of what is either.
enum ObjectOrText {}

impl JsonSchema for ObjectOrText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ObjectOrText".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["object", "string"] })
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It did what it was asked.
    Completed,
    /// It could not.
    Failed,
    /// The user stopped it.
    Cancelled,
    /// Its deadline passed.
    TimedOut,
}

impl RunStatus {
    /// The status as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
        }
    }
}

/// What a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunUsage {
    /// Tokens given to the model.
    pub input_tokens: u64,
    /// Tokens that the model gave.
    pub output_tokens: u64,
    /// Cost in millionths of a US dollar.
    pub cost_microusd: u64,
}

/// EVT-6: `agent_name` in the header is the subagent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubagentStarted {
    /// Which step of the plan, from 1.
    #[schemars(range(min = 1))]
    pub step_number: u32,
}

/// EVT-6: pairs with [`SubagentStarted`] by agent name and step (ORD-5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SubagentCompleted {
    /// Which step of the plan, from 1.
    #[schemars(range(min = 1))]
    pub step_number: u32,
    /// Whether the step did what it was asked.
    pub success: bool,
    /// How long the step took, in milliseconds.
    pub duration_ms: u64,
}

/// EVT-6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartialResult {
    /// A part of the answer.
    pub content: String,
    /// Which part, from 0.
    pub index: u32,
    /// Whether it is the last part.
    #[serde(rename = "final")]
    pub is_final: bool,
}

/// EVT-6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FinalReport {
    /// The report behind the answer: object or text.
    #[schemars(with = "ObjectOrText")]
    pub report: Value,
}

/// EVT-6.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProgressUpdate {
    /// What is being done, for people.
    #[schemars(length(min = 1))]
    pub message: String,
    /// How far the run is, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub progress: Option<f64>,
}

/// EVT-6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentError {
    /// For machines.
    pub error_code: ErrorCode,
    /// For people.
    pub message: String,
    /// What the backend does about it, in order.
    pub recovery: Vec<String>,
}

/// EVT-6.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentFallback {
    /// The agent that could not go on.
    pub from_agent: String,
    /// The agent that stands in.
    pub to_agent: String,
    /// Why.
    pub reason: String,
}

/// EVT-6: the only event whose `correlation_id` is that of the `stop_agent`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentStopped {
    /// Why the user stopped it.
    pub reason: String,
}
