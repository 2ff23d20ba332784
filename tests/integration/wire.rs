//! Tests that need nothing but a target's address.

mod answers;
mod batch;
mod credentials;
mod frames;
mod handshake;
mod outside_client;
mod refusals;
mod upgrade;
