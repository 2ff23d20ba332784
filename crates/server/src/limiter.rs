//! Limits of rate and number (LIM-1, SEC-3).
//!
//! They are counted on this node. A service of several nodes behind a balancer that keeps a client on one node holds
//! them as stated; one that spreads a user over n nodes allows up to n times as much, which the configuration can
//! divide.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use kingsguard_protocol::{ErrorCode, UserId};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::error::ApiError;

/// How long a refused connection is told to wait: places come free when others close, which no clock knows.
const PLACE_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a connection that finds no place waits for one before it is refused. A peer that is gone frees its place when
/// its task is told by the kernel; a connection that came after may be judged before that, and is not counted against it
/// (CON-6). Longer would only make refusals slow.
const PLACE_PATIENCE: Duration = Duration::from_millis(200);

/// How often keys whose bucket is full again are forgotten.
const FORGOTTEN_EVERY: Duration = Duration::from_secs(60);

/// Limits of rate and number. Cheap to clone.
#[derive(Clone)]
pub struct Limiter {
    inner: Arc<Inner>,
}

struct Inner {
    clock: DefaultClock,
    messages: DefaultKeyedRateLimiter<UserId>,
    frames: DefaultKeyedRateLimiter<UserId>,
    logins: DefaultKeyedRateLimiter<IpAddr>,
    places: Mutex<Places>,
    place_freed: Notify,
    places_max: usize,
    places_per_user_max: usize,
    places_per_address_max: usize,
}

#[derive(Default)]
struct Places {
    all: usize,
    by_user: HashMap<UserId, usize>,
    by_address: HashMap<IpAddr, usize>,
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").finish_non_exhaustive()
    }
}

impl Limiter {
    /// The limits of a configuration, nothing counted yet.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let per_minute = |rate: u64, burst: u64| {
            let rate = u32::try_from(rate)
                .ok()
                .and_then(NonZeroU32::new)
                .unwrap_or(NonZeroU32::MAX);
            let burst = u32::try_from(burst)
                .ok()
                .and_then(NonZeroU32::new)
                .unwrap_or(NonZeroU32::MAX);
            Quota::per_minute(rate).allow_burst(burst)
        };
        let frames = u32::try_from(config.frames_per_second_max)
            .ok()
            .and_then(NonZeroU32::new);
        let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            inner: Arc::new(Inner {
                clock: DefaultClock::default(),
                messages: RateLimiter::keyed(per_minute(config.messages_per_minute_max, config.messages_burst_max)),
                frames: RateLimiter::keyed(Quota::per_second(frames.unwrap_or(NonZeroU32::MAX))),
                logins: RateLimiter::keyed(per_minute(config.logins_per_minute_max, config.logins_per_minute_max)),
                places: Mutex::default(),
                place_freed: Notify::new(),
                places_max: bounded(config.connections_max),
                places_per_user_max: bounded(config.connections_per_user_max),
                places_per_address_max: bounded(config.connections_per_address_max),
            }),
        }
    }

    /// Counts a message that starts a run. Asked only after a repeat was ruled out (SEQ-8).
    ///
    /// # Errors
    /// RATE_LIMITED with the time until the next is let through.
    pub fn message(&self, user_id: &UserId) -> Result<(), ApiError> {
        self.count(&self.inner.messages, user_id)
    }

    /// Counts any other message; of a batch each by itself.
    ///
    /// # Errors
    /// RATE_LIMITED with the time until the next is let through.
    pub fn frame(&self, user_id: &UserId) -> Result<(), ApiError> {
        self.count(&self.inner.frames, user_id)
    }

    /// Counts a login by the address that it came from.
    ///
    /// # Errors
    /// RATE_LIMITED with the time until the next is let through.
    pub fn login(&self, address: IpAddr) -> Result<(), ApiError> {
        self.count(&self.inner.logins, &site(address))
    }

    fn count<K: Hash + Eq + Clone>(&self, limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<(), ApiError> {
        limiter
            .check_key(key)
            .map_err(|until| ApiError::rate_limited(until.wait_time_from(self.inner.clock.now())))
    }

    /// Takes a place for a connection, and waits a moment for one that is about to be free (CON-6).
    ///
    /// # Errors
    /// CONNECTION_LIMIT.
    pub async fn place(&self, user_id: &UserId, address: IpAddr) -> Result<Place, ApiError> {
        let deadline = Instant::now() + PLACE_PATIENCE;
        loop {
            let mut freed = pin!(self.inner.place_freed.notified());
            freed.as_mut().enable();
            match self.connection(user_id, address) {
                Ok(place) => return Ok(place),
                Err(full) if timeout_at(deadline, freed).await.is_err() => return Err(full),
                Err(_) => {}
            }
        }
    }

    /// Takes a place for a connection; it is free again when the [`Place`] is dropped (CON-6).
    ///
    /// # Errors
    /// CONNECTION_LIMIT.
    fn connection(&self, user_id: &UserId, address: IpAddr) -> Result<Place, ApiError> {
        let address = site(address);
        let mut places = self.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
        let by_user = places.by_user.get(user_id).copied().unwrap_or(0);
        let by_address = places.by_address.get(&address).copied().unwrap_or(0);
        let full = [
            ("connections_per_user_max", by_user, self.inner.places_per_user_max),
            (
                "connections_per_address_max",
                by_address,
                self.inner.places_per_address_max,
            ),
            ("connections_max", places.all, self.inner.places_max),
        ];
        if let Some((limit, _, max)) = full.into_iter().find(|(_, taken, max)| taken >= max) {
            return Err(ApiError::new(ErrorCode::ConnectionLimit)
                .with_retry_after(PLACE_RETRY_AFTER)
                .with_detail("limit", limit)
                .with_detail("max", max));
        }
        places.all += 1;
        places.by_user.insert(user_id.clone(), by_user + 1);
        places.by_address.insert(address, by_address + 1);
        Ok(Place {
            limiter: self.clone(),
            user_id: user_id.clone(),
            address,
        })
    }

    /// Forgets who has not been seen for a while, until `stop`. Runs once for each node.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(FORGOTTEN_EVERY);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {
                    self.inner.messages.retain_recent();
                    self.inner.frames.retain_recent();
                    self.inner.logins.retain_recent();
                }
            }
        }
    }
}

/// Who has one IPv6 address has 2⁶⁴ of them: a subscriber's /64 counts as one address.
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A connection's place among those of its user, its address and its node. Dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    limiter: Limiter,
    user_id: UserId,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        fn take_one<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
            if let Some(count) = counts.get_mut(key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(key);
                }
            }
        }
        let mut places = self.limiter.inner.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.all = places.all.saturating_sub(1);
        take_one(&mut places.by_user, &self.user_id);
        take_one(&mut places.by_address, &self.address);
        drop(places);
        self.limiter.inner.place_freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(extra: &[(&str, &str)]) -> Limiter {
        let mut variables = vec![
            ("KINGSGUARD_JWT_SECRET", "0123456789abcdef0123456789abcdef"),
            ("KINGSGUARD_DATABASE_URL", "postgres://kingsguard@127.0.0.1/kingsguard"),
            ("KINGSGUARD_REDIS_URL", "redis://127.0.0.1/"),
        ];
        variables.extend(extra);
        Limiter::new(&Config::from_variables(variables).expect("complete").config)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_burst_of_twenty_messages_passes_and_the_next_waits_a_second() {
        let limiter = limiter(&[]);
        let ada = UserId::from("ada");
        for sent in 0..20 {
            limiter
                .message(&ada)
                .unwrap_or_else(|error| panic!("message {sent}: {error}"));
        }
        let refused = limiter.message(&ada).expect_err("the burst is used up");
        assert_eq!(refused.code, ErrorCode::RateLimited);
        let wait = refused.retry_after().expect("says how long");
        assert!(
            wait <= Duration::from_secs(1) && !wait.is_zero(),
            "60 a minute is one a second, not {wait:?}"
        );
        limiter
            .message(&UserId::from("bob"))
            .expect("another user is not counted against");
        limiter.frame(&ada).expect("other messages are counted by themselves");
    }

    #[test]
    fn a_dropped_place_is_free_at_once() {
        let limiter = limiter(&[("KINGSGUARD_CONNECTIONS_PER_USER_MAX", "2")]);
        let ada = UserId::from("ada");
        let first = limiter.connection(&ada, address("10.0.0.1")).expect("free");
        let _second = limiter.connection(&ada, address("10.0.0.2")).expect("free");
        let refused = limiter
            .connection(&ada, address("10.0.0.3"))
            .expect_err("two are the limit");
        assert_eq!(refused.code, ErrorCode::ConnectionLimit);
        assert_eq!(refused.details["limit"], "connections_per_user_max");
        drop(first);
        let _third = limiter.connection(&ada, address("10.0.0.3")).expect("free again");
    }

    #[test]
    fn a_refused_connection_takes_no_place() {
        let limiter = limiter(&[("KINGSGUARD_CONNECTIONS_PER_ADDRESS_MAX", "1")]);
        let held = limiter
            .connection(&UserId::from("ada"), address("10.0.0.1"))
            .expect("free");
        for _ in 0..3 {
            limiter
                .connection(&UserId::from("bob"), address("10.0.0.1"))
                .expect_err("the address is full");
        }
        drop(held);
        assert_eq!(limiter.inner.places.lock().expect("not poisoned").all, 0);
        limiter
            .connection(&UserId::from("bob"), address("10.0.0.1"))
            .expect("free again");
    }

    #[test]
    fn addresses_of_one_subscriber_count_as_one() {
        assert_eq!(site(address("2001:db8:1:2::1")), site(address("2001:db8:1:2:ffff::9")));
        assert_ne!(site(address("2001:db8:1:2::1")), site(address("2001:db8:1:3::1")));
        assert_eq!(site(address("::ffff:10.0.0.1")), address("10.0.0.1"));
    }
}
