//! Accepting TCP connections and speaking HTTP/1.1 on them.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::error::Chain;

/// How long a peer may take to send a request's head: what opens connections and says nothing costs us no more.
const HEAD_WITHIN: Duration = Duration::from_secs(15);

/// Bytes of a request's head: several header fields of 32 KiB, which browsers with seven copies of a token need.
const HEAD_BYTES_MAX: usize = 256 * 1024;

/// How long to wait after accepting failed, which mostly means that file handles are used up.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How long requests under way may still take once `stop` is called.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Serves until `stop`, then lets requests under way end.
pub async fn listen(listener: TcpListener, router: Router, stop: CancellationToken) {
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => drop(connections.spawn(serve(stream, peer, router.clone(), stop.clone()))),
            Err(error) => {
                tracing::warn!(reason = %Chain(&error), "connection cannot be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(LAST_ANSWERS_WITHIN, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections are dropped with requests under way"
        );
    }
}

async fn serve(stream: TcpStream, peer: SocketAddr, router: Router, stop: CancellationToken) {
    // Events are small and each matters: none waits for the acknowledgement of the one before (TIM-3).
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(reason = %Chain(&error), "nodelay cannot be set");
    }
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.oneshot(request).await
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(reason = %Chain(&error), "connection ended badly");
    }
}
