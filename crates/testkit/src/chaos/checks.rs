//! What must hold of a history. Each checker is a pure function over it and knows one way to be wrong.

mod delivery;
mod logs;
mod truth;

#[cfg(test)]
mod tests;

use std::fmt;

use super::history::{History, LogLine, Seen};
use crate::clause::Clause;

/// The clauses that a run of chaos is about: those of the anomalies, and what services and nodes that die are told to keep.
pub const CLAUSES: &[Clause] = &[
    Clause::named("SEQ-1"),
    Clause::named("SEQ-2"),
    Clause::named("SEQ-3"),
    Clause::named("SEQ-5"),
    Clause::named("SEQ-6"),
    Clause::named("SEQ-8"),
    Clause::named("SEQ-9"),
    Clause::named("ISO-1"),
    Clause::named("ORD-3"),
    Clause::named("ORD-4"),
    Clause::named("ORD-7"),
    Clause::named("ERR-3"),
];

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AnomalyKind {
    /// An event that the service once gave, or holds, is missing where it must be.
    Lost,
    /// The same event twice.
    Duplicated,
    /// An event after one that follows it.
    Reordered,
    /// A place of a log that holds nothing.
    Hole,
    /// A connection went on behind events that it never got.
    SilentGap,
    /// The same place of the same log with other bytes.
    ReplayDiffers,
    /// Something of another user or thread, or that nobody caused.
    Phantom,
    /// A resume from another incarnation of the log was granted.
    StaleEpochAccepted,
    /// A run that never ended.
    TerminalMissing,
    /// A run that ended twice, or went on after its end.
    TerminalDoubled,
    /// An answer before its question: a result before its start.
    ResultBeforeStart,
    /// A later event that says it is older.
    TimeWentBack,
    /// A message that was acknowledged, and of which the log knows nothing.
    AcknowledgedLost,
    /// A message that two runs answer.
    MessageDoubled,
}

impl AnomalyKind {
    /// The clause that it breaks.
    #[must_use]
    pub fn clause(self) -> &'static str {
        match self {
            Self::Lost | Self::ReplayDiffers | Self::AcknowledgedLost => "SEQ-2",
            Self::Duplicated | Self::Reordered | Self::Hole => "SEQ-1",
            Self::SilentGap | Self::StaleEpochAccepted => "SEQ-3",
            Self::Phantom => "ISO-1",
            Self::TerminalMissing | Self::TerminalDoubled => "ORD-4",
            Self::ResultBeforeStart => "ORD-3",
            Self::TimeWentBack => "ORD-7",
            Self::MessageDoubled => "SEQ-8",
        }
    }

    /// What it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Hole => "hole",
            Self::SilentGap => "silent gap",
            Self::ReplayDiffers => "replay differs from first delivery",
            Self::Phantom => "phantom",
            Self::StaleEpochAccepted => "stale epoch accepted",
            Self::TerminalMissing => "terminal missing",
            Self::TerminalDoubled => "terminal doubled",
            Self::ResultBeforeStart => "result before start",
            Self::TimeWentBack => "time going back",
            Self::AcknowledgedLost => "acknowledged message lost",
            Self::MessageDoubled => "message doubled",
        }
    }
}

/// Something that must not be, and the frames that show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// In which way it is wrong.
    pub kind: AnomalyKind,
    /// What was seen, in a sentence.
    pub what: String,
    /// Where, and the bytes.
    pub frames: Vec<String>,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.kind.name(), self.kind.clause(), self.what)?;
        self.frames.iter().try_for_each(|frame| write!(f, "\n    {frame}"))
    }
}

/// All anomalies of a history; the smallest first, which needs the fewest frames to be seen.
#[must_use]
pub fn check(history: &History) -> Vec<Anomaly> {
    let mut found = Vec::new();
    for checker in CHECKERS {
        checker(history, &mut found);
    }
    found.sort_by_cached_key(|anomaly| (anomaly.frames.len(), anomaly.kind, anomaly.to_string().len()));
    found
}

type Checker = fn(&History, &mut Vec<Anomaly>);

const CHECKERS: &[Checker] = &[
    delivery::order_on_each_connection,
    delivery::epochs,
    delivery::phantoms,
    delivery::bytes,
    logs::logs_of_clients,
    truth::delivered_events_are_kept,
    truth::places,
    truth::runs,
    truth::times,
    truth::messages,
];

/// Collects anomalies in sentences.
trait Blame {
    fn blame(&mut self, kind: AnomalyKind, what: String, frames: Vec<String>);
}

impl Blame for Vec<Anomaly> {
    fn blame(&mut self, kind: AnomalyKind, what: String, frames: Vec<String>) {
        self.push(Anomaly { kind, what, frames });
    }
}

fn on_connection(connection: usize, seen: &Seen) -> String {
    format!(
        "connection {connection}, frame {}, {} us: {}",
        seen.frame, seen.at_us, seen.text
    )
}

fn in_log(whose: &str, line: &LogLine) -> String {
    format!("{whose}: {}", line.text)
}
