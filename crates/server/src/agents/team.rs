//! The agents and what each does at its desk.

use futures_util::future::BoxFuture;
use serde_json::json;

use super::case::Case;
use super::desk::{Desk, WorkError};
use super::registry::Agent;
use crate::model::Topic;
use crate::tools::{Need, Object, Period, Sufficiency, dollars};

/// What an agent does with a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    Triage,
    Data,
    Optimization,
    Actions,
    Reporting,
    DataHelper,
    /// Uses all of its tools at once; for those that are asked by name.
    Specialist,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    name: &'static str,
    description: &'static str,
    tool_names: &'static [&'static str],
    duty: Duty,
}

/// Every agent may use `write_report`: it is how one answers.
const MEMBERS: &[Member] = &[
    Member {
        name: "triage",
        description: "Understands the request, the days that it names and whether the records are enough",
        tool_names: &["parse_period", "check_data", "write_report"],
        duty: Duty::Triage,
    },
    Member {
        name: "data",
        description: "Computes what the records say about the request",
        tool_names: &[
            "check_data",
            "parse_period",
            "validate_data",
            "spend_by_model",
            "spend_by_feature",
            "spend_trend",
            "spend_forecast",
            "usage_anomalies",
            "usage_statistics",
            "latency_percentiles",
            "slowest_features",
            "error_rate",
            "duplicate_prompts",
            "price_list",
            "watch_usage",
            "list_records",
            "write_report",
        ],
        duty: Duty::Data,
    },
    Member {
        name: "optimization",
        description: "Looks for what is cheaper and fast enough",
        tool_names: &[
            "cheaper_models",
            "saving_estimate",
            "price_list",
            "check_data",
            "parse_period",
            "write_report",
        ],
        duty: Duty::Optimization,
    },
    Member {
        name: "actions",
        description: "Orders what to do by what it saves",
        tool_names: &["action_plan", "check_data", "parse_period", "write_report"],
        duty: Duty::Actions,
    },
    Member {
        name: "reporting",
        description: "Writes the answer from what the others found",
        tool_names: &[
            "usage_statistics",
            "spend_by_model",
            "check_data",
            "parse_period",
            "write_report",
        ],
        duty: Duty::Reporting,
    },
    Member {
        name: "data_helper",
        description: "Says what is missing and how to bring it",
        tool_names: &["check_data", "import_guide", "parse_period", "write_report"],
        duty: Duty::DataHelper,
    },
    Member {
        name: "cost_analyst",
        description: "Looks at spend from all sides",
        tool_names: &[
            "spend_by_model",
            "spend_by_feature",
            "spend_trend",
            "saving_estimate",
            "parse_period",
            "check_data",
            "write_report",
        ],
        duty: Duty::Specialist,
    },
    Member {
        name: "latency_analyst",
        description: "Looks at how long calls take",
        tool_names: &[
            "latency_percentiles",
            "slowest_features",
            "parse_period",
            "check_data",
            "write_report",
        ],
        duty: Duty::Specialist,
    },
    Member {
        name: "quality_analyst",
        description: "Looks at failed calls and records that make no sense",
        tool_names: &[
            "error_rate",
            "validate_data",
            "parse_period",
            "check_data",
            "write_report",
        ],
        duty: Duty::Specialist,
    },
    Member {
        name: "cache_analyst",
        description: "Looks at prompts that are sent again",
        tool_names: &[
            "duplicate_prompts",
            "usage_statistics",
            "parse_period",
            "check_data",
            "write_report",
        ],
        duty: Duty::Specialist,
    },
    Member {
        name: "forecaster",
        description: "Carries spend forward and finds unusual days",
        tool_names: &[
            "spend_trend",
            "spend_forecast",
            "usage_anomalies",
            "parse_period",
            "check_data",
            "write_report",
        ],
        duty: Duty::Specialist,
    },
    Member {
        name: "price_analyst",
        description: "Compares prices of models",
        tool_names: &[
            "price_list",
            "cheaper_models",
            "parse_period",
            "check_data",
            "write_report",
        ],
        duty: Duty::Specialist,
    },
];

/// Every agent but the supervisor.
pub(super) fn builtin() -> Vec<Box<dyn Agent>> {
    MEMBERS
        .iter()
        .map(|member| Box::new(*member) as Box<dyn Agent>)
        .collect()
}

impl Agent for Member {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn tool_names(&self) -> &'static [&'static str] {
        self.tool_names
    }

    fn work<'a>(&'a self, desk: &'a Desk<'a>, case: &'a mut Case) -> BoxFuture<'a, Result<(), WorkError>> {
        Box::pin(async move {
            // Asked by name, an agent has nobody before it who read the days and checked the records.
            if desk.total_steps == 1 && self.duty != Duty::Triage {
                let thought = format!(
                    "{} was asked for {}; first I see which records there are.",
                    self.name,
                    case.quote()
                );
                desk.think(case, thought).await?;
                read_days(desk, case).await?;
                if case.reading.topic != Topic::Watch || self.duty != Duty::Data {
                    check_data(desk, case).await?;
                    if case.sufficiency == Sufficiency::Insufficient && self.duty != Duty::DataHelper {
                        return Ok(());
                    }
                }
            }
            match self.duty {
                Duty::Triage => triage(desk, case).await,
                Duty::Data => data(desk, case).await,
                Duty::Optimization => optimization(desk, case).await,
                Duty::Actions => actions(desk, case).await,
                Duty::Reporting => reporting(desk, case).await,
                Duty::DataHelper => data_helper(desk, case).await,
                Duty::Specialist => specialist(desk, case, self.tool_names).await,
            }
        })
    }
}

async fn triage(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    case.usage.input_tokens += desk.model.planner_tokens(&case.content);
    desk.understand(case).await?;
    read_days(desk, case).await?;
    // Watching begins with whatever there is.
    let is_judged = case.sufficiency != Sufficiency::Unknown && case.reading.topic != Topic::Watch;
    if is_judged || desk.is_last_step() {
        check_data(desk, case).await?;
    }
    Ok(())
}

/// Reads the days that the request names; where they cannot be read, the whole time is taken and the answer says so.
async fn read_days(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    let dates = case.reading.dates.clone();
    if dates.is_empty() {
        return Ok(());
    }
    let named = [
        ("from", json!(dates.from)),
        ("to", json!(dates.to)),
        ("last_days", json!(dates.last_days)),
    ];
    let parameters: Object = named
        .into_iter()
        .filter(|(_, it)| !it.is_null())
        .map(|(k, v)| (k.to_owned(), v))
        .collect();
    let purpose = format!("Reads the days named in {}", case.quote());
    let instead = "look at the whole time instead";
    if desk
        .use_tool(case, "parse_period", parameters, purpose, instead)
        .await?
    {
        let found = case.findings.get("parse_period").and_then(|found| found.get("period"));
        case.period = Period::from_json(found);
    } else {
        case.period = Period::default();
        case.troubles
            .push("So this is about the whole time instead.".to_owned());
    }
    Ok(())
}

async fn check_data(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    let mut parameters = case.parameters();
    let needs: Vec<&str> = case
        .reading
        .topic
        .needs()
        .iter()
        .map(|need: &Need| need.as_str())
        .collect();
    parameters.insert("needs".to_owned(), json!(needs));
    let purpose = format!(
        "Checks whether the records of {} are enough for {}",
        case.period_in_words(),
        case.quote()
    );
    if desk
        .use_tool(case, "check_data", parameters, purpose, "go on with what is there")
        .await?
    {
        let found = case
            .findings
            .get("check_data")
            .and_then(|found| found.get("sufficiency"));
        case.sufficiency = match found.and_then(serde_json::Value::as_str) {
            Some("sufficient") => Sufficiency::Sufficient,
            Some("partial") => Sufficiency::Partial,
            Some("insufficient") => Sufficiency::Insufficient,
            _ => Sufficiency::Unknown,
        };
    }
    Ok(())
}

async fn data(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    let tools = case.reading.topic.data_tools();
    let thought = match case.figure("check_data", "records") {
        Some(records) => format!(
            "For {} I look at {records} records of {} with {}.",
            case.quote(),
            case.period_in_words(),
            tools.join(", ")
        ),
        None => format!(
            "For {} I first see which records there are for {}.",
            case.quote(),
            case.period_in_words()
        ),
    };
    desk.think(case, thought).await?;
    if !case.findings.contains_key("check_data") && case.reading.topic != Topic::Watch {
        check_data(desk, case).await?;
        if case.sufficiency == Sufficiency::Insufficient {
            return Ok(());
        }
    }
    let uses = tools.iter().map(|tool| (*tool, parameters_for(tool, case))).collect();
    let purpose = format!("to answer {}", case.quote());
    Ok(desk.use_tools(case, uses, &purpose).await?)
}

/// The parameters of a tool: the period, and what the request says that concerns this tool.
fn parameters_for(tool_name: &str, case: &Case) -> Object {
    let reading = &case.reading;
    let mut parameters = case.parameters();
    match tool_name {
        "watch_usage" => return Object::from_iter([("seconds".to_owned(), json!(reading.watch_seconds))]),
        "spend_forecast" => {
            parameters.extend(
                reading
                    .horizon_days
                    .map(|days| ("horizon_days".to_owned(), json!(days))),
            );
        }
        "cheaper_models" | "saving_estimate" | "action_plan" => {
            parameters.extend(
                reading
                    .latency_limit_ms
                    .map(|limit| ("latency_limit_ms".to_owned(), json!(limit))),
            );
        }
        _ => {}
    }
    parameters
}

async fn optimization(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    let limit = match case.reading.latency_limit_ms {
        Some(limit) => format!("at most {limit} ms"),
        None => "no slower than what it replaces".to_owned(),
    };
    let thought = match case.figure("spend_by_model", "total_cost_microusd") {
        Some(spent) => format!(
            "Of the {} behind {}, part could go to models that are cheaper and {limit}.",
            dollars(spent),
            case.quote()
        ),
        None => format!(
            "For {} I compare models in use with the catalogue: cheaper and {limit}.",
            case.quote()
        ),
    };
    desk.think(case, thought).await?;
    let uses = ["cheaper_models", "saving_estimate"].map(|tool| (tool, parameters_for(tool, case)));
    let purpose = format!("to answer {}", case.quote());
    Ok(desk.use_tools(case, uses.to_vec(), &purpose).await?)
}

async fn actions(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    let thought = match case.figure("saving_estimate", "total_saving_microusd") {
        Some(saving) => format!(
            "Up to {} can be saved for {}; I order the steps by what each saves.",
            dollars(saving),
            case.quote()
        ),
        None => format!("For {} I order what can be done by what it saves.", case.quote()),
    };
    desk.think(case, thought).await?;
    let parameters = parameters_for("action_plan", case);
    let purpose = format!("Orders what to do about {}", case.quote());
    desk.use_tool(case, "action_plan", parameters, purpose, "answer without a plan")
        .await?;
    Ok(())
}

async fn reporting(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    let found = case.findings.len();
    let thought = format!(
        "{found} tools found something for {}; I write the answer from their figures.",
        case.quote()
    );
    desk.think(case, thought).await?;
    if found == 0 || desk.total_steps == 1 {
        let uses = ["usage_statistics", "spend_by_model"].map(|tool| (tool, case.parameters()));
        desk.use_tools(case, uses.to_vec(), "to have something to report")
            .await?;
    }
    Ok(())
}

async fn data_helper(desk: &Desk<'_>, case: &mut Case) -> Result<(), WorkError> {
    if !case.findings.contains_key("check_data") {
        check_data(desk, case).await?;
    }
    let records = case.figure("check_data", "records").unwrap_or(0);
    let thought = format!(
        "{records} records of {} are {} for {}; I say what to bring.",
        case.period_in_words(),
        if records == 0 { "too few" } else { "not all it takes" },
        case.quote()
    );
    desk.think(case, thought).await?;
    let purpose = format!("Says how to bring the records that {} needs", case.quote());
    desk.use_tool(
        case,
        "import_guide",
        case.parameters(),
        purpose,
        "answer without the guide",
    )
    .await?;
    Ok(())
}

async fn specialist(desk: &Desk<'_>, case: &mut Case, tool_names: &[&'static str]) -> Result<(), WorkError> {
    let own = tool_names
        .iter()
        .filter(|tool| !["parse_period", "check_data", "write_report"].contains(tool));
    let uses: Vec<_> = own.map(|tool| (*tool, parameters_for(tool, case))).collect();
    let thought = format!(
        "For {} I use my {} tools on the records of {}.",
        case.quote(),
        uses.len(),
        case.period_in_words()
    );
    desk.think(case, thought).await?;
    let purpose = format!("to answer {}", case.quote());
    Ok(desk.use_tools(case, uses, &purpose).await?)
}
