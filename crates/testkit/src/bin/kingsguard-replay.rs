//! Stored recordings: judged again offline, drawn, and served as a stand-in target. It needs no service.
#![allow(clippy::print_stdout)] // it speaks to people and to the runner

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use kingsguard_testkit::recording::stored::Stored;
use kingsguard_testkit::replay::Replay;
use kingsguard_testkit::stand_in::StandIn;
use kingsguard_testkit::timeline;
use tokio::signal::unix::{SignalKind, signal};

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
    #[arg(long, value_name = "OUT.html|OUT.svg")]
    timeline: Option<Option<PathBuf>>,
    /// Offer the recording as a stand-in target on loopback until a signal, and judge nothing
    #[arg(long, conflicts_with = "timeline")]
    serve: bool,
    /// Port of the stand-in; a free one by default
    #[arg(long, default_value_t = 0, requires = "serve")]
    port: u16,
    /// How many times faster than recorded the stand-in answers
    #[arg(long, value_name = "TIMES", default_value_t = 1.0, requires = "serve")]
    speed: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = if arguments.serve {
        serve(&arguments)
    } else {
        judge(&arguments)
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(UNREADABLE)
    })
}

fn read(file: &Path) -> Result<Stored> {
    Stored::read_file(file).with_context(|| format!("{} cannot be replayed", file.display()))
}

fn judge(arguments: &Arguments) -> Result<ExitCode> {
    if let (Some(Some(out)), true) = (&arguments.timeline, arguments.files.len() > 1) {
        bail!(
            "{} cannot hold {} timelines: name no file, and each lies beside its recording",
            out.display(),
            arguments.files.len()
        );
    }
    let mut failed = false;
    for file in &arguments.files {
        let replay = Replay::of(read(file)?);
        print!("{replay}");
        failed |= replay.verdict.is_failure();
        if let Some(out) = &arguments.timeline {
            draw(&replay, &out.clone().unwrap_or_else(|| file.with_extension("html")))?;
        }
    }
    Ok(if failed {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}

fn draw(replay: &Replay, out: &Path) -> Result<()> {
    let (recording, judgement) = (&replay.stored().recording, replay.judgement());
    let picture = match out.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => timeline::svg(recording, judgement),
        Some("html") => timeline::html(recording, judgement),
        Some(_) | None => bail!("a timeline is an .html or an .svg file, not {}", out.display()),
    };
    std::fs::write(out, picture).with_context(|| format!("writing {}", out.display()))?;
    println!("  timeline: {}", out.display());
    Ok(())
}

fn serve(arguments: &Arguments) -> Result<ExitCode> {
    let [file] = arguments.files.as_slice() else {
        bail!("--serve offers one recording, not {}", arguments.files.len());
    };
    let stored = read(file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.context("starting the runtime")?.block_on(async {
        let stand_in = StandIn::listen(stored.recording, arguments.port, arguments.speed).await?;
        println!(
            "stand-in for {}: ws://{}/ws   (Ctrl-C ends it)",
            file.display(),
            stand_in.address()
        );
        let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.context("listening to SIGINT")?,
            _ = terminate.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}
