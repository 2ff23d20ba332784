//! The runner of Kingsguard: selects categories, runs them on real services, gives one verdict.
//!
//! It is built before anything else, so it stays quick to build: it runs processes (cargo, nextest, the test kit's
//! `kingsguard-stack`) and imports neither the server nor the test kit. It never judges by words in a log: a
//! verdict comes from structured results that are checked against each other.
//!
//! Start reading at [`category`], the table of everything that can be run; then [`plan`] (what runs, in which order),
//! [`suite_run`] (doing it) and [`verdict`] (the answer).

#![allow(clippy::print_stdout)]

mod apt_sources;
mod baseline;
mod category;
mod chaos;
mod ci;
mod cli;
mod console;
mod doctor;
mod environment;
mod example;
mod exit;
mod gate;
mod history;
mod hooks;
mod html;
mod images;
mod invocation;
mod junit;
mod leftovers;
mod list;
mod machine;
mod merge;
mod nextest;
mod old;
mod plan;
mod progress;
mod provision;
mod readme;
mod replay;
mod report;
mod results;
mod revision;
mod sabotage;
#[cfg(test)]
mod samples;
mod schema;
mod serve;
mod services;
mod settings;
mod signals;
mod stack;
mod suite_run;
mod tally;
mod target;
mod tidy;
mod verdict;
mod watch;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser as _;

use crate::cli::{Cli, Command, ReportAction};
use crate::exit::{Exit, Stop};
use crate::workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => match error.downcast_ref::<Stop>() {
            Some(stop) => {
                eprintln!("error: {}\n  next: {}", stop.why, stop.next);
                ExitCode::from(stop.exit.code())
            }
            None => {
                eprintln!("error: {error:#}");
                ExitCode::from(Exit::Invalid.code())
            }
        },
    }
}

fn run(arguments: &[String]) -> Result<Exit> {
    let translated = old::translate(arguments)?;
    for note in &translated.notes {
        eprintln!("note: {note}");
    }
    let words = std::iter::once("cargo xtask".to_owned()).chain(translated.arguments);
    // An unknown word ends here with exit code 2 and the nearest known one.
    let cli = Cli::try_parse_from(words).unwrap_or_else(|error| error.exit());
    let workspace = Workspace::find()?;
    signals::watch()?;
    match cli.command {
        Command::Test(args) => suite_run::test(&workspace, &args),
        Command::Ci => ci::run(&workspace),
        Command::Example { name, provision } => example::run(&workspace, name, provision),
        Command::Doctor { json } => doctor::run(json),
        Command::Services { action } => services::run(&workspace, &action),
        Command::Serve(args) => serve::run(&workspace, &args),
        Command::Hooks { action } => hooks::run(&workspace, &action),
        Command::Images { force } => images::run(&workspace, force),
        Command::Schema { check } => schema::run(check).map(|()| Exit::Passed),
        Command::History(args) => history::run(&workspace, &args),
        Command::Report {
            action: ReportAction::Merge { runs, out },
        } => merge::run(&workspace, &runs, out.as_deref()),
        Command::Report {
            action: ReportAction::Html { run },
        } => report::again(&workspace, run.as_deref()),
        Command::Sabotage(args) => sabotage::run(&workspace, &args),
        Command::Replay(args) => replay::run(&workspace, &args),
        Command::Gate(args) => gate::run(&workspace, &args),
        Command::Watch(args) => watch::run(&workspace, &args),
        Command::Tidy { write } => {
            if write {
                settings::run(&workspace, true)?;
            }
            tidy::run(&workspace, write)
        }
        Command::List { json: true } => {
            println!("{}", list::json()?);
            Ok(Exit::Passed)
        }
        Command::List { json: false } => {
            println!("{}\n{}", list::categories_text(), list::exits_text());
            Ok(Exit::Passed)
        }
    }
}
