//! The tools that the backend has.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::dataset::{Period, UsageRow};
use super::dispatcher::{DispatchToken, Tool, ToolCall, ToolError, ToolInputs};
use super::figures::Object;
use super::{actions, check, forecast, latency, listing, patterns, period, report, savings, spend, watch};

/// Records up to this many are computed over in place; more go to a thread of their own, so that one user's large data
/// does not hold up the events of others.
const ROWS_IN_PLACE_MAX: usize = 5_000;

/// What a computing tool computes: from the records inside of the period that it was given, and its inputs.
type Compute = fn(&[UsageRow], &ToolInputs) -> Result<Object, ToolError>;

/// A tool that computes from the user's records and does nothing else.
#[derive(Clone, Copy)]
struct Computed {
    name: &'static str,
    description: &'static str,
    compute: Compute,
}

impl fmt::Debug for Computed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Computed").field(&self.name).finish()
    }
}

impl Tool for Computed {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn run(&self, _token: DispatchToken, call: ToolCall) -> BoxFuture<'_, Result<Object, ToolError>> {
        Box::pin(async move {
            let snapshot = call.data.snapshot().await?;
            let period = Period::from_json(call.inputs.parameters.get("period"));
            let compute = self.compute;
            if snapshot.within(period).len() <= ROWS_IN_PLACE_MAX {
                return compute(snapshot.within(period), &call.inputs);
            }
            let inputs = call.inputs;
            let snapshot = Arc::clone(&snapshot);
            match tokio::task::spawn_blocking(move || compute(snapshot.within(period), &inputs)).await {
                Ok(found) => found,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => Err(ToolError::failed(
                    "The backend is about to stop; ask again in a moment.",
                )),
            }
        })
    }
}

const COMPUTED: &[Computed] = &[
    Computed {
        name: "parse_period",
        description: "Reads the days that a request names",
        compute: period::parse_period,
    },
    Computed {
        name: "check_data",
        description: "Says whether the records are enough for a question, and what is missing",
        compute: check::check_data,
    },
    Computed {
        name: "validate_data",
        description: "Looks for records that make no sense",
        compute: check::validate_data,
    },
    Computed {
        name: "import_guide",
        description: "Says how to bring usage records",
        compute: check::import_guide,
    },
    Computed {
        name: "spend_by_model",
        description: "Adds up cost, calls and text lengths by model",
        compute: spend::spend_by_model,
    },
    Computed {
        name: "spend_by_feature",
        description: "Adds up cost, calls and text lengths by feature",
        compute: spend::spend_by_feature,
    },
    Computed {
        name: "spend_trend",
        description: "Adds up cost by day and compares the newest week with the one before",
        compute: spend::spend_trend,
    },
    Computed {
        name: "usage_statistics",
        description: "Counts calls, models and features, and describes text lengths",
        compute: spend::usage_statistics,
    },
    Computed {
        name: "spend_forecast",
        description: "Carries the newest days' spend forward",
        compute: forecast::spend_forecast,
    },
    Computed {
        name: "usage_anomalies",
        description: "Finds days that cost far more than usual",
        compute: forecast::usage_anomalies,
    },
    Computed {
        name: "latency_percentiles",
        description: "Percentiles of latency, overall and by model",
        compute: latency::latency_percentiles,
    },
    Computed {
        name: "slowest_features",
        description: "Orders features by their slow calls",
        compute: latency::slowest_features,
    },
    Computed {
        name: "error_rate",
        description: "Share of failed calls and what they cost, overall and by model",
        compute: patterns::error_rate,
    },
    Computed {
        name: "duplicate_prompts",
        description: "Finds prompts that were sent again and what the repeats cost",
        compute: patterns::duplicate_prompts,
    },
    Computed {
        name: "cheaper_models",
        description: "For each model in use, the cheapest one of the price catalogue that is fast enough",
        compute: savings::cheaper_models,
    },
    Computed {
        name: "saving_estimate",
        description: "What cheaper models and answering repeats from a cache would save",
        compute: savings::saving_estimate,
    },
    Computed {
        name: "price_list",
        description: "Catalogue prices of the models in use",
        compute: savings::price_list,
    },
    Computed {
        name: "list_records",
        description: "Counts the records that are listed one by one",
        compute: listing::list_records,
    },
    Computed {
        name: "action_plan",
        description: "Orders what to do by what it saves",
        compute: actions::action_plan,
    },
    Computed {
        name: "write_report",
        description: "Writes down what the tools found",
        compute: report::write_report,
    },
];

/// Every tool of the backend.
#[must_use]
pub fn builtin() -> Vec<Box<dyn Tool>> {
    let computed = COMPUTED.iter().map(|tool| Box::new(*tool) as Box<dyn Tool>);
    computed.chain([Box::new(watch::WatchUsage) as Box<dyn Tool>]).collect()
}
