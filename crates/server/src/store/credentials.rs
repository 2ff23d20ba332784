//! Token families, refresh tokens and failed logins.

use std::time::Duration;

use chrono::{DateTime, Utc};
use kingsguard_protocol::UserId;
use sqlx::Row as _;

use super::Store;
use super::users::{User, user};
use crate::error::ApiError;

/// What a login is judged by.
#[derive(Clone, Debug)]
pub struct LoginState {
    /// The account and its password hash, where there is such an account.
    pub account: Option<(User, Option<String>)>,
    /// How long the address stays locked.
    pub locked_for: Option<Duration>,
}

/// How a token family stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyState {
    /// Its tokens are good.
    Active,
    /// None of its tokens is good any more.
    Revoked,
    /// It is not known: its account was deleted, or it is not of this database.
    Unknown,
}

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// It was good, is used now, and the next one is stored.
    Rotated {
        /// The account.
        user: User,
        /// The family that the next access token belongs to.
        family_id: String,
    },
    /// It had been used before: its family is revoked now.
    Reused {
        /// The family.
        family_id: String,
    },
    /// Its family had been revoked.
    Revoked,
    /// Its time is over.
    Expired,
    /// No such token was ever given out, or it is long gone.
    Unknown,
}

impl Store {
    /// What a login with this address is judged by.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn login_state(&self, email: &str, email_hash: &[u8]) -> Result<LoginState, ApiError> {
        let row = sqlx::query(
            "SELECT u.user_id, u.email, u.name, u.password_hash,
                    (extract(epoch FROM f.locked_until - now()) * 1000)::float8 AS locked_ms
             FROM (SELECT 1) AS one
             LEFT JOIN users u ON lower(u.email) = lower($1)
             LEFT JOIN login_failures f ON f.email_hash = $2",
        )
        .bind(email)
        .bind(email_hash)
        .fetch_one(self.database())
        .await?;
        let account = match row.try_get::<Option<String>, _>("user_id")? {
            Some(_) => Some((user(&row)?, row.try_get("password_hash")?)),
            None => None,
        };
        Ok(LoginState {
            account,
            locked_for: positive_ms(row.try_get("locked_ms")?),
        })
    }

    /// Counts a failed login and locks the address at `failures_max`. Returns for how long the address had been locked
    /// already, by logins that failed at the same time.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn count_failed_login(
        &self,
        email_hash: &[u8],
        failures_max: u64,
        lock: Duration,
    ) -> Result<Option<Duration>, ApiError> {
        // Failures older than the lock would be are forgotten, so that a typing error a month counts for nothing.
        let row = sqlx::query(
            "INSERT INTO login_failures AS f (email_hash, failures, locked_until, failed_at)
             VALUES ($1, 1, CASE WHEN 1 >= $2 THEN now() + $3 * interval '1 millisecond' END, now())
             ON CONFLICT (email_hash) DO UPDATE SET
                 failures = CASE WHEN f.failed_at < now() - $3 * interval '1 millisecond' THEN 1 ELSE f.failures + 1 END,
                 locked_until = CASE
                     WHEN f.failed_at < now() - $3 * interval '1 millisecond' AND 1 < $2 THEN NULL
                     WHEN f.locked_until > now() THEN f.locked_until
                     WHEN f.failed_at >= now() - $3 * interval '1 millisecond' AND f.failures + 1 >= $2
                          OR 1 >= $2 THEN now() + $3 * interval '1 millisecond'
                 END,
                 failed_at = now()
             RETURNING failures, (extract(epoch FROM locked_until - now()) * 1000)::float8 AS locked_ms",
        )
        .bind(email_hash)
        .bind(i32::try_from(failures_max).unwrap_or(i32::MAX))
        .bind(lock.as_millis() as f64)
        .fetch_one(self.database())
        .await?;
        let failures: i32 = row.try_get("failures")?;
        let locked_for = positive_ms(row.try_get("locked_ms")?);
        Ok(locked_for.filter(|_| u64::try_from(failures).unwrap_or(0) > failures_max))
    }

    /// Forgets the failed logins of an address after a good one; unless it was locked meanwhile: then for how long.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn forget_failed_logins(&self, email_hash: &[u8]) -> Result<Option<Duration>, ApiError> {
        sqlx::query(
            "DELETE FROM login_failures WHERE email_hash = $1 AND (locked_until IS NULL OR locked_until <= now())",
        )
        .bind(email_hash)
        .execute(self.database())
        .await?;
        let locked_ms: Option<Option<f64>> = sqlx::query_scalar(
            "SELECT (extract(epoch FROM locked_until - now()) * 1000)::float8 FROM login_failures WHERE email_hash = $1",
        )
        .bind(email_hash)
        .fetch_optional(self.database())
        .await?;
        Ok(positive_ms(locked_ms.flatten()))
    }

    /// Begins a token family with its first refresh token.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn create_family(
        &self,
        family_id: &str,
        user_id: &UserId,
        token_hash: &[u8],
        expires_at: DateTime<Utc>,
    ) -> Result<(), ApiError> {
        sqlx::query(
            "WITH family AS (
                 INSERT INTO token_families (family_id, user_id, expires_at) VALUES ($1, $2, $4) RETURNING family_id
             )
             INSERT INTO refresh_tokens (token_hash, family_id, expires_at) SELECT $3, family_id, $4 FROM family",
        )
        .bind(family_id)
        .bind(user_id.as_str())
        .bind(token_hash)
        .bind(expires_at)
        .execute(self.database())
        .await?;
        Ok(())
    }

    /// Uses a refresh token once and stores the next; revokes the family where it was used before (SEC-4).
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn rotate_refresh_token(
        &self,
        token_hash: &[u8],
        next_hash: &[u8],
        expires_at: DateTime<Utc>,
    ) -> Result<RefreshOutcome, ApiError> {
        let rotated = Box::pin(self.rotate(token_hash, next_hash, expires_at));
        Ok(self.database().within(rotated).await?)
    }

    async fn rotate(
        &self,
        token_hash: &[u8],
        next_hash: &[u8],
        expires_at: DateTime<Utc>,
    ) -> Result<RefreshOutcome, sqlx::Error> {
        let mut transaction = self.database().begin().await?;
        // The family's row is the lock: of two uses of one token at the same time the second sees the first.
        let row = sqlx::query(
            "SELECT f.family_id, f.revoked_at IS NOT NULL AS revoked, u.user_id, u.email, u.name
             FROM refresh_tokens r JOIN token_families f USING (family_id) JOIN users u USING (user_id)
             WHERE r.token_hash = $1 FOR UPDATE OF f",
        )
        .bind(token_hash)
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(row) = row else {
            return Ok(RefreshOutcome::Unknown);
        };
        let family_id: String = row.try_get("family_id")?;
        // Read after the lock is held; the row above may show the time before it.
        let token = sqlx::query(
            "SELECT r.used_at IS NOT NULL AS used, r.expires_at <= now() AS expired, f.revoked_at IS NOT NULL AS revoked
             FROM refresh_tokens r JOIN token_families f USING (family_id) WHERE r.token_hash = $1",
        )
        .bind(token_hash)
        .fetch_one(&mut *transaction)
        .await?;
        if token.try_get("revoked")? {
            return Ok(RefreshOutcome::Revoked);
        }
        if token.try_get("used")? {
            sqlx::query("UPDATE token_families SET revoked_at = clock_timestamp() WHERE family_id = $1")
                .bind(&family_id)
                .execute(&mut *transaction)
                .await?;
            transaction.commit().await?;
            return Ok(RefreshOutcome::Reused { family_id });
        }
        if token.try_get("expired")? {
            return Ok(RefreshOutcome::Expired);
        }
        sqlx::query("UPDATE refresh_tokens SET used_at = now() WHERE token_hash = $1")
            .bind(token_hash)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO refresh_tokens (token_hash, family_id, expires_at) VALUES ($1, $2, $3)")
            .bind(next_hash)
            .bind(&family_id)
            .bind(expires_at)
            .execute(&mut *transaction)
            .await?;
        sqlx::query("UPDATE token_families SET expires_at = greatest(expires_at, $2) WHERE family_id = $1")
            .bind(&family_id)
            .bind(expires_at)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(RefreshOutcome::Rotated {
            user: user(&row)?,
            family_id,
        })
    }

    /// How a family stands.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn family_state(&self, family_id: &str) -> Result<FamilyState, ApiError> {
        let revoked: Option<bool> =
            sqlx::query_scalar("SELECT revoked_at IS NOT NULL FROM token_families WHERE family_id = $1")
                .bind(family_id)
                .fetch_optional(self.database())
                .await?;
        Ok(match revoked {
            Some(false) => FamilyState::Active,
            Some(true) => FamilyState::Revoked,
            None => FamilyState::Unknown,
        })
    }

    /// Revokes a family. Doing it again changes nothing.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn revoke_family(&self, family_id: &str) -> Result<(), ApiError> {
        sqlx::query(
            "UPDATE token_families SET revoked_at = clock_timestamp() WHERE family_id = $1 AND revoked_at IS NULL",
        )
        .bind(family_id)
        .execute(self.database())
        .await?;
        Ok(())
    }

    /// Families that were revoked within the last `window`.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn families_revoked_within(&self, window: Duration) -> Result<Vec<String>, ApiError> {
        Ok(sqlx::query_scalar(
            "SELECT family_id FROM token_families WHERE revoked_at > now() - $1 * interval '1 millisecond'",
        )
        .bind(window.as_millis() as f64)
        .fetch_all(self.database())
        .await?)
    }

    /// Deletes families whose last token has expired and failed logins that count for nothing any more.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn sweep_credentials(&self, lock: Duration) -> Result<(), ApiError> {
        // A day later, so that an old token is still answered as expired and not as unknown.
        sqlx::query("DELETE FROM token_families WHERE expires_at < now() - interval '1 day'")
            .execute(self.database())
            .await?;
        sqlx::query("DELETE FROM login_failures WHERE failed_at < now() - 2 * $1 * interval '1 millisecond'")
            .bind(lock.as_millis() as f64)
            .execute(self.database())
            .await?;
        Ok(())
    }
}

fn positive_ms(ms: Option<f64>) -> Option<Duration> {
    ms.filter(|ms| *ms > 0.0)
        .map(|ms| Duration::from_millis(ms.ceil() as u64))
}
