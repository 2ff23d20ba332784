//! Postgres and Redis for a suite run: started once, shared by its tests, gone with it.
#![allow(clippy::print_stdout)] // it speaks to people and to the runner

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use kingsguard_testkit::provider::ProviderChoice;
use kingsguard_testkit::provider::processes::tail;
use kingsguard_testkit::stack::{STACK_VARIABLE, Stack};
use kingsguard_testkit::supervisor;
use kingsguard_testkit::target::Target;

/// The exit code for a command that cannot be followed, the same as the runner's.
const USAGE: u8 = 2;

/// The exit code for services that cannot be had, the same as the runner's.
const SERVICES_UNAVAILABLE: u8 = 4;

/// Postgres and Redis for a suite run: started once, shared by its tests, gone with it.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a stack that lives as long as its owner, and print where it is.
    Up {
        /// Who gives the services.
        #[arg(long, value_enum, env = "KINGSGUARD_SERVICES", default_value = "auto")]
        services: ProviderChoice,
        /// The process whose end is the stack's end; the parent by default.
        #[arg(long)]
        owner_pid: Option<u32>,
        /// Print the stack as one line of JSON instead of the path of its file.
        #[arg(long)]
        json: bool,
    },
    /// Stop the stack that KINGSGUARD_STACK names, and remove everything of it.
    Down {
        /// The stack's file.
        #[arg(long, env = STACK_VARIABLE)]
        stack: PathBuf,
    },
    /// Say which stacks there are.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the services' last words.
    Logs {
        /// The stack's file.
        #[arg(long, env = STACK_VARIABLE)]
        stack: PathBuf,
    },
    /// Remove what dead suite runs left.
    Sweep,
    /// Start a stack and a backend for a person, and keep both until a signal.
    Serve {
        /// Who gives the services.
        #[arg(long, value_enum, env = "KINGSGUARD_SERVICES", default_value = "auto")]
        services: ProviderChoice,
        /// The backend's port; 0 takes a free one.
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Print one line of JSON.
        #[arg(long)]
        json: bool,
    },
    /// Say whether a target can be judged: its profile is sound, and something listens at its address.
    CheckTarget {
        /// Its address.
        #[arg(long)]
        target: String,
        /// The file that says what it is like.
        #[arg(long)]
        profile: Option<PathBuf>,
    },
    /// Keep a stack; `up` starts this.
    #[command(hide = true)]
    Supervise {
        /// The stack's folder.
        #[arg(long)]
        folder: PathBuf,
    },
}

/// Nothing answers at a target's address.
#[derive(Debug, thiserror::Error)]
#[error("the target {url} cannot be reached")]
struct Unreachable {
    url: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let usual = match arguments.command {
        Command::Up { .. } | Command::Serve { .. } => SERVICES_UNAVAILABLE,
        Command::CheckTarget { .. } => USAGE,
        _ => 1,
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kingsguard-stack: {error:#}");
            ExitCode::from(if error.is::<Unreachable>() {
                SERVICES_UNAVAILABLE
            } else {
                usual
            })
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up {
            services,
            owner_pid,
            json,
        } => {
            // What a dead run left must not be in the way of this one, nor stay for ever.
            if let Err(error) = supervisor::sweep() {
                eprintln!("kingsguard-stack: sweeping leftovers: {error:#}");
            }
            let owner_pid = owner_pid.unwrap_or_else(std::os::unix::process::parent_id);
            let (stack, path) = supervisor::up(services, owner_pid)?;
            tell_nextest(&path)?;
            if json {
                println!("{}", serde_json::to_string(&stack).context("writing JSON")?);
            } else {
                println!("{}", path.display());
            }
            Ok(())
        }
        Command::Down { stack } => supervisor::down(&stack),
        Command::Status { json } => {
            let stacks = supervisor::stacks();
            if json {
                let states: Vec<_> = stacks.iter().map(|(_, state)| state).collect();
                println!("{}", serde_json::to_string(&states).context("writing JSON")?);
                return Ok(());
            }
            if stacks.is_empty() {
                println!("no stack");
            }
            for (folder, state) in stacks {
                let life = if state.is_alive() {
                    "running"
                } else {
                    "left behind; `sweep` removes it"
                };
                println!("{} {} {life} {}", state.suite_run, state.services, folder.display());
            }
            Ok(())
        }
        Command::Logs { stack } => {
            let stack = Stack::read(&stack)?;
            for name in ["postgres.log", "redis.log", "template.log", "supervisor.log"] {
                let log = stack.folder.join(name);
                if log.is_file() {
                    println!("==> {} <==\n{}", log.display(), tail(&log));
                }
            }
            Ok(())
        }
        Command::Sweep => {
            for suite_run in supervisor::sweep()? {
                println!("swept {suite_run}");
            }
            Ok(())
        }
        Command::Serve { services, port, json } => tokio::runtime::Runtime::new()
            .context("starting the runtime")?
            .block_on(kingsguard_testkit::serve::run(services, port, |served| {
                if json {
                    println!("{}", serde_json::to_string(served).context("writing JSON")?);
                } else {
                    println!("{served}");
                }
                Ok(())
            })),
        Command::Supervise { folder } => supervisor::supervise(&folder),
        Command::CheckTarget { target, profile } => {
            let target = Target::read(&target, profile.as_deref())?;
            tokio::runtime::Runtime::new()
                .context("starting the runtime")?
                .block_on(target.reach())
                .context(Unreachable { url: target.url })
        }
    }
}

/// As a set-up script of nextest, hands the stack to every test.
fn tell_nextest(stack: &std::path::Path) -> Result<()> {
    let Some(file) = std::env::var_os("NEXTEST_ENV") else {
        return Ok(());
    };
    let mut file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&file)
        .with_context(|| format!("opening {}", PathBuf::from(&file).display()))?;
    writeln!(file, "{STACK_VARIABLE}={}", stack.display()).context("handing the stack to nextest")
}
