//! A node's life from its listener to its last answer.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use kingsguard_protocol::control::ShutdownReason;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::config::Config;
use crate::drain::{Drain, DrainState};
use crate::error::Chain;
use crate::{http, telemetry};

/// Serves on a bound listener until SIGTERM or SIGINT (stop) or SIGHUP (restart), then drains and returns (CON-4).
///
/// It answers at once: `/health/ready` says when the node can work.
///
/// # Errors
/// The configuration cannot be used, or the database is not of this program.
pub async fn serve(listener: TcpListener, config: Config) -> anyhow::Result<()> {
    telemetry::start_metrics();
    let address = listener.local_addr().context("ask the listener for its address")?;
    let app = App::new(config)?;
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(heed_signals(app.drain.clone(), stop.clone())?);
    for task in background(&app, &stop) {
        tasks.spawn(task);
    }
    tracing::info!(address = %address, node = app.broker.node(), version = crate::VERSION, "listening");
    let answering = tasks.spawn(http::listen(listener, http::router(Arc::clone(&app)), stop.clone()));

    let drained = tokio::select! {
        migrated = app.store.migrate() => match migrated {
            Ok(()) => {
                tracing::info!(address = %address, "ready");
                // New upgrades are answered with 503 until the last connection is gone (CON-4).
                crate::connection::drain(&app).await;
                Ok(())
            }
            Err(error) => Err(anyhow::Error::new(error).context("migrate the database")),
        },
        _ = app.drain.begun() => Ok(()),
    };
    // Whatever runs ends now, and with it what follows the runs.
    let left = match app.drain.state() {
        DrainState::Draining { deadline, .. } => deadline.saturating_duration_since(Instant::now()),
        DrainState::Serving => Duration::ZERO,
    };
    tracing::info!(left_ms = left.as_millis() as u64, "draining");
    app.runs.drain(left).await;
    app.drain.end();
    stop.cancel();
    answering.await.context("end the listener")?;
    tasks.close();
    tasks.wait().await;
    if let Err(error) = app.broker.leave().await {
        tracing::debug!(reason = %Chain(&error), "redis was not told that this node leaves");
    }
    app.store.close().await;
    tracing::info!("stopped");
    drained
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn background(app: &Arc<App>, stop: &CancellationToken) -> Vec<Task> {
    let (broker, auth, limiter) = (app.broker.clone(), app.auth.clone(), app.limiter.clone());
    let (connections, notices) = (app.connections.clone(), app.broker.subscribe());
    let stops = [stop.clone(), stop.clone(), stop.clone(), stop.clone()];
    let [broker_stop, auth_stop, limiter_stop, relay_stop] = stops;
    vec![
        Box::pin(async move { broker.run(broker_stop).await }),
        Box::pin(async move { auth.run(auth_stop).await }),
        Box::pin(async move { limiter.run(limiter_stop).await }),
        Box::pin(async move {
            relay_stop.run_until_cancelled(connections.relay_notices(notices)).await;
        }),
    ]
}

fn heed_signals(drain: Drain, stop: CancellationToken) -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen to SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("listen to SIGHUP")?;
    Ok(async move {
        loop {
            let reason = tokio::select! {
                () = stop.cancelled() => return,
                _ = terminate.recv() => ShutdownReason::Stop,
                _ = interrupt.recv() => ShutdownReason::Stop,
                _ = hang_up.recv() => ShutdownReason::Restart,
            };
            drain.begin(reason);
        }
    })
}
