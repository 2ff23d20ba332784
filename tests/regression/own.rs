//! Tests that bring their own backend.

mod orphan_behind_a_queue;
mod planted;
mod stop_of_a_lost_run;
