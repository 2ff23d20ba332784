//! The reference backend with one fault planted on purpose, for tests of the suite itself. It is not the program that is
//! released: nothing but a build with the feature `sabotage` makes it.
#![allow(clippy::print_stdout)] // it speaks to people

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use kingsguard_server::config::Config;
use kingsguard_server::{program, sabotage};

/// The reference backend with the fault planted that KINGSGUARD_SABOTAGE names.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// List all faults that can be planted and exit.
    #[arg(long)]
    list: bool,
    /// As JSON, for programs.
    #[arg(long, requires = "list")]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kingsguard-server-sabotaged: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(sabotage::CATALOGUE)?);
        return Ok(());
    }
    if arguments.list {
        for one in sabotage::CATALOGUE {
            println!("{} breaks {}\n    {}", one.id, one.clause, one.sentence);
        }
        return Ok(());
    }
    let id = Config::sabotage_from_env();
    let chosen = sabotage::choose(&id).context("KINGSGUARD_SABOTAGE names the fault to plant")?;
    eprintln!("SABOTAGED: {} breaks {}: {}", chosen.id, chosen.clause, chosen.sentence);
    program::serve_from_env()
}
