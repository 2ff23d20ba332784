//! Ending all connections of a node without breaking what runs (CON-4).

use kingsguard_protocol::control::{ServerShutdown, ShutdownReason};
use kingsguard_protocol::{CloseCode, ControlFrame, Timestamp};
use tokio::time::Instant;

use super::clerk;
use crate::app::App;

/// Waits until the node drains; then tells every connection, lets running runs go on up to the deadline, and closes
/// all connections with 1001, or 1012 where the server comes back. Returns when they are gone.
pub async fn drain(app: &App) {
    let (reason, deadline) = app.drain.begun().await;
    let notice = ControlFrame::ServerShutdown(ServerShutdown {
        reason,
        drain_deadline_ms: u64::try_from(app.drain.patience().as_millis()).unwrap_or(u64::MAX),
        timestamp: Timestamp::now(),
    });
    if let Some(text) = clerk::text_of(&notice) {
        app.connections.announce(text);
    }
    app.runs.drain(deadline.saturating_duration_since(Instant::now())).await;
    app.drain.end();
    let (code, words) = match reason {
        ShutdownReason::Stop => (CloseCode::GoingAway, "server stops"),
        ShutdownReason::Restart => (CloseCode::Restart, "server restarts"),
    };
    app.connections.close_all(code, words);
    if tokio::time::timeout(app.config.close_deadline, app.connections.all_left())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = app.connections.count(),
            "connections are dropped at the end of the drain"
        );
    }
}
