//! Words the answer from what the tools found.

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::event::FinalReport;
use serde_json::{Value, json};

use super::case::Case;
use super::desk::{Desk, WorkError};
use super::job::Outcome;
use super::telling::Telling;
use crate::redact;
use crate::tools::{Sufficiency, dollars};

/// Parts in which an answer is said at most.
const PARTS_MAX: usize = 3;

/// Writes the report, says the answer in parts and the report, and gives the outcome.
///
/// # Errors
/// The run cannot go on, or there is nothing to answer with.
pub(super) async fn compose(desk: &Desk<'_>, case: &mut Case) -> Result<Outcome, WorkError> {
    if !case.findings.contains_key("write_report") {
        let purpose = format!("Writes down what was found for {}", case.quote());
        let has_report = desk
            .use_tool(
                case,
                "write_report",
                case.parameters(),
                purpose,
                "answer without a report",
            )
            .await?;
        if !has_report {
            return Err(nothing_found(case));
        }
    }
    let paragraphs = paragraphs(case);
    let lists_records = case.findings.contains_key("list_records");
    // A listing says what it is about, then each record, then the rest.
    let per_part = if lists_records {
        1
    } else {
        paragraphs.len().div_ceil(PARTS_MAX).max(1)
    };
    let (first, rest) = paragraphs.split_at(per_part.min(paragraphs.len()));
    let mut telling = Telling::new(desk);
    let mut part = first.join("\n\n");
    if lists_records {
        telling.say(part + "\n\n").await?;
        telling.say_records(case).await?;
        part = format!("\n{}", rest.join("\n\n"));
    } else {
        for next in rest.chunks(per_part) {
            telling.say(part + "\n\n").await?;
            part = next.join("\n\n");
        }
    }
    let final_response = telling.finish(part).await?;
    desk.word_summary(case, &paragraphs.join("\n\n")).await?;
    let sections = case
        .findings
        .get("write_report")
        .and_then(|report| report.get("sections"))
        .cloned();
    let title = format!("Answer to {}", case.quote());
    let report = redact::value(&json!({"title": title, "sections": sections}));
    desk.say(FinalReport { report }.into()).await?;
    case.usage.output_tokens += desk.model.planner_tokens(&final_response);
    Ok(Outcome {
        summary: redact::text(&case.worded_summary.clone().unwrap_or_else(|| summary(case))).into_owned(),
        result: case.result(),
        final_response,
        usage: case.usage,
    })
}

/// Why there is no answer: the newest failure of a tool, if there was one.
fn nothing_found(case: &Case) -> WorkError {
    match case.tool_failure.clone() {
        Some((code, message)) if code == ErrorCode::DatabaseUnavailable => WorkError::failed(code, message),
        Some(_) => WorkError::failed(
            ErrorCode::ToolFailed,
            format!("{} Ask again, or ask for something else.", case.troubles.join(" ")),
        ),
        None => WorkError::failed(
            ErrorCode::AgentFailed,
            "The agents found nothing to answer with; ask again.",
        ),
    }
}

/// The answer's paragraphs: what it answers and from what, what went wrong, then the report's sections.
fn paragraphs(case: &Case) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let scope = match (case.sufficiency, case.figure("check_data", "records")) {
        (Sufficiency::Insufficient, _) => {
            format!(
                "There are no usage records of yours for {} to answer {} from.",
                case.period_in_words(),
                case.quote()
            )
        }
        (_, Some(records)) => {
            format!(
                "On {}, from {records} usage records of {}:",
                case.quote(),
                case.period_in_words()
            )
        }
        (_, None) => format!("On {}, for {}:", case.quote(), case.period_in_words()),
    };
    paragraphs.push(scope);
    if !case.troubles.is_empty() {
        paragraphs.push(format!("Mind that not all worked: {}", case.troubles.join(" ")));
    }
    let sections = case
        .findings
        .get("write_report")
        .and_then(|report| report.get("sections"));
    for section in sections.and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| section.get(name).and_then(Value::as_str).unwrap_or_default();
        paragraphs.push(format!("{}: {}", text("heading"), text("text")));
    }
    paragraphs
        .into_iter()
        .map(|paragraph| redact::text(&paragraph).into_owned())
        .collect()
}

/// The answer in a sentence.
fn summary(case: &Case) -> String {
    if case.sufficiency == Sufficiency::Insufficient {
        return "There are no usage records yet; bring some and ask again.".to_owned();
    }
    let saving = case.figure("saving_estimate", "total_saving_microusd");
    let spend = case.figure("spend_by_model", "total_cost_microusd");
    let forecast = case.figure("spend_forecast", "forecast_cost_microusd");
    let p95 = case.figure("latency_percentiles", "p95_ms");
    let added = case.figure("watch_usage", "new_records");
    match (saving, spend, forecast, p95, added) {
        (Some(saving), Some(spend), ..) => format!("Up to {} of {} can be saved.", dollars(saving), dollars(spend)),
        (_, _, Some(forecast), ..) => format!("The days ahead cost about {}.", dollars(forecast)),
        (_, _, _, Some(p95), _) => format!("95 % of calls took at most {p95} ms."),
        (_, Some(spend), ..) => format!("{} was spent in {}.", dollars(spend), case.period_in_words()),
        (.., Some(added)) => format!("{added} records were added while watching."),
        _ => format!("Answered {} from your usage records.", case.quote()),
    }
}
