//! Whether the records are enough, whether they make sense, and how to bring more.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::dataset::{Sufficiency, UsageRow};
use super::dispatcher::{ToolError, ToolInputs};
use super::figures::{Object, object};
use super::source::UsageTotals;

/// Records from which an answer is worth acting on.
pub const RECORDS_MIN: u64 = 20;

/// What a question can need from the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Need {
    /// Two days or more.
    Days,
    /// Records that name a feature.
    Feature,
    /// Records with a latency.
    Latency,
    /// Records with a prompt hash.
    PromptHash,
}

impl Need {
    /// The word in parameters and results.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Days => "days",
            Self::Feature => "feature",
            Self::Latency => "latency_ms",
            Self::PromptHash => "prompt_hash",
        }
    }

    fn why(self) -> &'static str {
        match self {
            Self::Days => "records of at least two days show how use changes",
            Self::Feature => "feature says what the spend was for",
            Self::Latency => "latency_ms says how fast models are for you",
            Self::PromptHash => "prompt_hash shows which prompts are sent again",
        }
    }

    fn all() -> [Self; 4] {
        [Self::Days, Self::Feature, Self::Latency, Self::PromptHash]
    }

    fn is_met(self, totals: &UsageTotals) -> bool {
        match self {
            Self::Days => totals.days >= 2,
            Self::Feature => totals.with_feature > 0,
            Self::Latency => totals.with_latency > 0,
            Self::PromptHash => totals.with_prompt_hash > 0,
        }
    }
}

/// Judges the records for a question that needs these things.
#[must_use]
pub fn judge(totals: &UsageTotals, needs: &[Need]) -> Sufficiency {
    if totals.records == 0 {
        Sufficiency::Insufficient
    } else if totals.records < RECORDS_MIN || !needs.iter().all(|need| need.is_met(totals)) {
        Sufficiency::Partial
    } else {
        Sufficiency::Sufficient
    }
}

pub(super) fn check_data(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let named: Vec<&str> = match inputs.parameters.get("needs") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let needs: Vec<Need> = Need::all()
        .into_iter()
        .filter(|need| named.contains(&need.as_str()))
        .collect();
    let totals = UsageTotals::of(rows);
    let mut missing: Vec<Value> = Vec::new();
    if totals.records < RECORDS_MIN {
        missing.push(json!({
            "what": "records",
            "why": format!("{} records are there, {RECORDS_MIN} or more make an answer worth acting on", totals.records),
        }));
    }
    for need in needs.iter().filter(|need| !need.is_met(&totals)) {
        missing.push(json!({"what": need.as_str(), "why": need.why()}));
    }
    Ok(object(json!({
        "sufficiency": judge(&totals, &needs).as_str(),
        "records": totals.records,
        "calendar_days": totals.days,
        "with_feature": totals.with_feature,
        "with_latency": totals.with_latency,
        "with_prompt_hash": totals.with_prompt_hash,
        "missing": missing,
    })))
}

pub(super) fn validate_data(rows: &[UsageRow], inputs: &ToolInputs) -> Result<Object, ToolError> {
    let now = kingsguard_protocol::Timestamp::now().as_unix_ms();
    let mut problems: BTreeMap<&str, u64> = BTreeMap::new();
    let mut sound = 0u64;
    for row in rows {
        let price = inputs.catalogue.price(&row.model);
        let listed = price.map(|price| price.cost_microusd(row.input_tokens, row.output_tokens));
        let found = [
            ("time lies in the future", row.at_ms > now),
            ("model is not in the price catalogue", price.is_none()),
            (
                "cost is 0 although the catalogue has a price",
                row.cost_microusd == 0 && listed.is_some_and(|it| it > 0),
            ),
            (
                "cost is more than twice the catalogue's",
                listed.is_some_and(|listed| row.cost_microusd > listed.saturating_mul(2).saturating_add(1)),
            ),
            ("succeeded without output", row.success && row.output_tokens == 0),
        ];
        sound += u64::from(!found.iter().any(|(_, is_so)| *is_so));
        for (problem, _) in found.iter().filter(|(_, is_so)| *is_so) {
            *problems.entry(problem).or_default() += 1;
        }
    }
    let listed: Vec<Value> = problems
        .into_iter()
        .map(|(problem, records)| json!({"problem": problem, "records": records}))
        .collect();
    Ok(object(
        json!({"records": rows.len(), "sound_records": sound, "problems": listed}),
    ))
}

pub(super) fn import_guide(_rows: &[UsageRow], _inputs: &ToolInputs) -> Result<Object, ToolError> {
    Ok(object(json!({
        "call": "POST /api/usage-records",
        "formats": ["application/json", "text/csv"],
        "required": ["timestamp", "model", "input_tokens and output_tokens, as counts", "latency_ms"],
        "optional": ["feature", "cost_microusd", "prompt_hash", "success"],
        "records_per_call_max": crate::usage::ROWS_MAX,
        "example_csv": concat!(
            "timestamp,model,input_tokens,output_tokens,latency_ms,feature\n",
            "2026-01-31T08:15:30.250Z,gpt-4o,1200,180,950,search\n",
        ),
    })))
}
