//! This run beside an earlier one.

use kingsguard_report::{Change, Summary};
use maud::{Markup, html};

use super::charts::bar;
use super::figures::ratio;
use super::text::{duration, test_label};

pub fn section(summary: &Summary) -> Markup {
    let Some(comparison) = &summary.comparison else {
        return html! {};
    };
    let changes: Vec<&Change> = std::iter::once(&comparison.duration)
        .chain(&comparison.categories)
        .chain(&comparison.tests)
        .collect();
    let largest = changes.iter().map(|one| one.before.max(one.now)).fold(0.0, f64::max);
    html! {
        section {
            h2 { "Beside a baseline" }
            p.dim {
                "Compared with " (comparison.suite_run) " of " (comparison.started.format("%Y-%m-%d %H:%M")) ", revision "
                (comparison.revision.get(..12).unwrap_or(&comparison.revision))
                @if !comparison.same_machine { ", on another machine" }
                ". The upper bar is the baseline; tests are those whose time changed most."
            }
            div.bars.compared {
                @for change in changes {
                    div {
                        span.label { (test_label(&change.name)) }
                        span.pair { (bar(change.before, largest, "before")) (bar(change.now, largest, "now")) }
                        span.n { (ms(change.before)) " → " (ms(change.now)) }
                        span.n.(class(change)) { (ratio(change)) }
                    }
                }
            }
        }
    }
}

fn ms(value: f64) -> String {
    duration(value.max(0.0).round() as u64)
}

/// What a reader should look at.
fn class(change: &Change) -> &'static str {
    match change.ratio {
        Some(ratio) if ratio >= 1.5 => "warned",
        Some(ratio) if ratio <= 0.67 => "passed",
        Some(_) | None => "dim",
    }
}
