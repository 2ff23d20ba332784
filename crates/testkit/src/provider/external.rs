//! Services that somebody else runs: addresses by setting. Only databases and keys of the suite run are touched.

use anyhow::{Context as _, Result};
use sqlx::Connection as _;

use super::processes::ping_redis;

/// Addresses of services that somebody else runs.
#[derive(Clone, Debug)]
pub struct Services {
    /// `$KINGSGUARD_DATABASE_URL`: a Postgres whose user may create databases.
    pub postgres_url: String,
    /// `$KINGSGUARD_REDIS_URL`.
    pub redis_url: String,
}

impl Services {
    /// Reads the addresses and asks both services.
    ///
    /// # Errors
    /// A setting is missing, or a service does not answer.
    pub async fn find() -> Result<Self> {
        let setting = |name: &str| {
            std::env::var(name).with_context(|| format!("external services: set {name} to the address of the service"))
        };
        let services = Self {
            postgres_url: setting("KINGSGUARD_DATABASE_URL")?,
            redis_url: setting("KINGSGUARD_REDIS_URL")?,
        };
        let mut connection = sqlx::PgConnection::connect(&services.postgres_url)
            .await
            .context("connecting to the Postgres that KINGSGUARD_DATABASE_URL names")?;
        connection
            .ping()
            .await
            .context("asking the Postgres that KINGSGUARD_DATABASE_URL names")?;
        ping_redis(&services.redis_url)
            .await
            .context("the Redis that KINGSGUARD_REDIS_URL names")?;
        Ok(services)
    }
}
