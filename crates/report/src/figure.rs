//! What tests measure, for reports.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// All that the value stands for, where it is one of many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
}

impl Figure {
    /// A value that stands for itself.
    #[must_use]
    pub fn new(id: &str, value: f64, unit: &str) -> Self {
        Self {
            id: id.to_owned(),
            value,
            unit: unit.to_owned(),
            yardstick: None,
            ratio: None,
            distribution: None,
        }
    }
}

/// How measured values spread, in the unit of their figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Distribution {
    /// Values that were counted.
    pub count: u64,
    /// In rising order.
    pub percentiles: Vec<Percentile>,
    /// In rising order and without gaps; the first holds everything below.
    pub buckets: Vec<Bucket>,
}

/// The value that a share of all values does not exceed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentile {
    /// The share, of 100.
    pub percentile: f64,
    /// The value.
    pub value: f64,
}

/// How many values lie above the bucket before and not above `to`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bucket {
    /// The largest value that belongs here.
    pub to: f64,
    /// Values in it.
    pub count: u64,
}
