//! The reference chat backend that the suite judges: it implements the whole contract.
//!
//! It uses `kingsguard-protocol` and no other package of this workspace, not even for its own tests: what needs a
//! running server is a test in `tests/`.
//!
//! Only `config` reads the environment, only `store` writes SQL, only `broker` names Redis keys, only `connection` knows
//! the WebSocket, and `session` (the pure state machine of a connection) imports none of them.
//!
//! Start reading at [`app::App`].

pub mod agents;
pub mod app;
pub mod auth;
pub mod bridge;
pub mod broker;
pub mod config;
pub mod connection;
pub mod drain;
pub mod error;
pub mod health;
pub mod http;
pub mod limiter;
pub mod model;
pub mod program;
pub mod quality;
pub mod redact;
pub mod runs;
pub mod sabotage;
#[cfg(test)]
mod schedules;
pub mod serve;
pub mod session;
pub mod store;
pub mod sync;
pub mod telemetry;
pub mod threads;
pub mod tools;
pub mod usage;

pub use serve::serve;

/// The version of this backend, as handshake and health state it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
