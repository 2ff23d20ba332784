//! Proxies that a test puts between itself, its nodes and their services.

use rand::Rng as _;

use super::{TestContext, authority_of};
use crate::fault::FaultProxy;
use crate::transport::authority;

impl TestContext {
    /// A proxy between the test and a node, and the base URL that leads through it. What is injected there and never
    /// happens fails the test; what it damages is told in the recording.
    pub async fn fault_proxy_before_node(&self, node: usize) -> (FaultProxy, String) {
        let url = self.node_url(node).await;
        let proxy = FaultProxy::noted_before_websocket(&authority(&url), self.rng().random(), self.ledger.clone());
        let led = proxy.lead(&url);
        (proxy, led)
    }

    /// A proxy between nodes and Postgres, and the value of `KINGSGUARD_DATABASE_URL` that leads through it: for nodes that
    /// are started with it, see [`TestContext::add_node_with`].
    pub async fn fault_proxy_before_postgres(&self) -> (FaultProxy, String) {
        self.fault_proxy_before_service("KINGSGUARD_DATABASE_URL").await
    }

    /// A proxy between nodes and Redis, and the value of `KINGSGUARD_REDIS_URL` that leads through it.
    pub async fn fault_proxy_before_redis(&self) -> (FaultProxy, String) {
        self.fault_proxy_before_service("KINGSGUARD_REDIS_URL").await
    }

    async fn fault_proxy_before_service(&self, setting: &str) -> (FaultProxy, String) {
        let url = self
            .backend()
            .await
            .settings()
            .get(setting)
            .cloned()
            .unwrap_or_default();
        let Some(authority) = authority_of(&url) else {
            panic!("{setting} names no host");
        };
        let proxy = FaultProxy::noted_before_bytes(&authority, self.rng().random(), self.ledger.clone());
        let own = proxy.address().to_string();
        self.capture.update_facts(|facts| facts.internal_addresses.push(own));
        let led = proxy.lead(&url);
        (proxy, led)
    }
}
