//! The services of a suite run: Postgres and Redis, started once by `kingsguard-stack up` and found by every test through
//! `$KINGSGUARD_STACK`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::process::ProcessId;

/// What Postgres and Redis may take for what a test begins and ends with. Reached only where something is wrong.
const SERVICE_ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// The variable that holds the path of the stack's file.
pub const STACK_VARIABLE: &str = "KINGSGUARD_STACK";

/// The services of a suite run, as `kingsguard-stack up --json` prints them and `$KINGSGUARD_STACK` holds them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Names the suite run; databases, prefixes and containers carry it.
    pub suite_run: String,
    /// Who gives the services: `containers`, `processes` or `external`.
    pub provider: String,
    /// Where this stack keeps its state; gone when the stack is.
    pub folder: PathBuf,
    /// A Postgres that may create databases.
    pub postgres_url: String,
    /// The database that is cloned for each test: migrated and empty.
    pub template_database: String,
    /// A Redis.
    pub redis_url: String,
    /// How tests start their backend.
    pub backend: BackendKind,
    /// The process that ends everything when the owner is gone.
    pub supervisor: ProcessId,
}

/// How tests start their backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum BackendKind {
    /// A process of the server's binary.
    Process,
    /// A container of this image, on the machine's own network.
    Container {
        /// The backend's image.
        image: String,
        /// A newer binary than the image holds, which is put in its place.
        binary: Option<PathBuf>,
    },
}

impl Stack {
    /// The stack that `$KINGSGUARD_STACK` names.
    ///
    /// # Errors
    /// There is none, or it is no longer there.
    pub fn from_env() -> Result<Self> {
        let Some(path) = std::env::var_os(STACK_VARIABLE) else {
            bail!(
                "no services: {STACK_VARIABLE} is not set; run tests with `cargo xtask test <category>` or `cargo nextest run`"
            );
        };
        Self::read(Path::new(&path))
    }

    /// Reads a stack's file.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("no services: reading the stack's file {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading the stack's file {}", path.display()))
    }

    /// A name for one test's database and Redis prefix.
    #[must_use]
    pub fn unique_name(&self) -> String {
        let unique = uuid::Uuid::now_v7().simple().to_string();
        format!("kg_{}_{}", self.suite_run, &unique[16..])
    }

    /// Clones the template into a new database; says its URL as the test sees it.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let statement = format!(
            "CREATE DATABASE \"{name}\" TEMPLATE \"{}\" STRATEGY FILE_COPY",
            self.template_database
        );
        let cloning = async {
            let mut admin = self.admin().await?;
            // Two clones of one template at a time exclude each other only for a moment: Postgres says so and is asked again.
            loop {
                match sqlx::raw_sql(AssertSqlSafe(statement.as_str()))
                    .execute(&mut admin)
                    .await
                {
                    Ok(_) => return Ok(with_database(&self.postgres_url, name)),
                    Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55006") => {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        in_time(cloning)
            .await
            .with_context(|| format!("cloning the template into {name}"))
    }

    /// Drops a database, ending whoever is connected to it.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn drop_database(&self, name: &str) -> Result<()> {
        let statement = format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)");
        let dropping = async {
            let mut admin = self.admin().await?;
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await?;
            Ok(())
        };
        in_time(dropping)
            .await
            .with_context(|| format!("dropping the database {name}"))
    }

    async fn admin(&self) -> Result<PgConnection> {
        PgConnection::connect(&self.postgres_url)
            .await
            .context("connecting to Postgres")
    }
}

/// Deletes every Redis key under a prefix.
///
/// # Errors
/// Redis does not answer.
pub async fn delete_keys(redis_url: &str, prefix: &str) -> Result<()> {
    let client = redis::Client::open(redis_url).context("reading the Redis address")?;
    let deleting = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{prefix}*"))
                .arg("COUNT")
                .arg(500)
                .query_async(&mut connection)
                .await
                .context("listing keys")?;
            if !keys.is_empty() {
                let _: u64 = redis::cmd("UNLINK").arg(keys).query_async(&mut connection).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    };
    in_time(deleting)
        .await
        .with_context(|| format!("deleting the Redis keys under {prefix}"))
}

/// What a service does, within [`SERVICE_ANSWERS_WITHIN`].
async fn in_time<T>(doing: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(SERVICE_ANSWERS_WITHIN, doing).await {
        Ok(done) => done,
        Err(_) => bail!("no answer within {} s", SERVICE_ANSWERS_WITHIN.as_secs()),
    }
}

/// The same Postgres, another database.
#[must_use]
pub fn with_database(url: &str, database: &str) -> String {
    let (before_query, query) = url
        .split_once('?')
        .map_or((url, None), |(url, query)| (url, Some(query)));
    let base = match before_query.find("://").map(|scheme| scheme + 3) {
        Some(authority) => match before_query[authority..].find('/') {
            Some(slash) => &before_query[..authority + slash],
            None => before_query,
        },
        None => before_query,
    };
    match query {
        Some(query) => format!("{base}/{database}?{query}"),
        None => format!("{base}/{database}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_the_rest_of_the_address() {
        assert_eq!(
            with_database("postgres://u:p@h:1/postgres", "x"),
            "postgres://u:p@h:1/x"
        );
        assert_eq!(with_database("postgres://u:p@h:1", "x"), "postgres://u:p@h:1/x");
        assert_eq!(
            with_database("postgres://h/a?sslmode=disable", "x"),
            "postgres://h/x?sslmode=disable"
        );
    }
}
