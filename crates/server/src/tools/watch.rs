//! Waiting for new records.

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::dispatcher::{DispatchToken, Tool, ToolCall, ToolError};
use super::figures::{Object, object};

/// How often the records are counted while watching. A second is fast enough for people and one cheap query.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Seconds that may be watched; the run's own deadline is usually nearer.
pub const SECONDS_MAX: u64 = 3_600;

/// What the tool may take beyond the seconds asked for: its two counts.
const GRACE: Duration = Duration::from_secs(5);

/// `watch_usage`: counts records until the seconds asked for have passed, and says what was added meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct WatchUsage;

fn seconds(parameters: &Object) -> Option<u64> {
    parameters
        .get("seconds")
        .and_then(Value::as_u64)
        .filter(|seconds| (1..=SECONDS_MAX).contains(seconds))
}

impl Tool for WatchUsage {
    fn name(&self) -> &'static str {
        "watch_usage"
    }

    fn description(&self) -> &'static str {
        "Waits for new usage records and says what was added"
    }

    fn time_limit(&self, limit: Duration, parameters: &Object) -> Duration {
        seconds(parameters).map_or(limit, |seconds| Duration::from_secs(seconds) + GRACE)
    }

    fn run(&self, _token: DispatchToken, call: ToolCall) -> BoxFuture<'_, Result<Object, ToolError>> {
        Box::pin(async move {
            let Some(seconds) = seconds(&call.inputs.parameters) else {
                return Err(ToolError::failed(format!(
                    "Usage can be watched for 1 to {SECONDS_MAX} seconds."
                )));
            };
            let ends = Instant::now() + Duration::from_secs(seconds);
            let before = call.data.totals().await?;
            let mut now = before;
            let mut additions = 0u64;
            while Instant::now() < ends {
                tokio::time::sleep_until(ends.min(Instant::now() + LOOK_EVERY)).await;
                let seen = call.data.totals().await?;
                additions += u64::from(seen.records > now.records);
                now = seen;
            }
            Ok(object(json!({
                "watched_seconds": seconds,
                "new_records": now.records.saturating_sub(before.records),
                "new_cost_microusd": now.cost_microusd.saturating_sub(before.cost_microusd),
                "additions_seen": additions,
                "records": now.records,
                "total_cost_microusd": now.cost_microusd,
            })))
        })
    }
}
