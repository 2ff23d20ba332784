//! How long each category took before: one JSON line per suite run in `target/reports/history.jsonl`.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kingsguard_report::{Outcome, Summary, Verdict};
use serde::{Deserialize, Serialize};

pub const FILE: &str = "history.jsonl";

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    suite_run: String,
    started: String,
    verdict: Verdict,
    duration_ms: u64,
    /// Milliseconds by category.
    categories: BTreeMap<String, u64>,
}

/// Adds a run.
pub fn add(reports: &Path, summary: &Summary) -> Result<()> {
    let ran = summary
        .categories
        .iter()
        .filter(|category| category.outcome() != Outcome::NotRun);
    let line = Line {
        suite_run: summary.suite_run.clone(),
        started: summary.started.to_rfc3339(),
        verdict: summary.verdict,
        duration_ms: summary.duration_ms,
        categories: ran
            .map(|category| (category.name.clone(), category.duration_ms))
            .collect(),
    };
    let path = reports.join(FILE);
    let mut file = OpenOptions::new().create(true).append(true).open(&path);
    let file = file
        .as_mut()
        .map_err(|error| anyhow::anyhow!("opening {}: {error}", path.display()))?;
    writeln!(file, "{}", serde_json::to_string(&line)?).with_context(|| format!("writing {}", path.display()))
}

/// What the categories took the last time that each passed or failed; none when one of them never ran.
pub fn expected(reports: &Path, categories: &[&str]) -> Option<Duration> {
    let text = std::fs::read_to_string(reports.join(FILE)).ok()?;
    // A line of an older shape is no history; it costs an estimate and nothing else.
    let lines: Vec<Line> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let times = categories
        .iter()
        .map(|name| lines.iter().rev().find_map(|line| line.categories.get(*name)));
    times
        .map(|time| time.copied())
        .sum::<Option<u64>>()
        .map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-8");

    #[test]
    fn the_newest_time_of_each_category_is_expected() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |unit, e2e| {
            format!(
                r#"{{"suite_run":"r","started":"s","verdict":"passed","duration_ms":1,"categories":{{"unit":{unit}{e2e}}}}}"#
            )
        };
        let text = format!("{}\nnot json\n{}\n", line(100, ",\"e2e\":5000"), line(200, ""));
        std::fs::write(folder.path().join(FILE), text).expect("writable");
        assert_eq!(
            expected(folder.path(), &["unit", "e2e"]),
            Some(Duration::from_millis(5200))
        );
        assert_eq!(expected(folder.path(), &["unit", "stress"]), None);
    }
}
