//! Fourteen things that happen to services in the world. Each shows that it happened: a nemesis that struck nothing proves
//! nothing, so it fails its run.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::join_all;
use kingsguard_protocol::{ControlFrame, ErrorFrame, Timestamp};
use nix::sys::signal::Signal;
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::context::TestContext;
use crate::fault::{Direction, Fault, FaultProxy};
use crate::provider::clock::ProcessClock;
use crate::recording::FaultFacts;
use crate::user::SimulatedUser;

/// How long a fault on a link may wait for somebody whom it befalls. Clients come back within a second, but a node that another
/// nemesis took down has to start first.
const BEFALL_DEADLINE: Duration = Duration::from_secs(15);

/// How long a node may take to come back while other nemeses strike, too.
const RETURN_DEADLINE: Duration = Duration::from_secs(30);

/// How long one connection of a storm may take.
const STORM_PATIENCE: Duration = Duration::from_secs(3);

/// Something that happens to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Nemesis {
    /// Clients cannot reach a node.
    Partition,
    /// The way to a node comes and goes.
    Flapping,
    /// Nothing passes on the way to a node, and nobody is told.
    HalfOpen,
    /// A node is killed and comes back.
    KillNode,
    /// A node stands still for longer than its lease and goes on.
    PauseNode,
    /// Redis is killed and comes back empty.
    KillRedis,
    /// Redis loses everything that it holds.
    FlushRedis,
    /// Postgres is killed and comes back.
    KillPostgres,
    /// The way from a node to Postgres fails: what was asked may be done and its answer lost.
    CutPostgres,
    /// The way from a node to Redis fails.
    CutRedis,
    /// One node after the other stops in order and starts again.
    RollingRestart,
    /// The wall clock of a node jumps, and later back.
    ClockJump,
    /// Whoever is connected to a node reads slowly.
    SlowReader,
    /// Many connect at the same time, and leave.
    ConnectionStorm,
}

impl Nemesis {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Partition,
        Self::Flapping,
        Self::HalfOpen,
        Self::KillNode,
        Self::PauseNode,
        Self::KillRedis,
        Self::FlushRedis,
        Self::KillPostgres,
        Self::CutPostgres,
        Self::CutRedis,
        Self::RollingRestart,
        Self::ClockJump,
        Self::SlowReader,
        Self::ConnectionStorm,
    ];

    /// What it is called on a command line and in figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Flapping => "flapping",
            Self::HalfOpen => "half-open",
            Self::KillNode => "kill-node",
            Self::PauseNode => "pause-node",
            Self::KillRedis => "kill-redis",
            Self::FlushRedis => "flush-redis",
            Self::KillPostgres => "kill-postgres",
            Self::CutPostgres => "cut-postgres",
            Self::CutRedis => "cut-redis",
            Self::RollingRestart => "rolling-restart",
            Self::ClockJump => "clock-jump",
            Self::SlowReader => "slow-reader",
            Self::ConnectionStorm => "connection-storm",
        }
    }

    /// The one of this name.
    ///
    /// # Errors
    /// There is none; names those that there are.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::ALL.iter().copied().find(|nemesis| nemesis.name() == name);
        found.with_context(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|nemesis| nemesis.name()).collect();
            format!("unknown nemesis `{name}`; known are {}", known.join(", "))
        })
    }

    /// Strikes, and lets everything go back to its place; says how often something happened.
    ///
    /// # Errors
    /// Nothing happened, or something does not come back.
    pub async fn strike(self, arena: &Arena<'_>, dice: &mut StdRng) -> Result<u64> {
        let injected_us = arena.ctx.capture().now_us();
        let happened = match self {
            Self::Partition => {
                let span = pick(dice, 200..1_500);
                befall(arena.front(dice), &Fault::partition(), span).await
            }
            Self::Flapping => arena.flap(dice).await,
            Self::HalfOpen => {
                let span = pick(dice, 800..2_500);
                befall(arena.front(dice), &Fault::half_open(), span).await
            }
            Self::SlowReader => {
                let span = pick(dice, 500..2_000);
                let slow = Fault::bandwidth(dice.random_range(2_000..20_000)).with_direction(Direction::ToClient);
                befall(arena.front(dice), &slow, span).await
            }
            Self::KillNode => arena.kill_node(dice).await,
            Self::PauseNode => arena.pause_node(dice).await,
            Self::RollingRestart => arena.restart_all().await,
            Self::ClockJump => arena.jump_clock(dice).await,
            Self::KillRedis => arena.kill_redis(dice).await,
            Self::FlushRedis => arena.flush_redis(dice).await,
            Self::KillPostgres => arena.kill_postgres(dice).await,
            Self::CutPostgres => fail_for_a_while(&arena.services_of_one(dice).postgres, dice).await,
            Self::CutRedis => fail_for_a_while(&arena.services_of_one(dice).redis, dice).await,
            Self::ConnectionStorm => arena.storm(dice).await,
        };
        let happened = happened.with_context(|| format!("striking with {self}"))?;
        ensure!(happened > 0, "{self} did not happen: the run proves nothing about it");
        // What stands still or is gone cannot keep absolute times.
        let struck = FaultFacts {
            what: format!("nemesis {self}"),
            injected_us,
            lifted_us: Some(arena.ctx.capture().now_us()),
            happened,
        };
        arena.ctx.capture().update_facts(|facts| facts.faults.push(struck));
        Ok(happened)
    }
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn pick(dice: &mut StdRng, milliseconds: Range<u64>) -> Duration {
    Duration::from_millis(dice.random_range(milliseconds))
}

/// The ways from one node to its services.
#[derive(Debug)]
pub struct ServiceLinks {
    /// Before Postgres.
    pub postgres: FaultProxy,
    /// Before Redis.
    pub redis: FaultProxy,
}

/// Lets a fault act on a link for a while, and until it befell somebody; says how often it did.
async fn befall(link: &FaultProxy, fault: &Fault, span: Duration) -> Result<u64> {
    let guard = link.inject(fault.clone());
    let until = Instant::now() + span;
    let befallen = timeout(BEFALL_DEADLINE, guard.until_happened(1)).await;
    ensure!(befallen.is_ok(), "{fault} befell nobody");
    tokio::time::sleep_until(until).await;
    Ok(guard.lift())
}

/// One of the ways in which a link between a node and a service fails.
async fn fail_for_a_while(link: &FaultProxy, dice: &mut StdRng) -> Result<u64> {
    let (fault, span) = match dice.random_range(0..4) {
        0 => (Fault::partition(), 200..1_500),
        1 => (Fault::half_open(), 800..2_500),
        // What was asked is done, and nobody hears of it.
        2 => (Fault::half_open().with_direction(Direction::ToClient), 800..2_500),
        _ => {
            // High, for a link to Redis may bring no more than a few answers in the time in which the fault must act.
            let probability = dice.random_range(0.5..1.0);
            (Fault::cut(probability).with_direction(Direction::ToClient), 500..2_000)
        }
    };
    befall(link, &fault, pick(dice, span)).await
}

/// Where nemeses strike: nodes, services of the test's own, and the links between clients, nodes and services. Several strike at
/// the same time, but each thing is in the hands of one alone.
#[derive(Debug)]
pub struct Arena<'c> {
    ctx: &'c TestContext,
    /// One before each node; all clients go through them.
    fronts: Vec<FaultProxy>,
    /// Of each node.
    services: Vec<ServiceLinks>,
    users: Vec<SimulatedUser>,
    /// Of each node that was started with one.
    clocks: Vec<ProcessClock>,
    lease: Duration,
    nodes: Mutex<()>,
    redis: Mutex<()>,
    postgres: Mutex<()>,
}

impl<'c> Arena<'c> {
    /// All nodes of a test with services of its own, each behind one of `fronts` and before its own `services`; `users` connect
    /// in storms; `lease` is how long a node may stand still before another takes its runs over.
    #[must_use]
    pub fn new(
        ctx: &'c TestContext,
        fronts: Vec<FaultProxy>,
        services: Vec<ServiceLinks>,
        users: Vec<SimulatedUser>,
        lease: Duration,
    ) -> Self {
        Self {
            ctx,
            fronts,
            services,
            users,
            clocks: Vec::new(),
            lease,
            nodes: Mutex::default(),
            redis: Mutex::default(),
            postgres: Mutex::default(),
        }
    }

    /// The clocks that the nodes were started with.
    #[must_use]
    pub fn with_clocks(mut self, clocks: Vec<ProcessClock>) -> Self {
        self.clocks = clocks;
        self
    }

    fn front(&self, dice: &mut StdRng) -> &FaultProxy {
        &self.fronts[dice.random_range(0..self.fronts.len())]
    }

    fn services_of_one(&self, dice: &mut StdRng) -> &ServiceLinks {
        &self.services[self.node(dice)]
    }

    fn node(&self, dice: &mut StdRng) -> usize {
        dice.random_range(0..self.fronts.len())
    }

    async fn flap(&self, dice: &mut StdRng) -> Result<u64> {
        let mut happened = 0;
        for _ in 0..dice.random_range(3..6) {
            let fault = if dice.random_bool(0.5) {
                Fault::partition()
            } else {
                Fault::reset()
            };
            let span = pick(dice, 30..200);
            happened += befall(self.front(dice), &fault, span).await?;
            sleep(pick(dice, 30..300)).await;
        }
        Ok(happened)
    }

    async fn kill_node(&self, dice: &mut StdRng) -> Result<u64> {
        let _own = self.nodes.lock().await;
        let node = self.node(dice);
        self.ctx.backend().await.kill(node).await?;
        sleep(pick(dice, 0..1_500)).await;
        self.bring_back(node).await?;
        Ok(1)
    }

    async fn pause_node(&self, dice: &mut StdRng) -> Result<u64> {
        let _own = self.nodes.lock().await;
        let node = self.node(dice);
        let span = self.lease.mul_f64(dice.random_range(1.3..2.5));
        let process = {
            let mut backend = self.ctx.backend().await;
            backend.signal(node, Signal::SIGSTOP).await?;
            backend.process(node)?
        };
        sleep(span).await;
        let stood_still = process.is_stopped();
        self.ctx.backend().await.signal(node, Signal::SIGCONT).await?;
        ensure!(stood_still, "node {node} did not stand still");
        Ok(1)
    }

    /// Sets a node's clock off for a while, and back; each time the node says itself what time it has.
    async fn jump_clock(&self, dice: &mut StdRng) -> Result<u64> {
        let _own = self.nodes.lock().await;
        let node = self.node(dice);
        let clock = self.clocks.get(node).context("the nodes were started without clocks")?;
        let span = dice.random_range(2..60);
        let seconds = if dice.random_bool(0.5) { span } else { -span };
        clock.set(seconds)?;
        self.until_off_by(node, seconds).await?;
        sleep(pick(dice, 300..1_500)).await;
        clock.set(0)?;
        self.until_off_by(node, 0).await?;
        Ok(2)
    }

    /// Waits until a node's own time is off by so many seconds. Every refusal tells the time.
    async fn until_off_by(&self, node: usize, seconds: i64) -> Result<()> {
        let deadline = Instant::now() + BEFALL_DEADLINE;
        let http = self.ctx.http_of(node).await;
        loop {
            let refusal: ErrorFrame = http.try_get("/api/threads").await?.parse();
            let off_ms = refusal.timestamp.as_unix_ms() - Timestamp::now().as_unix_ms();
            if (off_ms - seconds * 1_000).abs() < 1_000 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the clock of node {node} is off by {off_ms} ms, not {seconds} s"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn restart_all(&self) -> Result<u64> {
        let _own = self.nodes.lock().await;
        for node in 0..self.fronts.len() {
            self.ctx.backend().await.stop(node).await?;
            self.bring_back(node).await?;
        }
        Ok(self.fronts.len() as u64)
    }

    /// Starts a node that is down. It may need several starts, where Postgres is away as well.
    async fn bring_back(&self, node: usize) -> Result<()> {
        let deadline = Instant::now() + RETURN_DEADLINE;
        loop {
            let mut backend = self.ctx.backend().await;
            match backend.start(node).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error.context("starting a node again")),
                Err(_) => backend.kill(node).await?,
            }
            drop(backend);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn kill_redis(&self, dice: &mut StdRng) -> Result<u64> {
        let _own = self.redis.lock().await;
        self.ctx.services().await.kill_redis().await?;
        sleep(pick(dice, 0..1_500)).await;
        self.ctx.services().await.start_redis().await?;
        Ok(1)
    }

    async fn flush_redis(&self, dice: &mut StdRng) -> Result<u64> {
        let _own = self.redis.lock().await;
        let times = dice.random_range(1..5);
        for _ in 0..times {
            self.ctx.services().await.flush_redis().await?;
            sleep(pick(dice, 50..400)).await;
        }
        Ok(times)
    }

    async fn kill_postgres(&self, dice: &mut StdRng) -> Result<u64> {
        let _own = self.postgres.lock().await;
        self.ctx.services().await.kill_postgres().await?;
        sleep(pick(dice, 0..1_500)).await;
        self.ctx.services().await.start_postgres().await?;
        Ok(1)
    }

    /// Many connections at once; counts those that were served to the end of their handshake.
    async fn storm(&self, dice: &mut StdRng) -> Result<u64> {
        let deadline = Instant::now() + RETURN_DEADLINE;
        loop {
            let connections = (0..dice.random_range(20..50)).map(|_| {
                let user = &self.users[dice.random_range(0..self.users.len())];
                let front = self.front(dice).address();
                timeout(STORM_PATIENCE, come_and_go(user, format!("http://{front}")))
            });
            let served = join_all(connections.collect::<Vec<_>>()).await;
            let served = served.into_iter().filter(|served| matches!(served, Ok(true))).count();
            if served > 0 {
                return Ok(served as u64);
            }
            if Instant::now() > deadline {
                bail!("no connection of a storm was served");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Connects, does the handshake and leaves without a word; says whether it came so far.
async fn come_and_go(user: &SimulatedUser, base_url: String) -> bool {
    let Ok(Ok(mut chat)) = user.try_reach(user.options().with_base_url(&base_url)).await else {
        return false;
    };
    let offered = chat
        .wait_for(STORM_PATIENCE, |frame| {
            matches!(frame.control(), Some(ControlFrame::HandshakeResponse(_)))
        })
        .await;
    let acknowledgement = r#"{"type":"handshake_acknowledged"}"#;
    if offered.is_none() || chat.try_send_text(acknowledgement).await.is_err() {
        return false;
    }
    let complete = chat
        .wait_for(STORM_PATIENCE, |frame| {
            matches!(frame.control(), Some(ControlFrame::HandshakeComplete(_)))
        })
        .await;
    chat.drop_connection().await;
    complete.is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_nemesis_has_a_name_of_its_own_by_which_it_is_found() {
        let names: BTreeSet<&str> = Nemesis::ALL.iter().map(|nemesis| nemesis.name()).collect();
        assert_eq!(names.len(), Nemesis::ALL.len());
        for nemesis in Nemesis::ALL {
            assert_eq!(Nemesis::named(nemesis.name()).ok(), Some(*nemesis));
        }
    }

    #[test]
    fn an_unknown_nemesis_is_refused_with_those_that_are_known() {
        let refused = Nemesis::named("kill-everything")
            .expect_err("there is none")
            .to_string();
        assert!(
            Nemesis::ALL.iter().all(|nemesis| refused.contains(nemesis.name())),
            "{refused}"
        );
    }
}
