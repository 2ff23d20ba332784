//! The answer of the gate: `gate.json`, whose schema is published as `docs/schema/gate.json`.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the shape of [`Gate`]; it rises when a field changes its meaning or goes away.
pub const GATE_VERSION: u32 = 1;

/// May this be deployed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    /// [`GATE_VERSION`] of the runner that wrote it.
    pub version: u32,
    /// The one answer. Everything below says why.
    pub answer: Answer,
    /// Why it is not `GO`; empty when it is.
    pub reasons: Vec<Reason>,
    /// What came of the MUST clauses.
    pub must: MustCounts,
    /// When to take the deployment back, once it is out.
    pub rollback: Vec<RollbackCriterion>,
    /// Address of the backend that was judged, or `own`.
    pub target: String,
    /// Commit of the suite.
    pub revision: String,
    /// The suite runs that the answer is made of, the gate's own first.
    pub suite_runs: Vec<String>,
    /// When the gate's own suite run began.
    pub asked: DateTime<Utc>,
}

/// May this be deployed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Answer {
    /// Every MUST clause was judged and kept.
    #[serde(rename = "GO")]
    Go,
    /// A test failed.
    #[serde(rename = "NO-GO")]
    NoGo,
    /// Nothing failed, but not everything that gates was judged, or the run cannot be believed.
    #[serde(rename = "UNKNOWN")]
    Unknown,
}

impl Answer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Go, Self::NoGo, Self::Unknown];

    /// As it is said and written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Go => "GO",
            Self::NoGo => "NO-GO",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// One reason against going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// The clause that it is about; absent where it is about no single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clause: Option<String>,
    /// What happened or is missing, in a sentence for people.
    pub what: String,
}

/// How many MUST clauses ended in which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MustCounts {
    /// Judged and kept.
    pub passed: u32,
    /// Broken.
    pub failed: u32,
    /// Tests ran and could not judge them.
    pub not_judged: u32,
    /// No test about them ran.
    pub not_run: u32,
}

/// A sign on which a deployment is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RollbackCriterion {
    /// The clause behind it.
    pub clause: String,
    /// What is seen, in a sentence for people.
    pub when: String,
    /// The same over the metrics of `cargo xtask watch`, as a PromQL expression.
    pub expression: String,
}
