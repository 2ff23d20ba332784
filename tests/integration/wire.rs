//! Tests that need nothing but a target's address.

mod credentials;
mod frames;
mod upgrade;
