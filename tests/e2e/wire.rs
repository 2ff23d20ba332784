//! Tests that need nothing but a target's address.

mod any_backend;
mod byzantine;
mod content;
mod doors;
mod events;
mod golden_path;
mod isolation;
mod recovery;
mod routing;
mod sequence;
mod sessions;
mod stopping;
mod sufficiency;
mod timing;
mod turns;
