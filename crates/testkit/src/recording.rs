//! A recording: what one test's connections sent and received, as it came, with when. Data only.
//!
//! [`stored`] writes and reads it, [`change`] edits a stored one, [`credentials`] keeps what opens something out of it,
//! [`excerpt`] shows frames of it.

pub mod change;
pub mod credentials;
pub mod excerpt;
pub mod stored;

use std::borrow::Cow;

pub use kingsguard_report::recording::{
    Connection, Direction, Ending, EndingKind, Entry, Facts, FaultFacts, Found, FrameKind, Stall, UserFacts, Wait,
};

use self::credentials::Credentials;

/// Everything that one test captured. Times are microseconds of a monotonic clock since the recording began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// The test.
    pub test: String,
    /// What the kit knows beside the frames.
    pub facts: Facts,
    /// One per WebSocket, in the order in which they were tried.
    pub connections: Vec<Connection>,
    /// When the test was over.
    pub ended_us: u64,
}

impl Recording {
    /// The recording with its frames in the contract's words.
    #[must_use]
    pub fn in_the_contracts_words(&self) -> Cow<'_, Self> {
        let shape = &self.facts.shape;
        if shape.is_contracts_own() {
            return Cow::Borrowed(self);
        }
        let mut view = self.clone();
        for entry in view
            .connections
            .iter_mut()
            .flat_map(|connection| &mut connection.entries)
        {
            if let Some(read) = entry.text().and_then(|text| shape.read_text(text)) {
                entry.bytes = read.into_bytes();
            }
        }
        Cow::Owned(view)
    }

    /// The recording without what came after a connection was damaged: as if the test had cut it there.
    #[must_use]
    pub fn until_damaged(&self) -> Cow<'_, Self> {
        if self
            .connections
            .iter()
            .all(|connection| connection.damaged_us.is_none())
        {
            return Cow::Borrowed(self);
        }
        let mut honest = self.clone();
        for connection in &mut honest.connections {
            let Some(damaged_us) = connection.damaged_us else {
                continue;
            };
            connection.entries.retain(|entry| entry.at_us < damaged_us);
            if connection
                .ending
                .as_ref()
                .is_none_or(|ending| ending.at_us >= damaged_us)
            {
                connection.ending = Some(Ending {
                    at_us: damaged_us,
                    how: EndingKind::CutByTest,
                });
            }
        }
        Cow::Owned(honest)
    }

    /// When a connection was no longer open: its end, or the end of the recording.
    #[must_use]
    pub fn open_until(&self, connection: &Connection) -> u64 {
        connection.ending.as_ref().map_or(self.ended_us, |ending| ending.at_us)
    }

    /// The recording with something else in the place of every credential: it is judged like this one, and may be written and
    /// shown (AUTH-8).
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        let credentials = Credentials::of(&self.facts);
        let mut shown = self.clone();
        for connection in &mut shown.connections {
            let protocols = connection.offered_protocols.iter_mut();
            for protocol in protocols.chain(&mut connection.selected_protocol) {
                *protocol = credentials.hide(protocol);
            }
            for entry in &mut connection.entries {
                if let Some(hidden) = credentials.hide_bytes(&entry.bytes) {
                    entry.bytes = hidden;
                }
            }
        }
        shown.facts.secrets = credentials.places();
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    kingsguard_report::covers!("KIT-6");

    #[test]
    fn what_came_after_a_damage_is_left_out_as_if_the_test_had_cut_there() {
        let at = |at_us| Entry {
            at_us,
            wall: chrono::DateTime::default(),
            direction: Direction::Received,
            kind: FrameKind::Text,
            bytes: b"{}".to_vec(),
        };
        let damaged = Connection {
            entries: vec![at(1), at(2), at(3)],
            ending: Some(Ending {
                at_us: 4,
                how: EndingKind::ClosedByBackend { code: Some(1002) },
            }),
            damaged_us: Some(2),
            ..Connection::default()
        };
        let recording = Recording {
            connections: vec![damaged, Connection::default()],
            ..Recording::default()
        };
        let honest = recording.until_damaged();
        assert_eq!(honest.connections[0].entries, [at(1)]);
        let ending = Ending {
            at_us: 2,
            how: EndingKind::CutByTest,
        };
        assert_eq!(honest.connections[0].ending, Some(ending));
        assert_eq!(honest.connections[1], recording.connections[1]);
    }
}
