//! What spend will be, and on which days it was unusual.

use serde_json::{Value, json};

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, mean, object, percentile, rounded_ratio};
use super::spend::{by_day, date};

/// Calendar days that a forecast rests on, the newest ones.
const WINDOW_DAYS_MAX: i64 = 28;

/// Days that a forecast looks ahead unless asked otherwise.
const HORIZON_DAYS: u64 = 30;

/// Days that a forecast may look ahead.
const HORIZON_DAYS_MAX: u64 = 366;

/// A day is unusual that costs more than this many times the median day.
const ANOMALY_FACTOR: u64 = 3;

/// Days with records that are needed before any of them can be called unusual.
const ANOMALY_DAYS_MIN: usize = 5;

/// Unusual days that a result lists, the dearest ones.
const ANOMALIES_MAX: usize = 20;

pub(super) fn spend_forecast(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let horizon = match inputs.parameters.get("horizon_days") {
        None | Some(Value::Null) => HORIZON_DAYS,
        Some(asked) => asked
            .as_u64()
            .filter(|days| (1..=HORIZON_DAYS_MAX).contains(days))
            .ok_or_else(|| ToolError::failed(format!("A forecast looks 1 to {HORIZON_DAYS_MAX} days ahead.")))?,
    };
    let days = by_day(rows);
    let (Some((first, _)), Some((last, _))) = (days.first_key_value(), days.last_key_value()) else {
        return Err(ToolError::failed("There is no record in this period to forecast from."));
    };
    let window = (last - first + 1).min(WINDOW_DAYS_MAX);
    if window < 2 {
        return Err(ToolError::failed("A forecast needs records of at least two days."));
    }
    let spent: u64 = days.range(last - window + 1..).map(|(_, (cost, _))| cost).sum();
    let window = window.unsigned_abs();
    Ok(object(json!({
        "window_days": window,
        "window_cost_microusd": spent,
        "mean_cost_per_day_microusd": mean(u128::from(spent), window),
        "horizon_days": horizon,
        "forecast_cost_microusd": rounded_ratio(u128::from(spent) * u128::from(horizon), u128::from(window)),
        "method": "mean of the newest days, carried forward",
    })))
}

pub(super) fn usage_anomalies(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let days = by_day(rows);
    let mut costs: Vec<u64> = days.values().map(|(cost, _)| *cost).collect();
    costs.sort_unstable();
    let median = percentile(&costs, 50).unwrap_or(0);
    let threshold = median.saturating_mul(ANOMALY_FACTOR);
    let mut unusual: Vec<_> = days
        .iter()
        .filter(|(_, (cost, _))| days.len() >= ANOMALY_DAYS_MIN && *cost > threshold)
        .collect();
    let found = unusual.len();
    unusual.sort_by_key(|(_, (cost, _))| std::cmp::Reverse(*cost));
    let listed: Vec<Value> = unusual
        .iter()
        .take(ANOMALIES_MAX)
        .map(|(day, (cost, calls))| json!({"date": date(**day), "cost_microusd": cost, "calls": calls}))
        .collect();
    Ok(object(json!({
        "days_examined": days.len(),
        "days_needed": ANOMALY_DAYS_MIN,
        "median_cost_per_day_microusd": median,
        "threshold_microusd": threshold,
        "anomalies_found": found,
        "anomalies": listed,
    })))
}
