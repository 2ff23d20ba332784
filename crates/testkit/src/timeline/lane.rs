//! One connection's lane: which marks it has, in which rows, and what joins them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::scale::Scale;
use crate::recording::{Connection, Direction, Entry, FrameKind, excerpt};
use crate::validate::Place;

/// Rows of marks on one side of a line; what finds no place lies over the last row's.
const ROWS_MAX: usize = 6;

/// Marks of one row are at least so far apart.
const APART: f64 = 17.0;

/// More of a frame does not fit a tooltip.
const TOOLTIP_CHARS: usize = 400;

/// What a mark stands for, which decides its colour; the words are the classes of the style.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Look {
    Sent,
    Control,
    Begin,
    Thought,
    Tool,
    Part,
    End,
    Error,
    Close,
    Beat,
}

impl Look {
    pub(super) const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::Sent, "sent", "sent by the test"),
        (Self::Control, "control", "control frame"),
        (Self::Begin, "begin", "run begins"),
        (Self::Thought, "thought", "thinking, progress"),
        (Self::Tool, "tool", "tool"),
        (Self::Part, "part", "other event"),
        (Self::End, "end", "run ends"),
        (Self::Error, "error", "error"),
        (Self::Close, "close", "close"),
        (Self::Beat, "beat", "ping, pong, binary"),
    ];

    pub(super) fn class(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(look, _, _)| *look == self)
            .map_or("", |(_, class, _)| class)
    }

    fn of(entry: &Entry, frame_type: &str) -> Self {
        match (entry.kind, entry.direction) {
            (FrameKind::Close, _) => Self::Close,
            (FrameKind::Ping | FrameKind::Pong | FrameKind::Binary, _) => Self::Beat,
            (FrameKind::Text, Direction::Sent) => Self::Sent,
            (FrameKind::Text, Direction::Received) => match frame_type {
                "agent_started" => Self::Begin,
                "agent_thinking" | "progress_update" => Self::Thought,
                "tool_executing" | "tool_completed" => Self::Tool,
                "agent_completed" | "agent_stopped" => Self::End,
                "error" | "agent_error" => Self::Error,
                "partial_result" | "final_report" | "subagent_started" | "subagent_completed" | "agent_fallback" => {
                    Self::Part
                }
                _ => Self::Control,
            },
        }
    }
}

/// One frame's mark.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) place: Place,
    pub(super) x: f64,
    /// Above the line where it was sent, below where it was received.
    pub(super) sent: bool,
    pub(super) row: usize,
    pub(super) look: Look,
    pub(super) seq: Option<u64>,
    pub(super) tooltip: String,
}

/// A run on one connection, from its first event to its last one there.
#[derive(Debug)]
pub(super) struct RunBar {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) row: usize,
    pub(super) run: String,
}

/// A place where `seq` did not rise by one.
#[derive(Debug)]
pub(super) struct Jump {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) text: String,
}

/// A place where a client asked to go on.
#[derive(Debug)]
pub(super) struct Resume {
    pub(super) mark: usize,
    pub(super) thread: String,
    pub(super) after: u64,
}

/// One connection's lane.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) marks: Vec<Mark>,
    pub(super) runs: Vec<RunBar>,
    pub(super) jumps: Vec<Jump>,
    pub(super) resumes: Vec<Resume>,
    /// Where each event of a thread came.
    pub(super) events: BTreeMap<(String, u64), usize>,
    pub(super) rows_sent: usize,
    pub(super) rows_received: usize,
    pub(super) rows_of_runs: usize,
}

impl Lane {
    /// The marks of the frames that `is_drawn`.
    pub(super) fn of(index: usize, connection: &Connection, scale: &Scale, is_drawn: impl Fn(Place) -> bool) -> Self {
        let mut lane = Self::default();
        let (mut sent, mut received) = (Rows::default(), Rows::default());
        let mut last_seq: BTreeMap<String, (u64, f64)> = BTreeMap::new();
        let mut runs: BTreeMap<String, (f64, f64)> = BTreeMap::new();
        for (frame, entry) in connection.entries.iter().enumerate() {
            let place = Place {
                connection: index,
                frame,
            };
            if !is_drawn(place) {
                continue;
            }
            let json: Option<Value> = match entry.kind {
                FrameKind::Text => serde_json::from_slice(&entry.bytes).ok(),
                FrameKind::Binary | FrameKind::Ping | FrameKind::Pong | FrameKind::Close => None,
            };
            let text = |field: &str| json.as_ref()?.get(field)?.as_str();
            let frame_type = text("type").unwrap_or_default();
            let is_sent = entry.direction == Direction::Sent;
            let x = scale.x(entry.at_us);
            let seq = json
                .as_ref()
                .and_then(|json| json.get("seq")?.as_u64())
                .filter(|_| !is_sent);
            let nth = lane.marks.len();
            if let (Some(seq), Some(thread)) = (seq, text("thread_id")) {
                if let Some((last, from)) = last_seq.insert(thread.to_owned(), (seq, x))
                    && seq != last + 1
                {
                    let text = if seq > last {
                        format!("gap {last} → {seq}")
                    } else {
                        format!("back {last} → {seq}")
                    };
                    lane.jumps.push(Jump { from, to: x, text });
                }
                lane.events.entry((thread.to_owned(), seq)).or_insert(nth);
                if let Some(run) = text("run_id") {
                    runs.entry(run.to_owned()).or_insert((x, x)).1 = x;
                }
            }
            if let (true, Some(json)) = (is_sent, &json) {
                lane.resumes.extend(resumes(json, nth));
            }
            let kind = if frame_type.is_empty() {
                excerpt::said(entry)
            } else {
                frame_type.to_owned()
            };
            lane.marks.push(Mark {
                place,
                x,
                sent: is_sent,
                row: if is_sent {
                    sent.take(x, APART)
                } else {
                    received.take(x, APART)
                },
                look: Look::of(entry, frame_type),
                seq,
                tooltip: format!(
                    "{place} {} at {:.3} s{}: {kind}\n{}",
                    if is_sent { "sent" } else { "received" },
                    entry.at_us as f64 / 1e6,
                    seq.map_or(String::new(), |seq| format!(", seq {seq}")),
                    excerpt::cut(&excerpt::said(entry), TOOLTIP_CHARS)
                ),
            });
        }
        let mut bars = Rows::default();
        let mut begun: Vec<(String, (f64, f64))> = runs.into_iter().collect();
        begun.sort_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
        for (run, (from, to)) in begun {
            let row = bars.take(from, to - from + 12.0);
            lane.runs.push(RunBar { from, to, row, run });
        }
        (lane.rows_sent, lane.rows_received) = (sent.used(), received.used());
        lane.rows_of_runs = bars.used();
        lane
    }
}

fn resumes(json: &Value, mark: usize) -> Vec<Resume> {
    let field = |name: &str| json.get(name).or_else(|| json.get("payload")?.get(name));
    let point = |value: &Value, thread: Option<&Value>| {
        Some(Resume {
            mark,
            thread: thread?.as_str()?.to_owned(),
            after: value.get("after")?.as_u64()?,
        })
    };
    match field("resume") {
        Some(Value::Array(points)) => points
            .iter()
            .filter_map(|one| point(one, one.get("thread_id")))
            .collect(),
        Some(one) => point(one, field("thread_id")).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Gives out rows so that nothing lies over something else, as long as there are some.
#[derive(Debug, Default)]
struct Rows {
    free_from: Vec<f64>,
}

impl Rows {
    fn take(&mut self, x: f64, width: f64) -> usize {
        let row = match self.free_from.iter().position(|free| *free <= x) {
            Some(row) => row,
            None if self.free_from.len() < ROWS_MAX => {
                self.free_from.push(x);
                self.free_from.len() - 1
            }
            None => ROWS_MAX - 1,
        };
        self.free_from[row] = x + width;
        row
    }

    fn used(&self) -> usize {
        self.free_from.len()
    }
}
