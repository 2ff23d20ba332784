//! Tests that need nothing but a target's address.

mod burst;
mod churn;
mod crowd;
mod import;
