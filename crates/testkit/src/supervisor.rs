//! Keeping a stack alive exactly as long as its owner: what `kingsguard-stack` does.
//!
//! `up` leaves a supervisor process behind. When the owner is gone, on whatever path, or on `down`, the supervisor stops
//! and removes everything that it started. If the supervisor itself is killed, its children die with it as far as the
//! system allows, and the next `sweep` removes the rest by the state file that lies in the stack's folder, and what a test
//! started and was killed too soon to take along ([`crate::provider`]'s orphans). Suite runs side
//! by side have folders, databases, prefixes and labels of their own, and do not touch each other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::process::ProcessId;
use crate::provider::ports::free_port;
use crate::provider::processes::{Launch, Running, tail};
use crate::provider::{ProviderChoice, Services, containers, memory, orphans, server_binary};
use crate::stack::{Stack, with_database};

/// How long a stack may take to stand. Pulling images counts.
const UP_DEADLINE: Duration = Duration::from_secs(600);

/// How long a stack may take to be gone.
const DOWN_DEADLINE: Duration = Duration::from_secs(60);

/// How often the supervisor looks whether its owner is still there.
const OWNER_LOOK: Duration = Duration::from_millis(200);

const STATE: &str = "state.json";
const STACK: &str = "stack.json";
const FAILED: &str = "failed.txt";

/// What a stack's folder says about it, from before anything was started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// The suite run.
    pub suite_run: String,
    /// As asked for: `auto`, `containers`, `processes`, `external`.
    pub services: String,
    /// Whose end is the stack's end.
    pub owner: ProcessId,
    /// Who started the supervisor.
    pub creator: ProcessId,
    /// The supervisor, once it runs.
    pub supervisor: Option<ProcessId>,
    /// Processes that it started.
    pub processes: Vec<ProcessId>,
    /// Somebody else's Postgres and Redis, which hold databases and keys of this suite run.
    pub external: Option<(String, String)>,
}

/// The folders in which stacks of this machine and user may lie: in memory and on a disk.
fn stacks_folders() -> [PathBuf; 2] {
    let name = format!("kingsguard-stacks-{}", nix::unistd::Uid::effective());
    [Path::new(memory::FOLDER).join(&name), std::env::temp_dir().join(name)]
}

/// Where a new stack goes: into memory where there is room.
fn folder_for_a_stack() -> PathBuf {
    let [in_memory, on_disk] = stacks_folders();
    if memory::has_room_for_a_stack() {
        in_memory
    } else {
        on_disk
    }
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).context("writing JSON")?;
    let beside = path.with_extension("new");
    fs::write(&beside, text).with_context(|| format!("writing {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("writing {}", path.display()))
}

impl State {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    fn write(&self, folder: &Path) -> Result<()> {
        write_json(&folder.join(STATE), self)
    }

    /// Whether somebody still looks after the stack.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.supervisor
            .map_or_else(|| self.creator.is_alive(), ProcessId::is_alive)
    }
}

/// A name that fits databases, prefixes and labels, and that no other suite run of this machine has.
fn unique_suite_run() -> String {
    let asked = std::env::var("KINGSGUARD_SUITE_RUN").unwrap_or_default().to_lowercase();
    let safe: String = asked.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    format!("{safe}{:06x}", rand::random::<u32>() & 0xff_ffff)
}

/// Starts a stack that lives as long as `owner_pid`, and waits until it stands.
///
/// # Errors
/// The services cannot be had; the message says which command helps.
pub fn up(choice: ProviderChoice, owner_pid: u32) -> Result<(Stack, PathBuf)> {
    let owner = ProcessId::of(owner_pid).with_context(|| format!("looking for the owner, process {owner_pid}"))?;
    let suite_run = unique_suite_run();
    let folder = folder_for_a_stack().join(&suite_run);
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let services =
        clap::ValueEnum::to_possible_value(&choice).map_or_else(String::new, |value| value.get_name().to_owned());
    let mut state = State {
        suite_run,
        services: services.clone(),
        owner,
        creator: ProcessId::current(),
        supervisor: None,
        processes: Vec::new(),
        external: None,
    };
    state.write(&folder)?;
    let log_path = folder.join("supervisor.log");
    let log = File::create(&log_path).with_context(|| format!("making {}", log_path.display()))?;
    let mut supervisor = Command::new(std::env::current_exe().context("asking for the present program")?);
    supervisor
        .arg("supervise")
        .arg("--folder")
        .arg(&folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("sharing the log")?)
        .stderr(log);
    // A group of its own: Ctrl-C in a terminal must reach the runner and not this.
    std::os::unix::process::CommandExt::process_group(&mut supervisor, 0);
    let mut supervisor = supervisor.spawn().context("starting the supervisor")?;
    state.supervisor = ProcessId::of(supervisor.id());
    let deadline = Instant::now() + UP_DEADLINE;
    let stack_path = folder.join(STACK);
    loop {
        if stack_path.is_file() {
            return Ok((Stack::read(&stack_path)?, stack_path));
        }
        let ended = supervisor.try_wait().context("looking at the supervisor")?;
        if ended.is_some() || Instant::now() > deadline {
            let reason = fs::read_to_string(folder.join(FAILED)).unwrap_or_else(|_| tail(&log_path));
            supervisor.kill().ok();
            supervisor.wait().context("waiting for the supervisor")?;
            remove_leftovers(&folder, &State::read(&folder).unwrap_or(state))?;
            bail!("{}", reason.trim());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops a stack and waits until nothing of it is left.
///
/// # Errors
/// Its file cannot be read, or something of it stays.
pub fn down(stack_path: &Path) -> Result<()> {
    let stack = Stack::read(stack_path)?;
    stack.supervisor.signal(Signal::SIGTERM);
    let deadline = Instant::now() + DOWN_DEADLINE;
    while stack.supervisor.is_alive() && stack.folder.exists() {
        if Instant::now() > deadline {
            bail!(
                "the supervisor of {} still runs after {} s",
                stack.suite_run,
                DOWN_DEADLINE.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    if let Ok(state) = State::read(&stack.folder) {
        remove_leftovers(&stack.folder, &state)?;
    }
    Ok(())
}

/// The stacks of this machine and user: folder and state.
#[must_use]
pub fn stacks() -> Vec<(PathBuf, State)> {
    stacks_folders()
        .into_iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.path(), State::read(&entry.path()).ok()?)))
        .collect()
}

/// Removes what suite runs left that nobody looks after any more; says which.
///
/// # Errors
/// Something cannot be removed.
pub fn sweep() -> Result<Vec<String>> {
    orphans::end();
    let mut swept = Vec::new();
    for (folder, state) in stacks() {
        if !state.is_alive() {
            remove_leftovers(&folder, &state).with_context(|| format!("sweeping {}", folder.display()))?;
            swept.push(state.suite_run);
        }
    }
    Ok(swept)
}

fn remove_leftovers(folder: &Path, state: &State) -> Result<()> {
    for process in &state.processes {
        process.signal(Signal::SIGKILL);
    }
    let deadline = Instant::now() + DOWN_DEADLINE;
    while state.processes.iter().any(|process| process.is_alive()) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    runtime.block_on(async {
        if let Some((postgres_url, redis_url)) = &state.external {
            forget_external(&state.suite_run, postgres_url, redis_url).await?;
        }
        if matches!(state.services.as_str(), "containers" | "auto") {
            // Without an engine there are no containers to remove.
            containers::remove_all(&state.suite_run).await.ok();
        }
        anyhow::Ok(())
    })?;
    remove_folder(folder)
}

/// Another supervisor or sweep may remove the same folder at the same time.
fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", folder.display()))
        }
        _ => Ok(()),
    }
}

async fn forget_external(suite_run: &str, postgres_url: &str, redis_url: &str) -> Result<()> {
    let mut admin = PgConnection::connect(postgres_url)
        .await
        .context("connecting to Postgres")?;
    let prefix = format!("kg_{suite_run}_");
    let rows = sqlx::query("SELECT datname FROM pg_database WHERE starts_with(datname, $1)")
        .bind(&prefix)
        .fetch_all(&mut admin)
        .await
        .context("listing databases")?;
    for row in rows {
        let name: String = row.try_get(0).context("reading a database's name")?;
        sqlx::raw_sql(AssertSqlSafe(format!(
            "DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"
        )))
        .execute(&mut admin)
        .await
        .with_context(|| format!("dropping {name}"))?;
    }
    crate::stack::delete_keys(redis_url, &prefix).await
}

/// Is the supervisor of the stack in `folder`: starts it, keeps it, and removes it when the owner is gone.
///
/// # Errors
/// The services cannot be had; the reason is left in the folder for whoever waits.
pub fn supervise(folder: &Path) -> Result<()> {
    // One thread only: what it starts asks the kernel to die with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    let mut state = State::read(folder)?;
    state.supervisor = Some(ProcessId::current());
    state.write(folder)?;
    let result = runtime.block_on(keep(folder, &mut state));
    orphans::end();
    if let Err(error) = &result {
        fs::write(folder.join(FAILED), format!("{error:#}")).context("leaving the reason")?;
        return result;
    }
    remove_folder(folder)
}

async fn keep(folder: &Path, state: &mut State) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let owner = state.owner;
    let choice = clap::ValueEnum::from_str(&state.services, true).unwrap_or(ProviderChoice::Auto);
    let suite_run = state.suite_run.clone();
    let owner_gone = async || {
        while owner.is_alive() {
            tokio::time::sleep(OWNER_LOOK).await;
        }
    };
    let started = tokio::select! {
        started = Services::start(choice, &suite_run, folder) => started?,
        () = owner_gone() => bail!("the owner was gone before the services stood"),
        _ = terminate.recv() => bail!("stopped before the services stood"),
        _ = interrupt.recv() => bail!("stopped before the services stood"),
    };
    state.processes = started.processes();
    if let Services::External(services) = &started {
        state.external = Some((services.postgres_url.clone(), services.redis_url.clone()));
    }
    state.write(folder)?;
    let stack = Stack {
        template_database: format!("kg_{suite_run}_template"),
        suite_run,
        provider: started.name().to_owned(),
        folder: folder.to_owned(),
        postgres_url: started.postgres_url().to_owned(),
        redis_url: started.redis_url().to_owned(),
        backend: started.backend(),
        supervisor: ProcessId::current(),
    };
    let made = make_template(&stack).await;
    if made.is_ok() {
        write_json(&folder.join(STACK), &stack)?;
        tokio::select! {
            () = owner_gone() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    if let Some((postgres_url, redis_url)) = &state.external {
        forget_external(&state.suite_run, postgres_url, redis_url).await?;
    }
    started.stop().await?;
    made
}

/// Makes the database that is cloned for each test: the backend itself migrates it at its start.
pub(crate) async fn make_template(stack: &Stack) -> Result<()> {
    let mut admin = PgConnection::connect(&stack.postgres_url)
        .await
        .context("connecting to Postgres")?;
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE DATABASE \"{}\"",
        stack.template_database
    )))
    .execute(&mut admin)
    .await
    .context("making the template database")?;
    let port = free_port()?;
    let secret = format!("{:032x}", rand::random::<u128>());
    let settings = [
        ("KINGSGUARD_LISTEN", format!("127.0.0.1:{port}")),
        (
            "KINGSGUARD_DATABASE_URL",
            with_database(&stack.postgres_url, &stack.template_database),
        ),
        ("KINGSGUARD_REDIS_URL", stack.redis_url.clone()),
        ("KINGSGUARD_REDIS_PREFIX", stack.template_database.clone()),
        ("KINGSGUARD_JWT_SECRET", secret),
    ];
    let settings: BTreeMap<String, String> = settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    let binary = server_binary()?;
    let log = stack.folder.join("template.log");
    let mut server = Running::start(Launch {
        name: "kingsguard-server",
        program: &binary,
        args: Vec::new(),
        settings,
        log: &log,
        user: None,
    })?;
    let url = format!("http://127.0.0.1:{port}/health/ready");
    let http = crate::deployment::plain_client();
    server
        .wait_until(|| async {
            let answer = http
                .get(&url)
                .send()
                .await
                .context("asking the backend whether it is ready")?;
            anyhow::ensure!(
                answer.status().is_success(),
                "the backend says it is not ready: {}",
                answer.status()
            );
            Ok(())
        })
        .await
        .context("migrating the template database")?;
    server.stop(Signal::SIGTERM).await?;
    crate::stack::delete_keys(&stack.redis_url, &stack.template_database).await
}
