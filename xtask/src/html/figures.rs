//! What was measured: distributions drawn, single figures in a table, beside the yardstick and the baseline.

use kingsguard_report::{Change, Distribution, Figure, Summary};
use maud::{Markup, html};

use super::charts::{histogram, name};
use super::text::number;

/// Percentiles beneath a histogram.
const SHOWN: [f64; 6] = [50.0, 90.0, 95.0, 99.0, 99.9, 100.0];

pub fn section(summary: &Summary) -> Markup {
    if summary.figures.is_empty() {
        return html! {};
    }
    let drawn = summary
        .figures
        .iter()
        .filter_map(|figure| Some((figure, figure.distribution.as_ref()?)));
    let single: Vec<&Figure> = summary
        .figures
        .iter()
        .filter(|one| one.distribution.is_none())
        .collect();
    let earlier = |figure: &Figure| {
        let changes = summary.comparison.iter().flat_map(|comparison| &comparison.figures);
        changes.into_iter().find(|change| change.name == figure.id)
    };
    html! {
        section {
            h2 { "Figures" }
            div.plots { @for (figure, distribution) in drawn { (plot(figure, distribution)) } }
            @if !single.is_empty() {
                div.scroll {
                    table {
                        thead {
                            tr {
                                th { "figure" } th.n { "value" } th { "unit" } th.n { "yardstick" } th.n { "of it" }
                                @if summary.comparison.is_some() { th.n { "baseline" } th.n { "change" } }
                            }
                        }
                        tbody { @for figure in single { (row(figure, summary.comparison.is_some(), earlier(figure))) } }
                    }
                }
            }
        }
    }
}

fn row(figure: &Figure, compared: bool, earlier: Option<&Change>) -> Markup {
    html! {
        tr {
            th scope="row" { (figure.id) }
            td.n { b { (number(figure.value)) } }
            td.dim { (figure.unit) }
            td.n { @if let Some(yardstick) = figure.yardstick { (number(yardstick)) } }
            td.n { @if let Some(ratio) = figure.ratio { (format!("{ratio:.2}×")) } }
            @if compared {
                td.n { @if let Some(change) = earlier { (number(change.before)) } }
                td.n { @if let Some(change) = earlier { (ratio(change)) } }
            }
        }
    }
}

/// How a value changed, as a factor.
pub fn ratio(change: &Change) -> Markup {
    html! { @if let Some(ratio) = change.ratio { (format!("{ratio:.2}×")) } @else { "–" } }
}

fn plot(figure: &Figure, distribution: &Distribution) -> Markup {
    let shown = distribution
        .percentiles
        .iter()
        .filter(|one| SHOWN.contains(&one.percentile));
    html! {
        figure {
            figcaption { b { (figure.id) } span.dim { " · " (distribution.count) " values, counts logarithmic" } }
            (histogram(distribution, &figure.unit))
            dl.percentiles {
                @for one in shown { div { dt { (name(one.percentile)) } dd { (number(one.value)) small { " " (figure.unit) } } } }
            }
        }
    }
}
