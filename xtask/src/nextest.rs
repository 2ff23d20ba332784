//! cargo-nextest as a subprocess: what it lists, what it says while it runs, what it leaves behind.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::category::{Build, Category, SUITES, category_of};
use crate::stack;
use crate::workspace::Workspace;

/// One test, as every source of results names it in its own way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestId {
    /// nextest's id of the binary, such as `kingsguard-tests::e2e`.
    pub binary_id: String,
    /// Path inside the binary.
    pub name: String,
}

impl fmt::Display for TestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.binary_id, self.name)
    }
}

impl TestId {
    /// Needs nothing but an address, so it runs against any target.
    pub fn is_wire(&self) -> bool {
        self.in_suite() && self.name.starts_with("wire::")
    }

    /// Holds a test context, so it leaves a record.
    pub fn leaves_a_record(&self) -> bool {
        self.is_wire() || (self.in_suite() && self.name.starts_with("own::"))
    }

    /// Plants a fault in a server, so it needs the binary that can be broken.
    pub fn plants_a_fault(&self) -> bool {
        self.name.split("::").any(|part| part == "planted")
    }

    fn in_suite(&self) -> bool {
        self.binary_id
            .strip_prefix(SUITES)
            .is_some_and(|rest| rest.starts_with("::"))
    }
}

/// A test that exists, whether or not it is selected.
#[derive(Debug, Clone)]
pub struct Listed {
    pub id: TestId,
    /// As the stream of results names it.
    pub stream_name: String,
    pub category: &'static Category,
    pub selected: bool,
    /// Marked `#[ignore]` in the source.
    pub ignored: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawList {
    rust_suites: BTreeMap<String, RawSuite>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawSuite {
    package_name: String,
    binary_id: String,
    binary_name: String,
    kind: String,
    #[serde(default)]
    testcases: BTreeMap<String, RawCase>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RawCase {
    ignored: bool,
    filter_match: RawMatch,
}

#[derive(Deserialize)]
struct RawMatch {
    status: String,
}

/// Reads `cargo nextest list --message-format json`.
pub fn parse_list(json: &str) -> Result<Vec<Listed>> {
    let raw: RawList = serde_json::from_str(json).context("reading the list of tests that nextest printed")?;
    let mut listed = Vec::new();
    for suite in raw.rust_suites.into_values() {
        let Some(category) = category_of(&suite.package_name, &suite.kind, &suite.binary_name) else {
            bail!("test binary {} belongs to no category", suite.binary_id);
        };
        for (name, case) in suite.testcases {
            listed.push(Listed {
                stream_name: format!("{}::{}${name}", suite.package_name, suite.binary_name),
                id: TestId {
                    binary_id: suite.binary_id.clone(),
                    name,
                },
                category,
                selected: case.filter_match.status == "matches",
                ignored: case.ignored,
            });
        }
    }
    Ok(listed)
}

/// One line of the stream that `--message-format libtest-json-plus` writes.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Started {
        test: String,
    },
    Ended {
        test: String,
        end: End,
        duration: Duration,
        said: String,
    },
    /// Begin and end of a binary, and whatever later versions add.
    Other,
}

/// How a test ended, in nextest's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Passed,
    Failed,
    Ignored,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: String,
    event: String,
    name: Option<String>,
    exec_time: Option<f64>,
    stdout: Option<String>,
    reason: Option<String>,
}

/// Reads one line of the stream; a line that is not of it is an error, for a verdict rests on it.
pub fn parse_event(line: &str) -> Result<Event> {
    let raw: RawEvent = serde_json::from_str(line).with_context(|| format!("reading a line of results: {line}"))?;
    let Some(test) = raw.name.filter(|_| raw.kind == "test") else {
        return Ok(Event::Other);
    };
    // A repeated test carries `#2` behind its name.
    let duration = Duration::try_from_secs_f64(raw.exec_time.unwrap_or(0.0)).unwrap_or_default();
    let end = match raw.event.as_str() {
        "started" => return Ok(Event::Started { test }),
        "ok" => End::Passed,
        "failed" | "timeout" => End::Failed,
        "ignored" => End::Ignored,
        other => bail!("nextest reports `{other}` for {test}, which this runner does not know"),
    };
    let said = match (raw.reason, raw.stdout) {
        (Some(reason), Some(stdout)) => format!("{reason}\n{stdout}"),
        (Some(text), None) | (None, Some(text)) => text,
        (None, None) => String::new(),
    };
    Ok(Event::Ended {
        test,
        end,
        duration,
        said,
    })
}

/// Which packages a build makes, in arguments that cargo and nextest share, so that both see the same features.
pub fn scope(build: Build) -> &'static [&'static str] {
    match build {
        Build::Debug => &["--workspace"],
        Build::Performance => &[
            "-p",
            "kingsguard-server",
            "-p",
            "kingsguard-testkit",
            "-p",
            SUITES,
            "--test",
            "performance",
        ],
    }
}

/// The build that a run of nextest then finds up to date: test binaries and the binaries that tests start.
pub fn build_command(workspace: &Workspace, build: Build) -> Command {
    let mut command = workspace.cargo();
    command.arg("build").args(scope(build));
    match build {
        Build::Debug => command.args(["--bins", "--tests"]),
        Build::Performance => {
            command.args(["--profile", build.cargo_profile()]);
            command.args(["--bin", "kingsguard-server", "--bin", stack::BINARY])
        }
    };
    command
}

/// The build of the server in which faults can be planted. It touches no other binary.
pub fn sabotaged_build_command(workspace: &Workspace) -> Command {
    let mut command = workspace.cargo();
    // The whole workspace is named so that what it depends on is built as for everything else, and only once.
    command.args(["build", "--workspace", "--features", "kingsguard-server/sabotage"]);
    command.args(["--bin", "kingsguard-server-sabotaged"]);
    command
}

/// What decides which tests an invocation selects.
#[derive(Debug, Clone)]
pub struct Choice<'a> {
    pub build: Build,
    pub profile: &'a str,
    pub filterset: String,
    pub partition: Option<String>,
}

impl Choice<'_> {
    fn add_to(&self, command: &mut Command) {
        command
            .args(scope(self.build))
            .args(["--cargo-profile", self.build.cargo_profile()])
            .args(["--profile", self.profile])
            .args(["-E", &self.filterset]);
        // The table decides, not the profile's own filter, which is for those who call nextest without this runner.
        command.arg("--ignore-default-filter");
        if let Some(partition) = &self.partition {
            command.args(["--partition", partition]);
        }
    }

    pub fn list_command(&self, workspace: &Workspace) -> Command {
        let mut command = workspace.cargo();
        command.args(["nextest", "list", "--message-format", "json", "--cargo-quiet"]);
        self.add_to(&mut command);
        command
    }

    pub fn run_command(&self, workspace: &Workspace, fail_fast: bool, jobs: Option<u32>) -> Command {
        let mut command = workspace.cargo();
        command.args([
            "nextest",
            "run",
            "--message-format",
            "libtest-json-plus",
            "--message-format-version",
            "0.1",
        ]);
        command.args([
            "--cargo-quiet",
            "--show-progress",
            "none",
            "--status-level",
            "fail",
            "--no-input-handler",
        ]);
        command.args([
            "--final-status-level",
            "none",
            "--failure-output",
            "immediate",
            "--success-output",
            "never",
        ]);
        // Nothing selected is judged by this runner, which knows the list; nextest must not turn it into an error of its own.
        command.args(["--no-tests", "pass"]);
        command.arg(if fail_fast { "--fail-fast" } else { "--no-fail-fast" });
        if let Some(jobs) = jobs {
            command.args(["--test-threads", &jobs.to_string()]);
        }
        self.add_to(&mut command);
        command.env("NEXTEST_EXPERIMENTAL_LIBTEST_JSON", "1");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-9");

    #[test]
    fn a_list_names_each_test_its_category_and_whether_it_is_selected() {
        let json = r#"{"test-count":2,"rust-suites":{"kingsguard-tests::e2e":{"package-name":"kingsguard-tests",
            "binary-id":"kingsguard-tests::e2e","binary-name":"e2e","kind":"test","status":"listed","testcases":{
            "wire::chat::a":{"kind":"test","ignored":false,"filter-match":{"status":"matches"}},
            "own::chat::b":{"kind":"test","ignored":true,"filter-match":{"status":"mismatch","reason":"ignored"}}}}}}"#;
        let listed = parse_list(json).expect("a list");
        let seen: Vec<_> = listed
            .iter()
            .map(|one| {
                (
                    one.stream_name.as_str(),
                    one.category.name,
                    one.selected,
                    one.ignored,
                    one.id.is_wire(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("kingsguard-tests::e2e$own::chat::b", "e2e", false, true, false),
                ("kingsguard-tests::e2e$wire::chat::a", "e2e", true, false, true),
            ]
        );
    }

    #[test]
    fn a_binary_without_category_is_an_error() {
        let json = r#"{"rust-suites":{"x":{"package-name":"kingsguard-tests","binary-id":"kingsguard-tests::other",
            "binary-name":"other","kind":"test","testcases":{}}}}"#;
        assert!(parse_list(json).is_err());
    }

    #[test]
    fn the_stream_is_read_line_by_line() {
        let ended = |end, said: &str| Event::Ended {
            test: "p::b$t".to_owned(),
            end,
            duration: Duration::from_millis(1500),
            said: said.to_owned(),
        };
        let cases = [
            (r#"{"type":"suite","event":"started","test_count":3}"#, Event::Other),
            (
                r#"{"type":"test","event":"started","name":"p::b$t"}"#,
                Event::Started {
                    test: "p::b$t".to_owned(),
                },
            ),
            (
                r#"{"type":"test","event":"ok","name":"p::b$t","exec_time":1.5}"#,
                ended(End::Passed, ""),
            ),
            (
                r#"{"type":"test","event":"failed","name":"p::b$t","exec_time":1.5,"stdout":"boom"}"#,
                ended(End::Failed, "boom"),
            ),
            (
                r#"{"type":"test","event":"failed","name":"p::b$t","exec_time":1.5,"reason":"time limit exceeded"}"#,
                ended(End::Failed, "time limit exceeded"),
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(parse_event(line).expect("a line of the stream"), expected, "{line}");
        }
    }

    #[test]
    fn a_line_that_is_not_of_the_stream_is_an_error_and_not_silence() {
        for line in ["", "warning: x", r#"{"type":"test","event":"vanished","name":"t"}"#] {
            assert!(parse_event(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn only_tests_of_the_suites_are_wire_tests() {
        let id = |binary_id: &str, name: &str| TestId {
            binary_id: binary_id.to_owned(),
            name: name.to_owned(),
        };
        assert!(id("kingsguard-tests::unit", "wire::a").is_wire());
        assert!(!id("kingsguard-protocol", "wire::a").is_wire());
        assert!(!id("kingsguard-tests", "wire::a").leaves_a_record());
        assert!(id("kingsguard-tests::unit", "own::a").leaves_a_record());
    }
}
