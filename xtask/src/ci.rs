//! `cargo xtask ci`: exactly what `.ci/run` runs after its bootstrap, one step after the other.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Parser as _, ValueEnum as _};

use crate::cli::{Cli, Command as Verb, ExampleName};
use crate::exit::{Exit, Stop};
use crate::suite_run;
use crate::workspace::Workspace;

/// The README's command that runs everything, word for word: what a newcomer types is what CI types. What its first command
/// runs is part of this.
pub const README_COMMAND: &[&str] = &["test", "all", "--provision"];

pub fn run(workspace: &Workspace) -> Result<Exit> {
    step("format", workspace.cargo().args(["fmt", "--all", "--check"]))?;
    step(
        "lint",
        workspace.cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    println!("==> schema");
    crate::schema::run(true)?;
    println!("==> tidy");
    let tidy = crate::tidy::run(workspace, false)?;
    if tidy != Exit::Passed {
        return Ok(tidy);
    }
    // nextest runs no doctests, and what must not compile is shown by them: a tool call past the dispatcher.
    step(
        "doctests",
        workspace.cargo().args(["test", "--workspace", "--doc", "--quiet"]),
    )?;
    println!("==> settings");
    let settings = crate::settings::run(workspace, false)?;
    if settings != Exit::Passed {
        return Ok(settings);
    }
    for name in ExampleName::value_variants() {
        let word = name.to_possible_value().context("an example is hidden")?;
        println!("==> cargo xtask example {} --provision", word.get_name());
        let example = crate::example::run(workspace, *name, true)?;
        if example != Exit::Passed {
            return Ok(example);
        }
    }
    suite(workspace, README_COMMAND)
}

fn suite(workspace: &Workspace, words: &[&str]) -> Result<Exit> {
    println!("==> cargo xtask {}", words.join(" "));
    let cli = Cli::try_parse_from(["cargo xtask"].iter().chain(words)).context("reading the README's command")?;
    let Verb::Test(args) = cli.command else {
        anyhow::bail!("`{}` runs no tests", words.join(" "));
    };
    suite_run::test(workspace, &args)
}

fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("==> {name}");
    let began = Instant::now();
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        return Err(Stop::new(
            Exit::Failed,
            format!("{name} ended with {status}"),
            format!("{command:?}"),
        )
        .into());
    }
    println!("    {name} held, {:.1} s", began.elapsed().as_secs_f64());
    Ok(())
}
