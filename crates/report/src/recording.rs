//! A recording as it is stored: JSON Lines, one for the whole, then one per connection and one per frame, as
//! `docs/recordings.md` has it. What a line holds is also what the test kit holds in memory.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::lacks::Lacks;
use crate::record::{NotJudged, RecordedViolation};
use crate::shape::Shape;

/// What a recording says that it is.
pub const FORMAT: &str = "kingsguard-recording";

/// The version that is written. Version 1 had neither format nor version, and `[redacted]` in place of every credential.
pub const VERSION: u32 = 2;

/// One line of a stored recording.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "line", rename_all = "snake_case")]
pub enum Line {
    /// The first line.
    Recording(Box<Header>),
    /// A WebSocket; its frames come in lines of their own.
    Connection {
        /// The WebSocket.
        connection: Connection,
    },
    /// A frame.
    Entry {
        /// Which connection's, counted from 0 in the order of their lines.
        connection: usize,
        /// The frame.
        entry: Entry,
    },
}

/// The first line of a stored recording. Times are microseconds of a monotonic clock since the recording began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Always `kingsguard-recording`; absent in version 1.
    #[serde(default)]
    pub format: Option<String>,
    /// The version of the format; absent in version 1.
    #[serde(default)]
    pub version: Option<u32>,
    /// The commit of the suite that recorded, with `-dirty` when the tree differed from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The test.
    pub test: String,
    /// What the kit knows beside the frames.
    pub facts: Facts,
    /// When the test was over.
    pub ended_us: u64,
    /// What stands in the place of each credential that was in use: the same text wherever the same credential stood, so that
    /// disclosure is judged as it was (AUTH-8). The credentials themselves are never written.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// What the test found, to be compared with; absent in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
    /// The verdict that this recording must get, where it is one of a corpus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expectation>,
}

/// What a test found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Found {
    /// The clauses that the test is about.
    pub clauses: Vec<String>,
    /// What its frames showed to be broken, MUST and SHOULD.
    pub violations: Vec<RecordedViolation>,
    /// What its frames could not judge.
    pub not_judged: Vec<NotJudged>,
    /// What else failed it and no frame shows: a claim of the test itself, a line of a log. It cannot be judged again offline.
    pub claims: Vec<String>,
    /// The command that repeats the test with its seed.
    pub repeat: String,
}

/// The verdict that a recording of a corpus must get.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Expectation {
    /// The clauses that are broken: these and no others.
    pub clauses: Vec<String>,
    /// The single change after which none is; absent where none is broken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

/// A change of one line of a recording. Lines count from 1, as editors have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Change {
    /// Takes the line out.
    Remove {
        /// Which line.
        line: usize,
    },
    /// Puts a line in.
    Add {
        /// Which line it becomes.
        line: usize,
        /// The line.
        value: serde_json::Value,
    },
    /// Takes the line out and puts it in elsewhere.
    Move {
        /// Which line.
        line: usize,
        /// Which line it becomes.
        to: usize,
    },
    /// Sets one field.
    Set {
        /// Which line.
        line: usize,
        /// JSON pointer of the field; `/frame/…` leads into the frame's own JSON.
        pointer: String,
        /// Its value.
        value: serde_json::Value,
    },
    /// Removes one field.
    Unset {
        /// Which line.
        line: usize,
        /// JSON pointer of the field; `/frame/…` leads into the frame's own JSON.
        pointer: String,
    },
}

/// What the kit knows beside the frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// How the target's frames differ from the contract's: what is judged is their view in the contract's words.
    #[serde(default, skip_serializing_if = "Shape::is_contracts_own")]
    pub shape: Shape,
    /// What the target's wire lacks: what only that could show is not judged.
    #[serde(default, skip_serializing_if = "Lacks::is_nothing")]
    pub lacks: Lacks,
    /// Clauses that the target does not claim to keep, each with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaves_out: BTreeMap<String, String>,
    /// Credentials that were in use. They are compared with (AUTH-8) and never written; of a recording that was read, what
    /// stands in their place.
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
            shape: Shape::default(),
            lacks: Lacks::default(),
            leaves_out: BTreeMap::new(),
            secrets: Vec::new(),
        }
    }
}

impl Facts {
    /// For how long, at most, the machine kept some process waiting within a span, in microseconds like the span.
    #[must_use]
    pub fn waited_us_between(&self, from_us: u64, to_us: u64) -> u64 {
        self.waits
            .iter()
            .map(|wait| {
                let both_us = wait.until_us.min(to_us).saturating_sub(wait.from_us.max(from_us));
                wait.waited_us.min(both_us)
            })
            .sum()
    }
}

/// One user of the test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stall {
    /// When it was noticed.
    pub at_us: u64,
    /// How late the process was.
    pub late_us: u64,
}

/// For how long, in a span, some process of the test's machine was kept waiting for a processor or a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wait {
    /// The span's beginning.
    pub from_us: u64,
    /// Its end.
    pub until_us: u64,
    /// At most its length.
    pub waited_us: u64,
}

/// One WebSocket, from the request for it to its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// What was sent and received, in order of time; stored in lines of their own.
    #[serde(skip)]
    pub entries: Vec<Entry>,
    /// How it ended; `None` where it was open when the test was over.
    pub ending: Option<Ending>,
    /// When a fault first took something from it, added or changed something: from then on it does not show what the
    /// backend did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damaged_us: Option<u64>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// When it was sent, or read from the socket.
    pub at_us: u64,
    /// The same by the wall clock.
    pub wall: DateTime<Utc>,
    /// Which way it went.
    pub direction: Direction,
    /// What kind of frame it was.
    pub kind: FrameKind,
    /// Its payload, byte for byte: text where it is UTF-8, else base64.
    #[serde(serialize_with = "write_bytes", deserialize_with = "read_bytes")]
    #[schemars(with = "Payload")]
    pub bytes: Vec<u8>,
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

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the test to the backend.
    Sent,
    /// From the backend to the test.
    Received,
}

/// The kinds of frames of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ending {
    /// When.
    pub at_us: u64,
    /// In which way.
    pub how: EndingKind,
}

/// In which way a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// Text stays text, so that a person can read a recording; other bytes become base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payload {
    Text(String),
    Base64(String),
}

impl JsonSchema for Payload {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Payload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Text where the payload is UTF-8, else base64.",
            "oneOf": [
                { "type": "object", "properties": { "text": { "type": "string" } }, "required": ["text"] },
                {
                    "type": "object",
                    "properties": { "base64": { "type": "string", "contentEncoding": "base64" } },
                    "required": ["base64"]
                }
            ]
        })
    }
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

    crate::covers!("KIT-6");

    #[test]
    fn a_payload_is_text_where_it_can_be() {
        let entry = |bytes: &[u8]| Entry {
            at_us: 5,
            wall: DateTime::from_timestamp_millis(1_700_000_000_000).expect("in range"),
            direction: Direction::Received,
            kind: FrameKind::Binary,
            bytes: bytes.to_vec(),
        };
        let written = |bytes: &[u8]| serde_json::to_value(entry(bytes)).expect("it is data")["bytes"].clone();
        assert_eq!(written("ä\n".as_bytes()), serde_json::json!({ "text": "ä\n" }));
        assert_eq!(written(&[0xff, 0]), serde_json::json!({ "base64": "/wA=" }));
    }

    #[test]
    fn a_close_frame_tells_its_code() {
        let entry = |kind, bytes: &[u8]| Entry {
            at_us: 5,
            wall: DateTime::default(),
            direction: Direction::Received,
            kind,
            bytes: bytes.to_vec(),
        };
        assert_eq!(entry(FrameKind::Close, &[0x03, 0xe9, b'x']).close_code(), Some(1001));
        assert_eq!(entry(FrameKind::Close, &[]).close_code(), None);
        assert_eq!(entry(FrameKind::Text, &[0x03, 0xe9]).close_code(), None);
    }
}
