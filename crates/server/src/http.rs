//! The HTTP calls of contract §11 and the edge that they share with the WebSocket: addresses, limits, refusals.

mod accounts;
mod billing;
mod extract;
mod listener;
mod openapi;
mod operations;
mod query;
mod runs;
mod stream;
mod threads;
mod tickets;
mod usage;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use kingsguard_protocol::ErrorCode;
use tower_http::catch_panic::CatchPanicLayer;

pub use extract::{Bearer, ClientAddress, JsonBody};
pub use listener::listen;

use crate::app::App;
use crate::error::ApiError;
use crate::telemetry;

/// Every call, on a node.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/auth/register", post(accounts::register))
        .route("/auth/login", post(accounts::login))
        .route("/auth/dev_login", post(accounts::dev_login))
        .route("/auth/refresh", post(accounts::refresh))
        .route("/auth/logout", post(accounts::logout))
        .route("/auth/me", get(accounts::me))
        .route("/api/websocket/ticket", post(tickets::issue))
        .route("/api/threads", get(threads::list).post(threads::create))
        .route(
            "/api/threads/{thread_id}",
            get(threads::get).patch(threads::rename).delete(threads::delete),
        )
        .route("/api/threads/{thread_id}/messages", get(threads::messages))
        .route("/api/chat/messages", post(runs::chat))
        .route("/api/chat/stream", get(stream::follow))
        .route("/api/agents", get(runs::agents))
        .route("/api/runs/{run_id}", get(runs::run))
        .route("/api/usage-records", post(usage::import))
        .route("/api/billing/usage", get(billing::usage))
        .route("/ws", get(crate::connection::upgrade))
        .route("/api/openapi.json", get(openapi::document))
        .route("/health", get(operations::health))
        .route("/health/live", get(operations::live))
        .route("/health/ready", get(operations::health))
        .route("/metrics", get(operations::metrics))
        .fallback(async || ApiError::new(ErrorCode::NotFound))
        .method_not_allowed_fallback(async || ApiError::new(ErrorCode::MethodNotAllowed))
        .layer(CatchPanicLayer::custom(answer_panic))
        .layer(middleware::from_fn(observe))
        .with_state(app)
}

/// Counts and logs a request by its route, never by its path or query, which may hold ids or credentials (AUTH-8).
async fn observe(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("unknown", MatchedPath::as_str)
        .to_owned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let (status, took) = (response.status().as_u16(), began.elapsed());
    tracing::debug!(
        method = method.as_str(),
        route,
        status,
        duration_ms = took.as_millis() as u64,
        "request answered"
    );
    // A method is any token that a stranger makes up: only the usual ones become a label.
    let method = match method.as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    };
    telemetry::http_answered(route, method, status, took);
    response
}

fn answer_panic(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    ApiError::internal(format!("a handler panicked: {text}")).into_response()
}
