//! A backend for a person: services, one node, and a fresh user with usage records, until a signal.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use kingsguard_protocol::http::TokenResponse;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use crate::capture::Capture;
use crate::deployment::Deployment;
use crate::http::{Answer, Http};
use crate::provider::ProviderChoice;
use crate::sabotage::Sabotage;
use crate::sample::SampleRecords;
use crate::supervisor;

/// Rows that the user has: enough that every tool has something to compute, few enough to be there at once.
const SAMPLE_ROWS: usize = 2_000;

/// The rows are the same each time, so that two people see the same figures.
const SAMPLE_SEED: u64 = 7;

/// What a person needs to talk to the backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Such as `http://127.0.0.1:8080`.
    pub http_url: String,
    /// Such as `ws://127.0.0.1:8080/ws`.
    pub ws_url: String,
    /// Access token of the user.
    pub token: String,
    /// The user, who has usage records.
    pub user_id: String,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "HTTP       {}", self.http_url)?;
        writeln!(f, "WebSocket  {}?token=TOKEN", self.ws_url)?;
        writeln!(f, "user       {} with {SAMPLE_ROWS} usage records", self.user_id)?;
        writeln!(f, "token      {}", self.token)?;
        write!(f, "ask it: How can I spend less?   (Ctrl-C ends everything)")
    }
}

/// Starts everything, announces it, and removes everything when SIGINT or SIGTERM comes.
///
/// # Errors
/// The services cannot be had, the backend does not become ready, or something stays behind.
pub async fn run(choice: ProviderChoice, port: u16, announce: impl FnOnce(&Served) -> Result<()>) -> Result<()> {
    // Listened to from the start, so that a signal during the start is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("listening to SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening to SIGTERM")?;
    let own_pid = std::process::id();
    let (stack, path) = tokio::task::spawn_blocking(move || supervisor::up(choice, own_pid))
        .await
        .context("starting the services")??;
    let folder = stack.folder.join("serve");
    let mut backend = Deployment::prepare(stack, &folder, &BTreeMap::new(), Sabotage::from_env()?).await?;
    let started = async {
        let node = match port {
            0 => backend.add_node(&BTreeMap::new()).await?,
            port => backend.add_node_on(port, &BTreeMap::new()).await?,
        };
        announce(&fresh_user(&backend.url(node)).await?)
    };
    let until_signal = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let result = tokio::select! {
        result = async { started.await?; std::future::pending().await } => result,
        () = until_signal => Ok(()),
    };
    let ended = end(backend, &path).await;
    result.and(ended)
}

async fn end(mut backend: Deployment, path: &std::path::Path) -> Result<()> {
    let stopped = backend.end().await;
    let path = path.to_owned();
    tokio::task::spawn_blocking(move || supervisor::down(&path))
        .await
        .context("stopping the services")??;
    stopped
}

async fn fresh_user(http_url: &str) -> Result<Served> {
    let http = Http::new(http_url, Capture::default());
    let unique = uuid::Uuid::now_v7().simple();
    let password = format!("{:032x}", rand::random::<u128>());
    let account = serde_json::json!({"email": format!("guest-{unique}@example.test"), "password": password});
    let answer = http
        .try_send(http.request(http::Method::POST, "/auth/register").json(&account))
        .await;
    let tokens: TokenResponse = accepted(answer.context("registering a user")?, 201)?.parse();
    let token = tokens.access_token;
    let records = SampleRecords::generate(SAMPLE_SEED, SAMPLE_ROWS);
    let http = http.with_bearer(token.reveal());
    let upload = http.request(http::Method::POST, "/api/usage-records");
    let upload = upload.json(&serde_json::json!({"records": records.rows()}));
    accepted(http.try_send(upload).await.context("uploading usage records")?, 201)?;
    Ok(Served {
        ws_url: format!("{}/ws", http_url.replacen("http", "ws", 1)),
        http_url: http_url.to_owned(),
        token: token.reveal().to_owned(),
        user_id: tokens.user_id.to_string(),
    })
}

fn accepted(answer: Answer, status: u16) -> Result<Answer> {
    anyhow::ensure!(
        answer.status() == status,
        "the backend answered {}: {}",
        answer.status(),
        answer.text()
    );
    Ok(answer)
}
