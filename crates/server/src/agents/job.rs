//! What a run asks of the agents, and what they give back.

use kingsguard_protocol::event::{Failure, RunUsage};
use kingsguard_protocol::{RunId, ThreadId, UserId};
use serde_json::Value;
use tokio::time::Instant;

/// What a run asks.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whose records are looked at.
    pub user_id: UserId,
    /// Which thread the answer belongs to: follow-up questions go on from what was said there.
    pub thread_id: ThreadId,
    /// The run.
    pub run_id: RunId,
    /// The agent that was named; the supervisor where none was.
    pub agent_name: Option<String>,
    /// The user's words.
    pub content: String,
    /// JSON that came with the request. An object with `example_category` asks for a stored example's records instead of
    /// the user's own.
    pub context: Option<String>,
    /// When the agents must be done.
    pub deadline: Instant,
}

/// What the agents answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// For people, never empty.
    pub final_response: String,
    /// The figures behind it.
    pub result: Value,
    /// In a sentence.
    pub summary: String,
    /// What the model used.
    pub usage: RunUsage,
}

/// Why the agents have no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentFailure {
    /// For machines and people.
    pub failure: Failure,
    /// For people, never empty.
    pub final_response: String,
    /// In a sentence.
    pub summary: String,
    /// What the model used until then.
    pub usage: RunUsage,
}
