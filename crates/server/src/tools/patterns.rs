//! Waste: calls that failed and prompts that were sent again.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::{Value, json};

use super::dataset::UsageRow;
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, object, share_basis_points};
use super::spend::GROUPS_MAX;

/// Repeated prompts that a result lists, the dearest ones.
const PROMPTS_MAX: usize = 20;

pub(super) fn error_rate(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let mut models: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for row in rows {
        let (calls, failures) = models.entry(&row.model).or_default();
        *calls += 1;
        *failures += u64::from(!row.success);
    }
    let calls = rows.len() as u64;
    let failed = || rows.iter().filter(|row| !row.success);
    let failures = failed().count() as u64;
    let mut ordered: Vec<_> = models.into_iter().collect();
    ordered.sort_by_key(|(_, (calls, failures))| std::cmp::Reverse(share_basis_points(*failures, *calls)));
    let listed: Vec<Value> = ordered
        .iter()
        .take(GROUPS_MAX)
        .map(|(model, (calls, failures))| {
            json!({
                "model": model,
                "calls": calls,
                "failures": failures,
                "error_rate_basis_points": share_basis_points(*failures, *calls),
            })
        })
        .collect();
    Ok(object(json!({
        "calls": calls,
        "failures": failures,
        "error_rate_basis_points": share_basis_points(failures, calls),
        "failures_cost_microusd": failed().map(|row| row.cost_microusd).sum::<u64>(),
        "models": listed,
    })))
}

/// Marks each record that repeats the prompt of an earlier one.
pub(super) fn repeats(rows: &[UsageRow]) -> impl Iterator<Item = (&UsageRow, bool)> {
    let mut seen: HashSet<&str> = HashSet::new();
    rows.iter().map(move |row| {
        let is_repeat = row.prompt_hash.as_deref().is_some_and(|hash| !seen.insert(hash));
        (row, is_repeat)
    })
}

/// What every call cost that repeats the prompt of an earlier one.
pub(super) fn repeats_cost(rows: &[UsageRow]) -> u64 {
    repeats(rows)
        .filter(|(_, is_repeat)| *is_repeat)
        .map(|(row, _)| row.cost_microusd)
        .sum()
}

pub(super) fn duplicate_prompts(rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    let hashed = rows.iter().filter(|row| row.prompt_hash.is_some()).count() as u64;
    if hashed == 0 && !rows.is_empty() {
        return Err(ToolError::failed(
            "No record in this period has a prompt_hash, so repeated prompts cannot be told; bring records with it.",
        ));
    }
    let mut prompts: HashMap<&str, (u64, u64)> = HashMap::new();
    for (row, is_repeat) in repeats(rows) {
        if let Some(hash) = row.prompt_hash.as_deref() {
            let (calls, repeat_cost) = prompts.entry(hash).or_default();
            *calls += 1;
            *repeat_cost += if is_repeat { row.cost_microusd } else { 0 };
        }
    }
    let distinct = prompts.len() as u64;
    let mut repeated: Vec<_> = prompts.into_iter().filter(|(_, (calls, _))| *calls > 1).collect();
    repeated.sort_by(|(hash, (calls, cost)), (other, (other_calls, other_cost))| {
        other_cost.cmp(cost).then(other_calls.cmp(calls)).then(hash.cmp(other))
    });
    let listed: Vec<Value> = repeated
        .iter()
        .take(PROMPTS_MAX)
        .map(|(hash, (calls, cost))| json!({"prompt_hash": hash, "calls": calls, "repeats_cost_microusd": cost}))
        .collect();
    Ok(object(json!({
        "hashed_calls": hashed,
        "distinct_prompts": distinct,
        "repeated_calls": hashed - distinct,
        "repeats_cost_microusd": repeats_cost(rows),
        "repeated_prompts": repeated.len(),
        "prompts": listed,
    })))
}
