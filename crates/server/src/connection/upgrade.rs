//! `GET /ws`: from an HTTP request to a WebSocket (CON-1, AUTH-1 … AUTH-7).
//!
//! Done by hand, because refusals must be judged in the contract's order, answer with its error body, and not spend a
//! ticket. permessage-deflate is never negotiated (CON-5): its memory for each connection costs more than the small
//! frames of this contract would gain; the answer says so in [`EXTENSIONS`].

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use hyper_util::rt::TokioIo;
use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::http::Secret;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::app::App;
use crate::auth::{Credential, Identity, carrier};
use crate::error::{ApiError, Chain};
use crate::limiter::Place;
use crate::telemetry;

/// States that no WebSocket extension is negotiated (CON-5).
pub const EXTENSIONS: HeaderName = HeaderName::from_static("kingsguard-websocket-extensions");

/// RFC 6455's version; there is no other.
const WEBSOCKET_VERSION: &str = "13";

/// Bytes of a decoded `Sec-WebSocket-Key` (RFC 6455 §4.1).
const KEY_BYTES: usize = 16;

/// The handler of `GET /ws`.
pub async fn upgrade(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let admitted = match admit(&app, peer, &head).await {
        Ok(admitted) => admitted,
        Err(Refusal::Error(error)) => {
            telemetry::connection_refused(error.code);
            return error.into_response();
        }
        Err(Refusal::UpgradeRequired(error)) => {
            telemetry::connection_refused(error.code);
            return upgrade_required(error);
        }
    };
    let Admitted {
        identity,
        place,
        accept_key,
        subprotocol,
    } = admitted;
    let upgrading = hyper::upgrade::on(Request::from_parts(head, body));
    tokio::spawn(async move {
        match upgrading.await {
            Ok(upgraded) => super::hold(app, TokioIo::new(upgraded), identity, place).await,
            Err(error) => tracing::debug!(reason = %Chain(&error), "upgrade broke off"),
        }
    });
    switching_protocols(&accept_key, subprotocol.as_ref())
}

struct Admitted {
    identity: Identity,
    place: Place,
    accept_key: String,
    subprotocol: Option<Secret>,
}

enum Refusal {
    Error(ApiError),
    /// 426, with what would be understood.
    UpgradeRequired(ApiError),
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Error(error)
    }
}

/// Judges in the order draining, origin, credential, version, limits (AUTH-7). A ticket is spent when nothing can be
/// refused any more (AUTH-4).
async fn admit(app: &App, peer: SocketAddr, head: &Parts) -> Result<Admitted, Refusal> {
    app.drain.refuse_new_work()?;
    judge_origin(&head.headers, &app.config.allowed_origins)?;
    let carried =
        carrier::credential(&head.headers, &head.uri)?.ok_or_else(|| ApiError::new(ErrorCode::AuthRequired))?;
    let mut identity = app.auth.judge(&carried.credential).await?;
    let accept_key = judge_handshake(head.version, &head.headers)?;
    let place = app.limiter.place(&identity.user_id, peer.ip()).await?;
    if let Credential::Ticket(_) = &carried.credential {
        identity = app.auth.spend(&carried.credential).await?;
    }
    Ok(Admitted {
        identity,
        place,
        accept_key,
        subprotocol: carried.subprotocol,
    })
}

/// A foreign page may not connect; who is no page sends no `Origin` (AUTH-7).
fn judge_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), ApiError> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let is_allowed = allowed.is_empty()
        || origin
            .to_str()
            .is_ok_and(|origin| allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)));
    if is_allowed {
        Ok(())
    } else {
        Err(ErrorCode::OriginNotAllowed.into())
    }
}

/// What RFC 6455 §4.2.1 asks of the request; returns the answer to its key.
fn judge_handshake(version: Version, headers: &HeaderMap) -> Result<String, Refusal> {
    let required = |name: &str, expected: &str| {
        Refusal::UpgradeRequired(
            ApiError::validation(format!("/{name}"), expected)
                .with_message("This address speaks WebSocket version 13 (RFC 6455). Connect with a WebSocket client."),
        )
    };
    if version < Version::HTTP_11 || !has_token(headers, &header::CONNECTION, "upgrade") {
        return Err(required("Connection", "`Upgrade`, in HTTP/1.1"));
    }
    if !has_token(headers, &header::UPGRADE, "websocket") {
        return Err(required("Upgrade", "`websocket`"));
    }
    let mut versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter();
    if versions.next().is_none_or(|version| version != WEBSOCKET_VERSION) || versions.next().is_some() {
        return Err(required("Sec-WebSocket-Version", "`13`"));
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).iter();
    match (keys.next(), keys.next()) {
        (Some(key), None) if STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES) => {
            Ok(derive_accept_key(key.as_bytes()))
        }
        _ => Err(Refusal::Error(ApiError::validation(
            "/Sec-WebSocket-Key",
            "16 bytes in base64, once",
        ))),
    }
}

/// Whether a header that is a list of words has this one. A header may be repeated, and case does not matter.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(token))
}

fn upgrade_required(error: ApiError) -> Response {
    let mut response = error.into_response();
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    let headers = response.headers_mut();
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static(WEBSOCKET_VERSION),
    );
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

fn switching_protocols(accept_key: &str, subprotocol: Option<&Secret>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(EXTENSIONS, HeaderValue::from_static("none"));
    if let Ok(accept_key) = HeaderValue::from_str(accept_key) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept_key);
    }
    // It came in a header, so it fits in one. Exactly what was offered is echoed (AUTH-3).
    if let Some(Ok(mut echoed)) = subprotocol.map(|offered| HeaderValue::from_str(offered.reveal())) {
        echoed.set_sensitive(true);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, echoed);
    }
    response
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    fn good() -> Vec<(&'static str, &'static str)> {
        vec![
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ]
    }

    fn judged(pairs: &[(&'static str, &str)]) -> Result<String, u16> {
        judge_handshake(Version::HTTP_11, &headers(pairs)).map_err(|refusal| match refusal {
            Refusal::Error(error) => error.into_response().status().as_u16(),
            Refusal::UpgradeRequired(error) => {
                let response = upgrade_required(error);
                assert_eq!(response.headers()["sec-websocket-version"], "13");
                response.status().as_u16()
            }
        })
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        assert_eq!(judged(&good()), Ok("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned()));
    }

    #[rstest]
    #[case::no_connection("connection", None, 426)]
    #[case::no_upgrade("upgrade", None, 426)]
    #[case::other_protocol("upgrade", Some("h2c"), 426)]
    #[case::no_version("sec-websocket-version", None, 426)]
    #[case::old_version("sec-websocket-version", Some("8"), 426)]
    #[case::no_key("sec-websocket-key", None, 400)]
    #[case::short_key("sec-websocket-key", Some("c2hvcnQ="), 400)]
    #[case::key_not_base64("sec-websocket-key", Some("!!"), 400)]
    fn a_request_that_is_no_handshake_is_refused(
        #[case] name: &'static str,
        #[case] value: Option<&str>,
        #[case] status: u16,
    ) {
        let mut pairs = good();
        pairs.retain(|(kept, _)| *kept != name);
        let mut pairs: Vec<(&'static str, &str)> = pairs;
        pairs.extend(value.map(|value| (name, value)));
        assert_eq!(judged(&pairs), Err(status));
    }

    #[rstest]
    #[case::no_list(&[], Some("https://evil.example"), true)]
    #[case::no_origin(&["https://app.example"], None, true)]
    #[case::listed(&["https://app.example"], Some("https://app.example"), true)]
    #[case::foreign(&["https://app.example"], Some("https://app.example.evil.example"), false)]
    #[case::null(&["https://app.example"], Some("null"), false)]
    fn only_listed_origins_may_connect_where_there_is_a_list(
        #[case] allowed: &[&str],
        #[case] origin: Option<&str>,
        #[case] is_allowed: bool,
    ) {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let headers = headers(&origin.map(|origin| ("origin", origin)).into_iter().collect::<Vec<_>>());
        assert_eq!(judge_origin(&headers, &allowed).is_ok(), is_allowed);
    }
}
