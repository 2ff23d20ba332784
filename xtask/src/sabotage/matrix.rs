//! What came of sabotages: `sabotage.json`, whose schema is published as `docs/schema/sabotage.json`.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const FILE: &str = "sabotage.json";

/// The whole file.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Matrix {
    /// Commit of the suite that was sabotaged.
    pub revision: String,
    pub started: DateTime<Utc>,
    pub duration_ms: u64,
    pub sabotages: Vec<Row>,
}

/// What came of one sabotage.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    pub id: String,
    pub clause: String,
    /// What was done to the backend.
    pub sentence: String,
    /// A test failed.
    pub caught: bool,
    /// One of those that failed is about the clause, or its judgement names it.
    pub named: bool,
    /// How often the backend was really made wrong; at least once where the fault is planted in the server.
    pub happened: u64,
    /// The tests that failed.
    pub by: Vec<String>,
}

impl Row {
    pub fn is_proof(&self) -> bool {
        self.caught && self.named && self.happened > 0
    }

    pub fn verdict(&self) -> &'static str {
        match (self.happened, self.caught, self.named) {
            (0, _, _) => "never happened",
            (_, false, _) => "SURVIVED",
            (_, true, false) => "caught by another clause",
            (_, true, true) => "caught",
        }
    }
}

impl Matrix {
    /// The matrix in a folder of reports; none where no sabotage was run.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let matrix = serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        Ok(Some(matrix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn only_what_happened_and_was_caught_by_its_clause_is_proof() {
        let row = |happened, caught, named| Row {
            id: String::new(),
            clause: String::new(),
            sentence: String::new(),
            caught,
            named,
            happened,
            by: Vec::new(),
        };
        assert!(row(1, true, true).is_proof());
        for (row, verdict) in [
            (row(0, true, true), "never happened"),
            (row(1, false, false), "SURVIVED"),
            (row(1, true, false), "caught by another clause"),
        ] {
            assert_eq!((row.is_proof(), row.verdict()), (false, verdict));
        }
    }
}
