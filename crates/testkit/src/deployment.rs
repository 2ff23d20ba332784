//! A test's own backend: one or several nodes on one database and one Redis prefix.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::process::ProcessId;
use crate::provider::containers::BackendContainer;
use crate::provider::ports::free_port;
use crate::provider::processes::{Launch, Running};
use crate::provider::{sabotaged_server_binary, server_binary};
use crate::sabotage::{Sabotage, Saboteur};
use crate::stack::{BackendKind, Stack, delete_keys, with_database};

/// The setting by which a node is started from the binary that plants faults.
pub(crate) const SABOTAGE: &str = "KINGSGUARD_SABOTAGE";

/// A backend of one test: its database, its Redis prefix, its nodes.
#[derive(Debug)]
pub struct Deployment {
    stack: Stack,
    name: String,
    folder: PathBuf,
    settings: BTreeMap<String, String>,
    /// Where the first node will listen: known before it is started.
    first_port: u16,
    nodes: Vec<Node>,
    sabotage: Option<Sabotage>,
    /// Before each node, where the suite is being proved; the first one before its node is added.
    saboteurs: Vec<Saboteur>,
}

/// One process or container of the backend.
#[derive(Debug)]
pub struct Node {
    index: usize,
    port: u16,
    log: PathBuf,
    settings: BTreeMap<String, String>,
    body: Option<Body>,
}

#[derive(Debug)]
enum Body {
    Process(Box<Running>),
    Container(Box<BackendContainer>),
}

impl Deployment {
    /// Makes a database and a Redis prefix of its own; starts no node yet. `folder` takes the logs.
    ///
    /// # Errors
    /// Postgres refuses, or the folder cannot be made.
    pub async fn prepare(
        stack: Stack,
        folder: &Path,
        chosen: &BTreeMap<String, String>,
        sabotage: Option<Sabotage>,
    ) -> Result<Self> {
        let name = stack.unique_name();
        std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let database_url = stack.create_database(&name).await?;
        let mut settings = test_settings();
        settings.insert("KINGSGUARD_DATABASE_URL".into(), database_url);
        settings.insert("KINGSGUARD_REDIS_URL".into(), stack.redis_url.clone());
        settings.insert("KINGSGUARD_REDIS_PREFIX".into(), name.clone());
        settings.extend(chosen.clone());
        let mut deployment = Self {
            stack,
            name,
            folder: folder.to_owned(),
            settings,
            first_port: free_port()?,
            nodes: Vec::new(),
            sabotage,
            saboteurs: Vec::new(),
        };
        deployment.put_saboteur_before(deployment.first_port)?;
        Ok(deployment)
    }

    fn put_saboteur_before(&mut self, port: u16) -> Result<()> {
        if let Some(sabotage) = &self.sabotage {
            let saboteur = Saboteur::before(&format!("127.0.0.1:{port}"), sabotage);
            self.saboteurs
                .push(saboteur.context("listening on loopback before a node")?);
        }
        Ok(())
    }

    /// Starts one more node on the same database and Redis prefix; says which.
    ///
    /// # Errors
    /// It does not become ready.
    pub async fn add_node(&mut self, chosen: &BTreeMap<String, String>) -> Result<usize> {
        let port = if self.nodes.is_empty() {
            self.first_port
        } else {
            free_port()?
        };
        self.add_node_on(port, chosen).await
    }

    /// The same, on a port that somebody chose.
    ///
    /// # Errors
    /// It does not become ready, as where the port is taken.
    pub async fn add_node_on(&mut self, port: u16, chosen: &BTreeMap<String, String>) -> Result<usize> {
        let index = self.nodes.len();
        if index > 0 {
            self.put_saboteur_before(port)?;
        }
        let mut settings = self.settings.clone();
        settings.extend(chosen.clone());
        settings
            .entry("KINGSGUARD_NODE_NAME".into())
            .or_insert_with(|| format!("node-{index}"));
        self.nodes.push(Node {
            index,
            port,
            log: self.folder.join(format!("server-{index}.log")),
            settings,
            body: None,
        });
        self.start(index).await?;
        Ok(index)
    }

    /// Starts a node that is down, on the port that it had.
    ///
    /// # Errors
    /// It runs already, or does not become ready.
    pub async fn start(&mut self, index: usize) -> Result<()> {
        self.launch(index)?;
        self.wait_until_ready(index).await
    }

    /// Starts a node that is down and does not wait for it: for tests of a start that must fail or be slow.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn launch(&mut self, index: usize) -> Result<()> {
        let stack = &self.stack;
        let node = self
            .nodes
            .get_mut(index)
            .with_context(|| format!("looking for node {index}"))?;
        if node.body.is_some() {
            bail!("node {index} runs already");
        }
        let mut settings = node.settings.clone();
        settings.insert("KINGSGUARD_LISTEN".into(), format!("127.0.0.1:{}", node.port));
        // Mounted into a container from outside, so that no image holds what must never be released.
        let sabotaged = settings
            .contains_key(SABOTAGE)
            .then(sabotaged_server_binary)
            .transpose()?;
        node.body = Some(match &stack.backend {
            BackendKind::Process => {
                let binary = sabotaged.map_or_else(server_binary, Ok)?;
                Body::Process(Box::new(Running::start(Launch {
                    name: "kingsguard-server",
                    program: &binary,
                    args: Vec::new(),
                    settings,
                    log: &node.log,
                    user: None,
                })?))
            }
            BackendKind::Container { image, binary } => {
                let container = BackendContainer::new(image, &stack.suite_run, settings);
                Body::Container(Box::new(match sabotaged.as_ref().or(binary.as_ref()) {
                    Some(binary) => container.with_binary(binary),
                    None => container,
                }))
            }
        });
        Ok(())
    }

    async fn wait_until_ready(&mut self, index: usize) -> Result<()> {
        let node = self.node_mut(index)?;
        let url = format!("http://127.0.0.1:{}/health/ready", node.port);
        let client = plain_client();
        let ready = || async {
            let answer = client
                .get(&url)
                .send()
                .await
                .context("asking the backend whether it is ready")?;
            if !answer.status().is_success() {
                bail!(
                    "the backend says it is not ready: {} {}",
                    answer.status(),
                    answer.text().await.unwrap_or_default()
                );
            }
            Ok(())
        };
        match node.body.as_mut().context("node is down")? {
            Body::Process(running) => running.wait_until(ready).await,
            Body::Container(container) => {
                container.start(&node.log).await?;
                container.wait_until(ready).await
            }
        }
    }

    fn node_mut(&mut self, index: usize) -> Result<&mut Node> {
        self.nodes
            .get_mut(index)
            .with_context(|| format!("looking for node {index}"))
    }

    /// The address of a node; that of the first one before it is added as well.
    ///
    /// # Panics
    /// There is no such node.
    #[must_use]
    pub fn url(&self, index: usize) -> String {
        if let Some(saboteur) = self.saboteurs.get(index) {
            return format!("http://{}", saboteur.address());
        }
        let port = match (index, self.nodes.first()) {
            (0, None) => self.first_port,
            _ => self.nodes[index].port,
        };
        format!("http://127.0.0.1:{port}")
    }

    /// How many nodes there are, running or not.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The database's name, which is also the Redis prefix.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The database's address, for a test that looks behind the backend.
    #[must_use]
    pub fn database_url(&self) -> String {
        with_database(&self.stack.postgres_url, &self.name)
    }

    /// The stack that this backend stands on.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The settings that every node starts with.
    #[must_use]
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Changes a setting of a node for its next start.
    ///
    /// # Errors
    /// There is no such node.
    pub fn set(&mut self, index: usize, name: &str, value: impl ToString) -> Result<()> {
        self.node_mut(index)?
            .settings
            .insert(name.to_owned(), value.to_string());
        Ok(())
    }

    /// What a node wrote to its log so far.
    ///
    /// # Errors
    /// There is no such node, or its log cannot be read.
    pub async fn log(&mut self, index: usize) -> Result<String> {
        let node = self.node_mut(index)?;
        if let Some(Body::Container(container)) = &node.body {
            container.write_log(&node.log).await?;
        }
        let bytes = std::fs::read(&node.log).with_context(|| format!("reading {}", node.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Where the logs of the nodes are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process of a node.
    ///
    /// # Errors
    /// It is down, or a container.
    pub fn process(&self, index: usize) -> Result<ProcessId> {
        match self.nodes.get(index).and_then(|node| node.body.as_ref()) {
            Some(Body::Process(running)) => Ok(running.id()),
            Some(Body::Container(_)) => bail!("node {index} is a container"),
            None => bail!("node {index} is down"),
        }
    }

    /// The process of a node, for [`crate::monitor`].
    ///
    /// # Errors
    /// The node is down, or runs in a container of another machine.
    pub async fn process_id(&self, index: usize) -> Result<u32> {
        let node = self.nodes.get(index);
        let node = node.with_context(|| format!("looking for node {index}"))?;
        match node.body.as_ref().context("node is down")? {
            Body::Process(running) => Ok(running.id().pid),
            Body::Container(container) => container.process_id().await,
        }
    }

    /// Sends a node a signal and does not wait.
    ///
    /// # Errors
    /// It is down.
    pub async fn signal(&mut self, index: usize, signal: Signal) -> Result<()> {
        match self.node_mut(index)?.body.as_mut().context("node is down")? {
            Body::Process(running) => {
                running.signal(signal);
                Ok(())
            }
            Body::Container(container) => container.signal(signal).await,
        }
    }

    /// Waits until a node has ended by itself; says the exit code, `None` where a signal ended it.
    ///
    /// # Errors
    /// It is down already.
    pub async fn wait_for_exit(&mut self, index: usize) -> Result<Option<i32>> {
        let node = self.node_mut(index)?;
        match node.body.take().context("node is down")? {
            Body::Process(mut running) => Ok(running.wait().await.context("waiting for the backend")?.code()),
            Body::Container(container) => {
                let code = container.wait_for_exit().await?;
                container.write_log(&node.log).await?;
                container.remove().await?;
                Ok(code)
            }
        }
    }

    /// Stops a node in order (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// It is down already.
    pub async fn stop(&mut self, index: usize) -> Result<Option<i32>> {
        self.signal(index, Signal::SIGTERM).await?;
        self.wait_for_exit(index).await
    }

    /// Kills a node (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// It is down already.
    pub async fn kill(&mut self, index: usize) -> Result<()> {
        self.signal(index, Signal::SIGKILL).await?;
        self.wait_for_exit(index).await.map(drop)
    }

    /// Stops a node in order and starts it again on the same port.
    ///
    /// # Errors
    /// It does not become ready again.
    pub async fn restart(&mut self, index: usize) -> Result<()> {
        self.stop(index).await?;
        self.start(index).await
    }

    /// Ends every node at once.
    ///
    /// # Errors
    /// Something does not end.
    pub async fn end(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            match node.body.take() {
                Some(Body::Process(mut running)) => running.stop(Signal::SIGKILL).await?,
                Some(Body::Container(container)) => {
                    container.write_log(&node.log).await?;
                    container.remove().await?;
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Removes the database and the keys. Nodes must have ended.
    ///
    /// # Errors
    /// A service refuses.
    pub async fn forget(&self) -> Result<()> {
        self.stack.drop_database(&self.name).await?;
        delete_keys(&self.stack.redis_url, &self.name).await
    }
}

impl Node {
    /// Which node it is.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }
}

/// Settings that every backend of a test starts with, unless the test chooses others.
fn test_settings() -> BTreeMap<String, String> {
    [
        // Hashing is tested for what it does, not for how long it takes.
        ("KINGSGUARD_ARGON2_MEMORY_KIB", "64".to_owned()),
        ("KINGSGUARD_ARGON2_PASSES", "1".to_owned()),
        // All users of a test share 127.0.0.1.
        ("KINGSGUARD_CONNECTIONS_PER_ADDRESS_MAX", "10000".to_owned()),
        ("KINGSGUARD_LOGINS_PER_MINUTE_MAX", "100000".to_owned()),
        // Many tests share one Postgres, and each connection is a process of it that learns everything anew.
        ("KINGSGUARD_DATABASE_CONNECTIONS_MAX", "4".to_owned()),
        (
            "KINGSGUARD_JWT_SECRET",
            format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()),
        ),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A client that asks a backend whether it is ready.
pub(crate) fn plain_client() -> reqwest::Client {
    rustls::crypto::ring::default_provider().install_default().ok();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_secs(5))
        .build()
        .expect("the options are constant")
}
