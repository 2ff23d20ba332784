//! `/health*` and `/metrics` (OPS-1, OPS-2).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::{StatusCode, header};
use kingsguard_protocol::http::{HealthResponse, HealthStatus};

use crate::app::App;
use crate::{health, telemetry};

/// Answers as long as the process does, whatever became of its dependencies.
pub(super) async fn live() -> Json<HealthResponse> {
    Json(HealthResponse {
        status: HealthStatus::Ok,
        version: crate::VERSION.to_owned(),
        dependencies: std::collections::BTreeMap::new(),
    })
}

pub(super) async fn health(State(app): State<Arc<App>>) -> impl IntoResponse {
    let (readiness, health) = health::judge(&app).await;
    let status = match readiness {
        health::Readiness::Ready => StatusCode::OK,
        health::Readiness::NotReady => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, [(header::CACHE_CONTROL, "no-store")], Json(health))
}

pub(super) async fn metrics() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        telemetry::render_metrics(),
    )
}
