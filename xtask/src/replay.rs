//! `cargo xtask replay`: stored recordings, by the test kit's `kingsguard-replay`, which needs no service.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::category::Build;
use crate::cli::ReplayArgs;
use crate::exit::{Exit, Stop};
use crate::workspace::Workspace;

const BINARY: &str = "kingsguard-replay";

/// A build that takes longer says that it is one.
const QUIET: Duration = Duration::from_secs(2);

/// Builds the binary and becomes it: its words are the answer, and so is its exit code.
pub fn run(workspace: &Workspace, args: &ReplayArgs) -> Result<Exit> {
    build(workspace)?;
    let error = Command::new(workspace.binary(Build::Debug, BINARY))
        .args(words(args))
        .exec();
    Err(error).with_context(|| format!("starting {BINARY}"))
}

fn words(args: &ReplayArgs) -> Vec<OsString> {
    let mut words: Vec<OsString> = args.files.iter().map(|file| file.clone().into_os_string()).collect();
    if let Some(out) = &args.timeline {
        let mut word = OsString::from("--timeline");
        if let Some(out) = out {
            word.push("=");
            word.push(out);
        }
        words.push(word);
    }
    if args.serve {
        words.push("--serve".into());
        words.push(format!("--port={}", args.port).into());
        words.push(format!("--speed={}", args.speed).into());
    }
    words
}

fn build(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo();
    // The whole workspace is named so that what it depends on is built as for everything else, and only once.
    command.args(["build", "--workspace", "--quiet", "--bin", BINARY]);
    let (done, ended) = channel::<()>();
    let told = std::thread::spawn(move || {
        if ended.recv_timeout(QUIET) == Err(RecvTimeoutError::Timeout) {
            eprintln!("building {BINARY} …");
        }
    });
    let status = command.stdin(Stdio::null()).status().context("starting cargo build");
    drop(done);
    told.join().ok();
    let status = status?;
    if status.success() {
        return Ok(());
    }
    Err(Stop::new(
        Exit::Invalid,
        format!("building {BINARY} ended with {status}"),
        "cargo build",
    )
    .into())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::cli::{Cli, Command};

    kingsguard_report::covers!("KIT-6");

    fn told(line: &str) -> Vec<OsString> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("the line is well formed");
        match cli.command {
            Command::Replay(args) => words(&args),
            other => panic!("{other:?} is no replay"),
        }
    }

    #[test]
    fn what_is_asked_for_is_handed_on() {
        assert_eq!(told("xtask replay a.jsonl b.jsonl"), ["a.jsonl", "b.jsonl"]);
        assert_eq!(told("xtask replay a.jsonl --timeline"), ["a.jsonl", "--timeline"]);
        assert_eq!(
            told("xtask replay a.jsonl --timeline=x.svg"),
            ["a.jsonl", "--timeline=x.svg"]
        );
        assert_eq!(
            told("xtask replay a.jsonl --serve --speed 10"),
            ["a.jsonl", "--serve", "--port=0", "--speed=10"]
        );
    }
}
