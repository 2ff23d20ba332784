//! Chaos: what happens to a service on purpose ([`Nemesis`]), what its clients saw meanwhile ([`History`]), and what must hold
//! of it whatever happened ([`check`]).
//!
//! A seed decides everything that is chosen. A run has three parts: a workload while nemeses strike, a healing in which
//! everything is whole again and everybody catches up, and the judgement of the history. The durable log as the service
//! tells it after the healing is the truth, and so is every client's own log; what no client knows the outcome of stays
//! unknown and is blamed on nobody.
//!
//! Checkers are pure: a history goes in, anomalies come out, the smallest first.

pub mod checks;
pub mod history;
pub mod nemesis;

pub use checks::{Anomaly, AnomalyKind, CLAUSES, check};
pub use history::{ClientLog, History, LogLine, Seen, ThreadTruth, What};
pub use nemesis::{Arena, Nemesis, ServiceLinks};
