//! What agents can do: tools over the user's usage records, and the one way to run them.
//!
//! [`ToolDispatcher`] is that way. A tool's `run` asks for a [`DispatchToken`], which only the dispatcher can make, so an
//! agent or a tool that goes around it does not compile:
//!
//! ```compile_fail,E0451
//! use kingsguard_server::tools::DispatchToken;
//!
//! let token = DispatchToken { _made_by_the_dispatcher: () };
//! ```
//!
//! ```compile_fail,E0061
//! use kingsguard_server::tools::{Tool, ToolCall};
//!
//! async fn around_the_dispatcher(tool: &dyn Tool, call: ToolCall) {
//!     tool.run(call).await;
//! }
//! ```
//!
//! It does not write SQL (the store does) and does not decide which tool a question needs (agents do).

mod actions;
mod catalogue;
mod check;
mod dataset;
mod dispatcher;
mod figures;
mod forecast;
mod latency;
mod listing;
mod patterns;
mod period;
mod pricing;
mod report;
mod savings;
mod source;
mod spend;
mod watch;

pub use catalogue::builtin;
pub use check::{Need, judge};
pub use dataset::{Dataset, Period, Sufficiency, UsageRow};
pub(crate) use dispatcher::since;
pub use dispatcher::{
    DispatchToken, Halt, RunScope, Tool, ToolCall, ToolDispatcher, ToolError, ToolFailure, ToolInputs, ToolRequest,
};
pub use figures::{Object, dollars, mean, percentile, share_basis_points};
pub use listing::{listed, row_in_words};
pub use pricing::{CatalogueError, PLANNER_MODEL, Price, PriceCatalogue};
pub use source::{InMemoryUsage, RunData, SourceError, UsageSource, UsageTotals};
