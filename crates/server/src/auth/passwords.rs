//! Passwords as Argon2id (SEC-4), computed off the runtime and a bounded number at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use kingsguard_protocol::http::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::error::ApiError;

/// Hashes and verifies passwords.
pub(super) struct Passwords {
    argon2: Argon2<'static>,
    turns: Arc<Semaphore>,
    wait: Duration,
    /// The hash of a password that nobody has: verifying against it costs what verifying a real one costs.
    nobody: Arc<str>,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

/// The right to compute one hash.
pub(super) struct Turn(OwnedSemaphorePermit);

impl Passwords {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let params = Params::new(
            narrow(config.argon2_memory_kib),
            narrow(config.argon2_passes),
            narrow(config.argon2_lanes),
            None,
        )
        .map_err(|error| anyhow::anyhow!("parameters of argon2id do not fit together: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = argon2
            .hash_password(b"nobody has this password")
            .map_err(|error| anyhow::anyhow!("hash a password: {error}"))?
            .to_string();
        Ok(Self {
            argon2,
            turns: Arc::new(Semaphore::new(usize::try_from(config.argon2_concurrency).unwrap_or(1))),
            wait: config.argon2_wait,
            nobody: nobody.into(),
        })
    }

    /// Waits for a turn, at most the configured time.
    pub(super) async fn turn(&self) -> Result<Turn, ApiError> {
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned()).await;
        match turn {
            Ok(Ok(permit)) => Ok(Turn(permit)),
            Ok(Err(closed)) => Err(ApiError::internal(closed)),
            Err(_) => Err(ApiError::rate_limited(self.wait)),
        }
    }

    /// The hash of a password, in PHC form.
    pub(super) async fn hash(&self, turn: Turn, password: Secret) -> Result<String, ApiError> {
        let argon2 = self.argon2.clone();
        let hashed = tokio::task::spawn_blocking(move || {
            let hash = argon2
                .hash_password(password.reveal().as_bytes())
                .map(|hash| hash.to_string());
            drop(turn);
            hash
        });
        hashed.await?.map_err(|error| ApiError::internal(error.to_string()))
    }

    /// Whether the password is that of the hash. Without a hash it takes as long and says no.
    pub(super) async fn verify(&self, turn: Turn, password: Secret, hash: Option<String>) -> Result<bool, ApiError> {
        let argon2 = self.argon2.clone();
        let nobody = Arc::clone(&self.nobody);
        let verified = tokio::task::spawn_blocking(move || {
            let exists = hash.is_some();
            let text = hash.unwrap_or_else(|| nobody.to_string());
            let fits = PasswordHash::new(&text)
                .map(|parsed| argon2.verify_password(password.reveal().as_bytes(), &parsed).is_ok());
            drop(turn);
            fits.map(|fits| fits && exists)
        });
        verified.await?.map_err(|error| ApiError::internal(error.to_string()))
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turn").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passwords() -> Passwords {
        let loaded = Config::from_variables([
            ("KINGSGUARD_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("KINGSGUARD_DATABASE_URL", "postgres://kingsguard@127.0.0.1/kingsguard"),
            ("KINGSGUARD_REDIS_URL", "redis://127.0.0.1/"),
            ("KINGSGUARD_ARGON2_MEMORY_KIB", "64"),
            ("KINGSGUARD_ARGON2_PASSES", "1"),
            ("KINGSGUARD_ARGON2_WAIT_MS", "1"),
            ("KINGSGUARD_ARGON2_CONCURRENCY", "1"),
        ]);
        Passwords::new(&loaded.expect("complete").config).expect("the parameters fit")
    }

    #[tokio::test]
    async fn only_the_right_password_fits_its_hash() {
        let passwords = passwords();
        let turn = passwords.turn().await.expect("free");
        let hash = passwords
            .hash(turn, Secret::from("correct horse"))
            .await
            .expect("hashes");
        assert!(hash.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{hash}");
        for (password, fits) in [("correct horse", true), ("correct horsf", false)] {
            let turn = passwords.turn().await.expect("free");
            let verified = passwords.verify(turn, Secret::from(password), Some(hash.clone())).await;
            assert_eq!(verified.expect("verifies"), fits, "{password}");
        }
    }

    #[tokio::test]
    async fn nobody_has_the_password_of_nobody() {
        let passwords = passwords();
        let turn = passwords.turn().await.expect("free");
        let verified = passwords
            .verify(turn, Secret::from("nobody has this password"), None)
            .await;
        assert!(!verified.expect("verifies"));
    }

    #[tokio::test]
    async fn who_waits_too_long_for_a_turn_is_told_to_come_back() {
        let passwords = passwords();
        let _held = passwords.turn().await.expect("free");
        let refused = passwords.turn().await.expect_err("taken");
        assert_eq!(refused.code, kingsguard_protocol::ErrorCode::RateLimited);
    }
}
