//! What the tools found, in words. Every figure in these words is copied from a result, never computed here.

use serde_json::{Map, Value, json};

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, dollars, object, percent};

/// Groups that a sentence names; the result lists all.
const NAMED_MAX: usize = 3;

/// Days and actions that the words list.
const LISTED_MAX: usize = 5;

/// Writes one tool's results down.
type Write = fn(&Object) -> Option<String>;

/// Tools whose results are told, in the order in which they are told.
const SECTIONS: &[(&str, &str, Write)] = &[
    ("spend_by_model", "Spend by model", by_model),
    ("spend_by_feature", "Spend by feature", by_feature),
    ("usage_statistics", "Use", statistics),
    ("spend_trend", "Trend", trend),
    ("usage_anomalies", "Unusual days", anomalies),
    ("spend_forecast", "Forecast", forecast),
    ("latency_percentiles", "Latency", latency),
    ("slowest_features", "Slowest features", slowest),
    ("error_rate", "Errors", errors),
    ("duplicate_prompts", "Repeated prompts", duplicates),
    ("validate_data", "Soundness of the records", soundness),
    ("price_list", "Prices", prices),
    ("watch_usage", "While watching", watched),
    ("list_records", "Records listed", listed),
    ("cheaper_models", "Cheaper models", cheaper),
    ("saving_estimate", "Saving", saving),
    ("action_plan", "What to do", plan),
    ("check_data", "Records", missing),
    ("import_guide", "How to bring records", guide),
];

pub(super) fn write_report(_rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let sections: Vec<Value> = SECTIONS
        .iter()
        .filter_map(|(tool, heading, write)| {
            let text = write(inputs.findings.get(*tool)?.as_object()?)?;
            Some(json!({"heading": heading, "source": tool, "text": text}))
        })
        .collect();
    if sections.is_empty() {
        return Err(ToolError::failed("No tool found anything to write down."));
    }
    Ok(object(json!({ "sections": sections })))
}

fn number(of: &Map<String, Value>, key: &str) -> Option<u64> {
    of.get(key)?.as_u64()
}

fn money(of: &Map<String, Value>, key: &str) -> Option<String> {
    number(of, key).map(dollars)
}

fn word<'a>(of: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    of.get(key)?.as_str()
}

fn list<'a>(of: &'a Object, key: &str) -> impl Iterator<Item = &'a Object> {
    of.get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
}

fn joined(parts: impl Iterator<Item = String>) -> Option<String> {
    let parts: Vec<String> = parts.collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn spent_on(found: &Object, groups: &str, name: &str) -> Option<String> {
    let total = money(found, "total_cost_microusd")?;
    let calls = number(found, "total_calls")?;
    let named = list(found, groups).take(NAMED_MAX).filter_map(|group| {
        Some(format!(
            "{} {} ({})",
            word(group, name).unwrap_or("without a name"),
            money(group, "cost_microusd")?,
            percent(number(group, "share_basis_points")?)
        ))
    });
    Some(format!("{total} for {calls} calls: {}.", joined(named)?))
}

fn by_model(found: &Object) -> Option<String> {
    spent_on(found, "models", "model")
}

fn by_feature(found: &Object) -> Option<String> {
    spent_on(found, "features", "feature")
}

fn statistics(found: &Object) -> Option<String> {
    Some(format!(
        "{} calls of {} models for {} features cost {}; a call has {} tokens in and {} out on average.",
        number(found, "calls")?,
        number(found, "distinct_models")?,
        number(found, "distinct_features")?,
        money(found, "total_cost_microusd")?,
        number(found, "mean_input_tokens")?,
        number(found, "mean_output_tokens")?
    ))
}

fn trend(found: &Object) -> Option<String> {
    Some(format!(
        "From {} to {} you spent {}, {} a day on average; the newest 7 days cost {}, the 7 before them {}.",
        word(found, "first_date")?,
        word(found, "last_date")?,
        money(found, "total_cost_microusd")?,
        money(found, "mean_cost_per_day_microusd")?,
        money(found, "newest_week_cost_microusd")?,
        money(found, "week_before_cost_microusd")?
    ))
}

fn anomalies(found: &Object) -> Option<String> {
    let examined = number(found, "days_examined")?;
    let Some(days) = joined(
        list(found, "anomalies")
            .take(LISTED_MAX)
            .filter_map(|day| Some(format!("{} cost {}", word(day, "date")?, money(day, "cost_microusd")?))),
    ) else {
        return Some(format!("None among the {examined} days with records."));
    };
    Some(format!(
        "{days}; the median day costs {}.",
        money(found, "median_cost_per_day_microusd")?
    ))
}

fn forecast(found: &Object) -> Option<String> {
    Some(format!(
        "The next {} days cost about {}, if they go on like the newest {} days, which cost {}.",
        number(found, "horizon_days")?,
        money(found, "forecast_cost_microusd")?,
        number(found, "window_days")?,
        money(found, "window_cost_microusd")?
    ))
}

fn latency(found: &Object) -> Option<String> {
    let slow = list(found, "models")
        .take(NAMED_MAX)
        .filter_map(|model| Some(format!("{} {} ms", word(model, "model")?, number(model, "p95_ms")?)));
    Some(format!(
        "Of {} measured calls half took at most {} ms, 95 % at most {} ms, 99 % at most {} ms; 95 % by model: {}.",
        number(found, "measured")?,
        number(found, "p50_ms")?,
        number(found, "p95_ms")?,
        number(found, "p99_ms")?,
        joined(slow)?
    ))
}

fn slowest(found: &Object) -> Option<String> {
    let slow = list(found, "features").take(NAMED_MAX).filter_map(|feature| {
        Some(format!(
            "{} {} ms at the 95th percentile of {} calls",
            word(feature, "feature").unwrap_or("without a name"),
            number(feature, "p95_ms")?,
            number(feature, "measured")?
        ))
    });
    Some(format!("{}.", joined(slow)?))
}

fn errors(found: &Object) -> Option<String> {
    Some(format!(
        "{} of {} calls failed ({}), which cost {}.",
        number(found, "failures")?,
        number(found, "calls")?,
        percent(number(found, "error_rate_basis_points")?),
        money(found, "failures_cost_microusd")?
    ))
}

fn duplicates(found: &Object) -> Option<String> {
    Some(format!(
        "{} of {} calls repeat an earlier prompt; the repeats cost {}.",
        number(found, "repeated_calls")?,
        number(found, "hashed_calls")?,
        money(found, "repeats_cost_microusd")?
    ))
}

fn soundness(found: &Object) -> Option<String> {
    let records = number(found, "records")?;
    let problems = joined(list(found, "problems").filter_map(|problem| {
        Some(format!(
            "{} ({})",
            word(problem, "problem")?,
            number(problem, "records")?
        ))
    }));
    Some(match problems {
        None => format!("All {records} records make sense."),
        Some(problems) => {
            format!(
                "{} of {records} records make sense; problems: {problems}.",
                number(found, "sound_records")?
            )
        }
    })
}

fn prices(found: &Object) -> Option<String> {
    let named = list(found, "models").take(LISTED_MAX).filter_map(|model| {
        Some(format!(
            "{} {} in, {} out",
            word(model, "model")?,
            money(model, "input_microusd_per_million")?,
            money(model, "output_microusd_per_million")?
        ))
    });
    Some(format!("For a million tokens: {}.", joined(named)?))
}

fn watched(found: &Object) -> Option<String> {
    Some(format!(
        "In {} seconds {} records were added, which cost {}; you now have {} records of {} together.",
        number(found, "watched_seconds")?,
        number(found, "new_records")?,
        money(found, "new_cost_microusd")?,
        number(found, "records")?,
        money(found, "total_cost_microusd")?
    ))
}

fn listed(found: &Object) -> Option<String> {
    let (listed, of) = (number(found, "listed")?, number(found, "records")?);
    let cost = money(found, "listed_cost_microusd")?;
    Some(match of {
        0 => "There is none.".to_owned(),
        _ if listed == of => format!("All {of}, oldest first; they cost {cost} together."),
        _ => format!("The newest {listed} of {of}, oldest first; they cost {cost} together."),
    })
}

fn cheaper(found: &Object) -> Option<String> {
    let swaps = list(found, "models")
        .filter(|swap| word(swap, "alternative").is_some())
        .take(NAMED_MAX);
    let named = swaps.filter_map(|swap| {
        Some(format!(
            "{} instead of {} costs {} instead of {} and saves {}, at {} ms within a limit of {} ms",
            word(swap, "alternative")?,
            word(swap, "model")?,
            money(swap, "alternative_cost_microusd")?,
            money(swap, "cost_microusd")?,
            money(swap, "saving_microusd")?,
            number(swap, "alternative_latency_ms")?,
            number(swap, "latency_limit_ms")?
        ))
    });
    Some(match joined(named) {
        Some(named) => format!("{named}."),
        None => "The price catalogue has none that is cheaper and fast enough.".to_owned(),
    })
}

fn saving(found: &Object) -> Option<String> {
    Some(format!(
        "Together up to {} of {} ({}): {} by answering repeats from a cache, {} by cheaper models for the rest; {} for 30 days.",
        money(found, "total_saving_microusd")?,
        money(found, "spend_microusd")?,
        percent(number(found, "saving_basis_points")?),
        money(found, "repeats_saving_microusd")?,
        money(found, "models_saving_microusd")?,
        money(found, "monthly_saving_microusd")?
    ))
}

fn plan(found: &Object) -> Option<String> {
    let actions = list(found, "actions").take(LISTED_MAX).filter_map(|action| {
        let saving = match number(action, "saving_microusd")? {
            0 => String::new(),
            saved => format!(", saves {}", dollars(saved)),
        };
        Some(format!(
            "{}. {} ({}{saving})",
            number(action, "place")?,
            word(action, "action")?,
            word(action, "reason")?
        ))
    });
    Some(format!("{}.", joined(actions)?))
}

fn missing(found: &Object) -> Option<String> {
    let gaps = list(found, "missing").filter_map(|gap| word(gap, "why").map(ToOwned::to_owned));
    Some(match joined(gaps) {
        Some(gaps) => format!("Something is missing: {gaps}."),
        None => format!(
            "{} records of {} days have all that it takes.",
            number(found, "records")?,
            number(found, "calendar_days")?
        ),
    })
}

fn guide(found: &Object) -> Option<String> {
    let required = found.get("required")?.as_array()?.iter().filter_map(Value::as_str);
    Some(format!(
        "Send them with {} as JSON or CSV, up to {} at a time, each with {}.",
        word(found, "call")?,
        number(found, "records_per_call_max")?,
        required.collect::<Vec<_>>().join(", ")
    ))
}
