//! Days that a request names.

use chrono::{Days, NaiveDate};
use serde_json::{Value, json};

use super::dataset::{Period, UsageRow};
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, object};
use super::spend::DAY_MS;

/// Days that `last_days` may reach back; a hundred years.
const LAST_DAYS_MAX: u64 = 36_525;

/// Reads `from` and `to`, both dates and both inside the period, or `last_days`, counted back from the newest record
/// and that day included. Days are of UTC.
pub(super) fn parse_period(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let parameters = &inputs.parameters;
    let period = match parameters.get("last_days").filter(|days| !days.is_null()) {
        Some(days) => last_days(rows, days)?,
        None => between(day(parameters, "from")?, day(parameters, "to")?)?,
    };
    Ok(object(json!({"period": period.to_json()})))
}

fn last_days(rows: &[UsageRow], asked: &Value) -> Result<Period, ToolError> {
    let days = asked
        .as_u64()
        .filter(|days| (1..=LAST_DAYS_MAX).contains(days))
        .ok_or_else(|| ToolError::failed(format!("A period is 1 to {LAST_DAYS_MAX} days long.")))?;
    let newest = rows
        .last()
        .ok_or_else(|| ToolError::failed("There is no record to count days back from."))?;
    let after = (newest.at_ms.div_euclid(DAY_MS) + 1) * DAY_MS;
    Ok(Period {
        from_ms: Some(after - i64::try_from(days).unwrap_or(i64::MAX / DAY_MS) * DAY_MS),
        to_ms: Some(after),
    })
}

fn day(parameters: &Object, name: &str) -> Result<Option<NaiveDate>, ToolError> {
    let Some(text) = parameters.get(name).and_then(Value::as_str) else {
        return Ok(None);
    };
    NaiveDate::parse_from_str(text, "%Y-%m-%d")
        .map(Some)
        .map_err(|_| ToolError::failed(format!("{text} is no day of the calendar; write days as 2026-01-31.")))
}

fn between(from: Option<NaiveDate>, to: Option<NaiveDate>) -> Result<Period, ToolError> {
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(ToolError::failed(format!(
            "{from} is after {to}; name the earlier day first."
        )));
    }
    let start = |day: NaiveDate| day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_millis();
    Ok(Period {
        from_ms: from.map(start),
        to_ms: to.and_then(|to| to.checked_add_days(Days::new(1))).map(start),
    })
}
