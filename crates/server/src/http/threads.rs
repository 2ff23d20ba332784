//! `/api/threads*`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use http::StatusCode;
use kingsguard_protocol::control::ThreadHistory;
use kingsguard_protocol::http::{CreateThreadRequest, RenameThreadRequest, ThreadPage, ThreadSummary};

use super::extract::ThreadInPath;
use super::{Bearer, JsonBody, query};
use crate::app::App;
use crate::broker::Notice;
use crate::error::ApiError;

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    RawQuery(pairs): RawQuery,
) -> Result<Json<ThreadPage>, ApiError> {
    let limit = query::number(pairs.as_deref(), "limit")?;
    let cursor = query::text(pairs.as_deref(), "cursor");
    app.threads
        .list(&identity.user_id, limit, cursor.as_deref())
        .await
        .map(Json)
}

pub(super) async fn create(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    JsonBody(request): JsonBody<CreateThreadRequest>,
) -> Result<(StatusCode, Json<ThreadSummary>), ApiError> {
    app.drain.refuse_new_work()?;
    let made = app
        .threads
        .create(&identity.user_id, request.title.as_deref(), request.metadata.as_deref())
        .await?;
    Ok((StatusCode::CREATED, Json(made)))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    ThreadInPath(thread_id): ThreadInPath,
) -> Result<Json<ThreadSummary>, ApiError> {
    app.threads.get(&identity.user_id, &thread_id).await.map(Json)
}

pub(super) async fn rename(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    ThreadInPath(thread_id): ThreadInPath,
    JsonBody(request): JsonBody<RenameThreadRequest>,
) -> Result<Json<ThreadSummary>, ApiError> {
    app.threads
        .rename(&identity.user_id, &thread_id, &request.title)
        .await?;
    app.threads.get(&identity.user_id, &thread_id).await.map(Json)
}

/// Its events go with it; what still runs in it is heard by nobody and its log goes with the run's end.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    ThreadInPath(thread_id): ThreadInPath,
) -> Result<StatusCode, ApiError> {
    app.threads.delete(&identity.user_id, &thread_id).await?;
    app.bridge.remove_thread(&thread_id);
    app.broker.publish(Notice::ThreadDeleted { thread_id });
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn messages(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    ThreadInPath(thread_id): ThreadInPath,
    RawQuery(pairs): RawQuery,
) -> Result<Json<ThreadHistory>, ApiError> {
    let limit = query::number(pairs.as_deref(), "limit")?;
    let before = query::number(pairs.as_deref(), "before")?;
    app.threads
        .history(&identity.user_id, &thread_id, limit, before)
        .await
        .map(Json)
}
