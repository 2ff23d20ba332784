//! A recording with its frames parsed, once for all validators.
//!
//! Where the target's wire lacks `seq`, events are numbered here by their arrival, each connection for itself. That number
//! orders them and nothing else: no clause about `seq` is judged by it (`unjudged`), and no two connections are compared.

use std::collections::BTreeMap;
use std::fmt;

use kingsguard_protocol::{ControlFrame, EventBody, Timestamp};
use kingsguard_report::lacks::Lacks;
use serde_json::Value;

use crate::recording::{Connection, Direction, Entry, FrameKind, Recording};

/// Where a frame stands in a recording: both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which connection.
    pub connection: usize,
    /// Which frame of it.
    pub frame: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.connection, self.frame)
    }
}

/// A parsed recording.
pub(super) struct Reading<'a> {
    pub(super) recording: &'a Recording,
    pub(super) connections: Vec<ConnectionReading<'a>>,
    pub(super) lacks: &'a Lacks,
}

/// How a span compares with the time that it may take.
pub(super) enum Lateness {
    /// It took no longer.
    InTime,
    /// It took longer, and that may not be the backend's fault; why.
    Unclear(&'static str),
    /// It took longer.
    Late,
}

/// A connection with its frames parsed.
pub(super) struct ConnectionReading<'a> {
    pub(super) connection: &'a Connection,
    pub(super) frames: Vec<Frame<'a>>,
    /// Until when it was open.
    pub(super) until_us: u64,
    /// Names it among the others.
    pub(super) label: String,
}

/// A parsed frame.
pub(super) struct Frame<'a> {
    pub(super) place: Place,
    pub(super) entry: &'a Entry,
    /// A text frame's payload as JSON; `None` where it is none.
    pub(super) json: Option<Value>,
    pub(super) lacks: &'a Lacks,
    /// Its place among the events of its thread on this connection, by arrival, where the target numbers nothing.
    arrival: Option<u64>,
}

impl<'a> Reading<'a> {
    pub(super) fn of(recording: &'a Recording) -> Self {
        let lacks = &recording.facts.lacks;
        let connections: Vec<ConnectionReading<'a>> = recording
            .connections
            .iter()
            .enumerate()
            .map(|(index, connection)| ConnectionReading {
                connection,
                frames: connection
                    .entries
                    .iter()
                    .enumerate()
                    .map(|(frame, entry)| Frame {
                        place: Place {
                            connection: index,
                            frame,
                        },
                        entry,
                        json: match entry.kind {
                            FrameKind::Text => serde_json::from_slice(&entry.bytes).ok(),
                            _ => None,
                        },
                        lacks,
                        arrival: None,
                    })
                    .collect(),
                until_us: recording.open_until(connection),
                label: format!("connection {index}"),
            })
            .collect();
        let mut reading = Self {
            recording,
            connections,
            lacks,
        };
        if reading.is_unnumbered() {
            reading
                .connections
                .iter_mut()
                .for_each(ConnectionReading::count_arrivals);
        }
        reading
    }

    /// Whether events come without `seq`: then each connection is a log of its own, in the order of arrival.
    pub(super) fn is_unnumbered(&self) -> bool {
        self.lacks.fields.contains_key("seq")
    }

    pub(super) fn received_frames(&self) -> u64 {
        self.connections
            .iter()
            .map(|connection| connection.received().count() as u64)
            .sum()
    }

    /// Every event that arrived anywhere, with what places it in a log.
    pub(super) fn events(&self) -> impl Iterator<Item = EventFrame<'_>> {
        self.connections.iter().flat_map(ConnectionReading::events)
    }

    /// Whether what may take `bound_us` took longer, from one moment to another. What the machine kept its processes
    /// waiting is not the backend's; and across a standstill of the test's own process, or a fault that the test injected,
    /// absolute times say nothing.
    pub(super) fn lateness(&self, from_us: u64, to_us: u64, bound_us: u64) -> Lateness {
        let took_us = to_us.saturating_sub(from_us);
        let stalled = || {
            let mut stalls = self.recording.facts.stalls.iter();
            stalls.any(|stall| stall.at_us >= from_us && stall.at_us.saturating_sub(stall.late_us) <= to_us)
        };
        if took_us <= bound_us {
            Lateness::InTime
        } else if self.faulty_between(from_us, to_us) {
            Lateness::Unclear("a fault of the test acted meanwhile")
        } else if stalled() {
            Lateness::Unclear("the test's own process stood still meanwhile")
        } else if took_us.saturating_sub(self.recording.facts.waited_us_between(from_us, to_us)) <= bound_us {
            Lateness::Unclear("the machine kept its processes waiting meanwhile")
        } else {
            Lateness::Late
        }
    }

    /// Whether a fault of the test acted at some moment of a span.
    pub(super) fn faulty_between(&self, from_us: u64, to_us: u64) -> bool {
        self.recording
            .facts
            .faults
            .iter()
            .any(|fault| fault.injected_us <= to_us && fault.lifted_us.is_none_or(|lifted_us| lifted_us >= from_us))
    }
}

impl ConnectionReading<'_> {
    /// Numbers the events of each thread by arrival.
    fn count_arrivals(&mut self) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for frame in self
            .frames
            .iter_mut()
            .filter(|frame| frame.is_received() && frame.is_event())
        {
            let Some(thread) = frame.thread() else { continue };
            let count = counts.entry(thread.to_owned()).or_default();
            *count += 1;
            frame.arrival = Some(*count);
        }
    }

    pub(super) fn received(&self) -> impl Iterator<Item = &Frame<'_>> {
        self.frames.iter().filter(|frame| frame.is_received())
    }

    pub(super) fn sent(&self) -> impl Iterator<Item = &Frame<'_>> {
        self.frames.iter().filter(|frame| !frame.is_received())
    }

    /// Text frames that arrived.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Frame<'_>> {
        self.received().filter(|frame| frame.entry.kind == FrameKind::Text)
    }

    /// Events that can be placed in a log.
    pub(super) fn events(&self) -> impl Iterator<Item = EventFrame<'_>> {
        self.texts().filter_map(Frame::event)
    }

    /// Whether nothing ended the connection before the test was over.
    pub(super) fn is_open_at_end(&self) -> bool {
        self.connection.ending.is_none()
    }
}

impl Frame<'_> {
    pub(super) fn is_received(&self) -> bool {
        self.entry.direction == Direction::Received
    }

    pub(super) fn at_us(&self) -> u64 {
        self.entry.at_us
    }

    pub(super) fn text(&self) -> &str {
        self.entry.text().unwrap_or_default()
    }

    /// A string field at the root.
    pub(super) fn str(&self, field: &str) -> Option<&str> {
        self.json.as_ref()?.get(field)?.as_str()
    }

    /// A non-negative integer field at the root.
    pub(super) fn u64(&self, field: &str) -> Option<u64> {
        self.json.as_ref()?.get(field)?.as_u64()
    }

    /// A timestamp at the root, in the contract's form or, where the target has another, in any.
    pub(super) fn timestamp(&self, field: &str) -> Option<Timestamp> {
        let text = self.str(field)?;
        match self.lacks.timestamp_form {
            Some(_) => Timestamp::parse_lenient(text).ok(),
            None => text.parse().ok(),
        }
    }

    pub(super) fn frame_type(&self) -> &str {
        self.str("type").unwrap_or_default()
    }

    /// Whether this is part of a log: of an event type, or of an unknown type with a `seq`.
    pub(super) fn is_event(&self) -> bool {
        let frame_type = self.frame_type();
        EventBody::TYPES.contains(&frame_type)
            || (!ControlFrame::TYPES.contains(&frame_type)
                && self.json.as_ref().is_some_and(|json| json.get("seq").is_some()))
    }

    /// The thread of an event. Where no event tells it, nothing is known of what lies beyond the run, which stands for it.
    fn thread(&self) -> Option<&str> {
        match self.lacks.fields.get("thread_id") {
            Some(_) => self.str("run_id"),
            None => self.str("thread_id"),
        }
    }

    pub(super) fn event(&self) -> Option<EventFrame<'_>> {
        if !self.is_event() {
            return None;
        }
        Some(EventFrame {
            frame: self,
            kind: self.frame_type(),
            seq: self.arrival.or_else(|| self.u64("seq"))?,
            thread: self.thread()?,
            run: self.str("run_id")?,
        })
    }
}

/// An event that can be placed in a log.
#[derive(Clone, Copy)]
pub(super) struct EventFrame<'a> {
    pub(super) frame: &'a Frame<'a>,
    pub(super) kind: &'a str,
    pub(super) seq: u64,
    pub(super) thread: &'a str,
    pub(super) run: &'a str,
}

impl EventFrame<'_> {
    pub(super) fn place(&self) -> Place {
        self.frame.place
    }

    /// `timestamp` as milliseconds since the Unix epoch.
    pub(super) fn timestamp_ms(&self) -> Option<i64> {
        self.frame.timestamp("timestamp").map(Timestamp::as_unix_ms)
    }
}

/// A followed thread's position, as `handshake_complete` and `thread_switched` tell it.
pub(super) struct Position<'a> {
    pub(super) thread: &'a str,
    pub(super) epoch: &'a str,
    pub(super) recovered: bool,
    pub(super) oldest_seq: u64,
    pub(super) last_seq: u64,
}

impl<'a> Position<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        Some(Self {
            thread: value.get("thread_id")?.as_str()?,
            epoch: value.get("epoch")?.as_str()?,
            recovered: value.get("recovered")?.as_bool()?,
            oldest_seq: value.get("oldest_seq")?.as_u64()?,
            last_seq: value.get("last_seq")?.as_u64()?,
        })
    }
}

impl Frame<'_> {
    /// The positions that a control frame tells; a created thread stands at its beginning.
    pub(super) fn positions(&self) -> Vec<Position<'_>> {
        let Some(json) = &self.json else { return Vec::new() };
        match self.frame_type() {
            "handshake_complete" => json
                .get("threads")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Position::of)
                .collect(),
            "thread_switched" => Position::of(json).into_iter().collect(),
            "thread_created" => match (self.str("thread_id"), self.str("epoch")) {
                (Some(thread), Some(epoch)) => {
                    vec![Position {
                        thread,
                        epoch,
                        recovered: false,
                        oldest_seq: 1,
                        last_seq: 0,
                    }]
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// A field of a client message, at the root or in `payload`.
    pub(super) fn sent_field(&self, field: &str) -> Option<&Value> {
        let json = self.json.as_ref()?;
        json.get(field)
            .filter(|value| !value.is_null())
            .or_else(|| json.get("payload")?.get(field))
            .filter(|value| !value.is_null())
    }

    /// Where a client asked to go on: thread, epoch, after.
    pub(super) fn resume_points(&self) -> Vec<(&str, &str, u64)> {
        fn point(value: &Value) -> Option<(&str, u64)> {
            Some((value.get("epoch")?.as_str()?, value.get("after")?.as_u64()?))
        }
        match self.frame_type() {
            "handshake_acknowledged" => self
                .sent_field("resume")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(|entry| {
                    let (epoch, after) = point(entry)?;
                    Some((entry.get("thread_id")?.as_str()?, epoch, after))
                })
                .collect(),
            "switch_thread" => self
                .sent_field("thread_id")
                .and_then(Value::as_str)
                .zip(self.sent_field("resume").and_then(point))
                .map(|(thread, (epoch, after))| (thread, epoch, after))
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }
}
