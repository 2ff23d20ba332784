//! Tests that need nothing but a target's address.

mod answers;
mod batch;
mod credentials;
mod frames;
mod handshake;
mod hostile;
mod hostile_ids;
mod http;
mod idempotence;
mod limits;
mod outside_client;
mod refusals;
mod relays;
mod threads;
mod upgrade;
mod usage_records;
