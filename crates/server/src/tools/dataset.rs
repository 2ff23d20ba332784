//! A user's usage records as tools see them: one snapshot a run, sorted by time.

use std::sync::Arc;

use kingsguard_protocol::Timestamp;
use serde_json::{Value, json};

/// One use of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The model's name.
    pub model: Arc<str>,
    /// What the use was for.
    pub feature: Option<Arc<str>>,
    /// Tokens given to the model.
    pub input_tokens: u64,
    /// Tokens that the model gave.
    pub output_tokens: u64,
    /// How long the model took.
    pub latency_ms: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_microusd: u64,
    /// The same for equal prompts.
    pub prompt_hash: Option<Arc<str>>,
    /// Whether the use succeeded.
    pub success: bool,
}

/// A span of time, from inclusive to exclusive; open where there is no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Period {
    /// First millisecond inside.
    pub from_ms: Option<i64>,
    /// First millisecond after it.
    pub to_ms: Option<i64>,
}

impl Period {
    /// The period as parameters and results have it: `from` and `to` as timestamps or null.
    #[must_use]
    pub fn to_json(self) -> Value {
        let instant = |ms: Option<i64>| ms.and_then(Timestamp::from_unix_ms).map(|at| at.to_string());
        json!({"from": instant(self.from_ms), "to": instant(self.to_ms)})
    }

    /// Reads what [`Period::to_json`] makes; a bound that is missing or no timestamp is open.
    #[must_use]
    pub fn from_json(value: Option<&Value>) -> Self {
        let bound = |name: &str| {
            let text = value?.get(name)?.as_str()?;
            text.parse::<Timestamp>().ok().map(Timestamp::as_unix_ms)
        };
        Self {
            from_ms: bound("from"),
            to_ms: bound("to"),
        }
    }

    /// Whether it has no bound.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self == Self::default()
    }
}

/// All usage records of one user at one moment.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    rows: Vec<UsageRow>,
}

impl Dataset {
    /// A snapshot of these records.
    #[must_use]
    pub fn new(mut rows: Vec<UsageRow>) -> Self {
        rows.sort_by_key(|row| row.at_ms);
        Self { rows }
    }

    /// The records inside the period, oldest first.
    #[must_use]
    pub fn within(&self, period: Period) -> &[UsageRow] {
        let start = period
            .from_ms
            .map_or(0, |from| self.rows.partition_point(|row| row.at_ms < from));
        let end = period
            .to_ms
            .map_or(self.rows.len(), |to| self.rows.partition_point(|row| row.at_ms < to));
        self.rows.get(start..end).unwrap_or_default()
    }

    /// When the newest record is from.
    #[must_use]
    pub fn newest_ms(&self) -> Option<i64> {
        self.rows.last().map(|row| row.at_ms)
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Whether the records are enough to answer, which chooses the order of the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sufficiency {
    /// Everything that the question needs is there.
    Sufficient,
    /// There are records, but something that would help is missing.
    Partial,
    /// There is no record to compute from.
    Insufficient,
    /// It cannot be said before the request is understood.
    Unknown,
}

impl Sufficiency {
    /// The word in results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sufficient => "sufficient",
            Self::Partial => "partial",
            Self::Insufficient => "insufficient",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    use super::*;

    /// A record at that time, of a model in the catalogue.
    pub(crate) fn row(at_ms: i64) -> UsageRow {
        UsageRow {
            at_ms,
            model: "gpt-4o".into(),
            feature: Some("search".into()),
            input_tokens: 1_000,
            output_tokens: 100,
            latency_ms: Some(500),
            cost_microusd: 3_500,
            prompt_hash: None,
            success: true,
        }
    }

    #[test]
    fn a_period_reads_back_from_its_json() {
        let period = Period {
            from_ms: Some(1_000),
            to_ms: None,
        };
        assert_eq!(Period::from_json(Some(&period.to_json())), period);
        assert!(Period::from_json(None).is_whole());
    }

    proptest! {
        #[test]
        fn a_period_takes_exactly_the_records_inside(
            times in prop::collection::vec(0i64..100, 0..50),
            from in prop::option::of(0i64..100),
            to in prop::option::of(0i64..100),
        ) {
            let data = Dataset::new(times.iter().map(|at| row(*at)).collect());
            let inside = times
                .iter()
                .filter(|at| from.is_none_or(|from| **at >= from) && to.is_none_or(|to| **at < to))
                .count();
            prop_assert_eq!(data.within(Period { from_ms: from, to_ms: to }).len(), inside);
        }
    }
}
