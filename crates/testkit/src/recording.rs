//! A recording: what one test's connections sent and received, as it came, with when. Data only.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kingsguard_protocol::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Everything that one test captured. Times are microseconds of a monotonic clock since the recording began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
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

/// What the kit knows beside the frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The users of the test; [`Connection::user`] counts in here.
    pub users: Vec<UserFacts>,
    /// How long a run may take (TIM-4), in milliseconds.
    pub run_deadline_ms: u64,
    /// How long a client may take to acknowledge the handshake (HSK-4), in milliseconds.
    pub handshake_deadline_ms: u64,
    /// Names of the backend's settings that this test chose: a limit that a test lowered is not judged against the
    /// contract's minimum.
    pub settings: Vec<String>,
    /// Addresses inside of the backend (database, cache) that no frame may show (SEC-2).
    pub internal_addresses: Vec<String>,
    /// Moments in which the test's own process was not scheduled: absolute times across them are not judged.
    pub stalls: Vec<Stall>,
    /// For how long the machine's processes were kept waiting for it: times are judged less that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Wait>,
    /// The test loads the target beyond what TIM-1 means by normal: its bounds are not judged.
    #[serde(default)]
    pub beyond_normal_load: bool,
    /// Faults that the test put on its links, in the order in which they were injected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<FaultFacts>,
    /// Credentials that were in use. They are compared with (AUTH-8) and never written.
    #[serde(skip)]
    pub secrets: Vec<String>,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            users: Vec::new(),
            run_deadline_ms: 30_000,
            handshake_deadline_ms: 10_000,
            settings: Vec::new(),
            internal_addresses: Vec::new(),
            stalls: Vec::new(),
            waits: Vec::new(),
            beyond_normal_load: false,
            faults: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

/// One user of the test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserFacts {
    /// What the test calls him.
    pub label: String,
    /// His account.
    pub user_id: Option<String>,
    /// His address.
    pub email: String,
    /// Texts that only he knows: they may appear in nobody else's frames (ISO-1).
    pub canaries: Vec<String>,
}

/// A fault that the test put on a link. While it acts, absolute times are not judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultFacts {
    /// What, and where.
    pub what: String,
    /// From when on.
    pub injected_us: u64,
    /// Until when; `None` where it acted until the test was over.
    pub lifted_us: Option<u64>,
    /// How often it did something.
    pub happened: u64,
}

/// A moment in which the test's own process was late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// When it was noticed.
    pub at_us: u64,
    /// How late the process was.
    pub late_us: u64,
}

/// For how long, in a span, some process of the test's machine was kept waiting for a processor or a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// The span's beginning.
    pub from_us: u64,
    /// Its end.
    pub until_us: u64,
    /// At most its length.
    pub waited_us: u64,
}

/// One WebSocket, from the request for it to its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Connection {
    /// Whose it is, counted in [`Facts::users`]; `None` where the test brought no user's credential.
    pub user: Option<usize>,
    /// Sub-protocols that were offered, in order.
    pub offered_protocols: Vec<String>,
    /// The sub-protocol that the backend chose.
    pub selected_protocol: Option<String>,
    /// HTTP status of the answer; 101 where the connection was accepted.
    pub status: Option<u16>,
    /// When the answer to the upgrade was read.
    pub upgraded_us: Option<u64>,
    /// What was sent and received, in order of time.
    pub entries: Vec<Entry>,
    /// How it ended; `None` where it was open when the test was over.
    pub ending: Option<Ending>,
    /// When a fault first took something from it, added or changed something: from then on it does not show what the
    /// backend did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged_us: Option<u64>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was sent, or read from the socket.
    pub at_us: u64,
    /// The same by the wall clock.
    pub wall: Timestamp,
    /// Which way it went.
    pub direction: Direction,
    /// What kind of frame it was.
    pub kind: FrameKind,
    /// Its payload, byte for byte.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    pub bytes: Vec<u8>,
}

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the test to the backend.
    Sent,
    /// From the backend to the test.
    Received,
}

/// The kinds of frames of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// Text, fragments put together.
    Text,
    /// Binary data, fragments put together.
    Binary,
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// A close frame: two bytes of code and a reason, or nothing.
    Close,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// When.
    pub at_us: u64,
    /// In which way.
    pub how: EndingKind,
}

/// In which way a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndingKind {
    /// The backend sent a close frame first.
    ClosedByBackend {
        /// Its code; `None` of an empty close frame.
        code: Option<u16>,
    },
    /// The test sent a close frame first.
    ClosedByTest,
    /// The test cut the TCP connection without a close frame.
    CutByTest,
    /// The TCP connection ended without a close frame, and not by the test.
    CutByBackend,
    /// What came was not RFC 6455.
    Breach {
        /// What was wrong with it.
        reason: String,
    },
}

impl Recording {
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
}

impl Connection {
    /// When the connection was no longer open: its end, or `ended_us` of the recording.
    #[must_use]
    pub fn open_until(&self, recording: &Recording) -> u64 {
        self.ending.as_ref().map_or(recording.ended_us, |ending| ending.at_us)
    }
}

impl Entry {
    /// The payload as text, where it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// The code of a close frame.
    #[must_use]
    pub fn close_code(&self) -> Option<u16> {
        match (self.kind, self.bytes.as_slice()) {
            (FrameKind::Close, [high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
            _ => None,
        }
    }
}

/// One line of a stored recording.
#[derive(Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "snake_case")]
enum Line {
    Recording { test: String, facts: Facts, ended_us: u64 },
    Connection { connection: Connection },
    Entry { connection: usize, entry: Entry },
}

impl Recording {
    /// Writes the recording as JSON lines: one for the whole, then one per connection and one per frame. Known
    /// credentials are replaced (AUTH-8).
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn write_to(&self, mut sink: impl Write) -> io::Result<()> {
        let mut write = |line: &Line| -> io::Result<()> {
            let mut text = serde_json::to_string(line).map_err(io::Error::other)?;
            for secret in self.facts.secrets.iter().filter(|secret| secret.len() >= 8) {
                text = text.replace(secret.as_str(), "[redacted]");
            }
            writeln!(sink, "{text}")
        };
        write(&Line::Recording {
            test: self.test.clone(),
            facts: self.facts.clone(),
            ended_us: self.ended_us,
        })?;
        for (index, connection) in self.connections.iter().enumerate() {
            write(&Line::Connection {
                connection: Connection {
                    entries: Vec::new(),
                    ..connection.clone()
                },
            })?;
            for entry in &connection.entries {
                write(&Line::Entry {
                    connection: index,
                    entry: entry.clone(),
                })?;
            }
        }
        Ok(())
    }

    /// Reads what [`Recording::write_to`] wrote, to be judged again.
    ///
    /// # Errors
    /// The source cannot be read, or a line is none of a recording.
    pub fn read_from(source: impl BufRead) -> io::Result<Self> {
        let mut recording = Self::default();
        for line in source.lines() {
            match serde_json::from_str(&line?).map_err(io::Error::other)? {
                Line::Recording { test, facts, ended_us } => {
                    recording.test = test;
                    recording.facts = facts;
                    recording.ended_us = ended_us;
                }
                Line::Connection { connection } => recording.connections.push(connection),
                Line::Entry { connection, entry } => recording
                    .connections
                    .get_mut(connection)
                    .ok_or_else(|| io::Error::other(format!("entry of unknown connection {connection}")))?
                    .entries
                    .push(entry),
            }
        }
        Ok(recording)
    }
}

/// Text stays text, so that a person can read a recording; other bytes become base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payload {
    Text(String),
    Base64(String),
}

fn write_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Payload::Text(text.to_owned()),
        Err(_) => Payload::Base64(STANDARD.encode(bytes)),
    }
    .serialize(serializer)
}

fn read_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    match Payload::deserialize(deserializer)? {
        Payload::Text(text) => Ok(text.into_bytes()),
        Payload::Base64(text) => STANDARD.decode(text).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    kingsguard_report::covers!("KIT-6");

    fn entry(kind: FrameKind, bytes: &[u8]) -> Entry {
        Entry {
            at_us: 5,
            wall: Timestamp::from_unix_ms(1_700_000_000_000).expect("in range"),
            direction: Direction::Received,
            kind,
            bytes: bytes.to_vec(),
        }
    }

    #[test]
    fn a_stored_recording_reads_back_the_same() {
        let recording = Recording {
            test: "a::b".into(),
            connections: vec![Connection {
                status: Some(101),
                entries: vec![
                    entry(FrameKind::Text, "ä\n".as_bytes()),
                    entry(FrameKind::Binary, &[0xff, 0]),
                ],
                ending: Some(Ending {
                    at_us: 9,
                    how: EndingKind::ClosedByBackend { code: Some(1001) },
                }),
                ..Connection::default()
            }],
            ended_us: 12,
            ..Recording::default()
        };
        let mut stored = Vec::new();
        recording.write_to(&mut stored).expect("memory takes it");
        assert_eq!(
            Recording::read_from(stored.as_slice()).expect("it was just written"),
            recording
        );
    }

    #[test]
    fn a_stored_recording_shows_no_credential() {
        let mut recording = Recording::default();
        recording.facts.secrets.push("eyJhbGciOi.secret".into());
        recording.connections.push(Connection {
            offered_protocols: vec!["jwt.eyJhbGciOi.secret".into()],
            entries: vec![entry(FrameKind::Text, br#"{"token":"eyJhbGciOi.secret"}"#)],
            ..Connection::default()
        });
        let mut stored = Vec::new();
        recording.write_to(&mut stored).expect("memory takes it");
        let text = String::from_utf8(stored).expect("JSON is text");
        assert!(!text.contains("eyJhbGciOi"), "{text}");
    }

    #[test]
    fn what_came_after_a_damage_is_left_out_as_if_the_test_had_cut_there() {
        let at = |at_us| Entry {
            at_us,
            ..entry(FrameKind::Text, b"{}")
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

    #[test]
    fn a_close_frame_tells_its_code() {
        assert_eq!(entry(FrameKind::Close, &[0x03, 0xe9, b'x']).close_code(), Some(1001));
        assert_eq!(entry(FrameKind::Close, &[]).close_code(), None);
        assert_eq!(entry(FrameKind::Text, &[0x03, 0xe9]).close_code(), None);
    }
}
