//! What all clients saw, what they were left with, and what the service says after the healing. Data, and how it is read
//! from a recording.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::recording::{Direction, FrameKind, Recording};

/// The history of one chaos run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// Who owns which thread: thread, user.
    pub owners: BTreeMap<String, String>,
    /// Everything that mattered on any connection, by connection and in its order of arrival.
    pub connections: Vec<ConnectionHistory>,
    /// What each client was left with, for each thread that it follows.
    pub logs: Vec<ClientLog>,
    /// The durable log of each thread as the service tells it after the healing.
    pub truth: BTreeMap<String, ThreadTruth>,
}

/// One connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionHistory {
    /// Its place in the recording.
    pub connection: usize,
    /// Whose it is.
    pub user_id: Option<String>,
    /// What it saw.
    pub seen: Vec<Seen>,
}

/// One frame that matters.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Its place in its connection's recording.
    pub frame: usize,
    /// When it came or went, in microseconds since the recording began.
    pub at_us: u64,
    /// Its bytes.
    pub text: String,
    /// What it says.
    pub what: What,
}

/// What a frame says.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The client asks to go on in threads: thread, epoch, after.
    Asked(Vec<(String, String, u64)>),
    /// The client says something, under this message id.
    Said {
        /// The client's own id of it.
        message_id: String,
    },
    /// The service says where threads stand.
    Stands(Vec<Standing>),
    /// The service says that a message is durable and which run answers it.
    Accepted {
        /// The client's id of the message.
        message_id: String,
        /// The run that answers it.
        run_id: String,
        /// The thread of both.
        thread_id: String,
    },
    /// An event came.
    Event(LogLine),
}

/// Where a thread stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// The thread.
    pub thread_id: String,
    /// The incarnation of its log.
    pub epoch: String,
    /// Whether a resume was granted.
    pub recovered: bool,
    /// Its newest event.
    pub last_seq: u64,
}

/// One event, wherever it was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    /// Its type.
    pub kind: String,
    /// Its place.
    pub seq: u64,
    /// Its name.
    pub event_id: String,
    /// Its thread.
    pub thread_id: String,
    /// Whose it is.
    pub user_id: String,
    /// Its run.
    pub run_id: String,
    /// The message that caused it.
    pub cause: String,
    /// When it was made, as it says.
    pub timestamp: String,
    /// The tool call that it is about.
    pub execution_id: Option<String>,
    /// Its bytes.
    pub text: String,
}

/// What a client has of a thread at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientLog {
    /// Which client.
    pub client: String,
    /// Whose.
    pub user_id: String,
    /// Which thread.
    pub thread_id: String,
    /// Its events, in the order in which it took them.
    pub events: Vec<LogLine>,
}

/// What the service says of a thread after the healing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThreadTruth {
    /// Its events, oldest first.
    pub events: Vec<LogLine>,
    /// Ids of the messages that it holds of its user.
    pub messages: Vec<String>,
}

impl LogLine {
    /// Reads an event; `None` of what has no place in a log.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let word = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            seq: json.get("seq")?.as_u64()?,
            kind: word("type"),
            event_id: word("event_id"),
            thread_id: word("thread_id"),
            user_id: word("user_id"),
            run_id: word("run_id"),
            cause: word("correlation_id"),
            timestamp: word("timestamp"),
            execution_id: json.get("execution_id").and_then(Value::as_str).map(str::to_owned),
            text: text.to_owned(),
        })
    }
}

impl History {
    /// What the connections of a recording saw. What a fault of the test did to a connection is left out: it shows nothing
    /// of the service.
    #[must_use]
    pub fn seen_in(recording: &Recording) -> Vec<ConnectionHistory> {
        let honest = recording.until_damaged();
        let connections = honest.connections.iter().enumerate().map(|(index, connection)| {
            let texts = connection.entries.iter().enumerate();
            let texts = texts.filter(|(_, entry)| entry.kind == FrameKind::Text);
            let seen = texts.filter_map(|(frame, entry)| {
                let text = entry.text()?;
                Some(Seen {
                    frame,
                    at_us: entry.at_us,
                    text: text.to_owned(),
                    what: What::read(entry.direction, text)?,
                })
            });
            ConnectionHistory {
                connection: index,
                user_id: connection
                    .user
                    .and_then(|user| honest.facts.users.get(user)?.user_id.clone()),
                seen: seen.collect(),
            }
        });
        connections.collect()
    }
}

impl What {
    /// What a frame says, where that matters here.
    #[must_use]
    pub fn read(direction: Direction, text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        let frame_type = json.get("type")?.as_str()?;
        match direction {
            Direction::Sent => read_sent(frame_type, &json),
            Direction::Received => read_received(frame_type, &json, text),
        }
    }
}

/// A field at the root or in `payload`, where a client may put it as well (MSG-0).
fn field<'j>(json: &'j Value, name: &str) -> Option<&'j Value> {
    let at_root = json.get(name).filter(|value| !value.is_null());
    at_root.or_else(|| json.get("payload")?.get(name))
}

fn word(json: &Value, name: &str) -> Option<String> {
    field(json, name)?.as_str().map(str::to_owned)
}

fn read_sent(frame_type: &str, json: &Value) -> Option<What> {
    let point =
        |thread_id: String, point: &Value| Some((thread_id, word(point, "epoch")?, field(point, "after")?.as_u64()?));
    match frame_type {
        "user_message" => Some(What::Said {
            message_id: word(json, "message_id")?,
        }),
        "handshake_acknowledged" => {
            let asked = field(json, "resume").and_then(Value::as_array).into_iter().flatten();
            let asked = asked.filter_map(|one| point(word(one, "thread_id")?, one));
            Some(What::Asked(asked.collect()))
        }
        "switch_thread" => {
            let asked = field(json, "resume").and_then(|one| point(word(json, "thread_id")?, one));
            Some(What::Asked(asked.into_iter().collect()))
        }
        _ => None,
    }
}

fn read_received(frame_type: &str, json: &Value, text: &str) -> Option<What> {
    let standing = |json: &Value| {
        Some(Standing {
            thread_id: word(json, "thread_id")?,
            epoch: word(json, "epoch")?,
            recovered: json.get("recovered")?.as_bool()?,
            last_seq: json.get("last_seq")?.as_u64()?,
        })
    };
    match frame_type {
        "handshake_complete" => {
            let threads = json.get("threads")?.as_array()?.iter();
            Some(What::Stands(threads.filter_map(standing).collect()))
        }
        "thread_switched" => Some(What::Stands(vec![standing(json)?])),
        "message_received" => Some(What::Accepted {
            message_id: word(json, "message_id")?,
            run_id: word(json, "run_id")?,
            thread_id: word(json, "thread_id")?,
        }),
        _ => LogLine::read(text).map(What::Event),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::recording::{Connection, Entry, UserFacts};

    fn entry(at_us: u64, direction: Direction, text: &str) -> Entry {
        Entry {
            at_us,
            wall: chrono::Utc::now(),
            direction,
            kind: FrameKind::Text,
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_recording_tells_who_asked_for_what_and_what_came_until_the_connection_was_damaged() {
        let asked =
            r#"{"type":"handshake_acknowledged","payload":{"resume":[{"thread_id":"t","epoch":"e","after":4}]}}"#;
        let stands = r#"{"type":"handshake_complete","threads":[{"thread_id":"t","epoch":"e","recovered":true,"oldest_seq":1,"last_seq":5}]}"#;
        let event = r#"{"type":"agent_started","seq":5,"thread_id":"t"}"#;
        let mut recording = Recording::default();
        recording.facts.users.push(UserFacts {
            user_id: Some("user_1".into()),
            ..UserFacts::default()
        });
        recording.connections.push(Connection {
            user: Some(0),
            entries: vec![
                entry(1, Direction::Sent, asked),
                entry(2, Direction::Received, stands),
                entry(3, Direction::Received, event),
                entry(4, Direction::Received, event),
            ],
            damaged_us: Some(4),
            ..Connection::default()
        });
        let seen = History::seen_in(&recording);
        assert_eq!(seen[0].user_id.as_deref(), Some("user_1"));
        let whats: Vec<What> = seen[0].seen.iter().map(|seen| seen.what.clone()).collect();
        let standing = Standing {
            thread_id: "t".into(),
            epoch: "e".into(),
            recovered: true,
            last_seq: 5,
        };
        let line = LogLine::read(event).expect("it has a seq");
        assert_eq!(
            whats,
            [
                What::Asked(vec![("t".into(), "e".into(), 4)]),
                What::Stands(vec![standing]),
                What::Event(line)
            ]
        );
    }

    #[test]
    fn an_acknowledgement_names_message_run_and_thread() {
        let text = r#"{"type":"message_received","message_id":"m","run_id":"r","thread_id":"t","correlation_id":"m"}"#;
        let accepted = What::Accepted {
            message_id: "m".into(),
            run_id: "r".into(),
            thread_id: "t".into(),
        };
        assert_eq!(What::read(Direction::Received, text), Some(accepted));
        assert_eq!(What::read(Direction::Received, r#"{"type":"pong"}"#), None);
    }
}
