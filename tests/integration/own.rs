//! Tests that need a backend of their own: settings, signals, restarts.

mod credentials;
mod drain;
mod handshake;
mod heartbeat;
mod limits;
mod snapshots;
