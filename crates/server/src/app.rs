//! Everything that one node is made of, wired once at start.

use std::sync::Arc;

use crate::config::Config;
use crate::drain::Drain;
use crate::store::Store;

/// One node. Shared as `Arc<App>`.
#[derive(Debug)]
pub struct App {
    /// What was set.
    pub config: Arc<Config>,
    /// Postgres.
    pub store: Store,
    /// Whether the node stops.
    pub drain: Drain,
}

impl App {
    /// Wires a node; connects to nothing yet.
    ///
    /// # Errors
    /// The URL of Postgres cannot be read.
    pub fn new(config: Config) -> anyhow::Result<Arc<Self>> {
        let store = Store::new(&config)?;
        let drain = Drain::new(config.drain_deadline);
        Ok(Arc::new(Self {
            config: Arc::new(config),
            store,
            drain,
        }))
    }
}
