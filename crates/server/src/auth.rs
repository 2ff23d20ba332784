//! Who a client is: accounts, passwords, tokens, tickets and their revocation (AUTH, SEC-4).

pub mod carrier;
mod identity;
mod jwt;
mod origin;
mod passwords;
mod revocations;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kingsguard_protocol::http::{Secret, TicketRequest};
use kingsguard_protocol::{ErrorCode, Timestamp};
use rand::TryRngCore as _;
use tokio_util::sync::CancellationToken;

pub use carrier::{Carried, Credential};
pub use identity::{FamilyId, Identity, TokenId};
pub use sessions::{Login, Registration};

use crate::broker::{Broker, TicketRecord};
use crate::config::Config;
use crate::error::ApiError;
use crate::sabotage::{self, Fault};
use crate::store::Store;
use jwt::Signer;
use passwords::Passwords;
use revocations::Revocations;

/// Life of a ticket where the request does not say, in seconds: long enough to open a page, short enough for a log file
/// that holds a URL.
const TICKET_SECONDS_DEFAULT: u64 = 60;

/// Contract AUTH-4.
const TICKET_SECONDS: std::ops::RangeInclusive<u64> = 30..=3600;

/// Who a client is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Auth {
    config: Arc<Config>,
    store: Store,
    broker: Broker,
    signer: Arc<Signer>,
    passwords: Arc<Passwords>,
    revocations: Arc<Revocations>,
}

/// A ticket that was given out.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// For the query of the WebSocket's URL.
    pub ticket: Secret,
    /// Its life in seconds.
    pub ttl_seconds: u64,
    /// Whether it works once only.
    pub single_use: bool,
    /// When it dies.
    pub expires_at: Timestamp,
}

impl Auth {
    /// Wires it; nothing is asked yet.
    ///
    /// # Errors
    /// The parameters of Argon2id do not fit together.
    pub fn new(config: Arc<Config>, store: Store, broker: Broker) -> anyhow::Result<Self> {
        Ok(Self {
            signer: Arc::new(Signer::new(&config)),
            passwords: Arc::new(Passwords::new(&config)?),
            revocations: Arc::new(Revocations::new()),
            config,
            store,
            broker,
        })
    }

    /// Refuses pages of foreign origins (AUTH-7).
    ///
    /// # Errors
    /// ORIGIN_NOT_ALLOWED.
    pub fn judge_origin(&self, headers: &http::HeaderMap) -> Result<(), ApiError> {
        origin::judge(&self.config.allowed_origins, headers)
    }

    /// Judges a credential without spending it: a refused upgrade does not cost a ticket (AUTH-4).
    ///
    /// # Errors
    /// AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_TOKEN_REVOKED; DATABASE_UNAVAILABLE or CACHE_UNAVAILABLE where it
    /// cannot be judged.
    pub async fn judge(&self, credential: &Credential) -> Result<Identity, ApiError> {
        match credential {
            Credential::Bearer(token) => self.judge_bearer(token.reveal()).await,
            Credential::Ticket(ticket) => {
                let record = self.broker.peek_ticket(ticket.reveal()).await?;
                self.judge_ticket(record).await
            }
        }
    }

    /// Judges a credential and spends it: a single-use ticket is good for the first who asks, on whichever node.
    ///
    /// # Errors
    /// As [`Auth::judge`].
    pub async fn spend(&self, credential: &Credential) -> Result<Identity, ApiError> {
        match credential {
            Credential::Bearer(token) => self.judge_bearer(token.reveal()).await,
            Credential::Ticket(ticket) => {
                let seen = self.broker.peek_ticket(ticket.reveal()).await?;
                let record = match seen {
                    Some(record) if record.single_use => self.broker.spend_ticket(ticket.reveal()).await?,
                    seen => seen,
                };
                self.judge_ticket(record).await
            }
        }
    }

    /// Judges an access token.
    ///
    /// # Errors
    /// As [`Auth::judge`].
    pub async fn judge_bearer(&self, token: &str) -> Result<Identity, ApiError> {
        if sabotage::planted(Fault::SecretsInTheLog) {
            tracing::info!(token, "token judged");
        }
        let identity = self.signer.judge(token)?;
        self.refuse_revoked(&identity).await?;
        Ok(identity)
    }

    async fn judge_ticket(&self, record: Option<TicketRecord>) -> Result<Identity, ApiError> {
        let record = record.ok_or_else(|| ApiError::new(ErrorCode::AuthTokenInvalid))?;
        if record.expires_at <= Timestamp::now() {
            return Err(ApiError::new(ErrorCode::AuthTokenExpired));
        }
        let identity = Identity {
            user_id: record.user_id,
            token_id: record.token_id,
            family_id: record.family_id,
            expires_at: record.expires_at,
        };
        self.refuse_revoked(&identity).await?;
        Ok(identity)
    }

    async fn refuse_revoked(&self, identity: &Identity) -> Result<(), ApiError> {
        self.store.refuse_before_migrated()?;
        self.revocations.judge(&self.store, &identity.family_id).await
    }

    /// Gives out a ticket for the WebSocket.
    ///
    /// # Errors
    /// VALIDATION_ERROR for a life out of 30–3600 s; CACHE_UNAVAILABLE.
    pub async fn issue_ticket(&self, identity: &Identity, request: &TicketRequest) -> Result<Ticket, ApiError> {
        let ttl_seconds = request.ttl_seconds.unwrap_or(TICKET_SECONDS_DEFAULT);
        if !TICKET_SECONDS.contains(&ttl_seconds) {
            return Err(ApiError::validation(
                "/ttl_seconds",
                "a whole number of seconds from 30 to 3600",
            ));
        }
        let single_use = request.single_use.unwrap_or(true);
        let life = Duration::from_secs(ttl_seconds);
        let ticket = random_text()?;
        let record = TicketRecord {
            user_id: identity.user_id.clone(),
            token_id: identity.token_id.clone(),
            family_id: identity.family_id.clone(),
            expires_at: identity.expires_at,
            single_use,
        };
        self.broker.store_ticket(&ticket, &record, life).await?;
        Ok(Ticket {
            ticket: Secret::from(ticket),
            ttl_seconds,
            single_use,
            expires_at: Timestamp::from(Timestamp::now().as_datetime() + life),
        })
    }

    /// Families as they are revoked, on this node or another. A receiver that lags asks [`Auth::is_revoked`].
    #[must_use]
    pub fn subscribe_revocations(&self) -> tokio::sync::broadcast::Receiver<FamilyId> {
        self.revocations.subscribe()
    }

    /// Whether this node knows that the family is revoked.
    #[must_use]
    pub fn is_revoked(&self, family_id: &FamilyId) -> bool {
        self.revocations.is_revoked(family_id)
    }

    /// Waits until the family is revoked; for the connections that live by its tokens (AUTH-6).
    pub async fn until_revoked(&self, family_id: &FamilyId) {
        self.revocations.until_revoked(family_id).await;
    }

    /// Learns of revocations on other nodes and forgets what is over, until `stop`. Runs once for each node.
    pub async fn run(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.revocations.follow(&self.store, &self.broker, self.config.access_token_ttl) => {}
            () = self.sweep() => {}
        }
    }

    async fn sweep(&self) {
        /// Rows that are over cost space and nothing else.
        const SWEPT_EVERY: Duration = Duration::from_secs(600);
        let mut ticks = tokio::time::interval(SWEPT_EVERY);
        loop {
            ticks.tick().await;
            if !self.store.is_migrated() {
                continue;
            }
            if let Err(error) = self.store.sweep_credentials(self.config.lock_duration).await {
                tracing::warn!(reason = %crate::error::Chain(&error), "old credentials cannot be swept");
            }
        }
    }
}

/// 256 bits from the system's generator, in characters that need no quoting in a URL.
fn random_text() -> Result<String, ApiError> {
    let mut bytes = [0_u8; 32];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
