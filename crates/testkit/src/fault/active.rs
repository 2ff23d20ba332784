//! Faults while they act, and the ledger of all that ever did.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::watch;

use super::{Direction, Fault};
use crate::capture::Capture;
use crate::chat::PATIENCE;
use crate::recording::{FaultFacts, Recording};

/// A fault that was injected; the same value while it acts and in the ledger afterwards.
#[derive(Debug)]
pub(crate) struct ActiveFault {
    /// The proxy that it acts on, for people.
    link: String,
    /// Which fault of its proxy it is, counted from 0: its decisions depend on it.
    number: u64,
    fault: Fault,
    seed: u64,
    happened: watch::Sender<u64>,
    injected: Instant,
    lifted: OnceLock<Instant>,
}

impl ActiveFault {
    pub(crate) fn fault(&self) -> &Fault {
        &self.fault
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn acts(&self, way: Direction) -> bool {
        self.fault.direction().includes(way)
    }

    pub(super) fn count(&self) {
        self.happened.send_modify(|count| *count += 1);
    }

    pub(crate) fn happened(&self) -> u64 {
        *self.happened.borrow()
    }

    /// The decisions of this fault about one direction of one connection.
    pub(super) fn dice(&self, connection: u64, way: Direction) -> StdRng {
        let mut state = self.seed;
        for part in [self.number, connection, u64::from(way == Direction::ToClient)] {
            state = mix(state ^ part);
        }
        StdRng::seed_from_u64(state)
    }
}

impl fmt::Display for ActiveFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} before {}", self.fault, self.link)
    }
}

/// SplitMix64's finalizer: neighbouring numbers give unrelated ones.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The faults that act now, as the connections of a proxy see them.
pub(super) type ActingNow = Arc<[Arc<ActiveFault>]>;

/// The faults of one proxy.
#[derive(Debug)]
pub(super) struct Faults {
    link: String,
    seed: u64,
    ledger: Ledger,
    injected: Mutex<u64>,
    acting: watch::Sender<ActingNow>,
}

impl Faults {
    pub(super) fn new(link: &str, seed: u64, ledger: Ledger) -> Self {
        Self {
            link: link.to_owned(),
            seed,
            ledger,
            injected: Mutex::default(),
            acting: watch::Sender::new(Arc::from([])),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<ActingNow> {
        self.acting.subscribe()
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    pub(super) fn inject(self: &Arc<Self>, fault: Fault) -> FaultGuard {
        let number = {
            let mut injected = self.injected.lock().unwrap_or_else(PoisonError::into_inner);
            *injected += 1;
            *injected - 1
        };
        let active = Arc::new(ActiveFault {
            link: self.link.clone(),
            number,
            fault,
            seed: self.seed,
            happened: watch::Sender::new(0),
            injected: Instant::now(),
            lifted: OnceLock::new(),
        });
        self.ledger.enter(Arc::clone(&active));
        self.acting.send_modify(|acting| {
            *acting = acting.iter().cloned().chain([Arc::clone(&active)]).collect();
        });
        FaultGuard {
            faults: Arc::clone(self),
            active,
        }
    }

    fn lift(&self, active: &Arc<ActiveFault>) {
        active.lifted.set(Instant::now()).ok();
        self.acting.send_modify(|acting| {
            *acting = acting
                .iter()
                .filter(|other| !Arc::ptr_eq(other, active))
                .cloned()
                .collect();
        });
    }
}

/// A fault acts as long as this lives.
#[derive(Debug)]
#[must_use = "a fault ends when its guard is dropped"]
pub struct FaultGuard {
    faults: Arc<Faults>,
    active: Arc<ActiveFault>,
}

impl FaultGuard {
    /// How often it really did something, so far; the [module](super) says what each kind counts.
    #[must_use]
    pub fn happened(&self) -> u64 {
        self.active.happened()
    }

    /// Waits until it did something at least so often; says how often.
    ///
    /// # Panics
    /// It did not within [`PATIENCE`].
    pub async fn until_happened(&self, times: u64) -> u64 {
        let mut happened = self.active.happened.subscribe();
        let waited = tokio::time::timeout(PATIENCE, happened.wait_for(|count| *count >= times)).await;
        match waited {
            Ok(Ok(count)) => *count,
            Ok(Err(_)) | Err(_) => panic!(
                "{} happened {} times within {} s, not {times}",
                self.active,
                self.happened(),
                PATIENCE.as_secs()
            ),
        }
    }

    /// The fault.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        self.active.fault()
    }

    /// Ends the fault; says how often it did something.
    pub fn lift(self) -> u64 {
        self.faults.lift(&self.active);
        self.active.happened()
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        self.faults.lift(&self.active);
    }
}

/// Everything that one test injected, on all of its proxies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    state: Arc<Mutex<LedgerState>>,
}

#[derive(Debug, Default)]
struct LedgerState {
    faults: Vec<Arc<ActiveFault>>,
    damages: Vec<Damage>,
}

/// Something was added to a connection, taken from it or changed in it.
#[derive(Debug)]
struct Damage {
    /// The client's end of the connection.
    client: SocketAddr,
    at: Instant,
}

impl Ledger {
    fn with<T>(&self, change: impl FnOnce(&mut LedgerState) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn enter(&self, fault: Arc<ActiveFault>) {
        self.with(|state| state.faults.push(fault));
    }

    /// Notes a damage to a connection: what follows it there is no longer the backend's doing.
    pub(super) fn damaged(&self, client: SocketAddr) {
        let at = Instant::now();
        self.with(|state| state.damages.push(Damage { client, at }));
    }

    /// Writes into a recording which faults acted when, and which of its connections they damaged.
    pub(crate) fn note_in(&self, recording: &mut Recording, capture: &Capture) {
        self.with(|state| {
            let acted = state.faults.iter().map(|active| FaultFacts {
                what: active.to_string(),
                injected_us: capture.us_at(active.injected),
                lifted_us: active.lifted.get().map(|at| capture.us_at(*at)),
                happened: active.happened(),
            });
            recording.facts.faults.extend(acted);
            for damage in &state.damages {
                let connection = capture
                    .connection_from(damage.client, damage.at)
                    .and_then(|index| recording.connections.get_mut(index));
                if let Some(connection) = connection {
                    let at_us = capture.us_at(damage.at);
                    connection.damaged_us = Some(connection.damaged_us.map_or(at_us, |first| first.min(at_us)));
                }
            }
        });
    }

    /// The faults that should have happened and did not, for people.
    pub(crate) fn never_happened(&self) -> Vec<String> {
        self.with(|state| {
            state
                .faults
                .iter()
                .filter(|active| active.happened() == 0 && !active.fault().may_not_happen())
                .map(|active| format!("fault {active} never happened: the test proves nothing about it"))
                .collect()
        })
    }
}
