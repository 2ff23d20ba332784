//! Postgres as it is asked: no answer is waited for without end.
//!
//! Postgres itself ends a statement that takes too long (`statement_timeout`), but where the way to it swallows everything and
//! nobody is told (a machine that lost its power, a firewall that forgot a connection), that word never comes, and TCP alone would
//! wait for a quarter of an hour or longer. So every answer has a deadline here as well, and a connection that says nothing is closed
//! instead of lent again.

use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use async_stream::try_stream;
use futures_util::TryStreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Connection as _, Either, Execute, Executor, PgConnection, PgPool, Postgres, SqlStr, Transaction};

use crate::config::Config;

/// A pooled connection idle for longer than this is asked whether it still lives before it is lent. Below it the
/// question would cost more than the rare failure that it prevents.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);

/// How long a pooled connection may take to say that it lives.
const SIGN_OF_LIFE_WITHIN: Duration = Duration::from_millis(500);

/// How much longer than Postgres may take for a statement its answer may be under way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A pool of connections to Postgres. Cheap to clone. As an executor it lends a connection for one statement, and fails with an
/// I/O error where the answer, or the next row of it, is late.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
    answers_within: Duration,
}

impl Database {
    /// A pool that connects when it is first asked.
    pub(super) fn new(config: &Config, options: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(u32::try_from(config.database_connections_max).unwrap_or(u32::MAX))
            .acquire_timeout(config.database_acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(|connection, metadata| {
                Box::pin(async move {
                    if metadata.idle_for > IDLE_TRUSTED {
                        within(SIGN_OF_LIFE_WITHIN, connection.ping()).await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Self {
            pool,
            answers_within: config.database_statement_timeout + UNDER_WAY,
        }
    }

    /// The pool behind it, for migrations, which may take their time, and for its end.
    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Lends a connection; what is asked of it is [`within`](Self::within) its deadline only if the borrower says so.
    ///
    /// # Errors
    /// None is free, or Postgres does not answer.
    pub async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        self.pool.acquire().await.map(Lent)
    }

    /// Begins a transaction; for what is asked in it, see [`Self::acquire`].
    ///
    /// # Errors
    /// No connection is free, or Postgres does not answer.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        // Where BEGIN is given up before its answer came, sqlx knows of no transaction to roll back, and whoever is lent the
        // connection next would write into one that nobody commits.
        connection.close_on_drop();
        self.within(Transaction::begin(connection, None)).await
    }

    /// Waits for an answer as long as one may take.
    ///
    /// # Errors
    /// What Postgres says, or an I/O error where it says nothing.
    pub async fn within<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
        within(self.answers_within, answer).await
    }
}

/// A connection that is lent. Given back, it is asked whether it still lives, as the pool does; the pool alone would wait for an
/// answer without end, and keep the place of a connection that says nothing.
#[derive(Debug)]
pub struct Lent(PoolConnection<Postgres>);

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        tokio::spawn(tokio::time::timeout(SIGN_OF_LIFE_WITHIN, self.0.return_to_pool()));
    }
}

async fn within<T>(deadline: Duration, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let silence = format!("no answer within {} ms", deadline.as_millis());
            Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, silence)))
        }
    }
}

impl<'c> Executor<'c> for &'c Database {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(try_stream! {
            let mut connection = self.acquire().await?;
            let mut answer = connection.fetch_many(query);
            while let Some(step) = self.within(answer.try_next()).await? {
                yield step;
            }
        })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut connection = self.acquire().await?;
            self.within(connection.fetch_optional(query)).await
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let mut connection = self.acquire().await?;
            self.within(connection.prepare_with(sql, parameters)).await
        })
    }
}
