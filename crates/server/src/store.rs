//! Postgres: the truth about accounts, threads, runs and events, and the only place with SQL.
//!
//! Each noun has its file under `store/`, with its methods in an `impl Store` of its own.

mod credentials;
mod database;
pub mod events;
pub mod messages;
mod migrations;
pub mod runs;
pub mod threads;
mod usage_records;
mod users;

use std::time::{Duration, Instant};

use kingsguard_protocol::ErrorCode;
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;

pub use credentials::{FamilyState, LoginState, RefreshOutcome};
pub use database::{Database, Lent};
pub use users::User;

use crate::config::Config;
use crate::error::{ApiError, Chain};

/// How long to wait between attempts to reach Postgres at start; ERR-3 grants 5 s from its return to resumed work.
const MIGRATION_RETRY: Duration = Duration::from_millis(500);

/// When Postgres asks whether we are still there, in seconds, and how often in vain before it ends a session and frees its locks.
/// By the system's defaults a lost machine would keep them for two hours.
const KEEPALIVE: [(&str, u32); 3] = [
    ("tcp_keepalives_idle", 10),
    ("tcp_keepalives_interval", 5),
    ("tcp_keepalives_count", 3),
];

/// Postgres, as the rest of the server sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
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
            .options(KEEPALIVE)
            .log_statements(tracing::log::LevelFilter::Off);
        Ok(Self {
            database: Database::new(config, options),
            migrated: std::sync::Arc::new(watch::Sender::new(false)),
        })
    }

    /// Postgres itself, for the functions under `store/`.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Runs the migrations, trying again until Postgres lets it.
    ///
    /// # Errors
    /// Postgres answers, but the migrations do not fit the database: another try would not help.
    pub async fn migrate(&self) -> Result<(), sqlx::migrate::MigrateError> {
        let migrator = migrations::migrator();
        let mut attempts: u64 = 0;
        loop {
            match migrator.run(self.database.pool()).await {
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
        sqlx::query("SELECT 1").execute(&self.database).await?;
        Ok(asked.elapsed())
    }

    /// Ends all connections to Postgres, once nothing asks for one any more.
    pub async fn close(&self) {
        self.database.pool().close().await;
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
