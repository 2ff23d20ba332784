//! Logs and metrics (OPS-2).
//!
//! Logs are JSON lines with ids as fields. No credential is ever a field (AUTH-8): requests are logged by method, route
//! and status, never by query string or header. Metrics are named here and nowhere else.

use std::sync::OnceLock;
use std::time::Duration;

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::control::RunPhase;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Bounds of the latency histograms, in seconds: fine around 5 and 50 ms, which TIM-3 asks about.
const LATENCY_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Log directives that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("log directives `{directives}` cannot be read")]
pub struct LogError {
    directives: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

/// Starts writing log lines to stdout. A subscriber that is installed already stays.
///
/// # Errors
/// The directives cannot be read.
pub fn start_logs(directives: &str) -> Result<(), LogError> {
    let filter = EnvFilter::try_new(directives).map_err(|source| LogError {
        directives: directives.to_owned(),
        source,
    })?;
    let installed = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init();
    if installed.is_err() {
        tracing::debug!("a log subscriber is installed already");
    }
    Ok(())
}

/// Starts counting. The recorder is one for the process: a second server in it counts into the same.
pub fn start_metrics() {
    RECORDER.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets(LATENCY_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder);
        match recorder {
            Ok(handle) => {
                describe();
                begin_at_zero();
                Some(handle)
            }
            Err(error) => {
                tracing::error!(reason = %error, "metrics cannot be recorded");
                None
            }
        }
    });
}

/// The metrics as Prometheus text; empty before [`start_metrics`].
#[must_use]
pub fn render_metrics() -> String {
    match RECORDER.get() {
        Some(Some(handle)) => {
            handle.run_upkeep();
            handle.render()
        }
        _ => String::new(),
    }
}

/// Open connections.
pub const CONNECTIONS_OPEN: &str = "kingsguard_connections_open";
/// Connections by outcome: `accepted`, or the error code of the refusal.
pub const CONNECTIONS_TOTAL: &str = "kingsguard_connections_total";
/// Closed connections by close code; `none` where no close frame was sent.
pub const CONNECTIONS_CLOSED_TOTAL: &str = "kingsguard_connections_closed_total";
/// Events put into connections' queues, by type.
pub const EVENTS_SENT_TOTAL: &str = "kingsguard_events_sent_total";
/// Events made durable, by type.
pub const EVENTS_STORED_TOTAL: &str = "kingsguard_events_stored_total";
/// What clients say became of events, by status: `confirmed` or `failed`.
pub const CONFIRMATIONS_TOTAL: &str = "kingsguard_confirmations_total";
/// Resumes by outcome: `recovered` or `refused`.
pub const RESUMES_TOTAL: &str = "kingsguard_resumes_total";
/// What was dropped and not delivered, by what: `slow_consumer`, `fan_out`, `relay`.
pub const DROPS_TOTAL: &str = "kingsguard_drops_total";
/// Errors answered, by code.
pub const ERRORS_TOTAL: &str = "kingsguard_errors_total";
/// Runs ended, by status.
pub const RUNS_TOTAL: &str = "kingsguard_runs_total";
/// Runs that are not ended, by phase.
pub const RUNS_OPEN: &str = "kingsguard_runs_open";
/// What waits, by queue.
pub const QUEUE_DEPTH: &str = "kingsguard_queue_depth";
/// Circuit breakers by name: 0 closed, 1 half open, 2 open.
pub const BREAKER_STATE: &str = "kingsguard_breaker_state";
/// From an agent's emit to the event's durability.
pub const EVENT_APPEND_SECONDS: &str = "kingsguard_event_append_seconds";
/// From acceptance to the end of a run.
pub const RUN_SECONDS: &str = "kingsguard_run_seconds";
/// HTTP requests by route, method and status.
pub const HTTP_REQUESTS_TOTAL: &str = "kingsguard_http_requests_total";
/// Latency of HTTP requests by route.
pub const HTTP_REQUEST_SECONDS: &str = "kingsguard_http_request_seconds";
/// Tool calls by tool and status.
pub const TOOL_CALLS_TOTAL: &str = "kingsguard_tool_calls_total";

fn describe() {
    metrics::describe_gauge!(CONNECTIONS_OPEN, "open connections");
    metrics::describe_counter!(CONNECTIONS_TOTAL, "connections by outcome");
    metrics::describe_counter!(CONNECTIONS_CLOSED_TOTAL, "closed connections by close code");
    metrics::describe_counter!(EVENTS_SENT_TOTAL, "events put into queues of connections, by type");
    metrics::describe_counter!(EVENTS_STORED_TOTAL, "events made durable, by type");
    metrics::describe_counter!(CONFIRMATIONS_TOTAL, "confirmations of events by clients, by status");
    metrics::describe_counter!(RESUMES_TOTAL, "resumes by outcome");
    metrics::describe_counter!(DROPS_TOTAL, "what was dropped, by what");
    metrics::describe_counter!(ERRORS_TOTAL, "errors answered, by code");
    metrics::describe_counter!(RUNS_TOTAL, "runs ended, by status");
    metrics::describe_gauge!(RUNS_OPEN, "runs that are not ended, by phase");
    metrics::describe_gauge!(QUEUE_DEPTH, "what waits, by queue");
    metrics::describe_gauge!(BREAKER_STATE, "circuit breakers: 0 closed, 1 half open, 2 open");
    metrics::describe_histogram!(EVENT_APPEND_SECONDS, "from emit to durability of an event, in seconds");
    metrics::describe_histogram!(RUN_SECONDS, "from `agent_started` to the end of a run, in seconds");
    metrics::describe_counter!(HTTP_REQUESTS_TOTAL, "HTTP requests by route, method and status");
    metrics::describe_histogram!(HTTP_REQUEST_SECONDS, "latency of HTTP requests by route, in seconds");
    metrics::describe_counter!(TOOL_CALLS_TOTAL, "tool calls by tool and status");
}

/// What may never happen is told as 0 from the start: of a counter that appears with its first sample, no rate and no
/// alarm can be made (OPS-2).
fn begin_at_zero() {
    metrics::gauge!(CONNECTIONS_OPEN).set(0.0);
    for what in ["answer", "deletion_notice", "fan_out", "relay", "slow_consumer"] {
        dropped(what, 0);
    }
    for queue in ["event_writer", "fan_out"] {
        queue_depth(queue, 0);
    }
    breaker_state("model", 0);
    for outcome in ["recovered", "refused"] {
        metrics::counter!(RESUMES_TOTAL, "outcome" => outcome).increment(0);
    }
    for status in [
        RunPhase::Completed,
        RunPhase::Failed,
        RunPhase::Cancelled,
        RunPhase::TimedOut,
    ] {
        metrics::counter!(RUNS_TOTAL, "status" => status.as_str()).increment(0);
    }
}

/// A connection was accepted.
pub fn connection_opened() {
    metrics::gauge!(CONNECTIONS_OPEN).increment(1.0);
    metrics::counter!(CONNECTIONS_TOTAL, "outcome" => "accepted").increment(1);
}

/// A connection was refused before its upgrade.
pub fn connection_refused(code: ErrorCode) {
    metrics::counter!(CONNECTIONS_TOTAL, "outcome" => code.as_str()).increment(1);
}

/// A connection ended; `None` where no close frame was sent.
pub fn connection_closed(code: Option<u16>) {
    metrics::gauge!(CONNECTIONS_OPEN).decrement(1.0);
    let code = code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    metrics::counter!(CONNECTIONS_CLOSED_TOTAL, "code" => code).increment(1);
}

/// Events of one type went into queues of connections.
pub fn events_sent(event_type: &'static str, count: u64) {
    metrics::counter!(EVENTS_SENT_TOTAL, "type" => event_type).increment(count);
}

/// An event became durable.
pub fn event_stored(event_type: &'static str, append: Duration) {
    metrics::counter!(EVENTS_STORED_TOTAL, "type" => event_type).increment(1);
    metrics::histogram!(EVENT_APPEND_SECONDS).record(append);
}

/// A resume was judged.
pub fn resume_judged(outcome: ResumeOutcome) {
    let outcome = match outcome {
        ResumeOutcome::Recovered => "recovered",
        ResumeOutcome::Refused => "refused",
    };
    metrics::counter!(RESUMES_TOTAL, "outcome" => outcome).increment(1);
}

/// How a resume was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// Every event above `after` follows.
    Recovered,
    /// `recovered: false`.
    Refused,
}

/// A client said what became of an event.
pub fn event_confirmed(status: &'static str) {
    metrics::counter!(CONFIRMATIONS_TOTAL, "status" => status).increment(1);
}

/// Something was dropped.
pub fn dropped(what: &'static str, count: u64) {
    metrics::counter!(DROPS_TOTAL, "what" => what).increment(count);
}

/// An error was answered.
pub fn error_answered(code: ErrorCode) {
    metrics::counter!(ERRORS_TOTAL, "code" => code.as_str()).increment(1);
}

/// A run ended.
pub fn run_ended(status: RunPhase, took: Duration) {
    metrics::counter!(RUNS_TOTAL, "status" => status.as_str()).increment(1);
    metrics::histogram!(RUN_SECONDS).record(took);
}

/// How many runs are in a phase now.
pub fn runs_open(phase: RunPhase, count: usize) {
    metrics::gauge!(RUNS_OPEN, "phase" => phase.as_str()).set(count as f64);
}

/// How much waits in a queue now.
pub fn queue_depth(queue: &'static str, depth: usize) {
    metrics::gauge!(QUEUE_DEPTH, "queue" => queue).set(depth as f64);
}

/// A circuit breaker changed: 0 closed, 1 half open, 2 open.
pub fn breaker_state(name: &'static str, state: u8) {
    metrics::gauge!(BREAKER_STATE, "name" => name).set(f64::from(state));
}

/// A tool call ended.
pub fn tool_called(tool_name: &str, status: &'static str) {
    metrics::counter!(TOOL_CALLS_TOTAL, "tool" => tool_name.to_owned(), "status" => status).increment(1);
}

/// An HTTP request was answered.
pub fn http_answered(route: String, method: &str, status: u16, took: Duration) {
    metrics::counter!(HTTP_REQUESTS_TOTAL, "route" => route.clone(), "method" => method.to_owned(), "status" => status.to_string())
        .increment(1);
    metrics::histogram!(HTTP_REQUEST_SECONDS, "route" => route).record(took);
}
