//! The capture of one test: append-only, filled at the receiving socket, both directions, raw bytes (KIT-3).
//!
//! Nothing is ever added to what arrived: judging happens on a [`Recording`] made from it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kingsguard_protocol::Timestamp;

use crate::recording::{Connection, Direction, Ending, EndingKind, Entry, Facts, FrameKind, Recording, UserFacts};

/// Where all connections of a test write what they see. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Capture {
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    facts: Facts,
    connections: Vec<Connection>,
    /// From which address of its own each connection speaks, since when.
    addresses: Vec<(SocketAddr, Instant, usize)>,
    checks: u64,
    /// What the test needed and the target does not claim; the first word counts.
    lacking: Option<String>,
}

/// One connection's place in a [`Capture`].
#[derive(Clone, Debug)]
pub struct Tap {
    capture: Capture,
    connection: usize,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            state: Arc::default(),
        }
    }
}

impl Capture {
    /// Microseconds since the capture began.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// A moment in microseconds since the capture began; 0 for one before.
    #[must_use]
    pub(crate) fn us_at(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.began).as_micros() as u64
    }

    /// As [`crate::recording::Facts::waited_us_between`] says, so far.
    pub(crate) fn waited_us_between(&self, from_us: u64, to_us: u64) -> u64 {
        self.lock().facts.waited_us_between(from_us, to_us)
    }

    /// Which connection of the recording spoke from this address at this moment: ports are used again.
    pub(crate) fn connection_from(&self, address: SocketAddr, at: Instant) -> Option<usize> {
        let state = self.lock();
        let mut speaking = state.addresses.iter().rev();
        speaking
            .find(|(known, since, _)| *known == address && *since <= at)
            .map(|(_, _, connection)| *connection)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave a push half done in a way that matters: what was captured is still evidence.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a user and says which one he is.
    pub fn add_user(&self, user: UserFacts) -> usize {
        let mut state = self.lock();
        state.facts.users.push(user);
        state.facts.users.len() - 1
    }

    /// Changes what is known about a user.
    pub fn update_user(&self, index: usize, change: impl FnOnce(&mut UserFacts)) {
        if let Some(user) = self.lock().facts.users.get_mut(index) {
            change(user);
        }
    }

    /// Changes what is known beside the frames.
    pub fn update_facts(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock().facts);
    }

    /// Remembers a credential, so that it is noticed where it does not belong and never written (AUTH-8).
    pub fn add_secret(&self, secret: &str) {
        let mut state = self.lock();
        if !state.facts.secrets.iter().any(|known| known == secret) {
            state.facts.secrets.push(secret.to_owned());
        }
    }

    /// Opens a place for a connection.
    #[must_use]
    pub fn open(&self, user: Option<usize>, offered_protocols: Vec<String>) -> Tap {
        let mut state = self.lock();
        state.connections.push(Connection {
            user,
            offered_protocols,
            ..Connection::default()
        });
        Tap {
            capture: self.clone(),
            connection: state.connections.len() - 1,
        }
    }

    /// Counts a claim that the test checked through the kit.
    pub fn count_check(&self) {
        self.lock().checks += 1;
    }

    /// How many claims the test checked through the kit.
    #[must_use]
    pub fn checks(&self) -> u64 {
        self.lock().checks
    }

    /// Ends the test, which needs what the target does not claim: it will be *not judged*, whatever else it says.
    pub(crate) fn lacks(&self, why: String) -> ! {
        self.lock().lacking.get_or_insert(why);
        // Not a failure, so the hook that tells of a panic is left out.
        std::panic::resume_unwind(Box::new("the target does not claim what the test needs"))
    }

    /// What the test needed and the target does not claim.
    pub(crate) fn lacking(&self) -> Option<String> {
        self.lock().lacking.clone()
    }

    /// What was captured so far.
    #[must_use]
    pub fn recording(&self, test: &str) -> Recording {
        let state = self.lock();
        Recording {
            test: test.to_owned(),
            facts: state.facts.clone(),
            connections: state.connections.clone(),
            ended_us: self.now_us(),
        }
    }
}

impl Tap {
    /// Which connection of the recording this is.
    #[must_use]
    pub fn connection(&self) -> usize {
        self.connection
    }

    /// The capture that this is a part of.
    #[must_use]
    pub fn capture(&self) -> &Capture {
        &self.capture
    }

    fn with<T>(&self, change: impl FnOnce(&mut Connection) -> T) -> T {
        change(&mut self.capture.lock().connections[self.connection])
    }

    /// Remembers from which address of its own the connection speaks, so that what a fault does to it is told.
    pub fn speaks_from(&self, address: SocketAddr) {
        let since = Instant::now();
        self.capture.lock().addresses.push((address, since, self.connection));
    }

    /// Writes down the answer to the upgrade.
    pub fn upgraded(&self, status: u16, selected_protocol: Option<String>) {
        let now = self.capture.now_us();
        self.with(|connection| {
            connection.status = Some(status);
            connection.selected_protocol = selected_protocol;
            connection.upgraded_us = (status == 101).then_some(now);
        });
    }

    /// Appends one frame and says which one of its connection it is.
    pub fn append(&self, direction: Direction, kind: FrameKind, bytes: &[u8]) -> usize {
        let wall = Timestamp::now().as_datetime();
        self.with(|connection| {
            // Inside of the lock, so that times rise with places.
            let at_us = self.capture.began.elapsed().as_micros() as u64;
            connection.entries.push(Entry {
                at_us,
                wall,
                direction,
                kind,
                bytes: bytes.to_vec(),
            });
            connection.entries.len() - 1
        })
    }

    /// Writes down how the connection ended; the first word counts.
    pub fn ended(&self, how: EndingKind) {
        let at_us = self.capture.now_us();
        self.with(|connection| {
            connection.ending.get_or_insert(Ending { at_us, how });
        });
    }

    /// How the connection ended, once it did.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        self.with(|connection| connection.ending.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    kingsguard_report::covers!("KIT-3");

    #[test]
    fn frames_stay_as_they_came_and_times_never_fall() {
        let capture = Capture::default();
        let tap = capture.open(None, vec!["jwt.x".into()]);
        for byte in 0..100u8 {
            tap.append(Direction::Received, FrameKind::Binary, &[byte, 0xff]);
        }
        let recording = capture.recording("t");
        let entries = &recording.connections[0].entries;
        assert!(entries.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us));
        assert!(
            entries
                .iter()
                .enumerate()
                .all(|(index, entry)| entry.bytes == [index as u8, 0xff])
        );
    }

    #[test]
    fn the_first_ending_counts() {
        let tap = Capture::default().open(None, Vec::new());
        tap.ended(EndingKind::CutByTest);
        tap.ended(EndingKind::CutByBackend);
        assert_eq!(tap.ending().map(|ending| ending.how), Some(EndingKind::CutByTest));
    }
}
