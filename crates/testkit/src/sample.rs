//! Sample usage records, made from a seed, with the same rows at hand for an independent computation.

use chrono::{DateTime, Duration, SecondsFormat, Utc};
use kingsguard_protocol::Timestamp;
use kingsguard_protocol::http::UsageRecord;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

/// Models, their weights among the rows and their usual latency in milliseconds.
const MODELS: [(&str, u32, u64); 4] = [
    ("gpt-4o", 40, 900),
    ("gpt-4o-mini", 35, 350),
    ("claude-sonnet-4", 15, 1_100),
    ("claude-haiku-3.5", 10, 300),
];

/// What the uses were for.
const FEATURES: [&str; 5] = ["support-chat", "search", "summaries", "code-review", "onboarding"];

/// Rows of usage records.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRecords {
    rows: Vec<UsageRecord>,
}

impl SampleRecords {
    /// `count` rows over the 30 days before now, the same for the same seed apart from the day. Every row states its cost,
    /// about one in five repeats an earlier prompt, about one in fifty failed.
    #[must_use]
    pub fn generate(seed: u64, count: usize) -> Self {
        Self::generate_until(seed, count, Utc::now())
    }

    /// The same, over the 30 days before `end`.
    #[must_use]
    pub fn generate_until(seed: u64, count: usize, end: DateTime<Utc>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let span = Duration::days(30);
        let step = span / i32::try_from(count.max(1)).unwrap_or(i32::MAX);
        let mut prompts: Vec<String> = Vec::new();
        let rows = (0..count)
            .map(|index| {
                let (model, _, latency) = MODELS
                    .choose_weighted(&mut rng, |(_, weight, _)| *weight)
                    .expect("the weights are constant and positive");
                let input_tokens = rng.random_range(50..4_000);
                let output_tokens = rng.random_range(10..1_200);
                let success = !rng.random_bool(0.02);
                let prompt_hash = match prompts.choose(&mut rng) {
                    Some(known) if rng.random_bool(0.2) => known.clone(),
                    _ => format!("{:016x}", rng.random::<u64>()),
                };
                prompts.push(prompt_hash.clone());
                let offset = step * i32::try_from(index).unwrap_or(i32::MAX);
                UsageRecord {
                    timestamp: Timestamp::from(end - span + offset),
                    model: (*model).to_owned(),
                    input_tokens,
                    output_tokens,
                    latency_ms: success.then(|| latency / 2 + rng.random_range(0..*latency)),
                    feature: FEATURES.choose(&mut rng).map(|feature| (*feature).to_owned()),
                    cost_microusd: Some(input_tokens * 3 + output_tokens * 12),
                    prompt_hash: Some(prompt_hash),
                    success: Some(success),
                }
            })
            .collect();
        Self { rows }
    }

    /// Rows of a test's own making.
    #[must_use]
    pub fn from_rows(rows: Vec<UsageRecord>) -> Self {
        Self { rows }
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[UsageRecord] {
        &self.rows
    }

    /// What all rows cost, in millionths of a US dollar; rows without a stated cost count nothing.
    #[must_use]
    pub fn cost_microusd(&self) -> u64 {
        self.rows.iter().filter_map(|row| row.cost_microusd).sum()
    }

    /// The rows as CSV with a header.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let number = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
        let mut writer = csv::Writer::from_writer(Vec::new());
        let header = [
            "timestamp",
            "model",
            "input_tokens",
            "output_tokens",
            "latency_ms",
            "feature",
            "cost_microusd",
            "prompt_hash",
            "success",
        ];
        writer.write_record(header).expect("memory takes it");
        for row in &self.rows {
            let fields = [
                row.timestamp.as_datetime().to_rfc3339_opts(SecondsFormat::Millis, true),
                row.model.clone(),
                row.input_tokens.to_string(),
                row.output_tokens.to_string(),
                number(row.latency_ms),
                row.feature.clone().unwrap_or_default(),
                number(row.cost_microusd),
                row.prompt_hash.clone().unwrap_or_default(),
                row.success.map(|success| success.to_string()).unwrap_or_default(),
            ];
            writer.write_record(fields).expect("memory takes it");
        }
        let bytes = writer.into_inner().expect("memory takes it");
        String::from_utf8(bytes).expect("the fields are text")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_rows() {
        let end = DateTime::from_timestamp(1_700_000_000, 0).expect("in range");
        let one = SampleRecords::generate_until(7, 500, end);
        assert_eq!(one, SampleRecords::generate_until(7, 500, end));
        assert_ne!(one, SampleRecords::generate_until(8, 500, end));
    }

    #[test]
    fn csv_holds_every_row() {
        let records = SampleRecords::generate(1, 50);
        let csv = records.to_csv();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        let cost: u64 = reader
            .records()
            .map(|row| {
                row.expect("it was just written")[6]
                    .parse::<u64>()
                    .expect("every row states its cost")
            })
            .sum();
        assert_eq!((csv.lines().count(), cost), (51, records.cost_microusd()));
    }
}
