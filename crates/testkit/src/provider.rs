//! Who gives the services: containers, local processes, or somebody else. Only this module starts processes and
//! containers.

pub mod clock;
pub mod containers;
pub mod external;
pub mod memory;
pub(crate) mod orphans;
pub mod ports;
pub mod private;
pub mod processes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::process::ProcessId;
use crate::stack::BackendKind;

/// Which provider was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProviderChoice {
    /// Containers where an engine answers and the images are there or can be had, else processes.
    Auto,
    /// Containers.
    Containers,
    /// Processes from local binaries.
    Processes,
    /// Addresses by `KINGSGUARD_DATABASE_URL` and `KINGSGUARD_REDIS_URL`.
    External,
}

/// Services that run.
#[derive(Debug)]
pub enum Services {
    /// As containers.
    Containers(Box<containers::Services>),
    /// As processes.
    Processes(Box<processes::Services>),
    /// Somebody else's.
    External(external::Services),
}

impl Services {
    /// Starts services as chosen.
    ///
    /// # Errors
    /// They cannot be had; the message says which command helps.
    pub async fn start(choice: ProviderChoice, suite_run: &str, folder: &Path) -> Result<Self> {
        match choice {
            ProviderChoice::Containers => containers::Services::start(suite_run)
                .await
                .map(|services| Self::Containers(Box::new(services))),
            ProviderChoice::Processes => processes::Services::start(folder)
                .await
                .map(|services| Self::Processes(Box::new(services))),
            ProviderChoice::External => external::Services::find().await.map(Self::External),
            ProviderChoice::Auto => {
                let no_containers = match containers::Images::find().await {
                    Ok(_) => {
                        return containers::Services::start(suite_run)
                            .await
                            .map(|services| Self::Containers(Box::new(services)));
                    }
                    Err(reason) => reason,
                };
                match processes::Programs::find() {
                    Ok(_) => processes::Services::start(folder)
                        .await
                        .map(|services| Self::Processes(Box::new(services))),
                    Err(no_processes) => {
                        bail!("no services: as containers: {no_containers:#}; as processes: {no_processes:#}")
                    }
                }
            }
        }
    }

    /// What the provider is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Containers(_) => "containers",
            Self::Processes(_) => "processes",
            Self::External(_) => "external",
        }
    }

    /// A Postgres that may create databases.
    #[must_use]
    pub fn postgres_url(&self) -> &str {
        match self {
            Self::Containers(services) => &services.postgres_url,
            Self::Processes(services) => &services.postgres_url,
            Self::External(services) => &services.postgres_url,
        }
    }

    /// A Redis.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        match self {
            Self::Containers(services) => &services.redis_url,
            Self::Processes(services) => &services.redis_url,
            Self::External(services) => &services.redis_url,
        }
    }

    /// How tests start their backend on these services.
    #[must_use]
    pub fn backend(&self) -> BackendKind {
        match self {
            Self::Containers(services) => services.backend.clone(),
            Self::Processes(_) | Self::External(_) => BackendKind::Process,
        }
    }

    /// Processes that run now, for the state file.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessId> {
        match self {
            Self::Processes(services) => services.processes(),
            Self::Containers(_) | Self::External(_) => Vec::new(),
        }
    }

    /// Stops what was started here.
    ///
    /// # Errors
    /// Something does not stop.
    pub async fn stop(self) -> Result<()> {
        match self {
            Self::Containers(services) => services.stop().await,
            Self::Processes(mut services) => services.stop().await,
            Self::External(_) => Ok(()),
        }
    }
}

/// The server's binary: `$KINGSGUARD_SERVER_BIN`, or beside the present program in `target/<profile>`.
///
/// # Errors
/// It is not there.
pub fn server_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KINGSGUARD_SERVER_BIN").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        bail!("KINGSGUARD_SERVER_BIN names {}, and no file is there", path.display());
    }
    beside("kingsguard-server", "cargo build -p kingsguard-server")
}

/// The server's binary in which a fault can be planted, beside the present program.
///
/// # Errors
/// It is not there.
pub fn sabotaged_server_binary() -> Result<PathBuf> {
    beside(
        "kingsguard-server-sabotaged",
        "cargo build --workspace --features kingsguard-server/sabotage --bin kingsguard-server-sabotaged",
    )
}

/// The program that replays recordings, beside the present program.
///
/// # Errors
/// It is not there.
pub fn replay_binary() -> Result<PathBuf> {
    beside("kingsguard-replay", "cargo build --workspace --bin kingsguard-replay")
}

fn beside(name: &str, build: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the present program")?;
    // A test binary lies in target/<profile>/deps, other programs in target/<profile>.
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} beside {}; build it: {build}", own.display()))
}

/// What a command of the target's profile prints.
///
/// # Errors
/// It cannot be started, ends badly, or takes longer than `deadline`.
pub(crate) async fn printed_by(words: &[String], deadline: Duration) -> Result<String> {
    let shown = words.join(" ");
    let (program, arguments) = words.split_first().context("the command is empty")?;
    let run = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(deadline, run)
        .await
        .with_context(|| format!("`{shown}` did not end within {} s", deadline.as_secs()))?
        .with_context(|| format!("starting `{shown}`"))?;
    anyhow::ensure!(
        output.status.success(),
        "`{shown}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    String::from_utf8(output.stdout).with_context(|| format!("reading what `{shown}` printed"))
}
