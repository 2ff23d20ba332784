//! Redis: fan-out between nodes, presence and tickets, and the only place that names Redis keys.
//!
//! Nothing here is the truth: that is Postgres. Where Redis is away, notices are dropped and counted, chat on one node
//! goes on (ERR-3), and once Redis is back every subscriber is told that it may have missed something
//! ([`Notice::Gap`]), so that it reads from Postgres what it needs.

mod events;
mod notice;
mod presence;
mod tickets;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kingsguard_protocol::ErrorCode;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use notice::{Notice, StoredFrame};
pub use tickets::TicketRecord;

use crate::config::Config;
use crate::error::{ApiError, Chain};
use crate::telemetry;

/// Notices of this node that wait for Redis. At about 1 kB each this is the memory that a stalled Redis may cost.
const NOTICES_OUT_MAX: usize = 4_096;

/// Notices of other nodes that a subscriber may lag behind before it is told of a gap.
const NOTICES_IN_MAX: usize = 4_096;

/// Notices that one write carries to Redis.
const NOTICES_PIPELINED_MAX: usize = 256;

/// How long to wait before Redis is asked again after it went away: short against the 5 s that AUTH-6 grants.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Redis, as the rest of the server sees it. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    client: redis::Client,
    connection: ConnectionManager,
    prefix: String,
    node: String,
    timeout: Duration,
    out: mpsc::Sender<Notice>,
    /// Taken by the one task that publishes.
    queued: std::sync::Mutex<Option<mpsc::Receiver<Notice>>>,
    notices: broadcast::Sender<Arc<Notice>>,
    available: watch::Sender<bool>,
    was_up: AtomicBool,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("node", &self.inner.node)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// A broker that connects when it is first asked. Needs a tokio runtime.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(config: &Config) -> Result<Self, redis::RedisError> {
        let client = redis::Client::open(config.redis_url.reveal())?;
        let manager = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(10))
            .set_connection_timeout(Some(config.redis_timeout))
            .set_response_timeout(Some(config.redis_timeout));
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), manager)?;
        let (out, queued) = mpsc::channel(NOTICES_OUT_MAX);
        let made_up = || format!("node_{}", uuid::Uuid::now_v7());
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                connection,
                prefix: config.redis_prefix.clone(),
                node: config.node_name.clone().unwrap_or_else(made_up),
                timeout: config.redis_timeout,
                out,
                queued: std::sync::Mutex::new(Some(queued)),
                notices: broadcast::Sender::new(NOTICES_IN_MAX),
                available: watch::Sender::new(false),
                was_up: AtomicBool::new(false),
            }),
        })
    }

    /// The name of this node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.inner.node
    }

    /// Whether Redis answered last.
    #[must_use]
    pub fn is_up(&self) -> bool {
        *self.inner.available.borrow()
    }

    /// Whether Redis answered at least once since the start.
    #[must_use]
    pub fn was_up(&self) -> bool {
        self.inner.was_up.load(Ordering::Relaxed)
    }

    /// Tells all other nodes. Never waits: where the queue is full or Redis is away the notice is dropped and counted,
    /// and the other nodes learn of a gap.
    pub fn publish(&self, notice: Notice) {
        if self.inner.out.try_send(notice).is_err() {
            telemetry::dropped("fan_out", 1);
        }
    }

    /// What other nodes tell, from now on. A receiver that lags treats it as [`Notice::Gap`].
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Notice>> {
        self.inner.notices.subscribe()
    }

    /// Asks Redis for a sign of life; returns how long it took.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE.
    pub async fn ping(&self) -> Result<Duration, ApiError> {
        let asked = Instant::now();
        let mut connection = self.inner.connection.clone();
        self.timed(async move { redis::cmd("PING").query_async::<()>(&mut connection).await })
            .await?;
        Ok(asked.elapsed())
    }

    /// Publishes and listens until `stop`. Runs once for each broker.
    pub async fn run(&self, stop: CancellationToken) {
        let queued = self
            .inner
            .queued
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let Some(queued) = queued else {
            tracing::error!("the broker runs already");
            return;
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.publish_queued(queued) => {}
            () = self.listen() => {}
            () = self.keep_presence() => {}
        }
    }

    async fn publish_queued(&self, mut queued: mpsc::Receiver<Notice>) {
        let channel = self.channel();
        let mut batch = Vec::with_capacity(NOTICES_PIPELINED_MAX);
        while queued.recv_many(&mut batch, NOTICES_PIPELINED_MAX).await > 0 {
            telemetry::queue_depth("fan_out", queued.len());
            let mut pipeline = redis::pipe();
            let count = batch.len() as u64;
            for notice in batch.drain(..) {
                match notice::encode(&self.inner.node, &notice) {
                    Ok(text) => drop(pipeline.publish(&channel, text).ignore()),
                    Err(error) => tracing::error!(reason = %Chain(&error), "notice cannot be written"),
                }
            }
            let mut connection = self.inner.connection.clone();
            if self
                .timed(async move { pipeline.query_async::<()>(&mut connection).await })
                .await
                .is_err()
            {
                telemetry::dropped("fan_out", count);
            }
        }
    }

    /// Listens for good, connecting again whenever Redis was away.
    async fn listen(&self) {
        let mut was_connected = false;
        loop {
            match self.listen_once(was_connected).await {
                Ok(()) => tracing::warn!("redis closed the subscription"),
                Err(error) if was_connected || self.is_up() => {
                    tracing::warn!(reason = %Chain(&error), "redis is away");
                }
                Err(error) => tracing::debug!(reason = %Chain(&error), "redis is still away"),
            }
            was_connected |= self.is_up();
            self.inner.available.send_replace(false);
            tokio::time::sleep(RECONNECT_AFTER).await;
        }
    }

    async fn listen_once(&self, was_connected: bool) -> Result<(), redis::RedisError> {
        let too_slow = || redis::RedisError::from((redis::ErrorKind::Io, "connecting took too long"));
        let connecting = async {
            let mut subscription = self.inner.client.get_async_pubsub().await?;
            subscription.subscribe(self.channel()).await?;
            Ok::<_, redis::RedisError>(subscription)
        };
        let subscription = tokio::time::timeout(self.inner.timeout, connecting)
            .await
            .map_err(|_| too_slow())??;
        self.inner.available.send_replace(true);
        self.inner.was_up.store(true, Ordering::Relaxed);
        tracing::info!(node = self.inner.node, "redis answers");
        if was_connected {
            self.hand_on(Notice::Gap);
        }
        let (mut sink, mut messages) = subscription.split();
        let mut heartbeat = tokio::time::interval(RECONNECT_AFTER.max(self.inner.timeout));
        heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = messages.next() => {
                    let Some(message) = message else { return Ok(()) };
                    match notice::decode(message.get_payload_bytes()) {
                        Ok((node, _)) if node == self.inner.node => {}
                        Ok((_, notice)) => self.hand_on(notice),
                        Err(error) => tracing::error!(reason = %Chain(&error), "notice of another node cannot be read"),
                    }
                }
                // A partition leaves the subscription silent for ever; asking shows whether Redis is still there.
                _ = heartbeat.tick() => {
                    tokio::time::timeout(self.inner.timeout, sink.ping::<redis::Value>()).await.map_err(|_| too_slow())??;
                }
            }
        }
    }

    fn hand_on(&self, notice: Notice) {
        // An error means that nobody subscribes, which is no one's loss.
        drop(self.inner.notices.send(Arc::new(notice)));
    }

    /// Bounds a call to Redis in time.
    async fn timed<T>(&self, call: impl Future<Output = Result<T, redis::RedisError>>) -> Result<T, ApiError> {
        match tokio::time::timeout(self.inner.timeout, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(error.into()),
            Err(elapsed) => Err(ApiError::new(ErrorCode::CacheUnavailable).caused_by(elapsed)),
        }
    }

    fn channel(&self) -> String {
        format!("{}:notices", self.inner.prefix)
    }

    fn key(&self, kind: &str, name: &str) -> String {
        format!("{}:{kind}:{name}", self.inner.prefix)
    }
}
