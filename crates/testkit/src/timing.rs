//! What a recording's times say: latency from the *intended* start, gaps between events, percentiles, anomalies (KIT-5).

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use kingsguard_report::{Bucket, Distribution, Percentile};
use serde_json::Value;

use crate::recording::{Direction, FrameKind, Recording};

/// Longest time that is told apart: an hour. Longer ones count as an hour.
const HIGHEST_US: u64 = 3_600_000_000;

/// The shares that a distribution tells.
const PERCENTILES: [f64; 12] = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99, 100.0];

/// The upper end of a distribution's first bucket, and how much wider each next one is: five buckets double a time, so
/// that a histogram of any spread has few enough to be looked at.
const FIRST_BUCKET_US: f64 = 100.0;
const BUCKET_GROWTH: f64 = 1.148_698;

/// Times in microseconds, counted so that percentiles keep three significant digits.
#[derive(Clone, Debug)]
pub struct Timing {
    histogram: Histogram<u64>,
}

/// One thing that was meant to happen at some moment, and did at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When the plan had it: waiting for a free generator counts against the target, not for it.
    pub intended_us: u64,
    /// When it was really begun.
    pub actual_us: u64,
    /// When its end was seen.
    pub ended_us: u64,
}

impl Span {
    /// From the intended start to the end.
    #[must_use]
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.ended_us.saturating_sub(self.intended_us))
    }

    /// How late the generator itself was.
    #[must_use]
    pub fn lateness(&self) -> Duration {
        Duration::from_micros(self.actual_us.saturating_sub(self.intended_us))
    }
}

/// A gap between events that is far from its like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// The run.
    pub run_id: String,
    /// The gap.
    pub gap: Duration,
    /// The types of the events before and after it.
    pub between: (String, String),
}

impl Default for Timing {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_US, 3).expect("the bounds are constant and fit");
        Self { histogram }
    }
}

impl Timing {
    /// Counts one time.
    pub fn record(&mut self, time: Duration) {
        self.histogram
            .saturating_record((time.as_micros() as u64).clamp(1, HIGHEST_US));
    }

    /// The latencies of spans, from their intended starts.
    #[must_use]
    pub fn of_spans(spans: &[Span]) -> Self {
        let mut timing = Self::default();
        spans.iter().for_each(|span| timing.record(span.latency()));
        timing
    }

    /// The gaps between consecutive events of each run, as they arrived at each connection.
    #[must_use]
    pub fn of_gaps(recording: &Recording) -> Self {
        let mut timing = Self::default();
        gaps(recording).iter().for_each(|anomaly| timing.record(anomaly.gap));
        timing
    }

    /// From sending a message to its `message_received`.
    #[must_use]
    pub fn of_acceptance(recording: &Recording) -> Self {
        let mut timing = Self::default();
        for connection in &recording.connections {
            let mut sent: BTreeMap<String, u64> = BTreeMap::new();
            for entry in connection.entries.iter().filter(|entry| entry.kind == FrameKind::Text) {
                let Ok(json) = serde_json::from_slice::<Value>(&entry.bytes) else {
                    continue;
                };
                let id = |field: &str| json.get(field).and_then(Value::as_str).map(str::to_owned);
                match (entry.direction, json.get("type").and_then(Value::as_str)) {
                    (Direction::Sent, _) => sent.extend(id("message_id").map(|id| (id, entry.at_us))),
                    (Direction::Received, Some("message_received")) => {
                        if let Some(at_us) = id("correlation_id").and_then(|id| sent.remove(&id)) {
                            timing.record(Duration::from_micros(entry.at_us.saturating_sub(at_us)));
                        }
                    }
                    (Direction::Received, _) => {}
                }
            }
        }
        timing
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The time that `percentile` of 100 do not exceed.
    #[must_use]
    pub fn percentile(&self, percentile: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_percentile(percentile))
    }

    /// The same in milliseconds, for a figure.
    #[must_use]
    pub fn percentile_ms(&self, percentile: f64) -> f64 {
        self.percentile(percentile).as_secs_f64() * 1_000.0
    }

    /// How the times spread, in milliseconds; empty buckets before the first time and after the last are left out.
    #[must_use]
    pub fn distribution_ms(&self) -> Distribution {
        let percentiles = PERCENTILES.map(|percentile| Percentile {
            percentile,
            value: self.percentile_ms(percentile),
        });
        let mut buckets: Vec<Bucket> = Vec::new();
        let mut to_us = FIRST_BUCKET_US;
        for recorded in self.histogram.iter_recorded() {
            while recorded.value_iterated_to() as f64 > to_us {
                to_us *= BUCKET_GROWTH;
                if !buckets.is_empty() {
                    buckets.push(bucket(to_us));
                }
            }
            if buckets.is_empty() {
                buckets.push(bucket(to_us));
            }
            if let Some(last) = buckets.last_mut() {
                last.count += recorded.count_at_value();
            }
        }
        Distribution {
            count: self.count(),
            percentiles: percentiles.to_vec(),
            buckets,
        }
    }

    /// The longest time.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.histogram.max())
    }

    /// Adds the times of another.
    pub fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("all have the same bounds");
    }
}

fn bucket(to_us: f64) -> Bucket {
    Bucket {
        to: to_us / 1_000.0,
        count: 0,
    }
}

/// Gaps that are longer than ten times the median gap of the recording and than a second.
#[must_use]
pub fn anomalies(recording: &Recording) -> Vec<Anomaly> {
    let median = Timing::of_gaps(recording).percentile(50.0);
    let bound = (median * 10).max(Duration::from_secs(1));
    gaps(recording).into_iter().filter(|gap| gap.gap > bound).collect()
}

fn gaps(recording: &Recording) -> Vec<Anomaly> {
    let mut gaps = Vec::new();
    for connection in &recording.connections {
        let mut last: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for entry in &connection.entries {
            if (entry.direction, entry.kind) != (Direction::Received, FrameKind::Text) {
                continue;
            }
            let Ok(json) = serde_json::from_slice::<Value>(&entry.bytes) else {
                continue;
            };
            let text = |field: &str| json.get(field).and_then(Value::as_str).map(str::to_owned);
            let (Some(run_id), Some(kind), Some(_)) = (text("run_id"), text("type"), json.get("seq")) else {
                continue;
            };
            if let Some((before_us, before)) = last.insert(run_id.clone(), (entry.at_us, kind.clone())) {
                let gap = Duration::from_micros(entry.at_us.saturating_sub(before_us));
                gaps.push(Anomaly {
                    run_id,
                    gap,
                    between: (before, kind),
                });
            }
        }
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    kingsguard_report::covers!("KIT-5");

    #[test]
    fn latency_counts_from_the_intended_start() {
        let span = Span {
            intended_us: 1_000,
            actual_us: 5_000,
            ended_us: 7_000,
        };
        assert_eq!(
            (span.latency().as_micros(), span.lateness().as_micros()),
            (6_000, 4_000)
        );
    }

    #[test]
    fn percentiles_keep_three_digits() {
        let mut timing = Timing::default();
        (1..=1_000).for_each(|ms| timing.record(Duration::from_millis(ms)));
        let near =
            |percentile: f64, expected: f64| (timing.percentile_ms(percentile) - expected).abs() <= expected * 0.001;
        assert!(near(50.0, 500.0) && near(99.0, 990.0), "{timing:?}");
        assert_eq!(timing.count(), 1_000);
    }

    #[test]
    fn a_distribution_counts_every_time_once() {
        let mut timing = Timing::default();
        (1..=1_000).for_each(|ms| timing.record(Duration::from_millis(ms)));
        timing.record(Duration::from_micros(3));
        let distribution = timing.distribution_ms();
        assert_eq!(distribution.count, 1_001);
        let counts = distribution.buckets.iter().map(|bucket| bucket.count);
        assert_eq!(counts.sum::<u64>(), 1_001, "{:?}", distribution.buckets);
        assert!(distribution.buckets.is_sorted_by(|a, b| a.to < b.to));
        assert_eq!(Timing::default().distribution_ms().buckets, []);
    }
}
