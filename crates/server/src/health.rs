//! Whether the node can work (OPS-1).

use std::collections::BTreeMap;
use std::time::Duration;

use kingsguard_protocol::http::{DependencyHealth, HealthResponse, HealthStatus};

use crate::app::App;
use crate::error::ApiError;
use crate::model::BreakerState;

/// How long a dependency may take to answer before it counts as away.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Whether a balancer should send clients here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Yes.
    Ready,
    /// Not now.
    NotReady,
}

/// Asks every dependency.
///
/// Redis must have answered once before the node is ready. When it goes away later the node is degraded and stays
/// ready, because chat on one node goes on (ERR-3).
pub async fn judge(app: &App) -> (Readiness, HealthResponse) {
    let (postgres, redis) = tokio::join!(
        tokio::time::timeout(ANSWERS_WITHIN, app.store.ping()),
        tokio::time::timeout(ANSWERS_WITHIN, app.broker.ping()),
    );
    let is_migrated = app.store.is_migrated();
    let has_postgres = matches!(postgres, Ok(Ok(_)));
    let has_redis = matches!(redis, Ok(Ok(_)));
    let mut dependencies = BTreeMap::from([
        (
            "postgres".to_owned(),
            dependency(postgres, HealthStatus::Unavailable, "Postgres does not answer."),
        ),
        (
            "redis".to_owned(),
            dependency(
                redis,
                HealthStatus::Degraded,
                "Redis does not answer: chat stays on one node.",
            ),
        ),
    ]);
    dependencies.insert(
        "migrations".to_owned(),
        plain(
            is_migrated,
            HealthStatus::Unavailable,
            "The migrations did not run yet.",
        ),
    );
    let has_lease = app.runs.has_had_its_lease();
    dependencies.insert(
        "lease".to_owned(),
        plain(
            has_lease,
            HealthStatus::Unavailable,
            "This node has no lease yet: others would take its runs.",
        ),
    );
    let has_agents = !app.registry.names().is_empty();
    dependencies.insert(
        "agents".to_owned(),
        plain(has_agents, HealthStatus::Unavailable, "No agent is registered."),
    );
    if let Some(breaker) = app.registry.model().breaker() {
        let state = breaker.state();
        let health = DependencyHealth {
            status: if state == BreakerState::Closed {
                HealthStatus::Ok
            } else {
                HealthStatus::Degraded
            },
            latency_ms: None,
            message: Some(format!("circuit breaker is {}", state.as_str())),
        };
        dependencies.insert("model".to_owned(), health);
    }
    let works = has_agents && has_postgres && is_migrated && has_lease && (has_redis || app.broker.was_up());
    let status = if app.drain.is_draining() {
        HealthStatus::Draining
    } else if !works {
        HealthStatus::Unavailable
    } else if !has_redis {
        HealthStatus::Degraded
    } else {
        HealthStatus::Ok
    };
    let readiness = match status {
        HealthStatus::Ok | HealthStatus::Degraded => Readiness::Ready,
        HealthStatus::Unavailable | HealthStatus::Draining => Readiness::NotReady,
    };
    let health = HealthResponse {
        status,
        version: crate::VERSION.to_owned(),
        dependencies,
    };
    (readiness, health)
}

fn dependency(
    asked: Result<Result<Duration, ApiError>, tokio::time::error::Elapsed>,
    without: HealthStatus,
    message: &str,
) -> DependencyHealth {
    match asked {
        Ok(Ok(latency)) => DependencyHealth {
            status: HealthStatus::Ok,
            latency_ms: Some(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX)),
            message: None,
        },
        Ok(Err(_)) | Err(_) => plain(false, without, message),
    }
}

fn plain(is_well: bool, without: HealthStatus, message: &str) -> DependencyHealth {
    DependencyHealth {
        status: if is_well { HealthStatus::Ok } else { without },
        latency_ms: None,
        message: (!is_well).then(|| message.to_owned()),
    }
}
