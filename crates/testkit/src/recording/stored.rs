//! Recordings in files: JSON Lines, as `docs/recordings.md` has them. The present version is written; every version up to it
//! is read.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use kingsguard_report::recording::{Expectation, FORMAT, Found, Header, Line, VERSION};
use thiserror::Error;

use super::Recording;

/// The commit of the suite that records, where the runner says it.
pub const REVISION_VARIABLE: &str = "KINGSGUARD_REVISION";

/// A longer line is none of a recording: the largest frame of a message is 5 MiB (LIM-1), and may be escaped.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A recording and what its file says about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored {
    /// What was captured.
    pub recording: Recording,
    /// The version that was read; what is written is of the present one.
    pub version: u32,
    /// The commit of the suite that recorded.
    pub revision: Option<String>,
    /// What the test found.
    pub found: Option<Found>,
    /// The verdict that the recording must get.
    pub expect: Option<Expectation>,
}

/// A file that is no recording which can be read.
#[derive(Debug, Error)]
pub enum Unreadable {
    /// The file cannot be read.
    #[error("reading {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line cannot be read.
    #[error("reading line {line}")]
    Read {
        /// Which one, counted from 1.
        line: usize,
        /// Why.
        source: io::Error,
    },
    /// A line is no line of a recording.
    #[error("line {line} is no line of a recording")]
    Line {
        /// Which one, counted from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A line does not fit those before it.
    #[error("line {line}: {why}")]
    Place {
        /// Which one, counted from 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// It says that it is something else.
    #[error("it says that it is a `{0}`, not a `{FORMAT}`")]
    Format(String),
    /// A later suite wrote it.
    #[error(
        "it is of version {0}, and this suite reads up to version {VERSION}: use the suite that recorded it, or a newer one"
    )]
    Newer(u32),
    /// There is nothing in it.
    #[error("it is empty: a recording begins with a line `\"line\":\"recording\"`")]
    Empty,
}

impl Stored {
    /// A recording that nothing is known about beside what it holds.
    #[must_use]
    pub fn of(recording: Recording) -> Self {
        Self {
            recording,
            version: VERSION,
            revision: std::env::var(REVISION_VARIABLE)
                .ok()
                .filter(|revision| !revision.is_empty()),
            ..Self::default()
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no recording of a version that is known.
    pub fn read_file(path: &Path) -> Result<Self, Unreadable> {
        let file = std::fs::File::open(path).map_err(|source| Unreadable::File {
            path: path.to_owned(),
            source,
        })?;
        Self::read_from(io::BufReader::new(file))
    }

    /// Reads what [`Stored::write_to`] wrote, in this version or an earlier one.
    ///
    /// # Errors
    /// The source cannot be read, or is no recording of a version that is known.
    pub fn read_from(mut source: impl BufRead) -> Result<Self, Unreadable> {
        let mut stored: Option<Self> = None;
        let mut text = String::new();
        for line in 1.. {
            text.clear();
            let read = io::Read::take(&mut source, LINE_BYTES_MAX).read_line(&mut text);
            if read.map_err(|source| Unreadable::Read { line, source })? == 0 {
                break;
            }
            let parsed = match &stored {
                None => first_line(&text)?,
                Some(_) => serde_json::from_str(&text).map_err(|source| Unreadable::Line { line, source })?,
            };
            match (parsed, &mut stored) {
                (Line::Recording(header), None) => stored = Some(Self::begin(*header)),
                (Line::Connection { connection }, Some(stored)) => stored.recording.connections.push(connection),
                (Line::Entry { connection, entry }, Some(stored)) => {
                    let known = stored.recording.connections.get_mut(connection);
                    let connection = known.ok_or_else(|| Unreadable::Place {
                        line,
                        why: format!("a frame of connection {connection}, which no line before it describes"),
                    })?;
                    connection.entries.push(entry);
                }
                (Line::Recording(_), Some(_)) => {
                    return Err(Unreadable::Place {
                        line,
                        why: "a second recording begins; a file holds one".to_owned(),
                    });
                }
                (Line::Connection { .. } | Line::Entry { .. }, None) => {
                    return Err(Unreadable::Place {
                        line,
                        why: "a recording begins with a line `\"line\":\"recording\"`".to_owned(),
                    });
                }
            }
        }
        stored.ok_or(Unreadable::Empty)
    }

    fn begin(header: Header) -> Self {
        let mut facts = header.facts;
        facts.secrets = header.secrets;
        Self {
            recording: Recording {
                test: header.test,
                facts,
                connections: Vec::new(),
                ended_us: header.ended_us,
            },
            version: header.version.unwrap_or(1),
            revision: header.revision,
            found: header.found,
            expect: header.expect,
        }
    }

    /// Whether it keeps a trace of the credentials that were in use, so that their disclosure can be judged.
    #[must_use]
    pub fn keeps_places_of_credentials(&self) -> bool {
        self.version >= 2
    }

    /// Writes the recording in the present version, without any credential (AUTH-8).
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn write_to(&self, mut sink: impl Write) -> io::Result<()> {
        let mut write = |line: &Line| -> io::Result<()> {
            serde_json::to_writer(&mut sink, line).map_err(io::Error::other)?;
            sink.write_all(b"\n")
        };
        let Recording {
            test,
            mut facts,
            connections,
            ended_us,
        } = self.recording.without_credentials();
        write(&Line::Recording(Box::new(Header {
            format: Some(FORMAT.to_owned()),
            version: Some(VERSION),
            revision: self.revision.clone(),
            test,
            secrets: std::mem::take(&mut facts.secrets),
            facts,
            ended_us,
            found: self.found.clone(),
            expect: self.expect.clone(),
        })))?;
        for (index, mut connection) in connections.into_iter().enumerate() {
            let entries = std::mem::take(&mut connection.entries);
            write(&Line::Connection { connection })?;
            for entry in entries {
                write(&Line::Entry {
                    connection: index,
                    entry,
                })?;
            }
        }
        sink.flush()
    }
}

/// The first line, which says whether the others can be understood: that is looked at before anything else of it.
fn first_line(text: &str) -> Result<Line, Unreadable> {
    let wrong = |source| Unreadable::Line { line: 1, source };
    let json: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
    if let Some(format) = json.get("format").and_then(serde_json::Value::as_str)
        && format != FORMAT
    {
        return Err(Unreadable::Format(format.to_owned()));
    }
    match json.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version > u64::from(VERSION) => {
            Err(Unreadable::Newer(u32::try_from(version).unwrap_or(u32::MAX)))
        }
        Some(_) | None => serde_json::from_value(json).map_err(wrong),
    }
}

impl Recording {
    /// Writes the recording alone, as [`Stored::write_to`] does.
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn write_to(&self, sink: impl Write) -> io::Result<()> {
        Stored::of(self.clone()).write_to(sink)
    }

    /// Reads the recording alone, as [`Stored::read_from`] does.
    ///
    /// # Errors
    /// The source cannot be read, or is no recording of a version that is known.
    pub fn read_from(source: impl BufRead) -> Result<Self, Unreadable> {
        Stored::read_from(source).map(|stored| stored.recording)
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use rstest::rstest;

    use super::*;
    use crate::recording::{Connection, Direction, Ending, EndingKind, Entry, FrameKind};

    kingsguard_report::covers!("KIT-6");

    fn entry(kind: FrameKind, bytes: &[u8]) -> Entry {
        Entry {
            at_us: 5,
            wall: chrono::DateTime::from_timestamp_millis(1_700_000_000_000).expect("in range"),
            direction: Direction::Received,
            kind,
            bytes: bytes.to_vec(),
        }
    }

    fn stored(recording: &Recording) -> String {
        let mut bytes = Vec::new();
        recording.write_to(&mut bytes).expect("memory takes it");
        String::from_utf8(bytes).expect("JSON is text")
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
        let read = Stored::read_from(stored(&recording).as_bytes()).expect("it was just written");
        assert_eq!(read.recording, recording);
        assert_eq!(read.version, VERSION);
    }

    #[test]
    fn a_stored_recording_shows_no_credential_and_is_judged_like_the_one_that_did() {
        let mut recording = Recording::default();
        recording.facts.secrets.push("eyJhbGciOi.secret".into());
        recording.connections.push(Connection {
            offered_protocols: vec!["jwt.eyJhbGciOi.secret".into()],
            entries: vec![entry(FrameKind::Text, br#"{"token":"eyJhbGciOi.secret"}"#)],
            ..Connection::default()
        });
        let text = stored(&recording);
        assert!(!text.contains("eyJhbGciOi"), "{text}");
        let read = Recording::read_from(text.as_bytes()).expect("it was just written");
        let (before, after) = (crate::validate::judge(&recording), crate::validate::judge(&read));
        assert!(before.broken().contains("AUTH-8"));
        assert_eq!(after, before);
    }

    #[rstest]
    #[case::nothing("", "it is empty")]
    #[case::no_json("hello\n", "line 1 is no line of a recording")]
    #[case::no_beginning(
        "{\"line\":\"connection\",\"connection\":{\"offered_protocols\":[]}}\n",
        "line 1: a recording begins"
    )]
    #[case::another("{\"line\":\"recording\",\"format\":\"har\"}\n", "`har`")]
    #[case::newer(
        "{\"line\":\"recording\",\"format\":\"kingsguard-recording\",\"version\":99,\"odd\":1}\n",
        "version 99"
    )]
    fn what_is_no_recording_is_refused_with_what_is_wrong(#[case] text: &str, #[case] said: &str) {
        let error = Stored::read_from(text.as_bytes()).expect_err("it is no recording");
        assert!(error.to_string().contains(said), "{error}");
    }

    #[test]
    fn a_frame_of_no_connection_and_a_second_recording_are_refused_with_their_line() {
        let mut text = stored(&Recording::default());
        let header = text.clone();
        text.push_str(
            &serde_json::to_string(&Line::Entry {
                connection: 0,
                entry: entry(FrameKind::Text, b"{}"),
            })
            .expect("data"),
        );
        let error = Stored::read_from(text.as_bytes()).expect_err("there is no connection");
        assert!(
            error.to_string().starts_with("line 2: a frame of connection 0"),
            "{error}"
        );
        let error = Stored::read_from((header.clone() + &header).as_bytes()).expect_err("a file holds one");
        assert!(error.to_string().starts_with("line 2: a second recording"), "{error}");
    }
}
