//! `POST /api/usage-records`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use http::{StatusCode, header};
use kingsguard_protocol::http::UsageRecordsResponse;

use super::Bearer;
use super::extract::discard;
use crate::app::App;
use crate::error::ApiError;
use crate::usage;

pub(super) async fn import(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    request: Request,
) -> Result<(StatusCode, Json<UsageRecordsResponse>), ApiError> {
    let content_type = request
        .headers()
        .get(header::CONTENT_TYPE)
        .map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned());
    let mut body = request.into_body().into_data_stream();
    let catalogue = app.registry.catalogue();
    match usage::import(
        &app.store,
        catalogue,
        &identity.user_id,
        content_type.as_deref(),
        &mut body,
    )
    .await
    {
        Ok(stored) => Ok((StatusCode::CREATED, Json(UsageRecordsResponse { stored }))),
        Err(refused) => {
            discard(Body::from_stream(body)).await;
            Err(refused)
        }
    }
}
