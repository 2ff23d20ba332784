//! A suite run beside an earlier one.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What changed since a baseline run. It gates nothing: times of different hours and machines differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// Name of the baseline run.
    pub suite_run: String,
    /// What was judged then.
    pub revision: String,
    /// When it began.
    pub started: DateTime<Utc>,
    /// Whether it ran on a machine that says the same of itself.
    pub same_machine: bool,
    /// Of one repetition, without building, in ms.
    pub duration: Change,
    /// Times of categories that ran in both, of one repetition, in ms.
    pub categories: Vec<Change>,
    /// Figures that both have.
    pub figures: Vec<Change>,
    /// Tests whose time changed most, in ms; most first.
    pub tests: Vec<Change>,
}

/// One value then and now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The category, figure or test.
    pub name: String,
    /// The unit of both.
    pub unit: String,
    /// The baseline's.
    pub before: f64,
    /// This run's.
    pub now: f64,
    /// `now` ÷ `before`; absent where the baseline has 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

impl Change {
    /// From the baseline's value to this run's.
    #[must_use]
    pub fn new(name: &str, unit: &str, before: f64, now: f64) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            before,
            now,
            ratio: (before != 0.0).then(|| now / before),
        }
    }
}
