//! Tests that need nothing but a target's address.

mod burst;
mod canaries;
mod churn;
mod crowd;
mod import;
mod threads;
