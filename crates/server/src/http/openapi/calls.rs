//! The table of calls.

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::client::UserMessage;
use kingsguard_protocol::control::{ThreadHistory, UsageReport};
use kingsguard_protocol::http::{
    AgentList, ChatAccepted, CreateThreadRequest, HealthResponse, LoginRequest, MeResponse, RefreshRequest,
    RegisterRequest, RenameThreadRequest, RunResponse, ThreadPage, ThreadSummary, TicketRequest, TicketResponse,
    TokenResponse, UsageRecordsRequest, UsageRecordsResponse,
};
use kingsguard_protocol::{MessageId, ThreadId};
use schemars::JsonSchema;
use serde_json::json;

use super::{Access, Call, Content, Parameter};

/// A call that takes nothing and answers 200; the table states what differs.
fn call(method: &'static str, path: &'static str, summary: &'static str, answers: Content) -> Call {
    Call {
        method,
        path,
        summary,
        access: Access::Bearer,
        parameters: Vec::new(),
        takes: Vec::new(),
        takes_nothing_too: false,
        status: 200,
        answers,
        answers_too: Vec::new(),
        refuses: Vec::new(),
    }
}

/// Every call of contract §11 that this backend answers.
pub(super) fn all() -> Vec<Call> {
    [accounts(), threads(), work(), operations()]
        .into_iter()
        .flatten()
        .collect()
}

fn accounts() -> Vec<Call> {
    vec![
        Call {
            access: Access::Open,
            takes: vec![Content::json::<RegisterRequest>()],
            status: 201,
            refuses: vec![
                ErrorCode::EmailTaken,
                ErrorCode::RateLimited,
                ErrorCode::DatabaseUnavailable,
            ],
            ..call(
                "post",
                "/auth/register",
                "Makes an account and logs it in.",
                Content::json::<TokenResponse>(),
            )
        },
        Call {
            access: Access::Open,
            takes: vec![Content::json::<LoginRequest>()],
            refuses: vec![
                ErrorCode::AuthInvalidCredentials,
                ErrorCode::AuthLocked,
                ErrorCode::RateLimited,
                ErrorCode::DatabaseUnavailable,
            ],
            ..call("post", "/auth/login", "Logs in.", Content::json::<TokenResponse>())
        },
        Call {
            access: Access::Open,
            takes: vec![Content::json::<LoginRequest>()],
            refuses: vec![
                ErrorCode::NotFound,
                ErrorCode::RateLimited,
                ErrorCode::DatabaseUnavailable,
            ],
            ..call(
                "post",
                "/auth/dev_login",
                "Logs in without checking the password, where that is switched on; 404 otherwise.",
                Content::json::<TokenResponse>(),
            )
        },
        Call {
            access: Access::Open,
            takes: vec![Content::json::<RefreshRequest>()],
            refuses: vec![
                ErrorCode::AuthTokenInvalid,
                ErrorCode::AuthTokenExpired,
                ErrorCode::AuthTokenRevoked,
                ErrorCode::DatabaseUnavailable,
            ],
            ..call(
                "post",
                "/auth/refresh",
                "Answers new tokens. A refresh token that is used twice revokes its family.",
                Content::json::<TokenResponse>(),
            )
        },
        call(
            "post",
            "/auth/logout",
            "Revokes the token and its family.",
            Content::json::<serde_json::Map<String, serde_json::Value>>(),
        ),
        call(
            "get",
            "/auth/me",
            "Answers whose token it is.",
            Content::json::<MeResponse>(),
        ),
        Call {
            takes: vec![Content::json::<TicketRequest>()],
            takes_nothing_too: true,
            status: 201,
            refuses: vec![ErrorCode::CacheUnavailable],
            ..call(
                "post",
                "/api/websocket/ticket",
                "Gives out a ticket for the WebSocket.",
                Content::json::<TicketResponse>(),
            )
        },
    ]
}

fn in_path(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        place: "path",
        description,
        schema: || json!({ "type": "string" }),
    }
}

fn page(rest: [Parameter; 1]) -> Vec<Parameter> {
    let limit = Parameter {
        name: "limit",
        place: "query",
        description: "Items of the page.",
        schema: || json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 50 }),
    };
    [limit].into_iter().chain(rest).collect()
}

fn threads() -> Vec<Call> {
    let thread = || vec![in_path("thread_id", "The thread.")];
    vec![
        Call {
            parameters: page([Parameter {
                name: "cursor",
                place: "query",
                description: "`next_cursor` of the page before.",
                schema: || json!({ "type": "string" }),
            }]),
            refuses: vec![ErrorCode::ValidationError],
            ..call(
                "get",
                "/api/threads",
                "A page of threads, newest first.",
                Content::json::<ThreadPage>(),
            )
        },
        Call {
            takes: vec![Content::json::<CreateThreadRequest>()],
            takes_nothing_too: true,
            status: 201,
            refuses: vec![ErrorCode::QuotaExceeded, ErrorCode::ServiceDraining],
            ..call(
                "post",
                "/api/threads",
                "Makes a thread.",
                Content::json::<ThreadSummary>(),
            )
        },
        Call {
            parameters: thread(),
            refuses: vec![ErrorCode::ThreadNotFound],
            ..call(
                "get",
                "/api/threads/{thread_id}",
                "One thread.",
                Content::json::<ThreadSummary>(),
            )
        },
        Call {
            parameters: thread(),
            takes: vec![Content::json::<RenameThreadRequest>()],
            refuses: vec![ErrorCode::ThreadNotFound],
            ..call(
                "patch",
                "/api/threads/{thread_id}",
                "Gives it another title.",
                Content::json::<ThreadSummary>(),
            )
        },
        Call {
            parameters: thread(),
            status: 204,
            refuses: vec![ErrorCode::ThreadNotFound],
            ..call(
                "delete",
                "/api/threads/{thread_id}",
                "Deletes it with its events and messages.",
                Content::nothing(),
            )
        },
        Call {
            parameters: thread()
                .into_iter()
                .chain(page([Parameter {
                    name: "before",
                    place: "query",
                    description: "Only events with a `seq` below this.",
                    schema: || json!({ "type": "integer", "minimum": 0 }),
                }]))
                .collect(),
            refuses: vec![ErrorCode::ThreadNotFound, ErrorCode::ValidationError],
            ..call(
                "get",
                "/api/threads/{thread_id}/messages",
                "Events and messages of a thread, newest last.",
                Content::json::<ThreadHistory>(),
            )
        },
    ]
}

fn work() -> Vec<Call> {
    let text = |name, place, description| Parameter {
        name,
        place,
        description,
        schema: || json!({ "type": "string" }),
    };
    vec![
        Call {
            takes: vec![Content::json::<ChatRequest>()],
            status: 202,
            refuses: vec![
                ErrorCode::ThreadNotFound,
                ErrorCode::RateLimited,
                ErrorCode::QuotaExceeded,
                ErrorCode::ServiceDraining,
            ],
            ..call(
                "post",
                "/api/chat/messages",
                "Starts a run, as `user_message` does; without `thread_id` in a new thread.",
                Content::json::<ChatAccepted>(),
            )
        },
        Call {
            access: Access::Carried,
            parameters: vec![
                text("thread_id", "query", "The thread to follow; required."),
                text(
                    "Last-Event-ID",
                    "header",
                    "The `id` of the newest event that the client has, to go on behind it.",
                ),
            ],
            refuses: vec![
                ErrorCode::ValidationError,
                ErrorCode::ThreadNotFound,
                ErrorCode::OriginNotAllowed,
                ErrorCode::ConnectionLimit,
                ErrorCode::CacheUnavailable,
                ErrorCode::ServiceDraining,
            ],
            ..call(
                "get",
                "/api/chat/stream",
                "The events of a thread as Server-Sent Events: `id` is `epoch:seq`, `event` the type.",
                Content::text("text/event-stream"),
            )
        },
        call(
            "get",
            "/api/agents",
            "Every agent with its tools.",
            Content::json::<AgentList>(),
        ),
        Call {
            parameters: vec![in_path("run_id", "The run.")],
            refuses: vec![ErrorCode::RunNotFound],
            ..call(
                "get",
                "/api/runs/{run_id}",
                "One run as it stands.",
                Content::json::<RunResponse>(),
            )
        },
        Call {
            takes: vec![Content::json::<UsageRecordsRequest>(), Content::text("text/csv")],
            status: 201,
            refuses: vec![ErrorCode::QuotaExceeded],
            ..call(
                "post",
                "/api/usage-records",
                "Stores usage records, all of them or none; `details.rows` names the bad ones.",
                Content::json::<UsageRecordsResponse>(),
            )
        },
        Call {
            parameters: vec![Parameter {
                name: "period",
                place: "query",
                description: "How far back.",
                schema: || json!({ "enum": ["day", "week", "month", "all"], "default": "month" }),
            }],
            refuses: vec![ErrorCode::ValidationError],
            ..call(
                "get",
                "/api/billing/usage",
                "What the user's runs used.",
                Content::json::<UsageReport>(),
            )
        },
    ]
}

/// What `POST /api/chat/messages` takes: the fields of a `user_message` beside those of the envelope.
#[derive(JsonSchema)]
#[allow(
    dead_code,
    reason = "only its schema is used; the body is read by the reader of client messages"
)]
struct ChatRequest {
    /// The client's own id for it, any string of 1–128 characters.
    message_id: Option<MessageId>,
    /// The thread; a new one where absent.
    thread_id: Option<ThreadId>,
    #[schemars(flatten)]
    message: UserMessage,
}

fn operations() -> Vec<Call> {
    let health = |path, summary| Call {
        access: Access::Open,
        answers_too: vec![(503, "The node cannot work now.", Content::json::<HealthResponse>())],
        ..call("get", path, summary, Content::json::<HealthResponse>())
    };
    vec![
        Call {
            access: Access::Open,
            ..call(
                "get",
                "/health/live",
                "Answers as long as the process lives.",
                Content::json::<HealthResponse>(),
            )
        },
        health(
            "/health/ready",
            "Whether the node can work, with the state of each dependency.",
        ),
        health("/health", "The same as `/health/ready`."),
        Call {
            access: Access::Open,
            ..call(
                "get",
                "/metrics",
                "Metrics as Prometheus text.",
                Content::text("text/plain"),
            )
        },
        Call {
            access: Access::Open,
            ..call(
                "get",
                "/api/openapi.json",
                "This document.",
                Content::json::<serde_json::Map<String, serde_json::Value>>(),
            )
        },
    ]
}
