//! A Postgres and a Redis of one test alone, which it may kill, restart and empty: always processes of this machine, whoever
//! gives the services of the suite run.
//!
//! A cluster is made and migrated once for each suite run and copied for each test, which takes a twentieth of the time.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::User;
use tokio::process::Command;
use tokio::time::Instant;

use super::ports::free_port;
use super::processes::{
    Programs, Running, init_postgres, launch_postgres, launch_redis, make_folder, unprivileged_user,
};
use crate::process::ProcessId;
use crate::stack::{BackendKind, Stack};

/// How long a killed Postgres may take to come back. It replays its log first.
const RETURN_DEADLINE: Duration = Duration::from_secs(20);

/// How often a state that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The file of a template that holds the password of its clusters.
const PASSWORD: &str = "password.txt";

/// The services of one test.
#[derive(Debug)]
pub struct PrivateServices {
    programs: Programs,
    user: Option<User>,
    folder: PathBuf,
    password: String,
    postgres_port: u16,
    redis_port: u16,
    postgres: Option<Running>,
    redis: Option<Running>,
    stack: Stack,
}

impl PrivateServices {
    /// Starts both for a test of the suite run whose stack is `shared`.
    ///
    /// # Errors
    /// A program is missing, or one of the two does not come up.
    pub async fn start(shared: &Stack) -> Result<Self> {
        let programs = Programs::find()?;
        let user = unprivileged_user()?;
        let template = template(shared, &programs, user.as_ref()).await?;
        let password = fs::read_to_string(template.join(PASSWORD)).context("reading the template's password")?;
        let folder = shared.folder.join("private").join(uuid::Uuid::now_v7().to_string());
        open_folder(&folder)?;
        make_folder(&folder.join("postgres"), user.as_ref())?;
        let copied = Command::new("cp")
            .args(["-a", "--reflink=auto", "--"])
            .arg(template.join("postgres/data"))
            .arg(folder.join("postgres/data"))
            .status()
            .await
            .context("copying the template's cluster")?;
        if !copied.success() {
            bail!("copying the template's cluster: cp ended with {copied}");
        }
        let (postgres_port, redis_port) = (free_port()?, free_port()?);
        let (postgres, redis) = tokio::try_join!(
            launch_postgres(&programs, &folder, user.as_ref(), &password, postgres_port),
            launch_redis(&programs, &folder, user.as_ref(), redis_port)
        )?;
        let stack = Stack {
            postgres_url: postgres.1,
            redis_url: redis.1,
            backend: BackendKind::Process,
            ..shared.clone()
        };
        Ok(Self {
            programs,
            user,
            folder,
            password,
            postgres_port,
            redis_port,
            postgres: Some(postgres.0),
            redis: Some(redis.0),
            stack,
        })
    }

    /// The stack of these services.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// Kills Postgres with all of its processes (SIGKILL); says how many there were.
    ///
    /// # Errors
    /// It is down, or something of it stays.
    pub async fn kill_postgres(&mut self) -> Result<usize> {
        let mut postgres = self.postgres.take().context("Postgres is down already")?;
        // Each of its processes leads a session of its own, so no group holds them all.
        let mut processes = children(postgres.id());
        postgres.signal(Signal::SIGKILL);
        processes.iter().for_each(|process| process.signal(Signal::SIGKILL));
        postgres.wait().await.context("waiting for Postgres")?;
        let deadline = Instant::now() + RETURN_DEADLINE;
        let killed = 1 + processes.len();
        while !processes.is_empty() {
            if Instant::now() > deadline {
                bail!("{} processes of a killed Postgres stay", processes.len());
            }
            tokio::time::sleep(LOOK).await;
            processes.retain(|process| process.is_alive());
        }
        Ok(killed)
    }

    /// Starts Postgres on the cluster that it left, and waits until it answers. One that runs stays.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn start_postgres(&mut self) -> Result<()> {
        if self.postgres.is_some() {
            return Ok(());
        }
        let user = self.user.as_ref();
        let started = launch_postgres(&self.programs, &self.folder, user, &self.password, self.postgres_port).await?;
        self.postgres = Some(started.0);
        Ok(())
    }

    /// Kills Redis (SIGKILL); what it held is gone.
    ///
    /// # Errors
    /// It is down already.
    pub async fn kill_redis(&mut self) -> Result<()> {
        let mut redis = self.redis.take().context("Redis is down already")?;
        redis.stop(Signal::SIGKILL).await
    }

    /// Starts Redis again, empty, and waits until it answers. One that runs stays.
    ///
    /// # Errors
    /// It does not come back.
    pub async fn start_redis(&mut self) -> Result<()> {
        if self.redis.is_none() {
            let started = launch_redis(&self.programs, &self.folder, self.user.as_ref(), self.redis_port).await?;
            self.redis = Some(started.0);
        }
        Ok(())
    }

    /// Deletes everything that Redis holds.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn flush_redis(&self) -> Result<()> {
        let client = redis::Client::open(self.stack.redis_url.as_str()).context("reading the Redis address")?;
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .context("connecting to Redis")?;
        redis::cmd("FLUSHALL")
            .query_async(&mut connection)
            .await
            .context("emptying Redis")
    }

    /// Stops both and removes what they wrote.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn end(mut self) -> Result<()> {
        if self.postgres.is_some() {
            self.kill_postgres().await?;
        }
        if self.redis.is_some() {
            self.kill_redis().await?;
        }
        fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))
    }
}

/// The processes that a process started and that still run.
fn children(parent: ProcessId) -> Vec<ProcessId> {
    let path = format!("/proc/{0}/task/{0}/children", parent.pid);
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|pid| ProcessId::of(pid.parse().ok()?))
        .collect()
}

/// A folder of ours through which the services' user reaches his own.
fn open_folder(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))?;
    for folder in path.ancestors().take(2) {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
            .context("opening a folder of private services")?;
    }
    Ok(())
}

/// The folder of a stopped cluster that holds the suite run's template database; the first test of a suite run makes it.
async fn template(shared: &Stack, programs: &Programs, user: Option<&User>) -> Result<PathBuf> {
    let folder = shared.folder.join("private").join("template");
    open_folder(&folder)?;
    let lock = File::create(folder.join("lock")).context("making the template's lock")?;
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .context("waiting for the template's lock")?
        .context("waiting for the template's lock")?;
    if !folder.join(PASSWORD).is_file() {
        let postgres = folder.join("postgres");
        if postgres.exists() {
            fs::remove_dir_all(&postgres).context("removing half a template")?;
        }
        let password = init_postgres(programs, &folder, user).await?;
        let (mut postgres, postgres_url) = launch_postgres(programs, &folder, user, &password, free_port()?).await?;
        let stack = Stack {
            postgres_url,
            backend: BackendKind::Process,
            folder: folder.clone(),
            ..shared.clone()
        };
        crate::supervisor::make_template(&stack).await?;
        // In order, so that its files hold everything.
        postgres.stop(Signal::SIGINT).await?;
        fs::write(folder.join(PASSWORD), &password).context("writing the template's password")?;
    }
    drop(lock);
    Ok(folder)
}
