//! The summary of one suite run: `summary.json`, whose schema is published as `docs/schema/summary.json`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the shape of [`Summary`]; it rises when a field changes its meaning or goes away.
pub const SUMMARY_VERSION: u32 = 1;

/// One suite run: what was asked, what came of it, and what a reader needs to look further.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// [`SUMMARY_VERSION`] of the runner that wrote it.
    pub version: u32,
    /// The one answer. Everything below says why.
    pub verdict: Verdict,
    /// What the runner's process ended with: 0 passed, 1 tests failed, 2 usage, 3 nothing selected or executed,
    /// 4 services unavailable, 5 budget exceeded, 6 invalid run, 130 interrupted.
    pub exit_code: u8,
    /// Why the verdict is not `passed`, in a sentence for people; absent when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Name of this suite run; evidence and records carry it too.
    pub suite_run: String,
    /// Commit of the suite, with `-dirty` when the working tree differed from it; `unknown` outside a repository.
    pub revision: String,
    /// All randomness of the run comes from it. A repetition counts up from here.
    pub seed: u64,
    /// Who gave the services: `containers`, `processes`, `external`, or `none` where no test needed one.
    pub provider: String,
    /// Address of the backend that was judged, or `own` where each test started its own.
    pub target: String,
    /// Name of the environment file that was used (`--env`), if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// When the runner began, building included.
    pub started: DateTime<Utc>,
    /// From `started` to the verdict.
    pub duration_ms: u64,
    /// Of `duration_ms`, what building took: a budget does not count it.
    pub build_ms: u64,
    /// In the order in which they ran, those that did not run included.
    pub categories: Vec<CategorySummary>,
    /// Clauses of the contract that were broken, and no others.
    pub violations: Vec<Violation>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Tests that failed, timed out or could not be believed.
    pub failures: Vec<Failure>,
    /// Tests that passed in one repetition and failed in another.
    pub flaky: Vec<String>,
    /// The ten slowest tests, slowest first.
    pub slowest: Vec<SlowTest>,
}

/// May this be deployed?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every selected test ran and held.
    Passed,
    /// At least one test failed, or a budget was exceeded.
    Failed,
    /// The run cannot be believed: nothing ran, services were missing, results contradict each other,
    /// or the machine fell short. It says nothing about the target, neither good nor bad.
    Invalid,
}

/// One category of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CategorySummary {
    /// `unit`, `integration`, `e2e`, `stress`, `regression`, `chaos` or `performance`.
    pub name: String,
    /// `critical`, `high`, `medium` or `low`.
    pub priority: String,
    /// Tests that held.
    pub passed: u32,
    /// Tests that failed, timed out, or passed while their record tells of a broken clause.
    pub failed: u32,
    /// Tests in which the machine or the generator fell short: they say nothing about the target.
    #[serde(default)]
    pub invalid: u32,
    /// Breaches of SHOULD clauses and other remarks that do not gate.
    pub warned: u32,
    /// Selected tests that were not executed; `reason` says why.
    pub not_run: u32,
    /// Clauses that tests meant to judge and could not.
    pub not_judged: u32,
    /// Why tests were not run, or why the category failed beyond its tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the start of its first test to the end of its last, over all repetitions.
    pub duration_ms: u64,
}

impl CategorySummary {
    /// The category in one word.
    pub fn outcome(&self) -> Outcome {
        match (self.failed, self.invalid, self.passed) {
            (1.., _, _) => Outcome::Failed,
            (0, 1.., _) => Outcome::Invalid,
            (0, 0, 1..) => Outcome::Passed,
            (0, 0, 0) => Outcome::NotRun,
        }
    }
}

/// How a category ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// At least one test ran and none failed.
    Passed,
    /// At least one test failed.
    Failed,
    /// None failed, but at least one could not be believed.
    Invalid,
    /// No test was executed.
    NotRun,
}

/// Whether a clause gates a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It gates.
    Must,
    /// It is reported and does not gate.
    Should,
}

/// A clause of the contract that the target broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Violation {
    /// Id of the clause, such as `ORD-3`.
    pub clause: String,
    /// Whether it gates.
    pub level: Level,
    /// The test that saw it: test binary, then path, as nextest prints it.
    pub test: String,
    /// What happened, which events are at fault and why that breaks the clause.
    pub message: String,
    /// Folder with server log and recording, relative to the workspace where it lies inside; empty when none was kept.
    pub evidence: String,
}

/// Something that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// Such as `event_latency_p99_ms`.
    pub id: String,
    /// In `unit`.
    pub value: f64,
    /// Such as `ms`, `1/s`, `bytes`.
    pub unit: String,
    /// What the same machine gave in the same run for work that does not depend on the target, in `unit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yardstick: Option<f64>,
    /// `value` ÷ `yardstick`: comparable between machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

/// A test that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Test binary, then path.
    pub test: String,
    /// Its category.
    pub category: String,
    /// First lines of what it said.
    pub message: String,
    /// Folder with server log and recording; empty when none was kept.
    pub evidence: String,
    /// The command that runs this one test again with the same seed.
    pub repeat: String,
}

/// A test and its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlowTest {
    /// Test binary, then path.
    pub test: String,
    /// Its category.
    pub category: String,
    /// Of its slowest repetition.
    pub duration_ms: u64,
}
