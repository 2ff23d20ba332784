//! Tests that bring their own settings, faults, nodes or model.

mod counters;
mod crash;
mod deadline;
mod expiry;
mod life_cycle;
mod model;
mod nodes;
mod outage;
mod resilience;
mod restart;
mod retention;
mod secrets;
mod tls;
mod usage_periods;
