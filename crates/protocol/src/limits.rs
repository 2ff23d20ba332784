//! The limits that a backend states and holds (contract LIM-1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits of a connection and its user, as `connection_established` states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes of one message, whole or as the sum of its fragments; more closes with 1009.
    pub message_bytes_max: u64,
    /// Unicode code points of `content`; more is a `VALIDATION_ERROR`.
    pub content_chars_max: u64,
    /// Connections of one user at a time; more are refused with `CONNECTION_LIMIT`.
    pub connections_per_user_max: u64,
    /// Connections of one network address at a time.
    pub connections_per_address_max: u64,
    /// Run-starting messages of one user per minute, over all of his connections.
    pub messages_per_minute_max: u64,
    /// Run-starting messages that one user may send at once.
    pub messages_burst_max: u64,
    /// All other messages of one user per second: a token bucket of that size and rate.
    pub frames_per_second_max: u64,
    /// Threads of one user, by plan.
    pub threads_per_user_max: u64,
    /// Frames waiting to be read by one connection; past it the connection is closed with 4409.
    pub queue_frames_max: u64,
    /// Bytes waiting to be read by one connection; past it the connection is closed with 4409.
    pub queue_bytes_max: u64,
    /// Logins of one network address per minute.
    pub logins_per_minute_max: u64,
}
