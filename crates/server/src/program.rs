//! The reference backend as a program: arguments, configuration, logs, a listener, and [`serve`].
#![allow(clippy::print_stdout)] // it speaks to people

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;

use crate::config::{Config, SettingDoc};
use crate::{serve, telemetry};

/// The reference chat backend. All settings are environment variables; `kingsguard-server settings` lists them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// List all settings and exit.
    #[arg(long)]
    settings: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List all settings with unit, default and limits.
    Settings {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

/// Does what the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Some(Command::Settings { json: true }) => print_settings_as_json(),
        Some(Command::Settings { json: false }) => {
            print_settings();
            Ok(())
        }
        None if arguments.settings => {
            print_settings();
            Ok(())
        }
        None => serve_from_env(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kingsguard-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Serves as the environment says, until it is told to stop.
///
/// # Errors
/// A setting cannot be used, the address is taken, or what [`serve`] says.
pub fn serve_from_env() -> anyhow::Result<()> {
    let loaded = Config::from_env()?;
    telemetry::start_logs(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(async {
        let address = loaded.config.listen;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("listen on {address}"))?;
        serve(listener, loaded.config).await
    })
}

fn print_settings() {
    for setting in Config::reference() {
        let default = default_of(&setting);
        println!(
            "{} ({}, default {default}, {})",
            setting.variable, setting.unit, setting.limits
        );
        println!("    {}", setting.description);
    }
}

fn default_of(setting: &SettingDoc) -> &str {
    match &setting.default {
        Some(default) => default,
        None if setting.required => "none: must be set",
        None => "none",
    }
}

fn print_settings_as_json() -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(&Config::reference())?);
    Ok(())
}
