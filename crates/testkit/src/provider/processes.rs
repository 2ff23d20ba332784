//! Services and backends as processes of this machine: throwaway Postgres and Redis from local binaries, in a folder of
//! their own, on free ports of 127.0.0.1.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Uid, User, chown};
use sqlx::Connection as _;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::ports::free_port;
use crate::process::ProcessId;

/// How long a service may take to answer after its start. Reached only where something is wrong.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// How long a process may take to end by itself before it is killed.
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// How often a state that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// A process that the kit started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    id: ProcessId,
    name: String,
    /// Where its output goes.
    pub log: PathBuf,
}

/// What to start.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What the process is called in messages.
    pub name: &'a str,
    /// Its program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole configuration: no `KINGSGUARD_*` variable of the test run reaches it.
    pub settings: BTreeMap<String, String>,
    /// Where its output is appended.
    pub log: &'a Path,
    /// Whom it runs as, where that is not the present user.
    pub user: Option<&'a User>,
}

impl Running {
    /// Starts a process that dies with this one.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(launch: Launch<'_>) -> Result<Self> {
        let log = File::options().create(true).append(true).open(launch.log);
        let log = log.with_context(|| format!("opening the log {}", launch.log.display()))?;
        // The kernel sends the signal when the parent's thread ends; setpriv asks for it without unsafe code.
        let mut command = match find_program("setpriv", &[]) {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(launch.program);
                command
            }
            None => Command::new(launch.program),
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KINGSGUARD_")) {
            command.env_remove(name);
        }
        if let Some(user) = launch.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let child = command
            .args(&launch.args)
            .envs(&launch.settings)
            .envs([super::orphans::mark()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing the log")?)
            .stderr(log)
            .process_group(0) // Ctrl-C in a terminal is for the runner; it stops us in order.
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {} ({})", launch.name, launch.program.display()))?;
        let id = child
            .id()
            .and_then(ProcessId::of)
            .ok_or_else(|| anyhow!("{} ended at once; its log: {}", launch.name, tail(launch.log)))?;
        Ok(Self {
            child,
            id,
            name: launch.name.to_owned(),
            log: launch.log.to_owned(),
        })
    }

    /// The process.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.id
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The process ends first, or `ready` does not say so in time; with the end of its log.
    pub async fn wait_until<F: Future<Output = Result<()>>>(&mut self, mut ready: impl FnMut() -> F) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let reason = match ready().await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            if let Some(status) = self
                .child
                .try_wait()
                .with_context(|| format!("looking at {}", self.name))?
            {
                bail!(
                    "{} ended with {status} before it was ready; its log:\n{}",
                    self.name,
                    tail(&self.log)
                );
            }
            if Instant::now() > deadline {
                let log = tail(&self.log);
                return Err(reason.context(format!(
                    "{} is not ready after {} s; its log:\n{log}",
                    self.name,
                    START_DEADLINE.as_secs()
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.id.signal(signal);
    }

    /// Waits for the process's end.
    ///
    /// # Errors
    /// The operating system does not tell.
    pub async fn wait(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// Ends the process with a signal, and kills it where that does not end it in time.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn stop(&mut self, signal: Signal) -> Result<()> {
        self.signal(signal);
        if tokio::time::timeout(STOP_DEADLINE, self.child.wait()).await.is_err() {
            self.child
                .kill()
                .await
                .with_context(|| format!("killing {}", self.name))?;
        }
        Ok(())
    }
}

/// The last lines of a log.
#[must_use]
pub fn tail(log: &Path) -> String {
    let text = fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}

/// A program in `$PATH` or in one of the folders.
#[must_use]
pub fn find_program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(folders.iter().cloned())
        .map(|folder| folder.join(name))
        .find(|candidate| {
            candidate
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Where Debian and others keep the binaries that only a Postgres server needs, newest version first.
fn postgres_folders() -> Vec<PathBuf> {
    let mut folders: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    folders.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    folders
        .into_iter()
        .map(|(_, folder)| folder)
        .chain([PathBuf::from("/usr/local/pgsql/bin")])
        .collect()
}

/// The programs that this provider needs.
#[derive(Clone, Debug)]
pub struct Programs {
    initdb: PathBuf,
    postgres: PathBuf,
    redis: PathBuf,
}

impl Programs {
    /// Finds them.
    ///
    /// # Errors
    /// Names those that are missing and the command that brings them.
    pub fn find() -> Result<Self> {
        let folders = postgres_folders();
        let (initdb, postgres) = (find_program("initdb", &folders), find_program("postgres", &folders));
        let redis = find_program("redis-server", &[]).or_else(|| find_program("valkey-server", &[]));
        match (initdb, postgres, redis) {
            (Some(initdb), Some(postgres), Some(redis)) => Ok(Self {
                initdb,
                postgres,
                redis,
            }),
            (initdb, postgres, redis) => {
                let missing: Vec<&str> = [
                    (initdb.is_none() || postgres.is_none()).then_some("postgresql"),
                    redis.is_none().then_some("redis-server"),
                ]
                .into_iter()
                .flatten()
                .collect();
                bail!(
                    "missing on this machine: {0}; on Debian: apt-get install --no-install-recommends {0}",
                    missing.join(" ")
                )
            }
        }
    }
}

/// Postgres and Redis as processes.
#[derive(Debug)]
pub struct Services {
    postgres: Running,
    redis: Running,
    /// Address of a superuser.
    pub postgres_url: String,
    /// Address of the Redis.
    pub redis_url: String,
}

impl Services {
    /// Starts both in `folder` and waits until they answer.
    ///
    /// # Errors
    /// A program is missing or one of the two does not come up.
    pub async fn start(folder: &Path) -> Result<Self> {
        let programs = Programs::find()?;
        let user = unprivileged_user()?;
        if let Some(user) = &user {
            // The folder above is ours; the services' user must reach his own inside of it.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).context("opening the stack's folder")?;
            tracing::debug!(
                user = user.name,
                "services run as another user because Postgres refuses root"
            );
        }
        let (postgres, redis) = tokio::try_join!(
            start_postgres(&programs, folder, user.as_ref()),
            start_redis(&programs, folder, user.as_ref())
        )?;
        Ok(Self {
            postgres: postgres.0,
            postgres_url: postgres.1,
            redis: redis.0,
            redis_url: redis.1,
        })
    }

    /// The processes, for the state file.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessId> {
        vec![self.postgres.id(), self.redis.id()]
    }

    /// Stops both.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn stop(&mut self) -> Result<()> {
        // Nothing of them is kept, so neither needs to write what it has: immediate shutdown.
        self.postgres.stop(Signal::SIGQUIT).await?;
        self.redis.stop(Signal::SIGKILL).await
    }
}

/// Postgres refuses to run as root; then it runs as `postgres` or, where there is none, as `nobody`.
pub(super) fn unprivileged_user() -> Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name).with_context(|| format!("looking up the user {name}"))? {
            return Ok(Some(user));
        }
    }
    bail!("running as root, and there is neither a user postgres nor nobody to run Postgres as")
}

pub(super) fn make_folder(path: &Path, user: Option<&User>) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("making the folder {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).context("closing the folder to others")?;
    if let Some(user) = user {
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("giving {} to {}", path.display(), user.name))?;
    }
    Ok(())
}

async fn start_postgres(programs: &Programs, folder: &Path, user: Option<&User>) -> Result<(Running, String)> {
    let password = init_postgres(programs, folder, user).await?;
    launch_postgres(programs, folder, user, &password, free_port()?).await
}

/// Makes an empty cluster in `folder`; says the password of its superuser.
pub(super) async fn init_postgres(programs: &Programs, folder: &Path, user: Option<&User>) -> Result<String> {
    let home = folder.join("postgres");
    make_folder(&home, user)?;
    let password = format!("{:032x}", rand::random::<u128>());
    let password_file = home.join("password");
    fs::write(&password_file, &password).context("writing the password file")?;
    if let Some(user) = user {
        chown(&password_file, Some(user.uid), Some(user.gid)).context("giving the password file away")?;
    }
    let log = folder.join("postgres.log");
    let initdb = [
        "--username=kingsguard".into(),
        "--auth-local=trust".into(),
        // Each test connects many times, and the default's key derivation would be a tenth of all that is computed. This is
        // the cheapest method that still asks for a password, which never leaves 127.0.0.1.
        "--auth-host=md5".into(),
        "--encoding=UTF8".into(),
        "--locale=C".into(),
        "--no-sync".into(),
        format!("--pwfile={}", password_file.display()),
        format!("--pgdata={}", home.join("data").display()),
    ];
    let mut init = Running::start(Launch {
        name: "initdb",
        program: &programs.initdb,
        args: initdb.into_iter().map(OsString::from).collect(),
        settings: BTreeMap::new(),
        log: &log,
        user,
    })?;
    let status = init.wait().await.context("waiting for initdb")?;
    if !status.success() {
        bail!("initdb ended with {status}; its log:\n{}", tail(&log));
    }
    fs::remove_file(&password_file).context("removing the password file")?;
    Ok(password)
}

/// Starts Postgres on the cluster in `folder` and waits until it answers; says the address of its superuser.
pub(super) async fn launch_postgres(
    programs: &Programs,
    folder: &Path,
    user: Option<&User>,
    password: &str,
    port: u16,
) -> Result<(Running, String)> {
    let home = folder.join("postgres");
    let settings = [
        "unix_socket_directories=", // everybody comes by 127.0.0.1
        "listen_addresses=127.0.0.1",
        // The data is thrown away with the suite run: durability against a crash of the machine buys nothing. A killed
        // Postgres loses nothing by it: what it wrote is in the system's memory.
        "fsync=off",
        "synchronous_commit=on",
        "full_page_writes=off",
        "wal_level=minimal",
        "max_wal_senders=0",
        "max_connections=400", // many tests at a time, each with a pool of its own
        "shared_buffers=128MB",
        // In the folder, so that it goes with it: of a killed Postgres it would stay in the machine's memory.
        "dynamic_shared_memory_type=mmap",
        "autovacuum=off",
        "checkpoint_timeout=1h",
        "max_wal_size=1GB",
        "timezone=UTC",
    ];
    let data = home.join("data").into_os_string();
    let mut args: Vec<OsString> = vec!["-D".into(), data, "-p".into(), port.to_string().into()];
    args.extend(
        settings
            .into_iter()
            .flat_map(|setting| ["-c".into(), OsString::from(setting)]),
    );
    let log = folder.join("postgres.log");
    let mut postgres = Running::start(Launch {
        name: "Postgres",
        program: &programs.postgres,
        args,
        settings: BTreeMap::new(),
        log: &log,
        user,
    })?;
    let url = format!("postgres://kingsguard:{password}@127.0.0.1:{port}/postgres");
    postgres
        .wait_until(|| async {
            let mut connection = sqlx::PgConnection::connect(&url)
                .await
                .context("connecting to Postgres")?;
            connection.ping().await.context("asking Postgres")
        })
        .await?;
    Ok((postgres, url))
}

async fn start_redis(programs: &Programs, folder: &Path, user: Option<&User>) -> Result<(Running, String)> {
    launch_redis(programs, folder, user, free_port()?).await
}

/// Starts an empty Redis and waits until it answers; says its address.
pub(super) async fn launch_redis(
    programs: &Programs,
    folder: &Path,
    user: Option<&User>,
    port: u16,
) -> Result<(Running, String)> {
    let home = folder.join("redis");
    make_folder(&home, user)?;
    let args = [
        "--bind",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--dir",
    ]
    .into_iter()
    .map(OsString::from)
    .chain([home.into_os_string()])
    .collect();
    let log = folder.join("redis.log");
    let mut redis = Running::start(Launch {
        name: "Redis",
        program: &programs.redis,
        args,
        settings: BTreeMap::new(),
        log: &log,
        user,
    })?;
    let url = format!("redis://127.0.0.1:{port}/");
    redis.wait_until(|| ping_redis(&url)).await?;
    Ok((redis, url))
}

/// Asks a Redis whether it is there.
///
/// # Errors
/// It does not answer.
pub(crate) async fn ping_redis(url: &str) -> Result<()> {
    let client = redis::Client::open(url).context("reading the Redis address")?;
    let mut connection = client
        .get_multiplexed_async_connection()
        .await
        .context("connecting to Redis")?;
    let _: String = redis::cmd("PING")
        .query_async(&mut connection)
        .await
        .context("asking Redis")?;
    Ok(())
}

/// Writes a database's content as SQL, for a person to look at.
///
/// # Errors
/// `pg_dump` is not there, or fails.
pub(crate) async fn dump_database(url: &str, into: &Path) -> Result<()> {
    let program = find_program("pg_dump", &postgres_folders()).context("looking for pg_dump")?;
    let output = Command::new(program)
        .args(["--no-owner", "--inserts", "--dbname", url])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("starting pg_dump")?;
    if !output.status.success() {
        bail!("pg_dump: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::write(into, output.stdout).with_context(|| format!("writing {}", into.display()))
}
