//! One invocation of nextest, from its start to its results.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::nextest::{Choice, End, Event, Listed, parse_event};
use crate::progress::Progress;
use crate::results::{Cut, Ended, WaveResults, junit_view, read_junit, read_records};
use crate::signals;
use crate::workspace::Workspace;

/// How often signals and the budget are looked at.
const TICK: Duration = Duration::from_millis(100);

/// What nextest gets to end its tests after being asked to; tests keep evidence in this time.
const GRACE: Duration = Duration::from_secs(15);

/// What an invocation needs beside the choice of tests.
#[derive(Debug)]
pub struct Terms<'a> {
    pub fail_fast: bool,
    pub jobs: Option<u32>,
    pub environment: &'a [(String, String)],
    pub records: &'a Path,
    pub deadline: Instant,
}

enum Line {
    Result(String),
    Said(String),
}

/// Runs nextest and gathers what came of the expected tests.
pub fn run(
    workspace: &Workspace,
    choice: &Choice<'_>,
    expected: &[&Listed],
    terms: &Terms<'_>,
    progress: &mut Progress,
) -> Result<WaveResults> {
    let junit = workspace.junit(choice.profile);
    if junit.exists() {
        std::fs::remove_file(&junit).with_context(|| format!("removing the older {}", junit.display()))?;
    }
    let mut command = choice.run_command(workspace, terms.fail_fast, terms.jobs);
    command.envs(terms.environment.iter().map(|(name, value)| (name, value)));
    command.env("KINGSGUARD_RECORDS_DIR", terms.records);
    // In a group of its own: Ctrl-C reaches this runner alone, which then ends nextest once and in order.
    command
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("starting cargo nextest")?;
    let lines = follow(&mut child)?;

    let mut results = WaveResults::default();
    gather(&lines, &mut child, expected, terms, progress, &mut results)?;
    results.exit_code = child.wait().context("waiting for nextest")?.code();
    if terms.fail_fast && results.cut.is_none() && results.ended.values().any(|ended| ended.end == End::Failed) {
        results.cut = Some(Cut::FailFast);
    }
    if junit.exists() {
        results.junit = Some(junit_view(&read_junit(&junit)?));
    }
    results.records = read_records(terms.records)?;
    Ok(results)
}

fn gather(
    lines: &Receiver<Line>,
    child: &mut Child,
    expected: &[&Listed],
    terms: &Terms<'_>,
    progress: &mut Progress,
    results: &mut WaveResults,
) -> Result<()> {
    let mut kill_at: Option<Instant> = None;
    loop {
        match lines.recv_timeout(TICK) {
            Ok(Line::Said(line)) => progress.say(&line),
            Ok(Line::Result(line)) => match parse_event(&line) {
                Ok(Event::Other) => {}
                Ok(Event::Started { test }) => progress.test_started(&test),
                Ok(Event::Ended {
                    test,
                    end,
                    duration,
                    said,
                }) => {
                    progress.test_ended(&test, end != End::Failed);
                    if end == End::Failed && results.cut.is_some() {
                        // It did not fail, it was ended with the run.
                        continue;
                    }
                    match expected.iter().find(|listed| listed.stream_name == test) {
                        Some(listed) => {
                            results.ended.insert(listed.id.clone(), Ended { end, duration, said });
                        }
                        // Ignored tests are named though they were not selected.
                        None if end == End::Ignored => {}
                        None => results
                            .unreadable
                            .push(format!("{test} reported a result but was not selected")),
                    }
                }
                Err(error) => results.unreadable.push(format!("{error:#}")),
            },
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        progress.tick();
        if results.cut.is_none() {
            results.cut = cause_to_stop(terms.deadline);
            if let Some(cut) = results.cut {
                progress.say(&format!("  stopping: {}", cut.reason()));
                signal(child, Signal::SIGTERM)?;
                kill_at = Some(Instant::now() + GRACE);
            }
        }
        if kill_at.is_some_and(|at| Instant::now() > at) || signals::seen() > 1 {
            signal(child, Signal::SIGKILL)?;
        }
    }
}

fn cause_to_stop(deadline: Instant) -> Option<Cut> {
    if signals::seen() > 0 {
        Some(Cut::Signal)
    } else if Instant::now() > deadline {
        Some(Cut::Budget)
    } else {
        None
    }
}

fn signal(child: &Child, signal: Signal) -> Result<()> {
    let group = Pid::from_raw(i32::try_from(child.id()).context("process ids fit")?);
    match killpg(group, signal) {
        Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
        Err(error) => Err(error).context("ending nextest"),
    }
}

/// Both outputs, line by line, until both end.
fn follow(child: &mut Child) -> Result<Receiver<Line>> {
    let (sender, receiver) = channel();
    let stdout = child.stdout.take().context("nextest's output is a pipe")?;
    let stderr = child.stderr.take().context("nextest's error output is a pipe")?;
    forward(stdout, sender.clone(), Line::Result);
    forward(stderr, sender, Line::Said);
    Ok(receiver)
}

fn forward(from: impl Read + Send + 'static, to: Sender<Line>, wrap: fn(String) -> Line) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from);
        let mut bytes = Vec::new();
        // Tests may print what is not UTF-8.
        while lines.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if to.send(wrap(line)).is_err() {
                return;
            }
        }
    });
}
