//! A backend that somebody else runs: what it is like ([`profile`]), what it does not claim ([`capability`]), how its users
//! come about ([`users`]), how its frames differ ([`Shape`]), what they lack ([`lacks`]).
//!
//! A profile is the answer to "how does one test a backend that is not ours". Without one a target is taken for what the
//! contract describes. What a profile leaves out makes the tests that need it *not judged*: never passed, never failed.

pub mod capability;
pub mod lacks;
pub mod profile;
pub mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use capability::Capability;
pub use kingsguard_report::shape::Shape;
pub use profile::Profile;

use crate::transport::dial;

/// The variable that names the profile's file.
pub const PROFILE_VARIABLE: &str = "KINGSGUARD_TARGET_PROFILE";

/// How long a target may take to be reached before a suite run.
const REACH_DEADLINE: Duration = Duration::from_secs(10);

/// The target that `KINGSGUARD_TARGET` and [`PROFILE_VARIABLE`] name.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address, `http://…` or `https://…`.
    pub url: String,
    /// What it is like.
    pub profile: Arc<Profile>,
}

impl Target {
    /// The target that the environment names; `None` where it names none.
    ///
    /// # Errors
    /// Its profile cannot be read.
    pub fn from_env() -> Result<Option<Self>> {
        let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let Some(url) = named("KINGSGUARD_TARGET") else {
            return Ok(None);
        };
        let profile = named(PROFILE_VARIABLE).map(PathBuf::from);
        Self::read(&url, profile.as_deref()).map(Some)
    }

    /// The target at `url`, one of its addresses, with the profile that this file holds or else the contract's own.
    ///
    /// # Errors
    /// The address is none, or the profile cannot be read.
    pub fn read(url: &str, profile: Option<&Path>) -> Result<Self> {
        let profile = profile.map(Profile::read).transpose()?.unwrap_or_default();
        let url = http_address(url).with_context(|| format!("reading the target's address {url}"))?;
        Ok(Self {
            url,
            profile: Arc::new(profile),
        })
    }

    /// Claims that something listens at its address, and that it speaks TLS as one may believe where it must.
    ///
    /// # Errors
    /// Nothing does, or not within [`REACH_DEADLINE`].
    pub async fn reach(&self) -> Result<()> {
        let trust = self.profile.connection.trust();
        let connected = tokio::time::timeout(REACH_DEADLINE, dial(&self.url, &trust)).await;
        let connected = connected.with_context(|| format!("no answer within {} s", REACH_DEADLINE.as_secs()))?;
        connected.map(drop).context("connecting to it")
    }
}

/// The HTTP address of a target that was named by its HTTP or WebSocket address.
fn http_address(url: &str) -> Result<String> {
    let (scheme, rest) = url
        .split_once("://")
        .context("expected http://, https://, ws:// or wss:// in front")?;
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    anyhow::ensure!(!authority.is_empty(), "it names no host");
    match scheme {
        "http" | "ws" => Ok(format!("http://{authority}")),
        "https" | "wss" => Ok(format!("https://{authority}")),
        other => anyhow::bail!("{other}:// is none of http://, https://, ws:// and wss://"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_target_is_named_by_either_of_its_addresses() {
        for (named, address) in [
            ("http://127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("ws://127.0.0.1:8080/ws", Some("http://127.0.0.1:8080")),
            ("wss://chat.example/ws?a=b", Some("https://chat.example")),
            ("chat.example", None),
            ("ftp://chat.example", None),
            ("http://", None),
        ] {
            assert_eq!(http_address(named).ok().as_deref(), address, "{named}");
        }
    }
}
