//! What handlers take out of requests, with the contract's refusals.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Path, Request};
use futures_util::StreamExt as _;
use http::request::Parts;
use http::{HeaderMap, header};
use kingsguard_protocol::decode::RequestBody;
use kingsguard_protocol::{ErrorCode, RunId, ThreadId};

use crate::app::App;
use crate::auth::{Identity, carrier};
use crate::config::Config;
use crate::error::ApiError;
use crate::threads::could_be_id;

/// How much of a body that is too large is read on, so that its sender, who reads only after writing, sees the refusal.
const DISCARDED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long that may take.
const DISCARDED_WITHIN: Duration = Duration::from_secs(5);

/// The user of a request with `Authorization: Bearer`.
#[derive(Debug)]
pub struct Bearer(pub Identity);

impl FromRequestParts<Arc<App>> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = carrier::bearer(&parts.headers)?.ok_or_else(|| ApiError::new(ErrorCode::AuthRequired))?;
        app.auth.judge_bearer(token.reveal()).await.map(Self)
    }
}

/// The network address that a request came from.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// The peer's address, or what a trusted proxy says that it is.
    #[must_use]
    pub fn of(peer: SocketAddr, headers: &HeaderMap, config: &Config) -> Self {
        let forwarded = headers
            .get_all("x-forwarded-for")
            .iter()
            .next_back()
            .filter(|_| config.trust_forwarded_for);
        let last = forwarded.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        Self(last.unwrap_or(peer.ip()))
    }
}

impl FromRequestParts<Arc<App>> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let ConnectInfo(peer) = peer.ok_or_else(|| ApiError::internal("the listener named no peer"))?;
        Ok(Self::of(*peer, &parts.headers, &app.config))
    }
}

/// The thread that a path names; whether the user has it is judged later.
#[derive(Debug)]
pub struct ThreadInPath(pub ThreadId);

impl FromRequestParts<Arc<App>> for ThreadInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(text)) => Ok(Self(ThreadId::from(text))),
            // Not UTF-8: then it names no thread (ISO-2).
            Err(_) => Err(ApiError::new(ErrorCode::ThreadNotFound)),
        }
    }
}

/// The run that a path names; whether the user has it is judged later.
#[derive(Debug)]
pub struct RunInPath(pub RunId);

impl FromRequestParts<Arc<App>> for RunInPath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(text)) if could_be_id(&text) => Ok(Self(RunId::from(text))),
            Ok(_) | Err(_) => Err(ApiError::new(ErrorCode::RunNotFound)),
        }
    }
}

/// A JSON body, read strictly where the contract is.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: RequestBody> FromRequest<Arc<App>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, ApiError> {
        let text = text_body(request, app.config.message_bytes_max).await?;
        Ok(Self(T::decode(&text)?))
    }
}

/// The body as text, whatever its `Content-Type`.
///
/// # Errors
/// MESSAGE_TOO_LARGE above `bytes_max`; JSON_PARSE_ERROR where it is not UTF-8.
pub(super) async fn text_body(request: Request, bytes_max: u64) -> Result<String, ApiError> {
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    let body = request.into_body();
    if declared.is_some_and(|length: u64| length > bytes_max) {
        discard(body).await;
        return Err(too_large(bytes_max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(declared.unwrap_or(0)).unwrap_or(0));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        // The peer went away or broke the framing; nobody reads the answer.
        let chunk = chunk.map_err(|error| ApiError::validation("", "a body that arrives whole").caused_by(error))?;
        if (bytes.len() + chunk.len()) as u64 > bytes_max {
            discard(Body::from_stream(chunks)).await;
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = good.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let before = good.rsplit(|&byte| byte == b'\n').next().unwrap_or_default();
        // `before` is valid up to here, so that counting what does not begin a character counts characters.
        let column = before.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() + 1;
        kingsguard_protocol::DecodeError::Json {
            line,
            column,
            reason: "not UTF-8".to_owned(),
        }
        .into()
    })
}

fn too_large(bytes_max: u64) -> ApiError {
    ApiError::new(ErrorCode::MessageTooLarge).with_detail("bytes_max", bytes_max)
}

/// Reads what is left of a refused body, within bounds, so that its sender comes to read the refusal.
pub(super) async fn discard(body: Body) {
    let discarding = async {
        let mut chunks = body.into_data_stream();
        let mut left = DISCARDED_BYTES_MAX;
        while let Some(Ok(chunk)) = chunks.next().await {
            left = left.saturating_sub(chunk.len() as u64);
            if left == 0 {
                return;
            }
        }
    };
    // Who still sends after that loses the answer together with the connection.
    drop(tokio::time::timeout(DISCARDED_WITHIN, discarding).await);
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    async fn refusal(bytes: &'static [u8], bytes_max: u64) -> ApiError {
        text_body(Request::new(Body::from(bytes)), bytes_max)
            .await
            .expect_err("the body is bad")
    }

    #[tokio::test]
    async fn a_body_at_the_limit_is_read_and_one_above_is_refused() {
        let at_limit = text_body(Request::new(Body::from("12345")), 5).await;
        assert_eq!(at_limit.expect("five bytes"), "12345");
        assert_eq!(refusal(b"123456", 5).await.code, ErrorCode::MessageTooLarge);
    }

    #[tokio::test]
    async fn bytes_that_are_not_utf8_are_placed_by_line_and_column() {
        let refused = refusal(b"{\n \"\xC3\xA9\": \"\xFF\"}", 100).await;
        assert_eq!(refused.code, ErrorCode::JsonParseError);
        assert_eq!(
            (&refused.details["line"], &refused.details["column"]),
            (&2.into(), &8.into())
        );
    }
}
