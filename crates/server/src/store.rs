//! Postgres: the truth about accounts, threads, runs and events, and the only place with SQL.
//!
//! Each noun has its file under `store/`, with its methods in an `impl Store` of its own.

mod credentials;
pub mod events;
pub mod messages;
mod migrations;
pub mod runs;
pub mod threads;
mod usage_records;
mod users;

use std::time::{Duration, Instant};

use kingsguard_protocol::ErrorCode;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool};
use tokio::sync::watch;

pub use credentials::{FamilyState, LoginState, RefreshOutcome};
pub use users::User;

use crate::config::Config;
use crate::error::{ApiError, Chain};

/// A pooled connection idle for longer than this is asked whether it still lives before it is lent. Below it the
/// question would cost more than the rare failure that it prevents.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// How long to wait between attempts to reach Postgres at start; ERR-3 grants 5 s from its return to resumed work.
const MIGRATION_RETRY: Duration = Duration::from_millis(500);

/// Postgres, as the rest of the server sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
    migrated: std::sync::Arc<watch::Sender<bool>>,
}

impl Store {
    /// A store that connects when it is first asked.
    ///
    /// # Errors
    /// The URL cannot be read.
    pub fn new(config: &Config) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = config.database_url.reveal().parse()?;
        let options = options
            .application_name("kingsguard-server")
            .options([(
                "statement_timeout",
                config.database_statement_timeout.as_millis().to_string(),
            )])
            .log_statements(tracing::log::LevelFilter::Off);
        let connections_max = u32::try_from(config.database_connections_max).unwrap_or(u32::MAX);
        let pool = PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(config.database_acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for > IDLE_TRUSTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            migrated: std::sync::Arc::new(watch::Sender::new(false)),
        })
    }

    /// The pool, for the files under `store/`.
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Runs the migrations, trying again until Postgres lets it.
    ///
    /// # Errors
    /// Postgres answers, but the migrations do not fit the database: another try would not help.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let migrator = migrations::migrator();
        let mut attempts: u64 = 0;
        loop {
            match migrator.run(&self.pool).await {
                Ok(()) => {
                    self.migrated.send_replace(true);
                    return Ok(());
                }
                Err(error) if is_worth_another_try(&error) => {
                    attempts += 1;
                    if attempts.is_power_of_two() {
                        tracing::warn!(attempts, reason = %Chain(&error), "postgres cannot be migrated yet");
                    }
                    tokio::time::sleep(MIGRATION_RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the migrations ran.
    #[must_use]
    pub fn is_migrated(&self) -> bool {
        *self.migrated.borrow()
    }

    /// Waits until the migrations ran.
    pub async fn migrated(&self) {
        // `self` holds the sender, so the wait cannot fail.
        drop(self.migrated.subscribe().wait_for(|migrated| *migrated).await);
    }

    /// Refuses work before the migrations ran.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub fn refuse_before_migrated(&self) -> Result<(), ApiError> {
        if self.is_migrated() {
            Ok(())
        } else {
            Err(ApiError::new(ErrorCode::DatabaseUnavailable))
        }
    }

    /// Asks Postgres for a sign of life; returns how long it took.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn ping(&self) -> Result<Duration, ApiError> {
        let asked = Instant::now();
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(asked.elapsed())
    }

    /// Ends all connections to Postgres, once nothing asks for one any more.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

fn is_worth_another_try(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => is_unavailable(source),
        _ => false,
    }
}

fn is_unavailable(error: &sqlx::Error) -> bool {
    crate::error::database_code(error) == ErrorCode::DatabaseUnavailable
}
