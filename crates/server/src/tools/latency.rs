//! How long models took.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, mean, object, percentile};
use super::spend::GROUPS_MAX;

/// The sorted latencies of these records.
pub(super) fn sorted_latencies<'a>(rows: impl Iterator<Item = &'a UsageRow>) -> Vec<u64> {
    let mut latencies: Vec<u64> = rows.filter_map(|row| row.latency_ms).collect();
    latencies.sort_unstable();
    latencies
}

fn described(sorted: &[u64]) -> Object {
    let sum = sorted.iter().map(|latency| u128::from(*latency)).sum();
    object(json!({
        "measured": sorted.len(),
        "mean_ms": mean(sum, sorted.len() as u64),
        "p50_ms": percentile(sorted, 50),
        "p90_ms": percentile(sorted, 90),
        "p95_ms": percentile(sorted, 95),
        "p99_ms": percentile(sorted, 99),
        "max_ms": sorted.last(),
    }))
}

/// Groups with their sorted latencies, the slowest 95th percentile first, equals by name.
fn by_group<'a>(
    rows: &'a [UsageRow],
    group_of: impl Fn(&'a UsageRow) -> Option<&'a str>,
) -> Vec<(Option<&'a str>, Vec<u64>)> {
    let mut groups: BTreeMap<Option<&str>, Vec<u64>> = BTreeMap::new();
    for row in rows {
        if let Some(latency) = row.latency_ms {
            groups.entry(group_of(row)).or_default().push(latency);
        }
    }
    let mut ordered: Vec<_> = groups.into_iter().collect();
    for (_, latencies) in &mut ordered {
        latencies.sort_unstable();
    }
    ordered.sort_by_key(|(_, latencies)| std::cmp::Reverse(percentile(latencies, 95)));
    ordered
}

fn listed(groups: &[(Option<&str>, Vec<u64>)], name: &str) -> Vec<Value> {
    groups
        .iter()
        .take(GROUPS_MAX)
        .map(|(group, latencies)| {
            let mut fields = object(json!({ name: group }));
            fields.extend(described(latencies));
            Value::Object(fields)
        })
        .collect()
}

fn none_measured() -> ToolError {
    ToolError::failed("No record in this period has a latency; bring records with latency_ms.")
}

pub(super) fn latency_percentiles(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let all = sorted_latencies(rows.iter());
    if all.is_empty() {
        return Err(none_measured());
    }
    let mut found = described(&all);
    found.insert(
        "models".to_owned(),
        listed(&by_group(rows, |row| Some(&*row.model)), "model").into(),
    );
    Ok(found)
}

pub(super) fn slowest_features(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let groups = by_group(rows, |row| row.feature.as_deref());
    if groups.is_empty() {
        return Err(none_measured());
    }
    Ok(object(
        json!({ "groups": groups.len(), "features": listed(&groups, "feature") }),
    ))
}
