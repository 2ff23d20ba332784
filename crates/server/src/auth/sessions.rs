//! Registering, logging in, refreshing and logging out.

use chrono::{DateTime, Utc};
use kingsguard_protocol::http::{
    LoginRequest, MeResponse, RefreshRequest, RegisterRequest, Secret, TokenResponse, TokenType,
};
use kingsguard_protocol::{ErrorCode, Timestamp, UserId};
use sha2::{Digest as _, Sha256};

use super::identity::{FamilyId, Identity};
use super::{Auth, random_text};
use crate::broker::Notice;
use crate::error::ApiError;
use crate::store::{RefreshOutcome, User};

/// Contract §11.
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 12..=128;

/// RFC 5321 §4.5.3.1.3 grants a path 256 octets with its brackets.
const EMAIL_BYTES_MAX: usize = 254;

/// Names are for greeting people; this is generous and keeps them out of the way of limits elsewhere.
const NAME_CHARS_MAX: usize = 200;

/// A request to register whose fields were judged.
#[derive(Clone, Debug)]
pub struct Registration {
    email: String,
    password: Secret,
    name: Option<String>,
}

impl TryFrom<RegisterRequest> for Registration {
    type Error = ApiError;

    fn try_from(request: RegisterRequest) -> Result<Self, ApiError> {
        if !PASSWORD_CHARS.contains(&request.password.reveal().chars().count()) {
            return Err(ApiError::validation("/password", "12–128 characters"));
        }
        let name_fits = |name: &String| name.chars().count() <= NAME_CHARS_MAX && !name.chars().any(char::is_control);
        if !request.name.as_ref().is_none_or(name_fits) {
            return Err(ApiError::validation(
                "/name",
                "at most 200 characters, none of them control",
            ));
        }
        Ok(Self {
            email: judged_email(request.email)?,
            password: request.password,
            name: request.name,
        })
    }
}

/// A request to log in whose fields were judged.
#[derive(Clone, Debug)]
pub struct Login {
    email: String,
    password: Secret,
}

impl TryFrom<LoginRequest> for Login {
    type Error = ApiError;

    /// A password of the wrong length is a wrong password, not a wrong field: it is counted like any other.
    fn try_from(request: LoginRequest) -> Result<Self, ApiError> {
        Ok(Self {
            email: judged_email(request.email)?,
            password: request.password,
        })
    }
}

/// An address is text on both sides of one `@`; whether mail arrives there is not judged.
fn judged_email(email: String) -> Result<String, ApiError> {
    let email = email.trim();
    let fits = email.len() <= EMAIL_BYTES_MAX
        && !email.chars().any(|c| c.is_control() || c.is_whitespace())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.is_empty() && !domain.contains('@') && !domain.starts_with('.')
        });
    if fits {
        Ok(email.to_owned())
    } else {
        Err(ApiError::validation(
            "/email",
            "an e-mail address of at most 254 bytes, such as ada@example.org",
        ))
    }
}

fn email_hash(email: &str) -> Vec<u8> {
    Sha256::digest(email.to_lowercase()).to_vec()
}

fn locked(wait: std::time::Duration) -> ApiError {
    ApiError::new(ErrorCode::AuthLocked).with_retry_after(wait)
}

impl Auth {
    /// Makes an account and logs it in.
    ///
    /// # Errors
    /// EMAIL_TAKEN; RATE_LIMITED where too many hashes wait; DATABASE_UNAVAILABLE.
    pub async fn register(&self, registration: Registration) -> Result<TokenResponse, ApiError> {
        self.store.refuse_before_migrated()?;
        let turn = self.passwords.turn().await?;
        let hash = self.passwords.hash(turn, registration.password).await?;
        let user = User {
            user_id: UserId::generate(),
            email: registration.email,
            name: registration.name,
        };
        match self.store.create_user(&user, Some(&hash)).await? {
            Some(user) => {
                tracing::info!(user_id = user.user_id.as_str(), "registered");
                self.begin_family(user).await
            }
            None => Err(ApiError::new(ErrorCode::EmailTaken)),
        }
    }

    /// Logs in. Addresses with and without an account behave alike and take alike time.
    ///
    /// # Errors
    /// AUTH_INVALID_CREDENTIALS; AUTH_LOCKED after too many failures; RATE_LIMITED; DATABASE_UNAVAILABLE.
    pub async fn login(&self, login: Login) -> Result<TokenResponse, ApiError> {
        self.store.refuse_before_migrated()?;
        let email_hash = email_hash(&login.email);
        // The turn is taken first: then at most that many guesses are judged by one reading of the failures.
        let turn = self.passwords.turn().await?;
        let state = self.store.login_state(&login.email, &email_hash).await?;
        if let Some(wait) = state.locked_for {
            return Err(locked(wait));
        }
        let (user, hash) = state.account.unzip();
        let fits = self.passwords.verify(turn, login.password, hash.flatten()).await?;
        match user.filter(|_| fits) {
            Some(user) => {
                // Locked meanwhile by guesses at the same time: then even the right password tells nothing.
                if let Some(wait) = self.store.forget_failed_logins(&email_hash).await? {
                    return Err(locked(wait));
                }
                self.begin_family(user).await
            }
            None => {
                let counted = self
                    .store
                    .count_failed_login(&email_hash, self.config.failed_logins_max, self.config.lock_duration)
                    .await?;
                Err(counted.map_or_else(|| ApiError::new(ErrorCode::AuthInvalidCredentials), locked))
            }
        }
    }

    /// Logs in without a password, making the account where there is none. Only where it is switched on.
    ///
    /// # Errors
    /// NOT_FOUND where it is not switched on, as if the call did not exist; DATABASE_UNAVAILABLE.
    pub async fn dev_login(&self, login: Login) -> Result<TokenResponse, ApiError> {
        if !self.config.dev_login {
            return Err(ApiError::new(ErrorCode::NotFound));
        }
        self.store.refuse_before_migrated()?;
        let user = User {
            user_id: UserId::generate(),
            email: login.email,
            name: None,
        };
        let user = match self.store.create_user(&user, None).await? {
            Some(made) => made,
            None => {
                let found = self.store.user_by_email(&user.email).await?;
                found.ok_or_else(|| ApiError::new(ErrorCode::Conflict))?
            }
        };
        tracing::warn!(
            user_id = user.user_id.as_str(),
            "logged in without a password by dev_login"
        );
        self.begin_family(user).await
    }

    async fn begin_family(&self, user: User) -> Result<TokenResponse, ApiError> {
        let family_id = FamilyId::generate();
        let refresh_token = random_text()?;
        let (hash, expires_at) = (Sha256::digest(&refresh_token), self.refresh_expiry());
        self.store
            .create_family(family_id.as_str(), &user.user_id, &hash, expires_at)
            .await?;
        self.tokens(user, &family_id, refresh_token)
    }

    fn refresh_expiry(&self) -> DateTime<Utc> {
        Timestamp::now().as_datetime() + self.config.refresh_token_ttl
    }

    fn tokens(&self, user: User, family_id: &FamilyId, refresh_token: String) -> Result<TokenResponse, ApiError> {
        Ok(TokenResponse {
            access_token: self.signer.sign(&user.user_id, family_id)?,
            user_id: user.user_id,
            email: user.email,
            refresh_token: Secret::from(refresh_token),
            token_type: TokenType::Bearer,
            expires_in_ms: u64::try_from(self.config.access_token_ttl.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Uses a refresh token once. A second use revokes its family, access tokens included (SEC-4).
    ///
    /// # Errors
    /// AUTH_TOKEN_INVALID, AUTH_TOKEN_EXPIRED, AUTH_TOKEN_REVOKED; DATABASE_UNAVAILABLE.
    pub async fn refresh(&self, request: &RefreshRequest) -> Result<TokenResponse, ApiError> {
        self.store.refuse_before_migrated()?;
        let next = random_text()?;
        let used_hash = Sha256::digest(request.refresh_token.reveal());
        let outcome = self
            .store
            .rotate_refresh_token(&used_hash, &Sha256::digest(&next), self.refresh_expiry())
            .await?;
        match outcome {
            RefreshOutcome::Rotated { user, family_id } => self.tokens(user, &FamilyId::from(family_id), next),
            RefreshOutcome::Reused { family_id } => {
                tracing::warn!(family_id, "a refresh token was used twice: its family is revoked");
                self.tell_revoked(FamilyId::from(family_id));
                Err(ApiError::new(ErrorCode::AuthTokenRevoked))
            }
            RefreshOutcome::Revoked => Err(ApiError::new(ErrorCode::AuthTokenRevoked)),
            RefreshOutcome::Expired => Err(ApiError::new(ErrorCode::AuthTokenExpired)),
            RefreshOutcome::Unknown => Err(ApiError::new(ErrorCode::AuthTokenInvalid)),
        }
    }

    /// Revokes the token's family: the token, all that were refreshed from the same login, and the connections that
    /// live by them.
    ///
    /// # Errors
    /// DATABASE_UNAVAILABLE.
    pub async fn logout(&self, identity: &Identity) -> Result<(), ApiError> {
        self.store.revoke_family(identity.family_id.as_str()).await?;
        tracing::info!(
            user_id = identity.user_id.as_str(),
            family_id = identity.family_id.as_str(),
            "logged out"
        );
        self.tell_revoked(identity.family_id.clone());
        Ok(())
    }

    fn tell_revoked(&self, family_id: FamilyId) {
        self.revocations.note(family_id.clone(), self.config.access_token_ttl);
        self.broker.publish(Notice::Revoked { family_id });
    }

    /// The account behind a token.
    ///
    /// # Errors
    /// AUTH_TOKEN_INVALID where the account is gone; DATABASE_UNAVAILABLE.
    pub async fn me(&self, identity: &Identity) -> Result<MeResponse, ApiError> {
        let user = self.store.user(&identity.user_id).await?;
        let user = user.ok_or_else(|| ApiError::new(ErrorCode::AuthTokenInvalid))?;
        Ok(MeResponse {
            user_id: user.user_id,
            email: user.email,
            name: user.name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_two_sides_are_refused() {
        for bad in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "a@b@c",
            "ada @example.org",
            "ada\0@example.org",
            "ada@.org",
        ] {
            assert!(judged_email(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["ada@example.org", "ada+tag@localhost", "ädä@exämple.org"] {
            assert!(judged_email(good.to_owned()).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn passwords_are_counted_in_characters() {
        let with = |password: String| {
            Registration::try_from(RegisterRequest {
                email: "ada@example.org".to_owned(),
                password: Secret::from(password),
                name: None,
            })
        };
        for (count, fits) in [(11, false), (12, true), (128, true), (129, false)] {
            assert_eq!(with("ü".repeat(count)).is_ok(), fits, "{count}");
        }
    }
}
