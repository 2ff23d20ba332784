//! Judging a stored recording again: offline, by the validators as they are now, compared with what its test found.

use std::collections::BTreeSet;
use std::fmt;

use kingsguard_report::Level;

use crate::clause::Clause;
use crate::recording::excerpt;
use crate::recording::stored::Stored;
use crate::validate::{JUDGED, Judgement, Violation, judge};

/// What a recording shows now, beside what it showed when it was made.
#[derive(Debug)]
pub struct Replay {
    stored: Stored,
    judgement: Judgement,
    /// What it comes to.
    pub verdict: Verdict,
    /// Every clause that there is something to say about, by id.
    pub clauses: Vec<(&'static str, ClauseVerdict)>,
}

/// What a replay comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is broken, and nothing was.
    Passes,
    /// Something was broken, and nothing is.
    Fixed,
    /// Something was broken, and something is.
    StillFailed,
    /// Something is broken where nothing was, or where nobody wrote down what was.
    Failed,
}

/// What a replay says about one clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClauseVerdict {
    /// It is not broken, and was not.
    Passes,
    /// It was broken and is not.
    Fixed,
    /// It was broken and is.
    StillFailed,
    /// It is broken where it was not, or where nobody wrote down whether it was.
    Failed,
    /// It is broken, and gates nothing.
    Warned,
    /// The recording cannot show it, because.
    NotJudged(String),
}

impl Verdict {
    /// Whether a MUST clause is broken, or a claim stands that no recording can take back.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Passes | Self::Fixed => false,
            Self::StillFailed | Self::Failed => true,
        }
    }
}

impl Replay {
    /// Judges a stored recording again.
    #[must_use]
    pub fn of(stored: Stored) -> Self {
        let mut judgement = judge(&stored.recording);
        if !stored.keeps_places_of_credentials() {
            let why = format!(
                "a recording of version {} keeps no trace of the credentials that were in use",
                stored.version
            );
            judgement.cannot_judge("AUTH-8", why);
        }
        let verdict = verdict(&stored, &judgement);
        let clauses = clauses(&stored, &judgement);
        Self {
            stored,
            judgement,
            verdict,
            clauses,
        }
    }

    /// The recording and what its file says about it.
    #[must_use]
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// What the recording shows now.
    #[must_use]
    pub fn judgement(&self) -> &Judgement {
        &self.judgement
    }

    fn claims(&self) -> &[String] {
        self.stored.found.as_ref().map_or(&[], |found| found.claims.as_slice())
    }
}

fn broken_now(judgement: &Judgement, level: Level) -> BTreeSet<&'static str> {
    let of_level = judgement.violations.iter().filter(|one| one.level == level);
    of_level.map(|one| one.clause.id).collect()
}

/// Clauses that the test found to be broken in a way that fails it; `None` where nobody wrote it down.
fn broken_then(stored: &Stored) -> Option<BTreeSet<&str>> {
    let found = stored.found.as_ref()?;
    let gating = found.violations.iter().filter(|one| one.level == Level::Must);
    Some(gating.map(|one| one.clause.as_str()).collect())
}

fn verdict(stored: &Stored, judgement: &Judgement) -> Verdict {
    let claims = stored.found.as_ref().map_or(0, |found| found.claims.len());
    let failed_then = broken_then(stored).is_some_and(|broken| !broken.is_empty()) || claims > 0;
    // What no frame shows cannot be taken back by frames: it stands as it was recorded.
    let fails_now = !broken_now(judgement, Level::Must).is_empty() || claims > 0;
    match (failed_then, fails_now) {
        (true, true) => Verdict::StillFailed,
        (true, false) => Verdict::Fixed,
        (false, true) => Verdict::Failed,
        (false, false) => Verdict::Passes,
    }
}

fn clauses(stored: &Stored, judgement: &Judgement) -> Vec<(&'static str, ClauseVerdict)> {
    let then = broken_then(stored).unwrap_or_default();
    let (now, warned) = (broken_now(judgement, Level::Must), broken_now(judgement, Level::Should));
    let about = stored.found.iter().flat_map(|found| &found.clauses);
    let named = about.map(String::as_str).chain(then.iter().copied());
    // A clause that the contract no longer has is no longer judged.
    let known = named.filter_map(|id| Clause::find(id).map(|clause| clause.id));
    let ids: BTreeSet<&'static str> = known
        .chain(now.iter().copied())
        .chain(warned.iter().copied())
        .chain(judgement.not_judged.iter().map(|(id, _)| *id))
        .collect();
    let verdict = |id: &'static str| {
        if now.contains(id) {
            return if then.contains(id) {
                ClauseVerdict::StillFailed
            } else {
                ClauseVerdict::Failed
            };
        }
        if warned.contains(id) {
            return ClauseVerdict::Warned;
        }
        let reasons = judgement.not_judged.iter().filter(|(known, _)| *known == id);
        let reasons: Vec<&str> = reasons.map(|(_, reason)| reason.as_str()).collect();
        if !reasons.is_empty() {
            return ClauseVerdict::NotJudged(reasons.join("; "));
        }
        if !JUDGED.contains(&id) {
            return ClauseVerdict::NotJudged("no recording shows it: the test's own claims judge it".to_owned());
        }
        if then.contains(id) {
            ClauseVerdict::Fixed
        } else {
            ClauseVerdict::Passes
        }
    };
    ids.into_iter().map(|id| (id, verdict(id))).collect()
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passes => "passes",
            Self::Fixed => "FIXED",
            Self::StillFailed => "STILL FAILED",
            Self::Failed => "FAILED",
        })
    }
}

impl fmt::Display for ClauseVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passes => f.write_str("passes"),
            Self::Fixed => f.write_str("FIXED"),
            Self::StillFailed => f.write_str("STILL FAILED"),
            Self::Failed => f.write_str("FAILED"),
            Self::Warned => f.write_str("warns"),
            Self::NotJudged(why) => write!(f, "not judged: {why}"),
        }
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recording = &self.stored.recording;
        writeln!(f, "{}: {}", self.verdict, recording.test)?;
        writeln!(
            f,
            "  {} frames judged on {} connections; format version {}, recorded by {}",
            self.judgement.frames_judged,
            recording.connections.len(),
            self.stored.version,
            self.stored.revision.as_deref().unwrap_or("an unknown revision")
        )?;
        for (id, verdict) in &self.clauses {
            writeln!(f, "  {id:<7} {verdict}")?;
            for violation in self.judgement.violations.iter().filter(|one| one.clause.id == *id) {
                self.explain(f, violation)?;
            }
        }
        for claim in self.claims() {
            writeln!(
                f,
                "  claim   stands as recorded, no frame shows it: {}",
                indented(claim, 10)
            )?;
        }
        if let (true, Some(found)) = (self.verdict.is_failure(), &self.stored.found) {
            writeln!(f, "  repeat with services: {}", found.repeat)?;
        }
        Ok(())
    }
}

impl Replay {
    fn explain(&self, f: &mut fmt::Formatter<'_>, violation: &Violation) -> fmt::Result {
        writeln!(f, "      says      {}", violation.clause.sentence)?;
        writeln!(f, "      expected  {}", indented(&violation.expected, 16))?;
        writeln!(f, "      but       {}", indented(&violation.came, 16))?;
        let ends = excerpt::ends(&self.stored.recording, &violation.frames);
        let between = violation.frames.len().saturating_sub(ends.len());
        if between > 0 {
            writeln!(
                f,
                "      frames    {} are at fault; the first and the last:",
                violation.frames.len()
            )?;
        }
        for line in excerpt::pretty(&self.stored.recording, &ends).lines() {
            writeln!(f, "      {line}")?;
        }
        Ok(())
    }
}

/// Further lines stand under the first one.
fn indented(text: &str, columns: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{}", " ".repeat(columns)))
}
