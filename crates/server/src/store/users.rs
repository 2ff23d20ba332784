//! Accounts.

use kingsguard_protocol::UserId;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::Store;
use crate::error::ApiError;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The account's id.
    pub user_id: UserId,
    /// The address as its user wrote it.
    pub email: String,
    /// What to call the user.
    pub name: Option<String>,
}

pub(super) fn user(row: &PgRow) -> Result<User, sqlx::Error> {
    Ok(User {
        user_id: UserId::from(row.try_get::<String, _>("user_id")?),
        email: row.try_get("email")?,
        name: row.try_get("name")?,
    })
}

impl Store {
    /// Makes an account; `None` where the address has one already.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn create_user(&self, user: &User, password_hash: Option<&str>) -> Result<Option<User>, ApiError> {
        let made = sqlx::query(
            "INSERT INTO users (user_id, email, name, password_hash) VALUES ($1, $2, $3, $4)
             ON CONFLICT (lower(email)) DO NOTHING
             RETURNING user_id, email, name",
        )
        .bind(user.user_id.as_str())
        .bind(&user.email)
        .bind(&user.name)
        .bind(password_hash)
        .fetch_optional(self.database())
        .await?;
        Ok(made.as_ref().map(self::user).transpose()?)
    }

    /// The account of an id.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn user(&self, user_id: &UserId) -> Result<Option<User>, ApiError> {
        let row = sqlx::query("SELECT user_id, email, name FROM users WHERE user_id = $1")
            .bind(user_id.as_str())
            .fetch_optional(self.database())
            .await?;
        Ok(row.as_ref().map(self::user).transpose()?)
    }

    /// The account of an address, compared without case.
    ///
    /// # Errors
    /// Postgres fails.
    pub async fn user_by_email(&self, email: &str) -> Result<Option<User>, ApiError> {
        let row = sqlx::query("SELECT user_id, email, name FROM users WHERE lower(email) = lower($1)")
            .bind(email)
            .fetch_optional(self.database())
            .await?;
        Ok(row.as_ref().map(self::user).transpose()?)
    }
}
