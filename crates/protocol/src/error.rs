//! How a backend says no (contract §9): the same body on a WebSocket and as an HTTP answer.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{MessageId, Timestamp};

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $recovery:ident;)*) => {
        /// What went wrong, for machines.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum ErrorCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl ErrorCode {
            /// Every error code of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The code as it stands on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status that carries this code where a request is refused with it.
            #[must_use]
            pub fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// What a client does about it, unless the place that refuses knows better.
            #[must_use]
            pub fn recovery(self) -> Recovery {
                match self { $(Self::$name => Recovery::$recovery),* }
            }
        }
    };
}

error_codes! {
    /// No credential came with the request.
    AuthRequired = "AUTH_REQUIRED", 401, Reauthenticate;
    /// The credential is malformed, wrongly signed or of another issuer or audience.
    AuthTokenInvalid = "AUTH_TOKEN_INVALID", 401, Reauthenticate;
    /// The credential's time is over.
    AuthTokenExpired = "AUTH_TOKEN_EXPIRED", 401, Reauthenticate;
    /// The credential was revoked.
    AuthTokenRevoked = "AUTH_TOKEN_REVOKED", 401, Reauthenticate;
    /// E-mail and password do not belong together.
    AuthInvalidCredentials = "AUTH_INVALID_CREDENTIALS", 401, FixRequest;
    /// The credential is good but not for this.
    AuthForbidden = "AUTH_FORBIDDEN", 403, None;
    /// The `Origin` is not on the allow-list.
    OriginNotAllowed = "ORIGIN_NOT_ALLOWED", 403, None;
    /// Too many failed logins.
    AuthLocked = "AUTH_LOCKED", 423, RetryAfter;
    /// The text is not JSON.
    JsonParseError = "JSON_PARSE_ERROR", 400, FixRequest;
    /// A field is missing, of the wrong type or out of bounds.
    ValidationError = "VALIDATION_ERROR", 400, FixRequest;
    /// The message type is not of the contract.
    UnknownMessageType = "UNKNOWN_MESSAGE_TYPE", 400, FixRequest;
    /// The message needs the handshake first.
    HandshakeRequired = "HANDSHAKE_REQUIRED", 400, FixRequest;
    /// The body is above its limit.
    MessageTooLarge = "MESSAGE_TOO_LARGE", 413, FixRequest;
    /// The e-mail address has an account already.
    EmailTaken = "EMAIL_TAKEN", 409, FixRequest;
    /// The thing is not in a state that allows this.
    Conflict = "CONFLICT", 409, None;
    /// Too many messages in too short a time.
    RateLimited = "RATE_LIMITED", 429, RetryAfter;
    /// Too many connections.
    ConnectionLimit = "CONNECTION_LIMIT", 429, RetryAfter;
    /// The plan's allowance is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", 429, None;
    /// The peer reads too slowly.
    SlowConsumer = "SLOW_CONSUMER", 429, Reconnect;
    /// No such thread of this user.
    ThreadNotFound = "THREAD_NOT_FOUND", 404, FixRequest;
    /// No such run of this user.
    RunNotFound = "RUN_NOT_FOUND", 404, FixRequest;
    /// No such agent.
    AgentNotFound = "AGENT_NOT_FOUND", 404, FixRequest;
    /// No such tool.
    ToolNotFound = "TOOL_NOT_FOUND", 404, FixRequest;
    /// No such path.
    NotFound = "NOT_FOUND", 404, FixRequest;
    /// The path does not know this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, FixRequest;
    /// An agent failed.
    AgentFailed = "AGENT_FAILED", 500, Retry;
    /// The run's deadline passed.
    AgentTimeout = "AGENT_TIMEOUT", 504, Retry;
    /// A tool failed.
    ToolFailed = "TOOL_FAILED", 500, Retry;
    /// A tool's time limit passed.
    ToolTimeout = "TOOL_TIMEOUT", 504, Retry;
    /// The model does not answer.
    ModelUnavailable = "MODEL_UNAVAILABLE", 503, RetryAfter;
    /// The model's provider limits the rate.
    ModelRateLimited = "MODEL_RATE_LIMITED", 503, RetryAfter;
    /// A circuit breaker is open: the call was not tried.
    CircuitOpen = "CIRCUIT_OPEN", 503, RetryAfter;
    /// Postgres does not answer.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", 503, RetryAfter;
    /// Redis does not answer, and this cannot be done without it.
    CacheUnavailable = "CACHE_UNAVAILABLE", 503, RetryAfter;
    /// The backend is about to stop.
    ServiceDraining = "SERVICE_DRAINING", 503, Reconnect;
    /// The backend failed; its log says why.
    InternalError = "INTERNAL_ERROR", 500, Retry;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a client can do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    /// Send the same again.
    Retry,
    /// Send the same again after `retry_after_ms`.
    RetryAfter,
    /// Get a fresh credential.
    Reauthenticate,
    /// Open a new connection and resume.
    Reconnect,
    /// Change the request as `message` and `details` say.
    FixRequest,
    /// Nothing.
    None,
}

/// A refusal or failure. As a frame `type` is `error`; an HTTP body has the same fields, so it is written as
/// [`crate::ControlFrame::Error`] too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorFrame {
    /// What went wrong, for machines.
    pub error_code: ErrorCode,
    /// What went wrong and what to do, for people.
    pub message: String,
    /// Facts about this error: `pointer` and `expected`, `line` and `column`, `message_type`, `rows`, …
    pub details: Map<String, Value>,
    /// What a client can do about it.
    pub recovery: Recovery,
    /// How long to wait before trying again, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The `message_id` of the message that this answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<MessageId>,
    /// When the backend said so.
    pub timestamp: Timestamp,
}
