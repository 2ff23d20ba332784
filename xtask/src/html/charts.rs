//! Bars and histograms, drawn as plain SVG and boxes.

use kingsguard_report::Distribution;
use maud::{Markup, html};

use super::text::number;

/// A part of a stacked bar.
#[derive(Debug)]
pub struct Share {
    class: &'static str,
    count: u32,
}

impl Share {
    pub fn new(class: &'static str, count: u32) -> Self {
        Self { class, count }
    }
}

pub fn stacked(shares: &[Share]) -> Markup {
    html! {
        span.stacked aria-hidden="true" {
            @for share in shares.iter().filter(|share| share.count > 0) {
                i class=(share.class) style=(format!("flex-grow:{}", share.count)) {}
            }
        }
    }
}

/// A bar whose length is a share of the largest.
pub fn bar(value: f64, largest: f64, class: &str) -> Markup {
    let percent = if largest > 0.0 { value / largest * 100.0 } else { 0.0 };
    html! {
        span.track aria-hidden="true" { i class=(class) style=(format!("width:{:.2}%", percent.clamp(0.5, 100.0))) {} }
    }
}

/// Size of a histogram in its own units; the page scales it.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 150.0;
const AXIS: f64 = 22.0;

/// Percentiles that are marked in a histogram.
const MARKED: [f64; 3] = [50.0, 99.0, 100.0];

/// Bars of equal width, one per bucket (whose bounds grow, so that the axis is logarithmic), with marks at percentiles.
pub fn histogram(distribution: &Distribution, unit: &str) -> Markup {
    let buckets = &distribution.buckets;
    let highest = buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1).max(1) as f64;
    let step = WIDTH / buckets.len().max(1) as f64;
    // A logarithmic count shows the tail, which is what latency is about.
    let height = |count: u64| (count as f64 + 1.0).ln() / (highest + 1.0).ln() * (HEIGHT - 18.0);
    let place = |value: f64| {
        let after = buckets
            .iter()
            .position(|bucket| value <= bucket.to)
            .unwrap_or(buckets.len());
        (after as f64 + 0.5) * step
    };
    let labels: Vec<usize> = [
        0,
        buckets.len() / 3,
        buckets.len() * 2 / 3,
        buckets.len().saturating_sub(1),
    ]
    .to_vec();
    let mut labels: Vec<usize> = labels.into_iter().filter(|place| *place < buckets.len()).collect();
    labels.dedup();
    html! {
        svg.histogram viewBox=(format!("0 0 {WIDTH} {}", HEIGHT + AXIS)) role="img" aria-label="histogram" {
            @for (nth, bucket) in buckets.iter().enumerate() {
                @if bucket.count > 0 {
                    rect x=(fixed(nth as f64 * step + 0.5)) y=(fixed(HEIGHT - height(bucket.count)))
                        width=(fixed((step - 1.0).max(0.5))) height=(fixed(height(bucket.count))) {
                        title { "up to " (number(bucket.to)) " " (unit) ": " (bucket.count) }
                    }
                }
            }
            line.axis x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
            @for mark in distribution.percentiles.iter().filter(|one| MARKED.contains(&one.percentile)) {
                @let x = place(mark.value).min(WIDTH - 1.0);
                line.mark x1=(fixed(x)) x2=(fixed(x)) y1="12" y2=(HEIGHT) {}
                text.mark x=(fixed(x)) y="9" text-anchor=(anchor(x)) { (name(mark.percentile)) }
            }
            @for nth in labels {
                @let x = (nth as f64 + 0.5) * step;
                text x=(fixed(x)) y=(HEIGHT + 15.0) text-anchor=(anchor(x)) { (number(buckets[nth].to)) " " (unit) }
            }
        }
    }
}

/// Labels at the edges stay inside.
fn anchor(x: f64) -> &'static str {
    if x < WIDTH * 0.08 {
        "start"
    } else if x > WIDTH * 0.92 {
        "end"
    } else {
        "middle"
    }
}

fn fixed(value: f64) -> String {
    format!("{value:.2}")
}

/// p99, or what the ends are called.
pub fn name(percentile: f64) -> String {
    match percentile {
        0.0 => "min".to_owned(),
        100.0 => "max".to_owned(),
        other => format!("p{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kingsguard_report::{Bucket, Percentile};
    use pretty_assertions::assert_eq;

    #[test]
    fn a_histogram_has_a_bar_for_each_bucket_that_holds_something() {
        let bucket = |to, count| Bucket { to, count };
        let distribution = Distribution {
            count: 12,
            percentiles: vec![Percentile {
                percentile: 99.0,
                value: 4.0,
            }],
            buckets: vec![bucket(1.0, 10), bucket(2.0, 0), bucket(4.0, 2)],
        };
        let drawn = histogram(&distribution, "ms").into_string();
        assert_eq!(drawn.matches("<rect").count(), 2);
        assert!(drawn.contains(">p99<") && drawn.contains("up to 4.00 ms: 2"), "{drawn}");
    }

    #[test]
    fn an_empty_distribution_is_drawn_without_a_bar() {
        let none = Distribution {
            count: 0,
            percentiles: Vec::new(),
            buckets: Vec::new(),
        };
        assert_eq!(histogram(&none, "ms").into_string().matches("<rect").count(), 0);
    }
}
