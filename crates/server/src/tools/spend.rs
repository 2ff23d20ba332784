//! What was spent, on what, and when.

use std::collections::{BTreeMap, BTreeSet};

use chrono::DateTime;
use kingsguard_protocol::Timestamp;
use serde_json::{Value, json};

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, mean, object, percentile, share_basis_points};

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Groups that a result lists; the rest is added up. Keeps a result readable and its event small.
pub(super) const GROUPS_MAX: usize = 50;

/// Days that a trend lists, the newest ones.
const DAYS_MAX: usize = 92;

#[derive(Clone, Copy, Default)]
struct Sums {
    cost_microusd: u64,
    calls: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl Sums {
    fn add(&mut self, row: &UsageRow) {
        self.cost_microusd += row.cost_microusd;
        self.calls += 1;
        self.input_tokens += row.input_tokens;
        self.output_tokens += row.output_tokens;
    }
}

pub(super) fn spend_by_model(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    Ok(grouped(rows, "models", "model", |row| Some(&*row.model)))
}

pub(super) fn spend_by_feature(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    Ok(grouped(rows, "features", "feature", |row| row.feature.as_deref()))
}

/// Sums by group, the dearest first, equals by name.
fn grouped<'a>(
    rows: &'a [UsageRow],
    list: &str,
    name: &str,
    group_of: impl Fn(&'a UsageRow) -> Option<&'a str>,
) -> Object {
    let mut groups: BTreeMap<Option<&str>, Sums> = BTreeMap::new();
    let mut total = Sums::default();
    for row in rows {
        groups.entry(group_of(row)).or_default().add(row);
        total.add(row);
    }
    let count = groups.len();
    let mut ordered: Vec<_> = groups.into_iter().collect();
    ordered.sort_by_key(|(_, sums)| std::cmp::Reverse(sums.cost_microusd));
    let other: u64 = ordered
        .iter()
        .skip(GROUPS_MAX)
        .map(|(_, sums)| sums.cost_microusd)
        .sum();
    let listed: Vec<Value> = ordered
        .iter()
        .take(GROUPS_MAX)
        .map(|(group, sums)| {
            json!({
                name: group,
                "cost_microusd": sums.cost_microusd,
                "calls": sums.calls,
                "input_tokens": sums.input_tokens,
                "output_tokens": sums.output_tokens,
                "share_basis_points": share_basis_points(sums.cost_microusd, total.cost_microusd),
            })
        })
        .collect();
    object(json!({
        "total_cost_microusd": total.cost_microusd,
        "total_calls": total.calls,
        list: listed,
        "groups": count,
        "other_cost_microusd": other,
    }))
}

/// Cost and calls of each calendar day (UTC) that has records, as days since the Unix epoch.
pub(super) fn by_day(rows: &[UsageRow]) -> BTreeMap<i64, (u64, u64)> {
    let mut days = BTreeMap::new();
    for row in rows {
        let (cost, calls) = days.entry(row.at_ms.div_euclid(DAY_MS)).or_insert((0u64, 0u64));
        *cost += row.cost_microusd;
        *calls += 1;
    }
    days
}

/// The date of a day counted from the Unix epoch, as `2026-01-31`.
pub(super) fn date(day: i64) -> String {
    DateTime::from_timestamp_millis(day.saturating_mul(DAY_MS))
        .map_or_else(|| day.to_string(), |at| at.format("%Y-%m-%d").to_string())
}

pub(super) fn spend_trend(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let days = by_day(rows);
    let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value()) else {
        return Err(ToolError::failed(
            "There is no record in this period, so there is no trend to show.",
        ));
    };
    let total: u64 = days.values().map(|(cost, _)| cost).sum();
    let span = u64::try_from(last - first + 1).unwrap_or(1);
    let week = |after: i64, until: i64| -> u64 { days.range(after + 1..=until).map(|(_, (cost, _))| cost).sum() };
    let listed: Vec<Value> = days
        .iter()
        .skip(days.len().saturating_sub(DAYS_MAX))
        .map(|(day, (cost, calls))| json!({"date": date(*day), "cost_microusd": cost, "calls": calls}))
        .collect();
    Ok(object(json!({
        "first_date": date(*first),
        "last_date": date(*last),
        "calendar_days": span,
        "total_cost_microusd": total,
        "mean_cost_per_day_microusd": mean(u128::from(total), span),
        "newest_week_cost_microusd": week(last - 7, *last),
        "week_before_cost_microusd": week(last - 14, last - 7),
        "days": listed,
    })))
}

pub(super) fn usage_statistics(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let sorted = |of: fn(&UsageRow) -> u64| {
        let mut values: Vec<u64> = rows.iter().map(of).collect();
        values.sort_unstable();
        values
    };
    let input = sorted(|row| row.input_tokens);
    let output = sorted(|row| row.output_tokens);
    let sum = |values: &[u64]| values.iter().map(|value| u128::from(*value)).sum::<u128>();
    let calls = rows.len() as u64;
    let models: BTreeSet<&str> = rows.iter().map(|row| &*row.model).collect();
    let features: BTreeSet<&str> = rows.iter().filter_map(|row| row.feature.as_deref()).collect();
    let instant = |row: Option<&UsageRow>| row.and_then(|row| Timestamp::from_unix_ms(row.at_ms));
    Ok(object(json!({
        "calls": calls,
        "successes": rows.iter().filter(|row| row.success).count(),
        "total_cost_microusd": rows.iter().map(|row| row.cost_microusd).sum::<u64>(),
        "mean_cost_per_call_microusd":
            mean(rows.iter().map(|row| u128::from(row.cost_microusd)).sum(), calls),
        "total_input_tokens": u64::try_from(sum(&input)).unwrap_or(u64::MAX),
        "total_output_tokens": u64::try_from(sum(&output)).unwrap_or(u64::MAX),
        "mean_input_tokens": mean(sum(&input), calls),
        "mean_output_tokens": mean(sum(&output), calls),
        "p95_input_tokens": percentile(&input, 95),
        "p95_output_tokens": percentile(&output, 95),
        "max_input_tokens": input.last(),
        "max_output_tokens": output.last(),
        "distinct_models": models.len(),
        "distinct_features": features.len(),
        "first_at": instant(rows.first()),
        "last_at": instant(rows.last()),
    })))
}
