//! `GET /api/billing/usage`: what the user's runs used.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use kingsguard_protocol::Timestamp;
use kingsguard_protocol::control::{UsagePeriod, UsageReport};

use super::{Bearer, query};
use crate::app::App;
use crate::error::ApiError;
use crate::store::runs;

pub(super) async fn usage(
    State(app): State<Arc<App>>,
    Bearer(identity): Bearer,
    RawQuery(pairs): RawQuery,
) -> Result<Json<UsageReport>, ApiError> {
    let period = match query::text(pairs.as_deref(), "period") {
        None => UsagePeriod::default(),
        Some(name) => UsagePeriod::ALL
            .into_iter()
            .find(|period| period.as_str() == name)
            .ok_or_else(|| ApiError::validation("/period", "`day`, `week`, `month` or `all`"))?,
    };
    let (runs, usage) = runs::usage(app.store.database(), &identity.user_id, period).await?;
    Ok(Json(UsageReport {
        period,
        runs,
        usage,
        correlation_id: None,
        timestamp: Timestamp::now(),
    }))
}
