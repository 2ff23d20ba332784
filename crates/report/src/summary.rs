//! The summary of one suite run: `summary.json`, whose schema is published as `docs/schema/summary.json`.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::comparison::Comparison;
use crate::figure::Figure;

/// The version of the shape of [`Summary`]; it rises when a field changes its meaning or goes away.
pub const SUMMARY_VERSION: u32 = 2;

/// Reasons that a clause tells at most; its counts are always whole.
pub const REASONS_MAX: usize = 5;

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
    /// Results that disagree with each other, each as a sentence; with one of them the run cannot be believed.
    pub contradictions: Vec<String>,
    /// Budgets that were exceeded, each as a sentence.
    pub over_budget: Vec<String>,
    /// Name of this suite run; evidence and records carry it too.
    pub suite_run: String,
    /// Categories and selections, as they were asked.
    pub selection: Vec<String>,
    /// What tests had to match (`--pattern`), if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Which part of the tests this run was (`--shard`), such as `2/3`; absent where it was all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,
    /// The suite runs that this one was merged from; empty where it ran by itself.
    pub merged_from: Vec<String>,
    /// How often everything ran.
    pub repeat: u32,
    /// Commit of the suite, with `-dirty` when the working tree differed from it; `unknown` outside a repository.
    pub revision: String,
    /// What it ran on.
    pub machine: Machine,
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
    /// Every clause of the contract, in its order, with what this run shows about it.
    pub clauses: Vec<ClauseSummary>,
    /// Clauses of the contract that were broken, and no others.
    pub violations: Vec<Violation>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Tests that failed, timed out or could not be believed.
    pub failures: Vec<Failure>,
    /// Tests that passed in one repetition and failed in another.
    pub flaky: Vec<FlakyTest>,
    /// Every selected test, those that did not run included.
    pub tests: Vec<TestSummary>,
    /// The ten slowest tests, slowest first.
    pub slowest: Vec<SlowTest>,
    /// What changed since a baseline run; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
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
    /// Tests that need what the target's profile leaves out.
    #[serde(default)]
    pub beyond_profile: u32,
    /// Why tests were not run, or why the category failed beyond its tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From the start of its first test to the end of its last, over all repetitions.
    pub duration_ms: u64,
}

impl Verdict {
    /// The word for people, the same in every report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Invalid => "invalid run",
        }
    }
}

impl CategorySummary {
    /// The category in one word.
    pub fn outcome(&self) -> Outcome {
        match (self.failed, self.invalid, self.passed, self.beyond_profile) {
            (1.., _, _, _) => Outcome::Failed,
            (0, 1.., _, _) => Outcome::Invalid,
            (0, 0, 1.., _) => Outcome::Passed,
            (0, 0, 0, 1..) => Outcome::NotJudged,
            (0, 0, 0, 0) => Outcome::NotRun,
        }
    }
}

/// How a category or a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It ran, and all of it held.
    Passed,
    /// Something in it failed.
    Failed,
    /// Nothing failed, but something could not be believed: the machine or the generator fell short.
    Invalid,
    /// It ran, and the target's profile leaves out what it needs: it says nothing about the target.
    NotJudged,
    /// Nothing of it was executed.
    NotRun,
}

impl Outcome {
    /// The word for people, the same in every report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Invalid => "invalid run",
            Self::NotJudged => "not judged",
            Self::NotRun => "not run",
        }
    }
}

/// What a suite run shows about one clause of the contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClauseSummary {
    /// Its id, such as `ORD-3`.
    pub clause: String,
    /// Whether it gates.
    pub level: Level,
    /// The one answer about it.
    pub verdict: ClauseVerdict,
    /// Executed tests that are about it and found it kept; each repetition counts.
    pub passed: u32,
    /// Executed tests that found it broken, whatever they are about.
    pub failed: u32,
    /// Executed tests that are about it and could not judge it.
    pub not_judged: u32,
    /// What broke it and why it could not be judged: the first [`REASONS_MAX`].
    pub reasons: Vec<String>,
}

/// The answer about a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClauseVerdict {
    /// A MUST clause was broken, once or more.
    Failed,
    /// A SHOULD clause was broken, once or more.
    Warned,
    /// At least one test judged it, and no test found it broken.
    Passed,
    /// Tests that are about it ran, and none could judge it; the reasons say why.
    NotJudged,
    /// No executed test is about it.
    NotRun,
}

impl ClauseVerdict {
    /// All of them, in the order of worry.
    pub const ALL: [Self; 5] = [Self::Failed, Self::Warned, Self::NotJudged, Self::NotRun, Self::Passed];

    /// The word for people, the same in every report.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Warned => "warned",
            Self::Passed => "passed",
            Self::NotJudged => "not judged",
            Self::NotRun => "not run",
        }
    }
}

/// What one test came to, over all repetitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TestSummary {
    /// Test binary, then path, as nextest prints it.
    pub test: String,
    /// Its category.
    pub category: String,
    /// Its worst repetition.
    pub outcome: Outcome,
    /// Repetitions that held.
    pub passed: u32,
    /// Repetitions that did not.
    pub failed: u32,
    /// Repetitions in which the machine or the generator fell short.
    pub invalid: u32,
    /// Repetitions that the target's profile left no means to judge.
    #[serde(default)]
    pub beyond_profile: u32,
    /// Of its slowest repetition.
    pub duration_ms: u64,
    /// The clauses that it is about; empty where it did not run or holds no test context.
    pub clauses: Vec<String>,
    /// SHOULD clauses that it found broken.
    pub warned: Vec<String>,
    /// Of the clauses that it is about, those that it could not judge.
    pub not_judged: Vec<String>,
    /// Why it did not run, did not hold, or could not judge the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A test that passed in one repetition and failed in another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FlakyTest {
    /// Test binary, then path.
    pub test: String,
    /// Its category.
    pub category: String,
    /// Repetitions that failed.
    pub failed: u32,
    /// Repetitions that said something, either way.
    pub of: u32,
    /// `failed` ÷ `of`.
    pub rate: f64,
}

/// What a suite run ran on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Processors that the run could use.
    pub processors: u32,
    /// What a processor calls itself; empty where it does not say.
    pub processor: String,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Operating system, its release and architecture.
    pub kernel: String,
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
