//! What earlier suite runs found: `target/reports/history.sqlite`, of this machine alone. Runs, their figures and tests;
//! bounded, for it is written on every run. No verdict depends on it.

mod command;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kingsguard_report::{Outcome, Summary, Verdict};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::Serialize;

pub use command::run;

pub const FILE: &str = "history.sqlite";

/// Runs that are kept: half a year of three a day. A thousand tests of each take about 15 MB.
const RUNS_MAX: u32 = 500;

/// How long a run waits for another process that writes.
const BUSY_MAX: Duration = Duration::from_secs(10);

/// The shape of the file. An older one is brought up to it; one that is none of ours is begun anew, which costs estimates and
/// nothing else.
const SCHEMA_VERSION: u32 = 2;

/// Runs in which the last time of a test is looked for.
const TIMES_OF_RUNS: u32 = 50;

const SCHEMA: &str = "
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, suite_run TEXT NOT NULL UNIQUE, started TEXT NOT NULL, selection TEXT NOT NULL,
    target TEXT NOT NULL, revision TEXT NOT NULL, seed INTEGER NOT NULL, verdict TEXT NOT NULL, exit_code INTEGER NOT NULL,
    reason TEXT, passed INTEGER NOT NULL, failed INTEGER NOT NULL, duration_ms INTEGER NOT NULL
);
CREATE TABLE names (id INTEGER PRIMARY KEY, test TEXT NOT NULL UNIQUE);
CREATE TABLE tests (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, test INTEGER NOT NULL REFERENCES names,
    passed INTEGER NOT NULL, failed INTEGER NOT NULL, invalid INTEGER NOT NULL, duration_ms INTEGER NOT NULL,
    PRIMARY KEY (run, test)
) WITHOUT ROWID;
CREATE TABLE figures (
    run INTEGER NOT NULL REFERENCES runs ON DELETE CASCADE, id TEXT NOT NULL, value REAL NOT NULL, unit TEXT NOT NULL
);
CREATE INDEX figures_of_run ON figures (run);
";

/// The file, open.
#[derive(Debug)]
pub struct History(Connection);

/// One earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    pub suite_run: String,
    pub started: String,
    pub selection: String,
    pub target: String,
    pub revision: String,
    pub seed: i64,
    pub verdict: String,
    pub exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub passed: u32,
    pub failed: u32,
    pub duration_ms: u64,
}

/// One test in one earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestRun {
    pub test: String,
    pub suite_run: String,
    pub started: String,
    pub revision: String,
    pub passed: u32,
    pub failed: u32,
    pub invalid: u32,
    pub duration_ms: u64,
}

impl History {
    pub fn open(reports: &Path) -> Result<Self> {
        std::fs::create_dir_all(reports).with_context(|| format!("making {}", reports.display()))?;
        let path = reports.join(FILE);
        let open = || Connection::open(&path).with_context(|| format!("opening {}", path.display()));
        let mut connection = open()?;
        let version = connection.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0));
        if !matches!(version, Ok(0..=SCHEMA_VERSION)) {
            drop(connection);
            std::fs::remove_file(&path).with_context(|| format!("removing {}, of another shape", path.display()))?;
            connection = open()?;
        }
        connection
            .busy_timeout(BUSY_MAX)
            .context("setting the patience of history")?;
        Self::prepared(connection).with_context(|| format!("preparing {}", path.display()))
    }

    /// The same; where the file cannot be had, an empty history that ends with this process: no verdict waits for it.
    pub fn open_or_empty(reports: &Path) -> Result<Self> {
        Self::open(reports).or_else(|error| {
            eprintln!("remark: there is no history: {error:#}");
            Self::prepared(Connection::open_in_memory()?).context("making a history in memory")
        })
    }

    fn prepared(mut connection: Connection) -> Result<Self> {
        connection.pragma_update(None, "foreign_keys", true)?;
        // Exclusive from here on, so that two processes do not both make the tables.
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => transaction.execute_batch(SCHEMA)?,
            1 => transaction.execute_batch("DROP TABLE categories")?,
            _ => {}
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()?;
        Ok(Self(connection))
    }

    /// Adds a run and drops what is too old.
    pub fn add(&mut self, summary: &Summary) -> Result<()> {
        self.write(summary).context("writing the run to the history")
    }

    fn write(&mut self, summary: &Summary) -> rusqlite::Result<()> {
        let transaction = self.0.transaction()?;
        for part in &summary.merged_from {
            // Its tests are in the whole, and would count twice.
            transaction.execute("DELETE FROM runs WHERE suite_run = ?1", [part])?;
        }
        let sum =
            |count: fn(&kingsguard_report::CategorySummary) -> u32| summary.categories.iter().map(count).sum::<u32>();
        transaction.execute(
            "INSERT INTO runs (suite_run, started, selection, target, revision, seed, verdict, exit_code, reason, passed,
                 failed, duration_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            params![
                summary.suite_run,
                summary.started.to_rfc3339(),
                selection_of(summary),
                summary.target,
                summary.revision,
                // SQLite's integers are signed.
                summary.seed.cast_signed(),
                summary.verdict.word(),
                summary.exit_code,
                summary.reason,
                sum(|category| category.passed),
                sum(|category| category.failed),
                summary.duration_ms.saturating_sub(summary.build_ms),
            ],
        )?;
        let run = transaction.last_insert_rowid();
        {
            let mut add = transaction.prepare("INSERT INTO figures (run, id, value, unit) VALUES (?1, ?2, ?3, ?4)")?;
            for figure in &summary.figures {
                add.execute(params![run, figure.id, figure.value, figure.unit])?;
            }
            let mut name = transaction.prepare("INSERT OR IGNORE INTO names (test) VALUES (?1)")?;
            let mut add = transaction.prepare(
                "INSERT INTO tests (run, test, passed, failed, invalid, duration_ms)
                 VALUES (?1, (SELECT id FROM names WHERE test = ?2), ?3, ?4, ?5, ?6)",
            )?;
            for test in summary.tests.iter().filter(|test| test.outcome != Outcome::NotRun) {
                name.execute([&test.test])?;
                add.execute(params![
                    run,
                    test.test,
                    test.passed,
                    test.failed,
                    test.invalid,
                    test.duration_ms
                ])?;
            }
        }
        transaction.execute(
            "DELETE FROM runs WHERE id NOT IN (SELECT id FROM runs ORDER BY id DESC LIMIT ?1)",
            [RUNS_MAX],
        )?;
        transaction.execute("DELETE FROM names WHERE id NOT IN (SELECT test FROM tests)", [])?;
        transaction.commit()
    }

    /// What each test took the last time that it ran, among the newest runs.
    pub fn times(&self) -> Result<HashMap<String, Duration>> {
        // With one `max`, SQLite takes the other columns from the row that has it.
        let mut select = self.0.prepare(
            "SELECT names.test, duration_ms, max(run) FROM tests JOIN names ON names.id = tests.test
             WHERE run > (SELECT max(id) FROM runs) - ?1 GROUP BY tests.test",
        )?;
        let times = select.query_map([TIMES_OF_RUNS], |row| {
            Ok((row.get(0)?, Duration::from_millis(row.get(1)?)))
        })?;
        times.collect::<rusqlite::Result<_>>().context("reading earlier times")
    }

    /// The newest passed run of the same selection and target.
    pub fn last_passed(&self, summary: &Summary) -> Result<Option<String>> {
        let name = self.0.query_row(
            "SELECT suite_run FROM runs WHERE verdict = ?1 AND selection = ?2 AND target = ?3 AND suite_run <> ?4
             ORDER BY id DESC LIMIT 1",
            params![
                Verdict::Passed.word(),
                selection_of(summary),
                summary.target,
                summary.suite_run
            ],
            |row| row.get(0),
        );
        name.optional().context("looking for an earlier run that passed")
    }

    /// The newest runs, newest first.
    pub fn runs(&self, limit: u32) -> Result<Vec<Run>> {
        let mut select = self.0.prepare(
            "SELECT suite_run, started, selection, target, revision, seed, verdict, exit_code, reason, passed, failed,
                 duration_ms
             FROM runs ORDER BY id DESC LIMIT ?1",
        )?;
        let runs = select.query_map([limit], |row| {
            Ok(Run {
                suite_run: row.get(0)?,
                started: row.get(1)?,
                selection: row.get(2)?,
                target: row.get(3)?,
                revision: row.get(4)?,
                seed: row.get(5)?,
                verdict: row.get(6)?,
                exit_code: row.get(7)?,
                reason: row.get(8)?,
                passed: row.get(9)?,
                failed: row.get(10)?,
                duration_ms: row.get(11)?,
            })
        })?;
        runs.collect::<rusqlite::Result<_>>().context("reading earlier runs")
    }

    /// What the newest runs say of every test whose name contains this text, newest run first.
    pub fn tests(&self, containing: &str, limit: u32) -> Result<Vec<TestRun>> {
        let mut select = self.0.prepare(
            "SELECT names.test, suite_run, started, revision, tests.passed, tests.failed, invalid, tests.duration_ms
             FROM (SELECT * FROM runs ORDER BY id DESC LIMIT ?2) AS runs
             JOIN tests ON tests.run = runs.id JOIN names ON names.id = tests.test
             WHERE instr(names.test, ?1) > 0 ORDER BY names.test, runs.id DESC",
        )?;
        let found = select.query_map(params![containing, limit], |row| {
            Ok(TestRun {
                test: row.get(0)?,
                suite_run: row.get(1)?,
                started: row.get(2)?,
                revision: row.get(3)?,
                passed: row.get(4)?,
                failed: row.get(5)?,
                invalid: row.get(6)?,
                duration_ms: row.get(7)?,
            })
        })?;
        found
            .collect::<rusqlite::Result<_>>()
            .context("reading what earlier runs say of tests")
    }
}

/// What was asked, in one text: only runs with the same are compared.
fn selection_of(summary: &Summary) -> String {
    let mut words = summary.selection.clone();
    words.extend(summary.pattern.iter().map(|pattern| format!("--pattern {pattern}")));
    words.extend(summary.shard.iter().map(|shard| format!("--shard {shard}")));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{suite_run, test};
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-7", "RUN-8");

    fn history() -> (tempfile::TempDir, History) {
        let folder = tempfile::tempdir().expect("a folder");
        let history = History::open(folder.path()).expect("it opens");
        (folder, history)
    }

    #[test]
    fn the_newest_time_of_each_test_is_told() {
        let (folder, mut history) = history();
        for (name, duration_ms) in [("first", 400), ("second", 200)] {
            let mut run = suite_run(name, Verdict::Passed);
            run.tests[0].duration_ms = duration_ms;
            history.add(&run).expect("it is written");
        }
        drop(history);
        let history = History::open(folder.path()).expect("it opens again");
        let name = &suite_run("", Verdict::Passed).tests[0].test;
        let times = history.times().expect("it is readable");
        assert_eq!(times.get(name), Some(&Duration::from_millis(200)));
    }

    #[test]
    fn a_history_of_the_shape_before_is_kept() {
        let (folder, mut history) = history();
        history
            .add(&suite_run("first", Verdict::Passed))
            .expect("it is written");
        let before = "CREATE TABLE categories (run INTEGER); PRAGMA user_version = 1";
        history.0.execute_batch(before).expect("it was so");
        drop(history);
        let history = History::open(folder.path()).expect("it opens again");
        assert_eq!(history.runs(9).expect("it is readable").len(), 1);
    }

    #[test]
    fn a_run_is_compared_with_the_last_one_that_passed_of_the_same_selection() {
        let (_folder, mut history) = history();
        for (name, verdict, selection) in [
            ("older", Verdict::Passed, "e2e"),
            ("newer", Verdict::Passed, "e2e"),
            ("other", Verdict::Passed, "unit"),
            ("failed", Verdict::Failed, "e2e"),
        ] {
            let mut run = suite_run(name, verdict);
            run.selection = vec![selection.to_owned()];
            history.add(&run).expect("it is written");
        }
        let mut now = suite_run("now", Verdict::Failed);
        now.selection = vec!["e2e".to_owned()];
        assert_eq!(history.last_passed(&now).expect("readable"), Some("newer".to_owned()));
        now.shard = Some("1/2".to_owned());
        assert_eq!(
            history.last_passed(&now).expect("readable"),
            None,
            "a part is not the whole"
        );
    }

    #[test]
    fn only_the_newest_runs_are_kept_and_their_tests_with_them() {
        let in_memory = Connection::open_in_memory().expect("it opens");
        let mut history = History::prepared(in_memory).expect("it takes the tables");
        for nth in 0..RUNS_MAX + 3 {
            let mut run = suite_run(&format!("run {nth}"), Verdict::Passed);
            run.tests = vec![test("e2e", &format!("wire::only_in_{}", nth.min(1)), Outcome::Passed)];
            history.add(&run).expect("it is written");
        }
        let runs = history.runs(u32::MAX).expect("readable");
        assert_eq!(runs.len(), RUNS_MAX as usize);
        assert_eq!(runs[0].suite_run, format!("run {}", RUNS_MAX + 2));
        assert_eq!(history.tests("only_in_0", u32::MAX).expect("readable"), []);
        let orphans: u32 = history
            .0
            .query_row("SELECT count(*) FROM names WHERE test LIKE '%only_in_0'", [], |row| {
                row.get(0)
            })
            .expect("readable");
        assert_eq!(orphans, 0);
    }

    #[test]
    fn a_merged_run_stands_instead_of_its_shards() {
        let (_folder, mut history) = history();
        for name in ["shard 1", "shard 2", "another run"] {
            history.add(&suite_run(name, Verdict::Passed)).expect("it is written");
        }
        let mut merged = suite_run("merged", Verdict::Passed);
        merged.merged_from = vec![
            "shard 1".to_owned(),
            "shard 2".to_owned(),
            "of another machine".to_owned(),
        ];
        history.add(&merged).expect("it is written");
        let runs = history.runs(10).expect("readable");
        let names: Vec<&str> = runs.iter().map(|run| run.suite_run.as_str()).collect();
        assert_eq!(names, ["merged", "another run"]);
        assert_eq!(history.tests("wire::one", 10).expect("readable").len(), 2);
    }

    #[test]
    fn a_file_of_another_shape_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(
            folder.path().join(FILE),
            "this is no database, and longer than a header of one".repeat(10),
        )
        .expect("writable");
        let history = History::open(folder.path()).expect("it opens");
        assert_eq!(history.runs(10).expect("readable"), []);
    }
}
