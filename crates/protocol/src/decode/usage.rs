//! One row of `POST /api/usage-records` (contract §11, HTTP-1), its pointers relative to the row.

use super::body::{RequestBody, read};
use super::fields::{Fault, Fields, TextRule};
use super::{DecodeError, fields};
use crate::Timestamp;
use crate::http::UsageRecord;

/// The largest count of a row: ours. The sum over all rows that a call may bring, and over many calls, stays within
/// what Postgres holds as `bigint`.
pub const USAGE_COUNT_MAX: u64 = 1_000_000_000_000;
/// Unicode code points of a row's texts: ours.
pub const USAGE_TEXT_CHARS_MAX: u64 = 256;

impl RequestBody for UsageRecord {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        read(text, |fields| {
            let name = TextRule::FilledUpTo(USAGE_TEXT_CHARS_MAX);
            let success = fields.boolean("success")?;
            let latency_ms = match count(fields, "latency_ms")? {
                None if success != Some(false) => return Err(missing_count("latency_ms")),
                latency_ms => latency_ms,
            };
            Ok(Self {
                timestamp: timestamp(fields)?,
                model: fields.required_text(&["model"], name)?,
                input_tokens: required_count(fields, "input_tokens")?,
                output_tokens: required_count(fields, "output_tokens")?,
                latency_ms,
                feature: fields.text(&["feature"], name)?,
                cost_microusd: count(fields, "cost_microusd")?,
                prompt_hash: fields.text(&["prompt_hash"], name)?,
                success,
            })
        })
    }
}

fn count(fields: &Fields<'_>, name: &str) -> Result<Option<u64>, Fault> {
    fields.integer_within(name, 0, USAGE_COUNT_MAX)
}

fn required_count(fields: &Fields<'_>, name: &str) -> Result<u64, Fault> {
    count(fields, name)?.ok_or_else(|| missing_count(name))
}

fn missing_count(name: &str) -> Fault {
    let expected = format!("an integer of 0–{}", fields::grouped(USAGE_COUNT_MAX));
    Fault::new(format!("/{name}"), expected)
}

/// Users bring what their own systems wrote: zone and fraction may be missing (as in MSG-0).
fn timestamp(fields: &Fields<'_>) -> Result<Timestamp, Fault> {
    const EXPECTED: &str = "a date and time such as 2026-01-31T08:15:30Z";
    let text = fields.text(&["timestamp"], TextRule::Any);
    let parsed = text
        .ok()
        .flatten()
        .and_then(|text| Timestamp::parse_lenient(&text).ok());
    parsed.ok_or_else(|| Fault::new("/timestamp", EXPECTED))
}
