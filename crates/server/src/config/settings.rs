//! The table of settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kingsguard_protocol::Limits;
use kingsguard_protocol::http::Secret;

use super::kind::{Address, Count, Hidden, Kind, Millis, Optional, OptionalHidden, Origins, Switch, Text};
use super::{Problem, SettingDoc};

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $value:ty = $variable:literal, $kind:expr;)*) => {
        /// Everything that can be set, read once at start.
        #[derive(Clone, Debug)]
        pub struct Config {
            $($(#[doc = $doc])+ #[doc = concat!("\n\n`", $variable, "`")] pub $field: $value,)*
        }

        impl Config {
            /// Every setting, for `kingsguard-server settings` and the README.
            #[must_use]
            pub fn reference() -> Vec<SettingDoc> {
                vec![$({
                    let kind = $kind;
                    SettingDoc {
                        variable: $variable,
                        unit: kind.unit(),
                        default: kind.default(),
                        limits: kind.limits(),
                        required: kind.absent().is_none(),
                        secret: kind.is_secret(),
                        description: concat!($($doc),+).trim_ascii_start(),
                    }
                }),*]
            }

            /// Takes the known variables out of `variables`; `None` after problems.
            pub(super) fn take(
                variables: &mut BTreeMap<String, String>,
                problems: &mut Vec<Problem>,
            ) -> Option<Self> {
                $(let $field = take_one($variable, &$kind, variables, problems);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    };
}

fn take_one<K: Kind>(
    variable: &str,
    kind: &K,
    variables: &mut BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Option<K::Value> {
    let taken = match variables.remove(variable) {
        Some(text) => kind.parse(&text),
        None => kind.absent().ok_or_else(|| format!("must be set ({})", kind.limits())),
    };
    taken
        .map_err(|reason| {
            problems.push(Problem {
                variable: variable.to_owned(),
                reason,
            });
        })
        .ok()
}

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
const MIB: u64 = 1024 * 1024;

settings! {
    /// Address that the server listens on; port 0 takes a free one.
    listen: SocketAddr = "KINGSGUARD_LISTEN", Address { default: "127.0.0.1:8080" };
    /// Name of this node in logs, presence and fan-out; made at start where absent, and then new at each start.
    node_name: Option<String> = "KINGSGUARD_NODE_NAME", Optional { unit: "text" };
    /// URL under which clients reach the server, for `websocket_url` of tickets; the request's `Host` where absent.
    public_url: Option<String> = "KINGSGUARD_PUBLIC_URL", Optional { unit: "URL" };
    /// Whether the last address of `X-Forwarded-For` is the client's. Only behind a proxy that sets it: else anyone can
    /// claim any address.
    trust_forwarded_for: bool = "KINGSGUARD_TRUST_FORWARDED_FOR", Switch;
    /// Which log lines are written, as `tracing` directives.
    log: String = "KINGSGUARD_LOG", Text { unit: "directives", default: "info" };

    /// Where Postgres is: the truth about accounts, threads, runs and events.
    database_url: Secret = "KINGSGUARD_DATABASE_URL",
        Hidden { unit: "URL", schemes: &["postgres://", "postgresql://"], bytes_min: 1 };
    /// Connections to Postgres that are open at the same time.
    database_connections_max: u64 = "KINGSGUARD_DATABASE_CONNECTIONS_MAX",
        Count { unit: "connections", default: 10, within: 2..=500 };
    /// How long a request waits for a connection to Postgres before it is refused with DATABASE_UNAVAILABLE.
    database_acquire_timeout: Duration = "KINGSGUARD_DATABASE_ACQUIRE_TIMEOUT_MS",
        Millis { default: 2_000, within: 50..=60_000 };
    /// How long one statement may take in Postgres before Postgres ends it. A connection that says nothing for 1 s longer is given up.
    database_statement_timeout: Duration = "KINGSGUARD_DATABASE_STATEMENT_TIMEOUT_MS",
        Millis { default: 30_000, within: 100..=600_000 };
    /// Where Redis is: fan-out between nodes, presence and tickets. Chat on one node goes on without it.
    redis_url: Secret = "KINGSGUARD_REDIS_URL",
        Hidden { unit: "URL", schemes: &["redis://", "rediss://", "unix://", "redis+unix://"], bytes_min: 1 };
    /// What all Redis keys and channels begin with; nodes of one service share it.
    redis_prefix: String = "KINGSGUARD_REDIS_PREFIX", Text { unit: "text", default: "kingsguard" };
    /// How long Redis may take to connect or to answer before it counts as away.
    redis_timeout: Duration = "KINGSGUARD_REDIS_TIMEOUT_MS", Millis { default: 500, within: 10..=60_000 };

    /// Key that signs access tokens (HS256); the same on all nodes.
    jwt_secret: Secret = "KINGSGUARD_JWT_SECRET", Hidden { unit: "text", schemes: &[], bytes_min: 32 };
    /// `iss` of access tokens; tokens of another issuer are refused (AUTH-5).
    jwt_issuer: String = "KINGSGUARD_JWT_ISSUER", Text { unit: "text", default: "kingsguard" };
    /// `aud` of access tokens; tokens for another audience are refused (AUTH-5).
    jwt_audience: String = "KINGSGUARD_JWT_AUDIENCE", Text { unit: "text", default: "kingsguard" };
    /// Life of an access token. The contract promises 15 min; less is for tests and is said in the log.
    access_token_ttl: Duration = "KINGSGUARD_ACCESS_TOKEN_TTL_MS",
        Millis { default: 900_000, within: 1_000..=DAY_MS };
    /// Life of a refresh token from its issue.
    refresh_token_ttl: Duration = "KINGSGUARD_REFRESH_TOKEN_TTL_MS",
        Millis { default: 30 * DAY_MS, within: 1_000..=366 * DAY_MS };
    /// Origins whose pages may connect (AUTH-7); empty allows all.
    allowed_origins: Vec<String> = "KINGSGUARD_ALLOWED_ORIGINS", Origins;
    /// Whether `POST /auth/dev_login` logs anyone in without a password. Never in production.
    dev_login: bool = "KINGSGUARD_DEV_LOGIN", Switch;
    /// Failed logins of one account after which the next is refused with AUTH_LOCKED (SEC-4).
    failed_logins_max: u64 = "KINGSGUARD_FAILED_LOGINS_MAX", Count { unit: "logins", default: 5, within: 1..=100 };
    /// How long an account is locked after too many failed logins (SEC-4).
    lock_duration: Duration = "KINGSGUARD_LOCK_DURATION_MS", Millis { default: 900_000, within: 1_000..=DAY_MS };
    /// Memory of one password hash (Argon2id). Below 19456 passwords are easier to guess from a stolen database.
    argon2_memory_kib: u64 = "KINGSGUARD_ARGON2_MEMORY_KIB",
        Count { unit: "KiB", default: 19_456, within: 8..=4_194_304 };
    /// Passes of one password hash (Argon2id).
    argon2_passes: u64 = "KINGSGUARD_ARGON2_PASSES", Count { unit: "passes", default: 2, within: 1..=100 };
    /// Lanes of one password hash (Argon2id).
    argon2_lanes: u64 = "KINGSGUARD_ARGON2_LANES", Count { unit: "lanes", default: 1, within: 1..=64 };
    /// Password hashes that are computed at the same time; others wait.
    argon2_concurrency: u64 = "KINGSGUARD_ARGON2_CONCURRENCY", Count { unit: "hashes", default: 2, within: 1..=256 };
    /// How long a login waits for its turn to be hashed before it is refused with RATE_LIMITED.
    argon2_wait: Duration = "KINGSGUARD_ARGON2_WAIT_MS", Millis { default: 10_000, within: 1..=60_000 };

    /// How often the server pings a connection; a peer silent for two intervals is dropped (CON-2).
    heartbeat_interval: Duration = "KINGSGUARD_HEARTBEAT_INTERVAL_MS",
        Millis { default: 15_000, within: 50..=HOUR_MS };
    /// How long a connection may take to acknowledge the handshake before close 4408 (HSK-4).
    handshake_deadline: Duration = "KINGSGUARD_HANDSHAKE_DEADLINE_MS",
        Millis { default: 10_000, within: 50..=600_000 };
    /// How long running runs may go on after SIGTERM or SIGHUP before they end with SERVICE_DRAINING (CON-4).
    drain_deadline: Duration = "KINGSGUARD_DRAIN_DEADLINE_MS", Millis { default: 30_000, within: 0..=HOUR_MS };
    /// How long a peer may take to read a close frame and to answer it before its TCP connection is dropped.
    close_deadline: Duration = "KINGSGUARD_CLOSE_DEADLINE_MS", Millis { default: 5_000, within: 10..=60_000 };

    /// How long a run may take from its `agent_started` until it ends `timed_out` (TIM-4).
    run_deadline: Duration = "KINGSGUARD_RUN_DEADLINE_MS", Millis { default: 30_000, within: 100..=HOUR_MS };
    /// Silence in an open run after which `progress_update` fills it; the contract allows 5 s (TIM-2).
    silence_max: Duration = "KINGSGUARD_SILENCE_MAX_MS", Millis { default: 4_000, within: 50..=4_900 };
    /// Runs that are executed at the same time on this node; others wait in the queues of their threads.
    runs_concurrent_max: u64 = "KINGSGUARD_RUNS_CONCURRENT_MAX",
        Count { unit: "runs", default: 256, within: 1..=100_000 };
    /// Runs of one thread that may wait for their turn; more are refused with RATE_LIMITED.
    runs_queued_per_thread_max: u64 = "KINGSGUARD_RUNS_QUEUED_PER_THREAD_MAX",
        Count { unit: "runs", default: 64, within: 1..=10_000 };
    /// How long a run's node may be silent before another node ends the run or goes on with it (SEQ-9).
    run_lease: Duration = "KINGSGUARD_RUN_LEASE_MS", Millis { default: 3_000, within: 200..=60_000 };
    /// How long one tool may take before it ends with status `timeout`.
    tool_timeout: Duration = "KINGSGUARD_TOOL_TIMEOUT_MS", Millis { default: 10_000, within: 10..=HOUR_MS };
    /// OpenAI-compatible endpoint; where absent, the built-in deterministic planner thinks.
    model_url: Option<String> = "KINGSGUARD_MODEL_URL", Optional { unit: "URL" };
    /// Name of the model to ask for at the endpoint.
    model_name: Option<String> = "KINGSGUARD_MODEL_NAME", Optional { unit: "text" };
    /// Key for the endpoint.
    model_api_key: Option<Secret> = "KINGSGUARD_MODEL_API_KEY", OptionalHidden { unit: "text" };
    /// `planner`: the built-in planner stands in where the endpoint fails; where absent, the run fails.
    model_fallback: Option<String> = "KINGSGUARD_MODEL_FALLBACK", Optional { unit: "text" };
    /// How long one call to the model may take.
    model_timeout: Duration = "KINGSGUARD_MODEL_TIMEOUT_MS", Millis { default: 10_000, within: 10..=600_000 };
    /// Failures in a row after which the circuit breaker of the model opens (ERR-4).
    breaker_failures_max: u64 = "KINGSGUARD_BREAKER_FAILURES_MAX",
        Count { unit: "failures", default: 5, within: 1..=1_000 };
    /// How long an open breaker waits before it lets one call through (ERR-4).
    breaker_open: Duration = "KINGSGUARD_BREAKER_OPEN_MS", Millis { default: 10_000, within: 10..=600_000 };

    /// Events that are committed to Postgres in one transaction at most.
    event_batch_max: u64 = "KINGSGUARD_EVENT_BATCH_MAX", Count { unit: "events", default: 2048, within: 1..=10_000 };
    /// Events that may wait for their commit; more make their agents wait.
    event_queue_max: u64 = "KINGSGUARD_EVENT_QUEUE_MAX",
        Count { unit: "events", default: 8_192, within: 1..=1_000_000 };
    /// Newest events of a thread that stay resumable, however old (SEQ-4).
    retained_events_min: u64 = "KINGSGUARD_RETAINED_EVENTS_MIN",
        Count { unit: "events", default: 1_000, within: 1_000..=1_000_000_000 };
    /// How long an event stays resumable, however many are newer (SEQ-4).
    retained_hours: u64 = "KINGSGUARD_RETAINED_HOURS", Count { unit: "hours", default: 24, within: 24..=87_600 };
    /// How often events that need not stay resumable are looked for and dropped; what is dropped late only takes room.
    retention_interval: Duration = "KINGSGUARD_RETENTION_INTERVAL_MS", Millis { default: 600_000, within: 50..=HOUR_MS };

    /// Bytes of one client message or HTTP body; more closes with 1009 or answers 413 (LIM-1).
    message_bytes_max: u64 = "KINGSGUARD_MESSAGE_BYTES_MAX",
        Count { unit: "bytes", default: 5 * MIB, within: 16_384..=64 * MIB };
    /// Unicode code points of `content` (LIM-1).
    content_chars_max: u64 = "KINGSGUARD_CONTENT_CHARS_MAX",
        Count { unit: "characters", default: 8_000, within: 1..=1_000_000 };
    /// Connections of one user at a time (LIM-1).
    connections_per_user_max: u64 = "KINGSGUARD_CONNECTIONS_PER_USER_MAX",
        Count { unit: "connections", default: 10, within: 1..=100_000 };
    /// Connections of one network address at a time (LIM-1).
    connections_per_address_max: u64 = "KINGSGUARD_CONNECTIONS_PER_ADDRESS_MAX",
        Count { unit: "connections", default: 1_000, within: 1..=1_000_000 };
    /// Connections of this node at a time; more are refused with CONNECTION_LIMIT.
    connections_max: u64 = "KINGSGUARD_CONNECTIONS_MAX",
        Count { unit: "connections", default: 10_000, within: 1..=1_000_000 };
    /// Messages that start a run, of one user per minute over all connections (LIM-1).
    messages_per_minute_max: u64 = "KINGSGUARD_MESSAGES_PER_MINUTE_MAX",
        Count { unit: "messages", default: 60, within: 1..=1_000_000 };
    /// Messages that start a run that one user may send at once (LIM-1).
    messages_burst_max: u64 = "KINGSGUARD_MESSAGES_BURST_MAX",
        Count { unit: "messages", default: 20, within: 1..=1_000_000 };
    /// All other messages of one user per second: a token bucket of that size and rate (LIM-1).
    frames_per_second_max: u64 = "KINGSGUARD_FRAMES_PER_SECOND_MAX",
        Count { unit: "messages", default: 100, within: 100..=1_000_000 };
    /// RATE_LIMITED answers in a row after which a connection is closed with 4429.
    rate_limited_max: u64 = "KINGSGUARD_RATE_LIMITED_MAX", Count { unit: "answers", default: 100, within: 2..=1_000_000 };
    /// Threads of one user on the free plan (LIM-1).
    threads_per_user_max: u64 = "KINGSGUARD_THREADS_PER_USER_MAX",
        Count { unit: "threads", default: 1_000, within: 1..=1_000_000 };
    /// Frames that wait to be read by one connection before it is closed with 4409 (SEQ-7).
    queue_frames_max: u64 = "KINGSGUARD_QUEUE_FRAMES_MAX",
        Count { unit: "frames", default: 4_096, within: 8..=1_000_000 };
    /// Bytes that wait to be read by one connection before it is closed with 4409 (SEQ-7).
    queue_bytes_max: u64 = "KINGSGUARD_QUEUE_BYTES_MAX",
        Count { unit: "bytes", default: 8 * MIB, within: 16_384..=1_024 * MIB };
    /// Logins of one network address per minute (LIM-1); registering and refreshing do not count.
    logins_per_minute_max: u64 = "KINGSGUARD_LOGINS_PER_MINUTE_MAX",
        Count { unit: "logins", default: 300, within: 1..=1_000_000 };
}

impl Config {
    /// The limits as `connection_established` states them (LIM-1).
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            message_bytes_max: self.message_bytes_max,
            content_chars_max: self.content_chars_max,
            connections_per_user_max: self.connections_per_user_max,
            connections_per_address_max: self.connections_per_address_max,
            messages_per_minute_max: self.messages_per_minute_max,
            messages_burst_max: self.messages_burst_max,
            frames_per_second_max: self.frames_per_second_max,
            threads_per_user_max: self.threads_per_user_max,
            queue_frames_max: self.queue_frames_max,
            queue_bytes_max: self.queue_bytes_max,
            logins_per_minute_max: self.logins_per_minute_max,
        }
    }
}
