//! Tests that need nothing but a target's address.

mod content;
mod doors;
mod events;
mod golden_path;
mod isolation;
mod recovery;
mod sequence;
mod stopping;
mod sufficiency;
mod timing;
mod turns;
