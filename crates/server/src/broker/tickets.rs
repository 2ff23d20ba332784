//! Tickets for the WebSocket (AUTH-4). They live in Redis, which forgets them by itself when their time is over and
//! hands a single-use one to one node only.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kingsguard_protocol::{Timestamp, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Broker;
use crate::auth::{FamilyId, TokenId};
use crate::error::ApiError;

/// What a ticket stands for: the token that asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRecord {
    /// Whose it is.
    pub user_id: UserId,
    /// The token that asked for it.
    pub token_id: TokenId,
    /// That token's family.
    pub family_id: FamilyId,
    /// When that token expires, and with it the connection.
    pub expires_at: Timestamp,
    /// Whether it works once only.
    pub single_use: bool,
}

impl Broker {
    fn ticket_key(&self, ticket: &str) -> String {
        // Hashed, so that who can read Redis cannot use what is there, and so that no text of a client is a key.
        self.key("ticket", &URL_SAFE_NO_PAD.encode(Sha256::digest(ticket)))
    }

    /// Stores a ticket for a time.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE.
    pub async fn store_ticket(&self, ticket: &str, record: &TicketRecord, life: Duration) -> Result<(), ApiError> {
        let record = serde_json::to_string(record).map_err(ApiError::internal)?;
        let mut set = redis::cmd("SET");
        set.arg(self.ticket_key(ticket))
            .arg(record)
            .arg("PX")
            .arg(life.as_millis() as u64);
        let mut connection = self.inner.connection.clone();
        self.timed(async move { set.query_async::<()>(&mut connection).await })
            .await
    }

    /// What a ticket stands for; does not spend it.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE.
    pub async fn peek_ticket(&self, ticket: &str) -> Result<Option<TicketRecord>, ApiError> {
        self.take_ticket("GET", ticket).await
    }

    /// What a single-use ticket stands for; of several askers on all nodes one gets it.
    ///
    /// # Errors
    /// CACHE_UNAVAILABLE.
    pub async fn spend_ticket(&self, ticket: &str) -> Result<Option<TicketRecord>, ApiError> {
        self.take_ticket("GETDEL", ticket).await
    }

    async fn take_ticket(&self, command: &'static str, ticket: &str) -> Result<Option<TicketRecord>, ApiError> {
        let key = self.ticket_key(ticket);
        let mut connection = self.inner.connection.clone();
        let taken: Option<String> = self
            .timed(async move { redis::cmd(command).arg(key).query_async(&mut connection).await })
            .await?;
        taken
            .map(|text| serde_json::from_str(&text).map_err(ApiError::internal))
            .transpose()
    }
}
