//! Judging a recording by the contract. Pure: a recording goes in, a judgement comes out; nothing is sent, waited for or
//! changed.
//!
//! One file per family of clauses. Each knows what a capture cannot show (a run still open at the end, a connection that
//! was cut, a moment in which the test's own process stood still) and says `not judged, because`; it never passes such a
//! thing, and never blames a backend for it. There are no tolerances beyond the contract's.

mod connection;
mod disclosure;
mod errors;
mod events;
mod handshake;
mod isolation;
mod limits;
mod log;
mod order;
mod reading;
mod sequence;
mod timing;
mod unjudged;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kingsguard_report::{Level, NotJudged, RecordedViolation};

use crate::clause::Clause;
use crate::recording::Recording;
pub use reading::Place;
use reading::Reading;

/// The clauses that a recording can show. What it shows nothing about, a test judges by claims of its own.
pub const JUDGED: &[&str] = &[
    "AUTH-3", "AUTH-6", "AUTH-8", "CON-1", "CON-2", "CON-3", "CON-4", "ERR-1", "EVT-1", "EVT-2", "EVT-3", "EVT-4",
    "EVT-5", "EVT-6", "EVT-7", "EVT-8", "HSK-1", "HSK-2", "HSK-3", "HSK-4", "ISO-1", "LIM-1", "MSG-1", "MSG-2",
    "MSG-3", "MSG-4", "ORD-1", "ORD-2", "ORD-3", "ORD-4", "ORD-5", "ORD-7", "SEC-2", "SEQ-1", "SEQ-2", "SEQ-3",
    "SEQ-6", "TIM-1", "TIM-2", "TIM-4",
];

/// What a recording shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Clauses that are broken.
    pub violations: Vec<Violation>,
    /// What could not be judged: clause and reason.
    pub not_judged: BTreeSet<(&'static str, String)>,
    /// How many received frames were looked at.
    pub frames_judged: u64,
}

/// One broken clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The clause.
    pub clause: Clause,
    /// How much this breach weighs; a MUST clause may ask only for a report of some things.
    pub level: Level,
    /// What was expected.
    pub expected: String,
    /// What came.
    pub came: String,
    /// The frames at fault.
    pub frames: Vec<Place>,
}

impl Judgement {
    pub(crate) fn blame(
        &mut self,
        clause: &'static str,
        expected: impl Into<String>,
        came: impl Into<String>,
        frames: impl IntoIterator<Item = Place>,
    ) {
        let clause = Clause::named(clause);
        self.violations.push(Violation {
            clause,
            level: clause.level,
            expected: expected.into(),
            came: came.into(),
            frames: frames.into_iter().collect(),
        });
    }

    /// A breach that is reported and does not gate, whatever the clause's level.
    pub(crate) fn report(
        &mut self,
        clause: &'static str,
        expected: impl Into<String>,
        came: impl Into<String>,
        frames: impl IntoIterator<Item = Place>,
    ) {
        self.blame(clause, expected, came, frames);
        if let Some(last) = self.violations.last_mut() {
            last.level = Level::Should;
        }
    }

    pub(crate) fn cannot_judge(&mut self, clause: &'static str, reason: impl Into<String>) {
        self.not_judged.insert((Clause::named(clause).id, reason.into()));
    }

    /// Takes back what was said of clauses that the target does not claim to keep.
    fn leave_out(&mut self, left_out: &BTreeMap<String, String>) {
        let (taken_back, stay) = std::mem::take(&mut self.violations)
            .into_iter()
            .partition(|violation| left_out.contains_key(violation.clause.id));
        self.violations = stay;
        let taken_back: Vec<Violation> = taken_back;
        for violation in taken_back {
            let reason = &left_out[violation.clause.id];
            self.not_judged
                .insert((violation.clause.id, format!("the target leaves it out: {reason}")));
        }
    }

    /// The ids of the clauses that are broken, each once.
    #[must_use]
    pub fn broken(&self) -> BTreeSet<&'static str> {
        self.violations.iter().map(|violation| violation.clause.id).collect()
    }

    /// The violations of MUST weight, for the record.
    #[must_use]
    pub fn recorded(&self, level: Level) -> Vec<RecordedViolation> {
        self.violations
            .iter()
            .filter(|violation| violation.level == level)
            .map(Violation::record)
            .collect()
    }

    /// What could not be judged, for the record of a test that claims `clauses`.
    #[must_use]
    pub fn recorded_not_judged(&self, clauses: &[Clause]) -> Vec<NotJudged> {
        self.not_judged
            .iter()
            .map(|(clause, reason)| NotJudged {
                clause: (*clause).to_owned(),
                reason: reason.clone(),
                claimed: clauses.iter().any(|claimed| claimed.id == *clause),
            })
            .collect()
    }
}

impl Violation {
    /// The violation as data.
    #[must_use]
    pub fn record(&self) -> RecordedViolation {
        RecordedViolation {
            clause: self.clause.id.to_owned(),
            level: self.level,
            message: format!("expected {}, but {}", self.expected, self.came),
            sentence: self.clause.sentence.to_owned(),
            expected: self.expected.clone(),
            came: self.came.clone(),
            frames: self.frames.iter().map(ToString::to_string).collect(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
        };
        let frames: Vec<String> = self.frames.iter().map(ToString::to_string).collect();
        write!(
            f,
            "{} ({level}): expected {}, but {}",
            self.clause.id, self.expected, self.came
        )?;
        if !frames.is_empty() {
            write!(f, " [connection/frame {}]", frames.join(", "))?;
        }
        write!(f, "\n    {}", self.clause.sentence)
    }
}

/// Judges a recording by every clause that a capture can show.
#[must_use]
pub fn judge(recording: &Recording) -> Judgement {
    let view = recording.in_the_contracts_words();
    let honest = view.until_damaged();
    let reading = Reading::of(&honest);
    let mut judgement = Judgement {
        frames_judged: reading.received_frames(),
        ..Judgement::default()
    };
    for (index, connection) in honest.connections.iter().enumerate() {
        if connection.damaged_us.is_some() {
            judgement.cannot_judge(
                "SEQ-1",
                format!("a fault damaged connection {index}: what followed is left out"),
            );
        }
    }
    connection::judge(&reading, &mut judgement);
    handshake::judge(&reading, &mut judgement);
    events::judge(&reading, &mut judgement);
    sequence::judge(&reading, &mut judgement);
    order::judge(&reading, &mut judgement);
    isolation::judge(&reading, &mut judgement);
    disclosure::judge(&reading, &mut judgement);
    errors::judge(&reading, &mut judgement);
    timing::judge(&reading, &mut judgement);
    limits::judge(&reading, &mut judgement);
    unjudged::list(&reading, &mut judgement);
    judgement.leave_out(&recording.facts.leaves_out);
    judgement
}

/// What is still under way on connections that are open: answers that have not come, runs that have not ended, followers
/// that lag behind. A test waits a moment for these before it is judged, so that little is left unjudged.
#[must_use]
pub fn under_way(recording: &Recording) -> Option<String> {
    let view = recording.in_the_contracts_words();
    let honest = view.until_damaged();
    let reading = Reading::of(&honest);
    errors::under_way(&reading)
        .or_else(|| order::under_way(&reading))
        .or_else(|| sequence::under_way(&reading))
}
