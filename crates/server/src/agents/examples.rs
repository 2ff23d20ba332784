//! Stored example records, so that a run can show what it does without the user's own data (`example_message`).
//!
//! They are made by fixed rules from no randomness: the same in every build, so that figures over them can be computed
//! again by anyone who follows the rules in `docs/agents.md`.

use std::collections::BTreeMap;
use std::sync::Arc;

use kingsguard_protocol::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::tools::{InMemoryUsage, PriceCatalogue, UsageRow, UsageSource};

/// The field of a request's context that asks for an example's records.
const CONTEXT_FIELD: &str = "example_category";

/// When the first record of every example is from.
const FIRST: &str = "2026-01-01T00:00:00.000Z";

/// Records of an example: one every two hours for 14 days.
const ROWS: u64 = 168;

/// Milliseconds between records.
const EVERY_MS: i64 = 7_200_000;

/// What makes one example different from the others.
struct Shape {
    category: &'static str,
    models: &'static [&'static str],
    features: &'static [&'static str],
    input_tokens: u64,
    latency_ms: u64,
    /// Every n-th call fails; 0 for none.
    fails_every: u64,
    /// Prompts that take turns; few of them repeat often.
    prompts: u64,
}

const SHAPES: &[Shape] = &[
    Shape {
        category: "cost",
        models: &["gpt-4o", "gpt-4-turbo", "gpt-4o-mini"],
        features: &["search", "summary"],
        input_tokens: 1_200,
        latency_ms: 1_600,
        fails_every: 0,
        prompts: 40,
    },
    Shape {
        category: "latency",
        models: &["claude-opus-4", "gemini-2.5-pro"],
        features: &["chat", "autocomplete", "translate"],
        input_tokens: 800,
        latency_ms: 3_000,
        fails_every: 0,
        prompts: 168,
    },
    Shape {
        category: "quality",
        models: &["gpt-4.1-mini", "mistral-small"],
        features: &["classify", "extract"],
        input_tokens: 500,
        latency_ms: 700,
        fails_every: 7,
        prompts: 120,
    },
];

/// Why the stored examples cannot be used; a unit test excludes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "example `{category}` uses a model that the price catalogue does not know, or its first instant is no timestamp"
)]
pub struct ExampleError {
    category: &'static str,
}

/// Every category, in the order in which they are listed to people.
#[must_use]
pub fn categories() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.category).collect()
}

/// The context with which a run works on the records of an example.
///
/// # Errors
/// There is no such category; the error is what was expected instead, for a `VALIDATION_ERROR` at `/category`.
pub fn context_for(category: &str) -> Result<Box<RawValue>, String> {
    let expected = || format!("one of {}", categories().join(", "));
    let known = categories()
        .into_iter()
        .find(|known| *known == category)
        .ok_or_else(expected)?;
    serde_json::value::to_raw_value(&json!({ CONTEXT_FIELD: known })).map_err(|_| expected())
}

/// The category that a request's context asks for, where it asks for one.
pub(super) fn category_of(context: &str) -> Option<String> {
    let context: Value = serde_json::from_str(context).ok()?;
    context.get(CONTEXT_FIELD)?.as_str().map(ToOwned::to_owned)
}

/// The stored examples.
#[derive(Debug)]
pub(super) struct Examples {
    sources: BTreeMap<&'static str, Arc<InMemoryUsage>>,
}

impl Examples {
    pub(super) fn builtin(catalogue: &PriceCatalogue) -> Result<Self, ExampleError> {
        let source = |shape: &'static Shape| {
            let rows = rows(shape, catalogue).ok_or(ExampleError {
                category: shape.category,
            })?;
            Ok((shape.category, Arc::new(InMemoryUsage::new(rows))))
        };
        let sources = SHAPES.iter().map(source).collect::<Result<_, _>>()?;
        Ok(Self { sources })
    }

    pub(super) fn get(&self, category: &str) -> Option<Arc<dyn UsageSource>> {
        self.sources
            .get(category)
            .map(|source| Arc::clone(source) as Arc<dyn UsageSource>)
    }
}

/// Record `n` (from 0) is from `FIRST` plus `n` × 2 h, of model `n` mod models and feature `n` mod features, with
/// `input_tokens` + 10 × (`n` mod 20) tokens in, 100 + 5 × (`n` mod 30) out, `latency_ms` + 20 × (`n` mod 25), prompt
/// `n` mod prompts, and the catalogue's cost.
fn rows(shape: &Shape, catalogue: &PriceCatalogue) -> Option<Vec<UsageRow>> {
    let first = FIRST.parse::<Timestamp>().ok()?.as_unix_ms();
    let of = |n: u64, names: &[&'static str]| {
        usize::try_from(n)
            .ok()
            .and_then(|n| names.get(n % names.len()).copied())
    };
    (0..ROWS)
        .map(|n| {
            let model = of(n, shape.models)?;
            let input_tokens = shape.input_tokens + 10 * (n % 20);
            let output_tokens = 100 + 5 * (n % 30);
            Some(UsageRow {
                at_ms: first + i64::try_from(n).ok()? * EVERY_MS,
                model: model.into(),
                feature: of(n, shape.features).map(Into::into),
                input_tokens,
                output_tokens,
                latency_ms: Some(shape.latency_ms + 20 * (n % 25)),
                cost_microusd: catalogue.price(model)?.cost_microusd(input_tokens, output_tokens),
                prompt_hash: Some(format!("prompt-{}", n % shape.prompts).into()),
                success: shape.fails_every == 0 || n % shape.fails_every != 0,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn every_category_has_records_and_a_context_that_asks_for_them() {
        let catalogue = PriceCatalogue::builtin().expect("the catalogue is well formed");
        let examples = Examples::builtin(&catalogue).expect("the examples are well formed");
        for category in categories() {
            let context = context_for(category).expect("it is a category");
            assert_eq!(category_of(context.get()).as_deref(), Some(category));
            assert!(examples.get(category).is_some());
        }
    }

    #[test]
    fn an_unknown_category_is_refused_with_those_that_exist() {
        assert_eq!(
            context_for("poetry").expect_err("there is none"),
            "one of cost, latency, quality"
        );
    }
}
