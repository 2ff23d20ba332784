//! What could be cheaper, by the price catalogue and the user's own latencies.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::PriceCatalogue;
use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, object, percentile, rounded_ratio, share_basis_points};
use super::latency::sorted_latencies;
use super::patterns::{repeats, repeats_cost};
use super::spend::{DAY_MS, GROUPS_MAX};

/// Measured calls from which the user's own 95th percentile says more than the catalogue's usual latency.
const OWN_LATENCIES_MIN: usize = 20;

/// Days of the month that a saving is told for.
const MONTH_DAYS: u64 = 30;

/// A model in use, and the one that could stand in for it.
pub(super) struct Swap<'a> {
    pub model: &'a str,
    pub calls: u64,
    pub cost_microusd: u64,
    pub latency_limit_ms: u64,
    pub alternative: Option<Alternative<'a>>,
}

pub(super) struct Alternative<'a> {
    pub model: &'a str,
    pub cost_microusd: u64,
    pub saving_microusd: u64,
    pub latency_ms: u64,
    pub is_measured: bool,
}

/// The 95th percentile of the user's own calls to a model, or the catalogue's usual latency where there are too few.
fn latency_of(model: &str, own: &BTreeMap<&str, Vec<u64>>, typical_ms: u64) -> (u64, bool) {
    let measured = own.get(model).filter(|latencies| latencies.len() >= OWN_LATENCIES_MIN);
    match measured.and_then(|latencies| percentile(latencies, 95)) {
        Some(p95) => (p95, true),
        None => (typical_ms, false),
    }
}

/// For each model in use that the catalogue knows: the cheapest one that is at most one tier below it and fast enough.
/// The dearest model comes first, equals by name.
pub(super) fn swaps<'a>(
    rows: impl Iterator<Item = &'a UsageRow> + Clone,
    catalogue: &'a PriceCatalogue,
    limit_ms: Option<u64>,
) -> Vec<Swap<'a>> {
    let mut own: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut sums: BTreeMap<&str, (u64, u64, u64, u64)> = BTreeMap::new();
    for row in rows {
        let (calls, cost, input, output) = sums.entry(&row.model).or_default();
        *calls += 1;
        *cost += row.cost_microusd;
        *input += row.input_tokens;
        *output += row.output_tokens;
        own.entry(&row.model).or_default().extend(row.latency_ms);
    }
    own.values_mut().for_each(|latencies| latencies.sort_unstable());
    let mut found: Vec<Swap<'a>> = sums
        .into_iter()
        .filter_map(|(model, (calls, cost, input, output))| {
            let price = catalogue.price(model)?;
            let limit = limit_ms.unwrap_or_else(|| latency_of(model, &own, price.typical_latency_ms).0);
            let alternative = catalogue
                .iter()
                .filter(|(name, other)| *name != model && other.tier > 0 && other.tier + 1 >= price.tier)
                .filter_map(|(name, other)| {
                    let (latency_ms, is_measured) = latency_of(name, &own, other.typical_latency_ms);
                    let alternative_cost = other.cost_microusd(input, output);
                    let saving_microusd = cost.checked_sub(alternative_cost).filter(|saving| *saving > 0)?;
                    (latency_ms <= limit).then_some(Alternative {
                        model: name,
                        cost_microusd: alternative_cost,
                        saving_microusd,
                        latency_ms,
                        is_measured,
                    })
                })
                .min_by_key(|alternative| (alternative.cost_microusd, alternative.model));
            Some(Swap {
                model,
                calls,
                cost_microusd: cost,
                latency_limit_ms: limit,
                alternative,
            })
        })
        .collect();
    found.sort_by_key(|swap| std::cmp::Reverse(swap.cost_microusd));
    found
}

/// What all swaps together save.
pub(super) fn swaps_saving(swaps: &[Swap<'_>]) -> u64 {
    swaps
        .iter()
        .filter_map(|swap| swap.alternative.as_ref())
        .map(|alternative| alternative.saving_microusd)
        .sum()
}

/// The latency limit that was asked for.
pub(super) fn latency_limit(inputs: &ToolInputs) -> Result<Option<u64>, ToolError> {
    match inputs.parameters.get("latency_limit_ms") {
        None | Some(Value::Null) => Ok(None),
        Some(asked) => asked
            .as_u64()
            .map(Some)
            .ok_or_else(|| ToolError::failed("A latency limit is a whole number of milliseconds.")),
    }
}

pub(super) fn cheaper_models(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let limit = latency_limit(inputs)?;
    let swaps = swaps(rows.iter(), &inputs.catalogue, limit);
    let listed: Vec<Value> = swaps
        .iter()
        .take(GROUPS_MAX)
        .map(|swap| {
            let alternative = swap.alternative.as_ref();
            json!({
                "model": swap.model,
                "calls": swap.calls,
                "cost_microusd": swap.cost_microusd,
                "latency_limit_ms": swap.latency_limit_ms,
                "alternative": alternative.map(|it| it.model),
                "alternative_cost_microusd": alternative.map(|it| it.cost_microusd),
                "alternative_latency_ms": alternative.map(|it| it.latency_ms),
                "alternative_latency_is_measured": alternative.map(|it| it.is_measured),
                "saving_microusd": alternative.map_or(0, |it| it.saving_microusd),
            })
        })
        .collect();
    let unpriced: BTreeSet<&str> = rows
        .iter()
        .map(|row| &*row.model)
        .filter(|model| inputs.catalogue.price(model).is_none())
        .collect();
    Ok(object(json!({
        "latency_limit_ms": limit,
        "total_saving_microusd": swaps_saving(&swaps),
        "models": listed,
        "models_without_price": unpriced.into_iter().take(GROUPS_MAX).collect::<Vec<_>>(),
    })))
}

/// What answering repeats from a cache saves, and then cheaper models for the calls that are left.
pub(super) struct Savings {
    pub repeats_microusd: u64,
    pub models_microusd: u64,
}

pub(super) fn savings(rows: &[UsageRow], catalogue: &PriceCatalogue, limit_ms: Option<u64>) -> Savings {
    // Latencies of repeats say as much about a model as others, but their cost is saved already.
    let left: Vec<&UsageRow> = repeats(rows)
        .filter(|(_, is_repeat)| !*is_repeat)
        .map(|(row, _)| row)
        .collect();
    Savings {
        repeats_microusd: repeats_cost(rows),
        models_microusd: swaps_saving(&swaps(left.iter().copied(), catalogue, limit_ms)),
    }
}

pub(super) fn saving_estimate(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Err(ToolError::failed(
            "There is no record in this period, so there is nothing to save yet.",
        ));
    };
    let found = savings(rows, &inputs.catalogue, latency_limit(inputs)?);
    let spend: u64 = rows.iter().map(|row| row.cost_microusd).sum();
    let total = found.repeats_microusd + found.models_microusd;
    let days = (last.at_ms.div_euclid(DAY_MS) - first.at_ms.div_euclid(DAY_MS) + 1).unsigned_abs();
    Ok(object(json!({
        "spend_microusd": spend,
        "calendar_days": days,
        "repeats_saving_microusd": found.repeats_microusd,
        "models_saving_microusd": found.models_microusd,
        "total_saving_microusd": total,
        "saving_basis_points": share_basis_points(total, spend),
        "monthly_saving_microusd":
            rounded_ratio(u128::from(total) * u128::from(MONTH_DAYS), u128::from(days)),
    })))
}

pub(super) fn price_list(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let used: BTreeSet<&str> = rows.iter().map(|row| &*row.model).collect();
    let p95 = |model: &str| percentile(&sorted_latencies(rows.iter().filter(|row| &*row.model == model)), 95);
    let listed: Vec<Value> = used
        .iter()
        .filter_map(|model| Some((model, inputs.catalogue.price(model)?)))
        .take(GROUPS_MAX)
        .map(|(model, price)| {
            json!({
                "model": model,
                "input_microusd_per_million": price.input_microusd_per_million,
                "output_microusd_per_million": price.output_microusd_per_million,
                "typical_latency_ms": price.typical_latency_ms,
                "own_p95_ms": p95(model),
            })
        })
        .collect();
    Ok(object(json!({"models_in_use": used.len(), "models": listed})))
}
