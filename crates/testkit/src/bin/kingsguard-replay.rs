//! Stored recordings: judged again offline, drawn, and served as a stand-in target. It needs no service.
#![allow(clippy::print_stdout)] // it speaks to people and to the runner

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use kingsguard_testkit::recording::stored::Stored;
use kingsguard_testkit::replay::Replay;
use kingsguard_testkit::timeline;

/// The exit code for a recording that fails, the same as the runner's.
const FAILED: u8 = 1;

/// The exit code for a file that cannot be read, the same as the runner's for a command that it does not understand.
const UNREADABLE: u8 = 2;

/// Stored recordings: judged again offline, drawn, and served as a stand-in target.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Recordings, such as a failed test's recording.jsonl
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Draw each one, as HTML or SVG by the name's end; beside the file where no name is given
    #[arg(long, value_name = "OUT.html|OUT.svg", num_args = 0..=1, default_missing_value = "")]
    timeline: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut failed = false;
    for file in &arguments.files {
        let stored =
            Stored::read_file(file).with_context(|| format!("{} is no recording that can be read", file.display()))?;
        let replay = Replay::of(stored);
        print!("{replay}");
        failed |= replay.verdict.is_failure();
        if let Some(wanted) = &arguments.timeline {
            draw(&replay, file, wanted)?;
        }
    }
    Ok(if failed {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

fn draw(replay: &Replay, file: &Path, wanted: &Path) -> Result<()> {
    let out = if wanted.as_os_str().is_empty() {
        file.with_extension("html")
    } else {
        wanted.to_owned()
    };
    let (recording, judgement) = (&replay.stored().recording, replay.judgement());
    let picture = match out.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => timeline::svg(recording, judgement),
        Some("html") => timeline::html(recording, judgement),
        Some(_) | None => anyhow::bail!("a timeline is an .html or an .svg file, not {}", out.display()),
    };
    std::fs::write(&out, picture).with_context(|| format!("writing {}", out.display()))?;
    println!("  timeline: {}", out.display());
    Ok(())
}
