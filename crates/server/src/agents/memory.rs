//! What the agents keep about a thread, so that a follow-up question goes on from there.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use kingsguard_protocol::{ThreadId, UserId};
use serde_json::{Value, json};

use super::case::Case;
use crate::model::Topic;
use crate::tools::{Object, Period};

/// Why a thread's context could not be had.
#[derive(Debug, thiserror::Error)]
#[error("context of the thread cannot be read or written now")]
pub struct MemoryError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Keeps one JSON object for each thread. A thread belongs to one user; the user is named with it so that no mistake of
/// a caller can cross that line (ISO-3).
pub trait ThreadContexts: fmt::Debug + Send + Sync {
    /// What is kept about the thread; empty where nothing is.
    fn load<'a>(&'a self, user: &'a UserId, thread: &'a ThreadId) -> BoxFuture<'a, Result<Object, MemoryError>>;

    /// Keeps this in place of what was kept.
    fn save<'a>(
        &'a self,
        user: &'a UserId,
        thread: &'a ThreadId,
        context: Object,
    ) -> BoxFuture<'a, Result<(), MemoryError>>;
}

/// Contexts in memory, for unit tests and examples.
#[derive(Debug, Default)]
pub struct InMemoryContexts {
    contexts: Mutex<HashMap<(UserId, ThreadId), Object>>,
}

impl ThreadContexts for InMemoryContexts {
    fn load<'a>(&'a self, user: &'a UserId, thread: &'a ThreadId) -> BoxFuture<'a, Result<Object, MemoryError>> {
        let contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        let found = contexts
            .get(&(user.clone(), thread.clone()))
            .cloned()
            .unwrap_or_default();
        Box::pin(async move { Ok(found) })
    }

    fn save<'a>(
        &'a self,
        user: &'a UserId,
        thread: &'a ThreadId,
        context: Object,
    ) -> BoxFuture<'a, Result<(), MemoryError>> {
        let mut contexts = self.contexts.lock().unwrap_or_else(PoisonError::into_inner);
        contexts.insert((user.clone(), thread.clone()), context);
        Box::pin(async { Ok(()) })
    }
}

/// The part of a thread's context that a follow-up question uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub topic: Option<Topic>,
    pub period: Period,
}

impl Memory {
    pub(super) fn read(context: &Object) -> Self {
        Self {
            topic: context
                .get("last_topic")
                .and_then(Value::as_str)
                .and_then(Topic::from_word),
            period: Period::from_json(context.get("last_period")),
        }
    }
}

/// What is kept after a run: its topic, period, request, and the totals that its tools found.
pub(super) fn context_after(case: &Case, before: &Object) -> Object {
    let figures: Object = [
        ("records", case.figure("check_data", "records")),
        (
            "total_cost_microusd",
            case.figure("spend_by_model", "total_cost_microusd"),
        ),
        (
            "total_saving_microusd",
            case.figure("saving_estimate", "total_saving_microusd"),
        ),
        ("p95_ms", case.figure("latency_percentiles", "p95_ms")),
    ]
    .into_iter()
    .filter_map(|(name, figure)| Some((name.to_owned(), figure?.into())))
    .collect();
    let runs = before.get("runs").and_then(Value::as_u64).unwrap_or(0) + 1;
    Object::from_iter([
        ("last_topic".to_owned(), json!(case.reading.topic.as_str())),
        ("last_period".to_owned(), case.period.to_json()),
        ("last_request".to_owned(), json!(case.quote())),
        ("last_figures".to_owned(), Value::Object(figures)),
        ("runs".to_owned(), json!(runs)),
    ])
}
