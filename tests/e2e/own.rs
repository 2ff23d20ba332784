//! Tests that bring their own settings, faults, nodes or model.

mod crash;
mod deadline;
mod gate;
mod model;
mod nodes;
mod outage;
mod secrets;
