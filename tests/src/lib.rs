//! What the tests of several categories say alike. Nothing here talks to a backend but through the kit.

pub mod counters;
pub mod oracle;
pub mod sse;
pub mod threads;
