//! What a suite run found, as data: written by the test kit (one record per test) and by the runner
//! (one summary per suite run), read by whoever decides about a deployment.
//!
//! The crate holds types only. It uses no other package of ours and does no I/O, so that a tool outside
//! this repository can depend on it to read a report.
//!
//! Start reading at [`summary::Summary`], the shape of `target/reports/latest/summary.json`.

pub mod clause;
pub mod comparison;
pub mod figure;
pub mod gate;
pub mod lacks;
pub mod record;
pub mod recording;
pub mod row;
pub mod shape;
pub mod summary;

pub use comparison::{Change, Comparison};
pub use figure::{Bucket, Distribution, Figure, Percentile};
pub use record::{NotJudged, RecordedViolation, TestOutcome, TestRecord};
pub use summary::{
    CategorySummary, ClauseSummary, ClauseVerdict, Failure, FlakyTest, Level, Machine, Outcome, SlowTest, Summary,
    TestSummary, Verdict, Violation,
};
