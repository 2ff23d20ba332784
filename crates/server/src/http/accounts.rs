//! `/auth/*`: registering, logging in, refreshing, logging out.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest as _, Request, State};
use http::{HeaderName, HeaderValue, StatusCode, header};
use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::http::{LoginRequest, MeResponse, RefreshRequest, RegisterRequest, TokenResponse};
use serde_json::{Value, json};

use super::{Bearer, ClientAddress, JsonBody};
use crate::app::App;
use crate::error::ApiError;

/// Answers that hold credentials are kept by nobody on the way (RFC 6749 §5.1).
const NO_STORE: [(HeaderName, HeaderValue); 1] = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];

type Tokens = ([(HeaderName, HeaderValue); 1], Json<TokenResponse>);

pub(super) async fn register(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<RegisterRequest>,
) -> Result<(StatusCode, Tokens), ApiError> {
    let tokens = app.auth.register(request.try_into()?).await?;
    Ok((StatusCode::CREATED, (NO_STORE, Json(tokens))))
}

pub(super) async fn login(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    JsonBody(request): JsonBody<LoginRequest>,
) -> Result<Tokens, ApiError> {
    app.limiter.login(address)?;
    Ok((NO_STORE, Json(app.auth.login(request.try_into()?).await?)))
}

/// Judged before anything else, so that a server without it cannot be told from one that never heard of it.
pub(super) async fn dev_login(
    State(app): State<Arc<App>>,
    ClientAddress(address): ClientAddress,
    request: Request,
) -> Result<Tokens, ApiError> {
    if !app.config.dev_login {
        return Err(ApiError::new(ErrorCode::NotFound));
    }
    let JsonBody(request) = JsonBody::<LoginRequest>::from_request(request, &app).await?;
    app.limiter.login(address)?;
    Ok((NO_STORE, Json(app.auth.dev_login(request.try_into()?).await?)))
}

pub(super) async fn refresh(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<RefreshRequest>,
) -> Result<Tokens, ApiError> {
    Ok((NO_STORE, Json(app.auth.refresh(&request).await?)))
}

pub(super) async fn logout(State(app): State<Arc<App>>, Bearer(identity): Bearer) -> Result<Json<Value>, ApiError> {
    app.auth.logout(&identity).await?;
    Ok(Json(json!({})))
}

pub(super) async fn me(State(app): State<Arc<App>>, Bearer(identity): Bearer) -> Result<Json<MeResponse>, ApiError> {
    Ok(Json(app.auth.me(&identity).await?))
}
