//! Everything that one node is made of, wired once at start.

use std::sync::Arc;

use crate::auth::Auth;
use crate::broker::Broker;
use crate::config::Config;
use crate::drain::Drain;
use crate::limiter::Limiter;
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
    /// Whether the node stops.
    pub drain: Drain,
}

impl App {
    /// Wires a node; connects to nothing yet.
    ///
    /// # Errors
    /// The URL of Postgres or Redis cannot be read.
    pub fn new(config: Config) -> anyhow::Result<Arc<Self>> {
        let config = Arc::new(config);
        let store = Store::new(&config)?;
        let broker = Broker::new(&config)?;
        let auth = Auth::new(Arc::clone(&config), store.clone(), broker.clone())?;
        let limiter = Limiter::new(&config);
        let threads = Threads::new(store.clone(), config.threads_per_user_max);
        let drain = Drain::new(config.drain_deadline);
        Ok(Arc::new(Self {
            config,
            store,
            broker,
            auth,
            limiter,
            threads,
            drain,
        }))
    }
}
