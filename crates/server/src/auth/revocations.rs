//! Which token families are revoked, known on every node within a second or two (AUTH-6 grants five).
//!
//! Postgres is the truth. A family that it called active is believed for a moment; a family that it, this node or
//! another node called revoked stays revoked. Other nodes tell by Redis, at once; Postgres is asked every second as
//! well, so that it holds without Redis.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kingsguard_protocol::ErrorCode;
use tokio::sync::broadcast;

use super::identity::FamilyId;
use crate::broker::{Broker, Notice};
use crate::error::{ApiError, Chain};
use crate::store::{FamilyState, Store};

/// How long an answer "active" of Postgres is believed.
const ACTIVE_BELIEVED: Duration = Duration::from_secs(1);

/// How often Postgres is asked for new revocations.
const ASKED_EVERY: Duration = Duration::from_secs(1);

/// How far back each question looks: what a slow transaction or an outage of this length hid is found afterwards.
const LOOKS_BACK: Duration = Duration::from_secs(120);

/// Families believed active at a time; beyond it the oldest beliefs are dropped and Postgres is asked again.
const ACTIVE_MAX: usize = 100_000;

/// Revocations that a connection may lag behind before it looks at the whole set instead.
const TOLD_MAX: usize = 1_024;

#[derive(Debug)]
pub(super) struct Revocations {
    /// Revoked families, and when the last of their tokens has expired anyway.
    revoked: Mutex<HashMap<FamilyId, Instant>>,
    /// Families that Postgres called active, and when.
    active: Mutex<HashMap<FamilyId, Instant>>,
    told: broadcast::Sender<FamilyId>,
}

impl Revocations {
    pub(super) fn new() -> Self {
        Self {
            revoked: Mutex::default(),
            active: Mutex::default(),
            told: broadcast::Sender::new(TOLD_MAX),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<FamilyId> {
        self.told.subscribe()
    }

    pub(super) fn is_revoked(&self, family_id: &FamilyId) -> bool {
        self.revoked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(family_id)
    }

    pub(super) async fn until_revoked(&self, family_id: &FamilyId) {
        let mut told = self.subscribe();
        loop {
            if self.is_revoked(family_id) {
                return;
            }
            match told.recv().await {
                // Whatever was told or missed, the set knows.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                // `self` holds the sender, so it cannot close while this is awaited.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    /// Judges a family, asking Postgres where the answer is not known or too old.
    pub(super) async fn judge(&self, store: &Store, family_id: &FamilyId) -> Result<(), ApiError> {
        if self.is_revoked(family_id) {
            return Err(ApiError::new(ErrorCode::AuthTokenRevoked));
        }
        let believed = self
            .active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(family_id)
            .copied();
        if believed.is_some_and(|since| since.elapsed() < ACTIVE_BELIEVED) {
            return Ok(());
        }
        let asked = Instant::now();
        match store.family_state(family_id.as_str()).await? {
            FamilyState::Active => {
                let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
                if active.len() >= ACTIVE_MAX {
                    active.retain(|_, since| since.elapsed() < ACTIVE_BELIEVED);
                }
                active.insert(family_id.clone(), asked);
                Ok(())
            }
            FamilyState::Revoked => Err(ApiError::new(ErrorCode::AuthTokenRevoked)),
            // Signed by us, but its account or login is gone.
            FamilyState::Unknown => Err(ApiError::new(ErrorCode::AuthTokenInvalid)),
        }
    }

    /// Notes a revocation; tells whoever waits for it, once.
    pub(super) fn note(&self, family_id: FamilyId, tokens_live: Duration) {
        let until = Instant::now() + tokens_live + LOOKS_BACK;
        let known = self
            .revoked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(family_id.clone(), until);
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&family_id);
        if known.is_none() {
            // An error means that no connection waits.
            drop(self.told.send(family_id));
        }
    }

    /// Learns of revocations on other nodes, for good.
    pub(super) async fn follow(&self, store: &Store, broker: &Broker, tokens_live: Duration) {
        let mut notices = broker.subscribe();
        let mut ticks = tokio::time::interval(ASKED_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut fails = false;
        loop {
            tokio::select! {
                notice = notices.recv() => match notice {
                    Ok(notice) => {
                        if let Notice::Revoked { family_id } = notice.as_ref() {
                            self.note(family_id.clone(), tokens_live);
                        }
                    }
                    // What was missed is found by the next question to Postgres.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                _ = ticks.tick() => {
                    if !store.is_migrated() {
                        continue;
                    }
                    match store.families_revoked_within(LOOKS_BACK).await {
                        Ok(families) => {
                            fails = false;
                            for family_id in families {
                                self.note(FamilyId::from(family_id), tokens_live);
                            }
                        }
                        Err(error) => {
                            if !fails {
                                tracing::warn!(reason = %Chain(&error), "revocations cannot be read");
                            }
                            fails = true;
                        }
                    }
                    self.forget();
                }
            }
        }
    }

    fn forget(&self) {
        let now = Instant::now();
        self.revoked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, until| *until > now);
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|_, since| since.elapsed() < ACTIVE_BELIEVED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_family_is_woken_by_it_and_by_no_other() {
        let revocations = Revocations::new();
        let (ours, other) = (FamilyId::from("ours".to_owned()), FamilyId::from("other".to_owned()));
        let waiting = revocations.until_revoked(&ours);
        tokio::pin!(waiting);
        revocations.note(other, Duration::from_secs(1));
        tokio::select! {
            biased;
            () = &mut waiting => panic!("woken by another family"),
            () = tokio::task::yield_now() => {}
        }
        revocations.note(ours.clone(), Duration::from_secs(1));
        waiting.await;
        assert!(revocations.is_revoked(&ours));
    }

    #[tokio::test]
    async fn a_family_revoked_before_is_not_waited_for() {
        let revocations = Revocations::new();
        let ours = FamilyId::from("ours".to_owned());
        revocations.note(ours.clone(), Duration::from_secs(1));
        let woken = tokio::time::timeout(Duration::from_secs(10), revocations.until_revoked(&ours)).await;
        assert!(woken.is_ok(), "it waits for what has happened already");
    }
}
