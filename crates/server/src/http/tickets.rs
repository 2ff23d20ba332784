//! `POST /api/websocket/ticket` (AUTH-4).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use kingsguard_protocol::http::{Secret, TicketRequest, TicketResponse};

use super::{Bearer, JsonBody};
use crate::app::App;
use crate::error::ApiError;

const NO_STORE: [(HeaderName, HeaderValue); 1] = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

type Answer = (StatusCode, [(HeaderName, HeaderValue); 1], Json<TicketResponse>);

pub(super) async fn issue(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    headers: HeaderMap,
    JsonBody(request): JsonBody<TicketRequest>,
) -> Result<Answer, ApiError> {
    let issued = app.auth.issue_ticket(&identity, &request).await?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let base = websocket_base(app.config.public_url.as_deref(), host.unwrap_or("localhost"));
    let answer = TicketResponse {
        websocket_url: Secret::from(format!("{base}/ws?ticket={}", issued.ticket.reveal())),
        ticket: issued.ticket,
        ttl_seconds: issued.ttl_seconds,
        single_use: issued.single_use,
        expires_at: issued.expires_at,
    };
    Ok((StatusCode::CREATED, NO_STORE, Json(answer)))
}

fn websocket_base(public_url: Option<&str>, host: &str) -> String {
    match public_url.map(|url| url.trim_end_matches('/')) {
        Some(url) => match url.split_once("://") {
            Some(("https" | "wss", rest)) => format!("wss://{rest}"),
            Some((_, rest)) => format!("ws://{rest}"),
            None => format!("ws://{url}"),
        },
        None => format!("ws://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_public_url_goes_before_the_host() {
        assert_eq!(
            websocket_base(Some("https://chat.example/"), "10.0.0.1:1"),
            "wss://chat.example"
        );
        assert_eq!(
            websocket_base(Some("http://chat.example:8080"), "10.0.0.1:1"),
            "ws://chat.example:8080"
        );
        assert_eq!(websocket_base(None, "127.0.0.1:8080"), "ws://127.0.0.1:8080");
    }
}
