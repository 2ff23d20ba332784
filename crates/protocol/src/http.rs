//! Bodies of the HTTP calls (contract §11). Errors are written as
//! [`crate::ControlFrame::Error`], with the same fields as on a WebSocket (§9).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::control::RunState;
use crate::raw::eq_by_text;
use crate::{MessageId, RunId, ThreadId, Timestamp, UserId};

/// A credential on its way; `Debug` does not show it (AUTH-8).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent)]
pub struct Secret(String);

impl Secret {
    /// The credential itself: for signing, comparing and sending, never for a log.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Secret {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// `POST /auth/register`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegisterRequest {
    /// The account's address, compared without case.
    pub email: String,
    /// 12–128 characters.
    #[schemars(length(min = 12, max = 128))]
    pub password: Secret,
    /// What to call the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /auth/login` and `/auth/dev_login`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LoginRequest {
    /// The account's address.
    pub email: String,
    /// The account's password.
    pub password: Secret,
}

/// `POST /auth/refresh`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefreshRequest {
    /// The newest refresh token of the family.
    pub refresh_token: Secret,
}

/// What registering, logging in and refreshing answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TokenResponse {
    /// The account.
    pub user_id: UserId,
    /// The account's address.
    pub email: String,
    /// A JWT for `Authorization: Bearer` and the WebSocket.
    pub access_token: Secret,
    /// Gets the next access token, once.
    pub refresh_token: Secret,
    /// Always `Bearer`.
    pub token_type: TokenType,
    /// Life of the access token, in milliseconds.
    pub expires_in_ms: u64,
}

/// The only token type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TokenType {
    /// RFC 6750.
    Bearer,
}

/// `GET /auth/me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MeResponse {
    /// The account.
    pub user_id: UserId,
    /// The account's address.
    pub email: String,
    /// What to call the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `POST /api/websocket/ticket`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketRequest {
    /// Life of the ticket in seconds, 30–3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 30, max = 3_600))]
    pub ttl_seconds: Option<u64>,
    /// Whether the ticket works once only; it does by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub single_use: Option<bool>,
}

/// What asking for a ticket answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketResponse {
    /// For the query of the WebSocket's URL.
    pub ticket: Secret,
    /// Life of the ticket in seconds.
    pub ttl_seconds: u64,
    /// Whether the ticket works once only.
    pub single_use: bool,
    /// When the ticket dies.
    pub expires_at: Timestamp,
    /// The WebSocket's URL with the ticket in it.
    pub websocket_url: Secret,
}

/// One use of an AI model, as users bring it to `POST /api/usage-records`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRecord {
    /// When the model was used.
    pub timestamp: Timestamp,
    /// The model's name.
    pub model: String,
    /// Tokens given to the model.
    pub input_tokens: u64,
    /// Tokens that the model gave.
    pub output_tokens: u64,
    /// How long the model took, in milliseconds; may be absent where `success` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// What the use was for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// Cost in millionths of a US dollar; by the price catalogue where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_microusd: Option<u64>,
    /// The same for equal prompts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_hash: Option<String>,
    /// Whether the use succeeded; it did by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success: Option<bool>,
}

/// `POST /api/usage-records` as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRecordsRequest {
    /// Up to 100,000.
    pub records: Vec<UsageRecord>,
}

/// What storing usage records answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageRecordsResponse {
    /// How many rows were stored: all of the call, or the call is refused.
    pub stored: u64,
}

/// One bad row, in `details.rows` of a refused `POST /api/usage-records`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RowError {
    /// JSON: the row's place, from 1. CSV: the row's first line in the file, the header being line 1.
    pub line: u64,
    /// The field, relative to the row.
    pub pointer: String,
    /// What was expected there.
    pub expected: String,
}

/// What `POST /api/chat/messages` answers (202).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChatAccepted {
    /// The message's id.
    pub message_id: MessageId,
    /// The run it starts.
    pub run_id: RunId,
    /// The thread it belongs to.
    pub thread_id: ThreadId,
}

/// `POST /api/threads`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CreateThreadRequest {
    /// The thread's title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Stored with the thread, returned as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub metadata: Option<Box<RawValue>>,
}

eq_by_text!(CreateThreadRequest { title; metadata });

/// `PATCH /api/threads/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RenameThreadRequest {
    /// The thread's new title.
    pub title: String,
}

/// One thread, as lists show it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThreadSummary {
    /// The thread.
    pub thread_id: ThreadId,
    /// Its title, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What the client stored with it, as it was.
    #[schemars(with = "Map<String, Value>")]
    pub metadata: Box<RawValue>,
    /// Its newest event; 0 of an empty log.
    pub last_seq: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When something last happened in it.
    pub updated_at: Timestamp,
}

eq_by_text!(ThreadSummary { thread_id, title, last_seq, created_at, updated_at; metadata });

/// One page of threads, as `GET /api/threads?limit=…&cursor=…` answers it, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadPage {
    /// The page.
    pub threads: Vec<ThreadSummary>,
    /// Asks for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// One thing said in a thread.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThreadMessage {
    /// The message's id.
    pub message_id: MessageId,
    /// Who said it.
    pub role: MessageRole,
    /// What was said, as it was.
    pub content: String,
    /// What the client stored with it, as it was.
    #[schemars(with = "Map<String, Value>")]
    pub metadata: Box<RawValue>,
    /// When it was said.
    pub timestamp: Timestamp,
}

eq_by_text!(ThreadMessage { message_id, role, content, timestamp; metadata });

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MessageRole {
    /// The user.
    User,
    /// The agents.
    Assistant,
}

/// One agent, as `GET /api/agents` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentSummary {
    /// Its name, for `start_agent`.
    pub agent_name: String,
    /// What it does.
    pub description: String,
    /// The tools that it may use.
    pub tool_names: Vec<String>,
}

/// `GET /api/agents`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentList {
    /// Every agent.
    pub agents: Vec<AgentSummary>,
}

/// `GET /api/runs/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResponse {
    /// The run as it stands.
    #[serde(flatten)]
    pub run: RunState,
    /// Its answer, once it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_response: Option<String>,
}

/// `GET /health/ready` and `/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthResponse {
    /// Of the whole.
    pub status: HealthStatus,
    /// The backend's version.
    pub version: String,
    /// Each dependency by name: `postgres`, `redis`, `agents`, `model`, …
    pub dependencies: std::collections::BTreeMap<String, DependencyHealth>,
}

/// One dependency as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DependencyHealth {
    /// Of this dependency.
    pub status: HealthStatus,
    /// How long it took to answer, in milliseconds, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// What is wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Well.
    Ok,
    /// Chat goes on, something is missing.
    Degraded,
    /// New work is refused.
    Unavailable,
    /// About to stop.
    Draining,
}
