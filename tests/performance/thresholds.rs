//! Every absolute bound of this category, with its clause.

use std::time::Duration;

/// Sockets over which the events go (TIM-3's benchmark).
pub const SOCKETS: usize = 50;

/// TIM-3: the rate at which the latency bound holds.
pub const EVENTS_PER_SECOND: f64 = 1_000.0;

/// TIM-3: from the durable append to the arrival at the client, 99 of 100.
pub const EVENT_LATENCY_P99: Duration = Duration::from_millis(50);

/// TIM-1: from sending a message to `message_received`.
pub const ACCEPTED_WITHIN: Duration = Duration::from_millis(500);

/// HSK-1: from the upgrade to `handshake_response`.
pub const GREETED_WITHIN: Duration = Duration::from_secs(1);

/// Beyond this the generator itself was late, and the run says nothing about the target.
pub const GENERATOR_LATENESS_P99: Duration = Duration::from_millis(20);

/// Throughput of durable events, of the yardstick's in the same run. The goal is a half, and the figure tells; with less
/// than this the way of events is broken, however busy the machine is with other things.
pub const DURABLE_SHARE_OF_YARDSTICK: f64 = 0.4;

/// A rate at which the latency of events is measured, from the moment at which each was to be appended to its being parsed.
/// The contract bounds it at 1,000/s only ([`EVENT_LATENCY_P99`]); the goals are told where they are missed.
#[derive(Clone, Copy, Debug)]
pub struct LatencyGoal {
    pub per_second: u64,
    pub p99_goal: Duration,
    /// What its figures' names end with.
    pub suffix: &'static str,
}

impl LatencyGoal {
    pub const AT_1_000: Self = Self {
        per_second: 1_000,
        p99_goal: Duration::from_millis(5),
        suffix: "",
    };
    pub const AT_20_000: Self = Self {
        per_second: 20_000,
        p99_goal: Duration::from_millis(15),
        suffix: ".20000",
    };
}

/// Resident memory of an idle connection, with its user and his threads, in KiB.
pub const IDLE_CONNECTION_KB: f64 = 20.0;

/// Resident memory that a connection may leave behind, in bytes: what is measured is whole pages of an allocator.
pub const LEFT_BEHIND_BYTES: u64 = 2_048;
