//! What to do, in order.

use serde_json::{Value, json};

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, object, percent, share_basis_points};
use super::patterns::{repeats, repeats_cost};
use super::savings::{latency_limit, swaps};

/// Actions that a plan lists; a longer one is not followed.
const ACTIONS_MAX: usize = 10;

/// Share of failed calls, in basis points, from which a plan says to look into them.
const FAILURES_BASIS_POINTS: u64 = 100;

pub(super) fn action_plan(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let mut actions: Vec<(u64, String, String, &str)> = Vec::new();
    let repeated = repeats(rows).filter(|(_, is_repeat)| *is_repeat).count();
    if repeated > 0 {
        actions.push((
            repeats_cost(rows),
            "Answer repeated prompts from a cache".to_owned(),
            format!("{repeated} calls repeat an earlier prompt"),
            "medium",
        ));
    }
    let left: Vec<&UsageRow> = repeats(rows)
        .filter(|(_, is_repeat)| !*is_repeat)
        .map(|(row, _)| row)
        .collect();
    for swap in swaps(left.iter().copied(), &inputs.catalogue, latency_limit(inputs)?) {
        if let Some(alternative) = swap.alternative {
            actions.push((
                alternative.saving_microusd,
                format!("Try {} instead of {}", alternative.model, swap.model),
                format!(
                    "{} calls, within {} ms at the 95th percentile; compare answers on a sample first",
                    swap.calls, swap.latency_limit_ms
                ),
                "low",
            ));
        }
    }
    let failures = rows.iter().filter(|row| !row.success);
    let failed = failures.clone().count() as u64;
    let rate = share_basis_points(failed, rows.len() as u64);
    if rate >= FAILURES_BASIS_POINTS {
        actions.push((
            0,
            "Find out why calls fail".to_owned(),
            format!(
                "{failed} of {} calls failed ({}), which cost {}",
                rows.len(),
                percent(rate),
                super::dollars(failures.map(|row| row.cost_microusd).sum())
            ),
            "medium",
        ));
    }
    if actions.is_empty() {
        actions.push((
            0,
            "Keep it as it is and look again in a month".to_owned(),
            format!(
                "{} calls show nothing cheaper that is as fast, no repeats and few failures",
                rows.len()
            ),
            "low",
        ));
    }
    // Stable, so equals stay in the order in which they were found.
    actions.sort_by_key(|(saving, ..)| std::cmp::Reverse(*saving));
    let listed: Vec<Value> = actions
        .into_iter()
        .take(ACTIONS_MAX)
        .enumerate()
        .map(|(index, (saving_microusd, action, reason, effort))| {
            json!({
                "place": index + 1,
                "action": action,
                "reason": reason,
                "effort": effort,
                "saving_microusd": saving_microusd,
            })
        })
        .collect();
    Ok(object(json!({ "actions": listed })))
}
