//! How the server says no: the one place that maps errors to frames, HTTP answers and close codes, and that owns the
//! wording for people.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use kingsguard_protocol::{
    CloseCode, ControlFrame, DecodeError, ErrorCode, ErrorFrame, MessageId, Recovery, Timestamp,
};
use serde_json::{Map, Value};

use crate::telemetry;

/// What a client that may try again waits where the refusing place knows nothing better.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// A refusal or failure on its way to a client.
///
/// The `source` is for the log: it is written once, in [`ApiError::into_frame`], and never shown (SEC-2).
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What went wrong, for machines.
    pub code: ErrorCode,
    /// What went wrong and what to do, for people.
    pub message: Cow<'static, str>,
    /// Facts about this error.
    pub details: Map<String, Value>,
    /// How long to wait before trying again.
    pub retry_after: Option<Duration>,
    /// Why, for the log.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// An error with the usual wording of its code.
    #[must_use]
    pub fn new(code: ErrorCode) -> Self {
        Self {
            code,
            message: Cow::Borrowed(wording(code)),
            details: Map::new(),
            retry_after: None,
            source: None,
        }
    }

    /// A field that is missing, of the wrong type or out of bounds (MSG-4).
    #[must_use]
    pub fn validation(pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        let (pointer, expected) = (pointer.into(), expected.into());
        let place = if pointer.is_empty() {
            "The body"
        } else {
            pointer.as_str()
        };
        Self::new(ErrorCode::ValidationError)
            .with_message(format!(
                "{place} must be {expected}. Correct it and send the request again."
            ))
            .with_detail("pointer", pointer)
            .with_detail("expected", expected)
    }

    /// A limit that was passed, and when to try again.
    #[must_use]
    pub fn rate_limited(retry_after: Duration) -> Self {
        Self::new(ErrorCode::RateLimited).with_retry_after(retry_after)
    }

    /// A failure of the server itself.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorCode::InternalError).caused_by(source)
    }

    /// The same with other words for people.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// The same with one more fact.
    #[must_use]
    pub fn with_detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// The same with a time to wait.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Duration) -> Self {
        self.retry_after = Some(retry_after);
        self
    }

    /// The same with the reason for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// What a client waits, where trying again is what helps.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self.code.recovery() {
            Recovery::RetryAfter => Some(self.retry_after.unwrap_or(RETRY_AFTER_DEFAULT)),
            _ => self.retry_after,
        }
    }

    /// The close code of a connection that ends because of this; `None` where the connection goes on.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        match self.code {
            ErrorCode::AuthTokenExpired | ErrorCode::AuthTokenRevoked => Some(CloseCode::AuthenticationEnded),
            ErrorCode::SlowConsumer => Some(CloseCode::SlowConsumer),
            ErrorCode::MessageTooLarge => Some(CloseCode::TooLarge),
            _ => None,
        }
    }

    /// The body for the wire. Logs the source and counts the code, so it is called once for each answer.
    #[must_use]
    pub fn into_frame(self, correlation_id: Option<MessageId>) -> ErrorFrame {
        telemetry::error_answered(self.code);
        if let Some(source) = &self.source {
            let reason = Chain(source.as_ref()).to_string();
            let correlation_id = correlation_id.as_ref().map_or("", MessageId::as_str);
            if self.code == ErrorCode::InternalError {
                tracing::error!(
                    error_code = self.code.as_str(),
                    correlation_id,
                    reason,
                    "request failed"
                );
            } else {
                tracing::warn!(
                    error_code = self.code.as_str(),
                    correlation_id,
                    reason,
                    "request refused"
                );
            }
        }
        ErrorFrame {
            error_code: self.code,
            recovery: self.code.recovery(),
            retry_after_ms: self
                .retry_after()
                .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1)),
            message: self.message.into_owned(),
            details: self.details,
            correlation_id,
            timestamp: Timestamp::now(),
        }
    }

    /// The `error` frame; see [`ApiError::into_frame`].
    #[must_use]
    pub fn into_control(self, correlation_id: Option<MessageId>) -> ControlFrame {
        ControlFrame::Error(self.into_frame(correlation_id))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl Error for ApiError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self::new(code)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let retry_after = self.retry_after();
        let is_unauthorized = status == StatusCode::UNAUTHORIZED;
        let mut response = (status, axum::Json(self.into_control(None))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = retry_after {
            // RFC 9110 §10.2.3 counts whole seconds: rounded up, so that who waits is not refused again.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.as_millis().div_ceil(1000).max(1) as u64),
            );
        }
        if is_unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        Self::new(database_code(&error)).caused_by(error)
    }
}

/// Trouble with the connection is DATABASE_UNAVAILABLE; everything else is a fault of the server.
pub(crate) fn database_code(error: &sqlx::Error) -> ErrorCode {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => ErrorCode::DatabaseUnavailable,
        sqlx::Error::Database(fault) if fault.code().is_some_and(|state| is_connection_trouble(&state)) => {
            ErrorCode::DatabaseUnavailable
        }
        _ => ErrorCode::InternalError,
    }
}

/// SQLSTATE classes (PostgreSQL, appendix A) that say that Postgres cannot work now: connection exception (08),
/// insufficient resources (53), operator intervention (57, which covers shutdown and the statement timeout), system
/// error (58), database dropped or not yet made (3D000).
fn is_connection_trouble(state: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| state.starts_with(class)) || state == "3D000"
}

impl From<redis::RedisError> for ApiError {
    fn from(error: redis::RedisError) -> Self {
        Self::new(ErrorCode::CacheUnavailable).caused_by(error)
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(error)
    }
}

impl From<DecodeError> for ApiError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Json { line, column, reason } => Self::new(ErrorCode::JsonParseError)
                .with_message(format!(
                    "The text is not JSON at line {line}, column {column} ({reason}). Correct it and send it again."
                ))
                .with_detail("line", line)
                .with_detail("column", column),
            DecodeError::Validation { pointer, expected, .. } => Self::validation(pointer, expected),
            DecodeError::UnknownType { message_type, .. } => Self::new(ErrorCode::UnknownMessageType)
                .with_message(format!(
                    "`{message_type}` is no message type. See the contract for the types."
                ))
                .with_detail("message_type", message_type),
        }
    }
}

/// An error with its sources, in one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// What each code says to people, unless the refusing place knows better.
fn wording(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::AuthRequired => "This needs a credential. Log in and send the access token.",
        ErrorCode::AuthTokenInvalid => "The credential cannot be used. Log in again.",
        ErrorCode::AuthTokenExpired => "The credential has expired. Refresh it or log in again.",
        ErrorCode::AuthTokenRevoked => "The credential was revoked. Log in again.",
        ErrorCode::AuthInvalidCredentials => "E-mail and password do not belong together. Check both and try again.",
        ErrorCode::AuthForbidden => "The credential does not allow this.",
        ErrorCode::OriginNotAllowed => "Pages of this origin may not connect.",
        ErrorCode::AuthLocked => "Too many failed logins. Wait before the next attempt.",
        ErrorCode::JsonParseError => "The text is not JSON. Correct it and send it again.",
        ErrorCode::ValidationError => "A field does not fit. Correct it and send the request again.",
        ErrorCode::UnknownMessageType => "There is no message of this type. See the contract for the types.",
        ErrorCode::HandshakeRequired => "Acknowledge the handshake first, then send this again.",
        ErrorCode::MessageTooLarge => "The message is above the size limit. Send less.",
        ErrorCode::EmailTaken => "This e-mail address has an account already. Log in instead.",
        ErrorCode::Conflict => "This is not possible in the present state.",
        ErrorCode::RateLimited => "Too much in too short a time. Wait, then send it again.",
        ErrorCode::ConnectionLimit => "Too many connections. Close one, or wait, then connect again.",
        ErrorCode::QuotaExceeded => "The plan's allowance is used up. Choose a larger plan or free something.",
        ErrorCode::SlowConsumer => "This connection reads too slowly. Connect again and resume.",
        ErrorCode::ThreadNotFound => "There is no such thread. List the threads to see which there are.",
        ErrorCode::RunNotFound => "There is no such run.",
        ErrorCode::AgentNotFound => "There is no such agent. GET /api/agents lists them.",
        ErrorCode::ToolNotFound => "There is no such tool.",
        ErrorCode::NotFound => "There is nothing at this path. GET /api/openapi.json lists the calls.",
        ErrorCode::MethodNotAllowed => "This path does not know the method. GET /api/openapi.json lists the calls.",
        ErrorCode::AgentFailed => "The agent failed. Send the message again.",
        ErrorCode::AgentTimeout => "The agent took too long. Send the message again, or ask for less.",
        ErrorCode::ToolFailed => "A tool failed. Send the message again.",
        ErrorCode::ToolTimeout => "A tool took too long. Send the message again, or ask for less.",
        ErrorCode::ModelUnavailable => "The model does not answer. Wait, then send the message again.",
        ErrorCode::ModelRateLimited => "The model's provider limits the rate. Wait, then send the message again.",
        ErrorCode::CircuitOpen => "The model failed repeatedly and is left alone for a while. Wait, then try again.",
        ErrorCode::DatabaseUnavailable => "The database does not answer. Wait, then send the request again.",
        ErrorCode::CacheUnavailable => "The cache does not answer. Wait, then send the request again.",
        ErrorCode::ServiceDraining => "The server is about to stop. Connect again and go on there.",
        ErrorCode::InternalError => "The server failed. Send the request again; if it fails again, tell its operator.",
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_source_is_never_shown() {
        let error = ApiError::internal("SELECT secret FROM /etc/passwd");
        let text = serde_json::to_string(&error.into_frame(None)).expect("a frame is JSON");
        assert!(!text.contains("SELECT") && !text.contains("passwd"), "{text}");
    }

    #[test]
    fn every_code_that_asks_to_wait_says_how_long() {
        for code in ErrorCode::ALL {
            let frame = ApiError::new(*code).into_frame(None);
            assert_eq!(
                frame.retry_after_ms.is_some(),
                frame.recovery == Recovery::RetryAfter,
                "{code}"
            );
        }
    }

    #[test]
    fn trouble_with_the_connection_to_postgres_is_not_a_fault_of_the_server() {
        assert_eq!(
            ApiError::from(sqlx::Error::PoolTimedOut).code,
            ErrorCode::DatabaseUnavailable
        );
        assert_eq!(ApiError::from(sqlx::Error::RowNotFound).code, ErrorCode::InternalError);
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds_in_the_header() {
        let response = ApiError::rate_limited(Duration::from_millis(1_200)).into_response();
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}
