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
