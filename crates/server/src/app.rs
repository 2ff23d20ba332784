//! Everything that one node is made of, wired once at start.

use std::sync::Arc;

use anyhow::Context as _;

use crate::agents::{AgentRegistry, AgentServices};
use crate::auth::Auth;
use crate::bridge::Bridge;
use crate::bridge::retention::Retention;
use crate::broker::Broker;
use crate::config::Config;
use crate::connection::Connections;
use crate::drain::Drain;
use crate::limiter::Limiter;
use crate::model::Model;
use crate::runs::{RunBounds, RunTimes, Runs};
use crate::store::Store;
use crate::threads::Threads;

/// One node. Shared as `Arc<App>`.
#[derive(Debug)]
pub struct App {
    /// What was set.
    pub config: Arc<Config>,
    /// Postgres.
    pub store: Store,
    /// Redis.
    pub broker: Broker,
    /// Who clients are.
    pub auth: Auth,
    /// Limits of rate and number.
    pub limiter: Limiter,
    /// What users do with their threads.
    pub threads: Threads,
    /// Who works on what users ask.
    pub registry: Arc<AgentRegistry>,
    /// Brings events from the log to connections.
    pub bridge: Bridge,
    /// Accepts, executes and ends runs.
    pub runs: Runs,
    /// Whom this node holds.
    pub connections: Connections,
    /// Whether the node stops.
    pub drain: Drain,
}

impl App {
    /// Wires a node; it connects when it is first asked. Called inside a runtime: bridge and runs start their tasks.
    ///
    /// # Errors
    /// The URL of Postgres or Redis cannot be read, or the agents do not fit together.
    pub fn new(config: Config) -> anyhow::Result<Arc<Self>> {
        let config = Arc::new(config);
        let store = Store::new(&config)?;
        let broker = Broker::new(&config)?;
        let auth = Auth::new(Arc::clone(&config), store.clone(), broker.clone())?;
        let limiter = Limiter::new(&config);
        let threads = Threads::new(store.clone(), config.threads_per_user_max);
        let drain = Drain::new(config.drain_deadline);
        let services = AgentServices {
            usage: Arc::new(store.clone()),
            contexts: Arc::new(store.clone()),
            model: Model::configured(&config).context("make a client for the model")?,
            tool_limit: config.tool_timeout,
        };
        let registry = Arc::new(AgentRegistry::builtin(services).context("wire the agents")?);
        let (batch_max, queue_max) = (count(config.event_batch_max), count(config.event_queue_max));
        let retention = Retention {
            events_min: config.retained_events_min,
            hours: config.retained_hours,
            interval: config.retention_interval,
        };
        let bridge = Bridge::start(&store, broker.clone(), batch_max, queue_max, retention);
        let bounds = RunBounds {
            times: RunTimes {
                deadline: config.run_deadline,
                silence_max: config.silence_max,
            },
            concurrent_max: count(config.runs_concurrent_max),
            queued_per_thread_max: count(config.runs_queued_per_thread_max),
            lease: config.run_lease,
        };
        let runs = Runs::start(store.clone(), bridge.clone(), registry.clone(), bounds);
        Ok(Arc::new(Self {
            config,
            store,
            broker,
            auth,
            limiter,
            threads,
            registry,
            bridge,
            runs,
            connections: Connections::new(),
            drain,
        }))
    }
}

/// A bound as the collections count it.
fn count(setting: u64) -> usize {
    usize::try_from(setting).unwrap_or(usize::MAX)
}
