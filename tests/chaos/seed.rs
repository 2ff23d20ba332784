//! One seed: a service, its users, nemeses, healing, judgement.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use kingsguard_testkit::TestContext;
use kingsguard_testkit::case::Case;
use kingsguard_testkit::chaos::{Anomaly, Arena, CLAUSES, Nemesis, ServiceLinks, check};
use kingsguard_testkit::context::Builder;
use kingsguard_testkit::provider::clock::ProcessClock;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;

use crate::choice::Choice;
use crate::{healing, workload};

/// How long a node may be silent before another takes its runs over. Short, so that a pause fits into a run.
const LEASE: Duration = Duration::from_millis(1_000);

/// Anomalies that a failure names in full; the smallest comes first and all of them stand in the recording.
const ANOMALIES_TOLD: usize = 5;

/// The name of a seed's test.
pub fn name(seed: u64) -> String {
    format!("own::seed_{seed:010}")
}

/// Runs a seed.
///
/// # Panics
/// Something did not hold.
pub fn run(seed: u64, choice: &Choice) {
    let case = Case::made("chaos", &name(seed), CLAUSES, choice.repeat_command(seed));
    runtime().block_on(test(case, seed).run(async |ctx| {
        let (happened, anomalies) = strike(ctx, choice).await?;
        tell(ctx, &happened, &anomalies);
        judge(&anomalies)
    }));
}

/// What a seed runs on.
pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("the system gives threads")
}

/// A service of the test's own, which can be struck.
pub fn test(case: Case, seed: u64) -> Builder {
    let test = TestContext::own(case)
        .with_seed(seed)
        .with_private_services()
        .with_nodes(0);
    settings()
        .into_iter()
        .fold(test, |test, (name, value)| test.with_setting(name, value))
}

fn settings() -> Vec<(&'static str, u64)> {
    vec![
        ("KINGSGUARD_RUN_LEASE_MS", LEASE.as_millis() as u64),
        ("KINGSGUARD_HEARTBEAT_INTERVAL_MS", 1_000),
        ("KINGSGUARD_DRAIN_DEADLINE_MS", 1_000),
        ("KINGSGUARD_CLOSE_DEADLINE_MS", 300),
        ("KINGSGUARD_DATABASE_ACQUIRE_TIMEOUT_MS", 500),
        // What is refused is not what is judged here.
        ("KINGSGUARD_CONNECTIONS_PER_USER_MAX", 1_000),
        ("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 100_000),
        ("KINGSGUARD_MESSAGES_BURST_MAX", 10_000),
        ("KINGSGUARD_FRAMES_PER_SECOND_MAX", 10_000),
    ]
}

/// Lets users talk while nemeses strike, heals, and looks for anomalies; says how often each nemesis happened, too.
pub async fn strike(ctx: &TestContext, choice: &Choice) -> Result<(Vec<(Nemesis, u64)>, Vec<Anomaly>)> {
    let mut dice = StdRng::seed_from_u64(ctx.seed());
    let schedule = schedule(&mut dice, &choice.nemeses);
    let names: Vec<String> = schedule
        .iter()
        .map(|(nemesis, at)| format!("{nemesis} at {} ms", at.as_millis()))
        .collect();
    eprintln!("schedule: {}", names.join(", "));
    ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);

    let (services, clocks) = start_nodes(ctx, choice.nodes, &schedule).await?;
    let mut fronts = Vec::new();
    let mut urls = Vec::new();
    for node in 0..choice.nodes {
        let (front, url) = ctx.fault_proxy_before_node(node).await;
        fronts.push(front);
        urls.push(url);
    }
    let crowd = workload::Crowd::gather(ctx, &urls, &mut dice).await;
    let arena = Arena::new(ctx, fronts, services, crowd.users(), LEASE).with_clocks(clocks);

    let over = CancellationToken::new();
    let strikes = async {
        let strikes = schedule.iter().enumerate().map(async |(number, (nemesis, at))| {
            let mut dice = StdRng::seed_from_u64(ctx.seed() ^ (number as u64 + 1).rotate_left(32));
            // sleeps because the schedule is a matter of time: nemeses strike while work is under way
            tokio::time::sleep(*at).await;
            let happened = nemesis.strike(&arena, &mut dice).await?;
            anyhow::Ok((*nemesis, happened))
        });
        let happened = try_join_all(strikes).await;
        over.cancel();
        happened
    };
    let (happened, sent) = tokio::join!(strikes, crowd.work(ctx.seed(), &over));
    let happened = happened?;

    let history = healing::heal(ctx, &crowd, &sent).await.context("healing")?;
    Ok((happened, check(&history)))
}

/// Starts all nodes, each before links of its own to its services, with clocks of their own where one is to jump.
async fn start_nodes(
    ctx: &TestContext,
    nodes: usize,
    schedule: &[(Nemesis, Duration)],
) -> Result<(Vec<ServiceLinks>, Vec<ProcessClock>)> {
    let jumps = schedule.iter().any(|(nemesis, _)| *nemesis == Nemesis::ClockJump);
    let folder = ctx.backend().await.folder().to_owned();
    let mut links = Vec::new();
    let mut clocks = Vec::new();
    for node in 0..nodes {
        let (postgres, database_url) = ctx.fault_proxy_before_postgres().await;
        let (redis, redis_url) = ctx.fault_proxy_before_redis().await;
        let mut settings = vec![
            ("KINGSGUARD_DATABASE_URL", database_url),
            ("KINGSGUARD_REDIS_URL", redis_url),
        ];
        if jumps {
            let clock = ProcessClock::right(&folder.join(format!("clock-{node}.txt")))?;
            settings.extend(clock.settings());
            clocks.push(clock);
        }
        ctx.add_node_with(settings).await;
        links.push(ServiceLinks { postgres, redis });
    }
    Ok((links, clocks))
}

/// One to three nemeses and when each begins.
fn schedule(dice: &mut StdRng, nemeses: &[Nemesis]) -> Vec<(Nemesis, Duration)> {
    let count = dice.random_range(1..=3);
    let strikes = (0..count).filter_map(|_| {
        let nemesis = nemeses.choose(dice).copied()?;
        Some((nemesis, Duration::from_millis(dice.random_range(200..1_500))))
    });
    strikes.collect()
}

fn tell(ctx: &TestContext, happened: &[(Nemesis, u64)], anomalies: &[Anomaly]) {
    let mut sums: BTreeMap<Nemesis, u64> = BTreeMap::new();
    for (nemesis, times) in happened {
        *sums.entry(*nemesis).or_default() += times;
    }
    ctx.figure("chaos_seeds", 1.0, "count");
    ctx.figure("chaos_anomalies", anomalies.len() as f64, "count");
    ctx.figure("chaos_faults_happened", sums.values().sum::<u64>() as f64, "count");
    for (nemesis, times) in sums {
        ctx.figure(&format!("chaos_faults_happened.{nemesis}"), times as f64, "count");
    }
}

/// Fails by the smallest anomaly.
pub fn judge(anomalies: &[Anomaly]) -> Result<()> {
    if anomalies.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} anomalies; the smallest first:", anomalies.len());
    for anomaly in anomalies.iter().take(ANOMALIES_TOLD) {
        write!(text, "\n  {anomaly}")?;
    }
    bail!(text)
}
