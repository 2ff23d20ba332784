//! What one test leaves behind for the runner: one JSON file per test in `$KINGSGUARD_RECORDS_DIR`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::figure::Figure;
use crate::summary::Level;

/// What one test found. The kit writes it, the runner merges it into the summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TestRecord {
    /// The test's name as nextest has it, such as `wire::resume::resume_continues_after_the_last_seen_sequence`.
    pub test: String,
    /// The test binary, which is the category.
    pub category: String,
    /// The clauses that the test is about.
    pub clauses: Vec<String>,
    /// How it ended, judgement included.
    pub outcome: TestOutcome,
    /// Why it failed, in one line; absent where it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// MUST clauses that the capture shows to be broken; each fails the test.
    pub violations: Vec<RecordedViolation>,
    /// SHOULD clauses that the capture shows to be broken; they are reported and fail nothing.
    pub warned: Vec<RecordedViolation>,
    /// What the capture could not judge.
    pub not_judged: Vec<NotJudged>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Frames that were judged.
    pub frames_judged: u64,
    /// Claims that the test checked through the kit.
    pub checks: u64,
    /// Folder with server log, recording and facts; absent where nothing was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// The command that repeats this test with this seed.
    pub repeat: String,
    /// Where the backend was made wrong on purpose: how often that really did something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sabotage_happened: Option<u64>,
    /// The seed of everything random in the test.
    pub seed: u64,
    /// When it began: RFC 3339, UTC, milliseconds.
    pub started: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TestOutcome {
    /// Every claim held and no MUST clause was broken.
    Passed,
    /// A claim did not hold, or a MUST clause was broken.
    Failed,
    /// The machine or the generator fell short: it says nothing about the target, neither good nor bad.
    Invalid,
    /// The target's profile leaves out what the test needs: it says nothing about the target either. `message` has the reason.
    NotJudged,
}

/// One broken clause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedViolation {
    /// The clause, such as `SEQ-1`.
    pub clause: String,
    /// How much it binds.
    pub level: Level,
    /// What was expected and what came, in one sentence.
    pub message: String,
    /// What the clause says.
    #[serde(default)]
    pub sentence: String,
    /// What was expected.
    #[serde(default)]
    pub expected: String,
    /// What came.
    #[serde(default)]
    pub came: String,
    /// The frames at fault: `connection/frame`, both counted from 0 in the recording.
    pub frames: Vec<String>,
}

/// One clause that a capture could not judge somewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotJudged {
    /// The clause.
    pub clause: String,
    /// Why not.
    pub reason: String,
    /// Whether the test is about this clause: then the test shows nothing about it.
    pub claimed: bool,
}

impl TestRecord {
    /// Whether this test found the clause broken: its judgement names it, or a claim of its own did not hold and it is about
    /// the clause.
    #[must_use]
    pub fn blames(&self, clause: &str) -> bool {
        let judged = self.violations.iter().any(|violation| violation.clause == clause);
        // The message is the first reason; a judgement's begins with its clause.
        let judgement_first = |message: &String| {
            let clauses = self.violations.iter().map(|violation| &violation.clause);
            clauses
                .into_iter()
                .any(|clause| message.starts_with(&format!("{clause} (")))
        };
        let claim_failed = self.message.as_ref().is_some_and(|message| !judgement_first(message));
        judged || claim_failed && self.clauses.iter().any(|one| one == clause)
    }

    /// The file name of this record inside `$KINGSGUARD_RECORDS_DIR`; `process_id` keeps repeats of one test apart.
    #[must_use]
    pub fn file_name(&self, process_id: u32) -> String {
        let name: String = format!("{}.{}", self.category, self.test.replace("::", "."))
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "._-".contains(c) {
                    c
                } else {
                    '_'
                }
            })
            .take(180)
            .collect();
        format!("{name}.{process_id}.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// A failed test about ISO-1, with what it said and what its judgement found broken.
    fn failed(message: &str, broken: &[&str]) -> TestRecord {
        let violations = broken.iter().map(|clause| RecordedViolation {
            clause: (*clause).to_owned(),
            level: Level::Must,
            message: "it broke".to_owned(),
            sentence: String::new(),
            expected: String::new(),
            came: String::new(),
            frames: Vec::new(),
        });
        TestRecord {
            test: "wire::a".to_owned(),
            category: "e2e".to_owned(),
            clauses: vec!["ISO-1".to_owned()],
            outcome: TestOutcome::Failed,
            message: Some(message.to_owned()),
            violations: violations.collect(),
            warned: Vec::new(),
            not_judged: Vec::new(),
            figures: Vec::new(),
            frames_judged: 1,
            checks: 1,
            evidence: None,
            repeat: String::new(),
            sabotage_happened: None,
            seed: 1,
            started: String::new(),
            duration_ms: 1,
        }
    }

    #[test]
    fn a_clause_is_blamed_by_the_judgement_or_by_a_claim_of_a_test_that_is_about_it() {
        let blamed = |record: &TestRecord| ["ISO-1", "SEQ-1", "ORD-1"].map(|clause| record.blames(clause));
        let by_judgement = failed("SEQ-1 (MUST): a hole", &["SEQ-1"]);
        assert_eq!(blamed(&by_judgement), [false, true, false], "its own claims held");
        let by_claim = failed("claim does not hold: SEQ-1", &[]);
        assert_eq!(blamed(&by_claim), [true, false, false]);
        let by_both = failed("claim does not hold: x", &["SEQ-1"]);
        assert_eq!(blamed(&by_both), [true, true, false]);
    }
}
