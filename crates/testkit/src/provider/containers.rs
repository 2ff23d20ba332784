//! Services and backends as containers (testcontainers). Every port is published on 127.0.0.1 only; every container
//! carries the label [`LABEL`], by which leftovers are found.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use futures_util::TryStreamExt as _;
use nix::sys::signal::Signal;
use sqlx::Connection as _;
use testcontainers::bollard::Docker;
use testcontainers::bollard::models::PortBinding;
use testcontainers::bollard::query_parameters::{
    CreateImageOptionsBuilder, KillContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use testcontainers::core::{AccessMode, IntoContainerPort as _, Mount, WaitFor};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerAsync, ContainerRequest, GenericImage, ImageExt as _};
use tokio::time::Instant;

use super::memory;
use super::ports::free_port;
use super::processes::ping_redis;
use super::server_binary;
use crate::stack::BackendKind;

/// The label that every container of a suite run carries; its value is the suite run.
pub const LABEL: &str = "kingsguard.suite-run";

/// How long a container may take to answer after its start. Reached only where something is wrong.
const START_DEADLINE: Duration = Duration::from_secs(90);

/// How often a state that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// How long the engine may take to hand out a container's log: now and then its answer stands still for good.
const LOG_WITHIN: Duration = Duration::from_secs(15);

/// How often it is asked for a log.
const LOG_TRIES: usize = 3;

/// Where the data of Postgres lies in its container when it lies in memory.
const POSTGRES_IN_MEMORY: &str = "/in-memory";

/// The images of Postgres: what `cargo xtask images` builds where no registry can be reached, then the official one.
const POSTGRES_IMAGES: [&str; 2] = ["kingsguard/postgres:local", "postgres:15.14-bookworm"];
/// The images of Redis, likewise.
const REDIS_IMAGES: [&str; 2] = ["kingsguard/redis:local", "redis:7.2.11-bookworm"];
/// The image of the backend, which only `cargo xtask images` can build.
const SERVER_IMAGES: [&str; 1] = ["kingsguard/server:local"];

/// The images that this provider needs, by name.
#[derive(Clone, Debug)]
pub struct Images {
    postgres: String,
    redis: String,
    server: String,
}

fn docker() -> Result<Docker> {
    Docker::connect_with_defaults().context("finding a container engine")
}

impl Images {
    /// Finds the images, pulling official ones that are not there yet. `KINGSGUARD_POSTGRES_IMAGE`,
    /// `KINGSGUARD_REDIS_IMAGE` and `KINGSGUARD_SERVER_IMAGE` name others.
    ///
    /// # Errors
    /// No engine answers, or an image is not there and cannot be had.
    pub async fn find() -> Result<Self> {
        let docker = docker()?;
        docker.ping().await.context("asking the container engine")?;
        // The backend first: it is never pulled, so a machine without it is not made to wait for a registry.
        Ok(Self {
            server: one_of(&docker, "KINGSGUARD_SERVER_IMAGE", &SERVER_IMAGES).await?,
            postgres: one_of(&docker, "KINGSGUARD_POSTGRES_IMAGE", &POSTGRES_IMAGES).await?,
            redis: one_of(&docker, "KINGSGUARD_REDIS_IMAGE", &REDIS_IMAGES).await?,
        })
    }
}

/// The label under which the backend's stand-in image says which binary it holds: length and time of change.
const BINARY_LABEL: &str = "kingsguard.binary";

/// The server's binary, where it was built after the image: a test must judge what was just built. An image without the
/// label is somebody's release and is taken as it is.
async fn newer_binary(image: &str) -> Result<Option<PathBuf>> {
    let inspected = docker()?
        .inspect_image(image)
        .await
        .context("looking at the backend's image")?;
    let held = inspected
        .config
        .and_then(|config| config.labels)
        .and_then(|labels| labels.get(BINARY_LABEL).cloned());
    let (Some(held), Ok(binary)) = (held, server_binary()) else {
        return Ok(None);
    };
    let facts = binary
        .metadata()
        .with_context(|| format!("looking at {}", binary.display()))?;
    let changed = facts.modified().context("asking for the time of the server's binary")?;
    let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Ok((held != format!("{}-{changed}", facts.len())).then_some(binary))
}

async fn one_of(docker: &Docker, variable: &str, known: &[&str]) -> Result<String> {
    let chosen = std::env::var(variable).ok();
    let candidates: Vec<&str> = chosen.as_deref().map_or_else(|| known.to_vec(), |image| vec![image]);
    for candidate in &candidates {
        if docker.inspect_image(candidate).await.is_ok() {
            return Ok((*candidate).to_owned());
        }
    }
    for candidate in candidates.iter().filter(|candidate| !candidate.ends_with(":local")) {
        let options = CreateImageOptionsBuilder::default().from_image(candidate).build();
        let pulled = docker.create_image(Some(options), None, None).try_collect::<Vec<_>>();
        if matches!(tokio::time::timeout(Duration::from_secs(300), pulled).await, Ok(Ok(_))) {
            return Ok((*candidate).to_owned());
        }
    }
    bail!(
        "no image of {} is there or can be pulled; build stand-ins: cargo xtask images",
        candidates.join(" or ")
    )
}

fn labelled(image: &str, suite_run: &str) -> ContainerRequest<GenericImage> {
    let (name, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
    GenericImage::new(name, tag)
        .with_wait_for(WaitFor::Nothing)
        .with_label(LABEL, suite_run)
        .with_startup_timeout(START_DEADLINE)
}

fn service(image: &str, suite_run: &str, inside: u16, published: u16) -> ContainerRequest<GenericImage> {
    let key = format!("{inside}/tcp");
    labelled(image, suite_run)
        .with_network("bridge")
        .with_mapped_port(published, inside.tcp())
        // The crate publishes on every address of the machine; nothing here is meant for others.
        .with_host_config_modifier(move |config| {
            let binding = PortBinding {
                host_ip: Some("127.0.0.1".into()),
                host_port: Some(published.to_string()),
            };
            config.port_bindings = Some(HashMap::from([(key.clone(), Some(vec![binding]))]));
        })
}

async fn wait_until<F: Future<Output = Result<()>>>(
    container: &ContainerAsync<GenericImage>,
    what: &str,
    mut ready: impl FnMut() -> F,
) -> Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let reason = match ready().await {
            Ok(()) => return Ok(()),
            Err(reason) => reason,
        };
        let running = container.is_running().await.unwrap_or(false);
        if !running || Instant::now() > deadline {
            let log = String::from_utf8_lossy(&read_log(container).await.unwrap_or_default()).into_owned();
            let state = if running {
                "is not ready in time"
            } else {
                "ended before it was ready"
            };
            return Err(reason.context(format!("container of {what} {state}; its log:\n{log}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn read_log(container: &ContainerAsync<GenericImage>) -> Result<Vec<u8>> {
    for _ in 0..LOG_TRIES {
        if let Ok(log) = tokio::time::timeout(LOG_WITHIN, read_log_once(container)).await {
            return log;
        }
    }
    bail!(
        "the container engine did not hand out a log within {} s, {LOG_TRIES} times",
        LOG_WITHIN.as_secs()
    )
}

async fn read_log_once(container: &ContainerAsync<GenericImage>) -> Result<Vec<u8>> {
    let mut log = container.stdout_to_vec().await.context("reading the container's log")?;
    log.extend(container.stderr_to_vec().await.context("reading the container's log")?);
    Ok(log)
}

/// Postgres and Redis as containers.
#[derive(Debug)]
pub struct Services {
    postgres: ContainerAsync<GenericImage>,
    redis: ContainerAsync<GenericImage>,
    suite_run: String,
    /// Address of a superuser.
    pub postgres_url: String,
    /// Address of the Redis.
    pub redis_url: String,
    /// How tests start their backend.
    pub backend: BackendKind,
}

impl Services {
    /// Starts both and waits until they answer.
    ///
    /// # Errors
    /// The engine or an image is missing, or one of the two does not come up.
    pub async fn start(suite_run: &str) -> Result<Self> {
        let images = Images::find().await.context("services as containers")?;
        let password = format!("{:032x}", rand::random::<u128>());
        let (postgres_port, redis_port) = (free_port()?, free_port()?);
        let mut postgres = service(&images.postgres, suite_run, 5432, postgres_port);
        if memory::has_room_for_a_stack() {
            postgres = postgres
                .with_mount(Mount::tmpfs_mount(POSTGRES_IN_MEMORY))
                .with_env_var("PGDATA", format!("{POSTGRES_IN_MEMORY}/data"));
        }
        let postgres = postgres
            // As for processes: the cheapest method that asks for a password.
            .with_env_var("POSTGRES_INITDB_ARGS", "--auth-host=md5")
            .with_env_var("POSTGRES_USER", "kingsguard")
            .with_env_var("POSTGRES_PASSWORD", &password)
            .with_env_var("POSTGRES_DB", "postgres")
            .with_cmd([
                "postgres",
                "-c",
                "fsync=off",
                "-c",
                "full_page_writes=off",
                "-c",
                "max_connections=400",
                "-c",
                "autovacuum=off",
            ])
            .start();
        let redis = service(&images.redis, suite_run, 6379, redis_port)
            .with_cmd([
                "redis-server",
                "--save",
                "",
                "--appendonly",
                "no",
                "--protected-mode",
                "no",
            ])
            .start();
        let (postgres, redis) = tokio::try_join!(postgres, redis).context("starting the services' containers")?;
        let postgres_url = format!("postgres://kingsguard:{password}@127.0.0.1:{postgres_port}/postgres");
        let redis_url = format!("redis://127.0.0.1:{redis_port}/");
        wait_until(&postgres, "Postgres", || async {
            let mut connection = sqlx::PgConnection::connect(&postgres_url)
                .await
                .context("connecting to Postgres")?;
            connection.ping().await.context("asking Postgres")
        })
        .await?;
        wait_until(&redis, "Redis", || ping_redis(&redis_url)).await?;
        let backend = BackendKind::Container {
            image: images.server.clone(),
            binary: newer_binary(&images.server).await?,
        };
        Ok(Self {
            postgres,
            redis,
            suite_run: suite_run.to_owned(),
            postgres_url,
            redis_url,
            backend,
        })
    }

    /// Removes every container of the suite run.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn stop(self) -> Result<()> {
        self.postgres.rm().await.context("removing the container of Postgres")?;
        self.redis.rm().await.context("removing the container of Redis")?;
        remove_all(&self.suite_run).await.map(drop)
    }
}

/// Removes every container of a suite run; says how many there were.
///
/// # Errors
/// The engine refuses.
pub async fn remove_all(suite_run: &str) -> Result<usize> {
    let docker = docker()?;
    let filters = HashMap::from([("label", vec![format!("{LABEL}={suite_run}")])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let containers = docker
        .list_containers(Some(options))
        .await
        .context("listing containers")?;
    let ids: Vec<String> = containers.into_iter().filter_map(|container| container.id).collect();
    for id in &ids {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        docker
            .remove_container(id, Some(options))
            .await
            .with_context(|| format!("removing the container {id}"))?;
    }
    Ok(ids.len())
}

/// One node of a backend as a container.
#[derive(Debug)]
pub struct BackendContainer {
    request: Option<ContainerRequest<GenericImage>>,
    container: Option<ContainerAsync<GenericImage>>,
}

impl BackendContainer {
    /// Describes the container; [`BackendContainer::start`] starts it.
    #[must_use]
    pub fn new(image: &str, suite_run: &str, settings: BTreeMap<String, String>) -> Self {
        // On the machine's own network the backend listens on loopback as a process does, and reaches what the test
        // itself serves there: a scripted model, a gate before Postgres.
        let mut request = labelled(image, suite_run).with_network("host");
        for (name, value) in settings {
            request = request.with_env_var(name, value);
        }
        Self {
            request: Some(request),
            container: None,
        }
    }

    /// Puts another binary in the place of the one that the image holds.
    #[must_use]
    pub fn with_binary(mut self, binary: &Path) -> Self {
        let mount = Mount::bind_mount(binary.display().to_string(), "/usr/local/bin/kingsguard-server")
            .with_access_mode(AccessMode::ReadOnly);
        self.request = self.request.map(|request| request.with_mount(mount));
        self
    }

    /// Starts the container.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn start(&mut self, log: &Path) -> Result<()> {
        let request = self.request.take().context("the container was started already")?;
        self.container = Some(request.start().await.context("starting the backend's container")?);
        self.write_log(log).await
    }

    fn running(&self) -> Result<&ContainerAsync<GenericImage>> {
        self.container.as_ref().context("the container was not started")
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// The container ends first, or `ready` does not say so in time.
    pub async fn wait_until<F: Future<Output = Result<()>>>(&self, ready: impl FnMut() -> F) -> Result<()> {
        wait_until(self.running()?, "the backend", ready).await
    }

    /// Writes what the container said so far to a file.
    ///
    /// # Errors
    /// The engine or the file system refuses.
    pub async fn write_log(&self, log: &Path) -> Result<()> {
        let bytes = read_log(self.running()?).await?;
        std::fs::write(log, bytes).with_context(|| format!("writing {}", log.display()))
    }

    /// Sends the container's process a signal.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        let options = KillContainerOptionsBuilder::default().signal(signal.as_str()).build();
        docker()?
            .kill_container(self.running()?.id(), Some(options))
            .await
            .context("signalling the backend's container")
    }

    /// The container's process, as this machine numbers it.
    ///
    /// # Errors
    /// The engine refuses, or runs on another machine.
    pub async fn process_id(&self) -> Result<u32> {
        let found = docker()?.inspect_container(self.running()?.id(), None).await;
        let pid = found.context("inspecting the backend's container")?.state;
        let pid = pid.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
        let pid = pid.filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        pid.context("finding the container's process on this machine: its engine runs on another one")
    }

    /// Waits for the end of the container's process; says its exit code.
    ///
    /// # Errors
    /// It does not end within 60 s.
    pub async fn wait_for_exit(&self) -> Result<Option<i32>> {
        let container = self.running()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while container
            .is_running()
            .await
            .context("looking at the backend's container")?
        {
            if Instant::now() > deadline {
                bail!("the backend's container still runs after 60 s");
            }
            tokio::time::sleep(LOOK).await;
        }
        let code = container.exit_code().await.context("asking for the exit code")?;
        Ok(code.and_then(|code| i32::try_from(code).ok()))
    }

    /// Removes the container, whether it runs or not.
    ///
    /// # Errors
    /// The engine refuses.
    pub async fn remove(self) -> Result<()> {
        match self.container {
            Some(container) => container.rm().await.context("removing the backend's container"),
            None => Ok(()),
        }
    }
}
