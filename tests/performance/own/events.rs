//! Durable events of many short answers: how many in a second, and how soon they arrive. Most of the work is that of
//! agents and tools, so there is no yardstick for it; that stands beside [`super::listings`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use tokio::time::Instant;

use crate::measurement::{Repeat, repeated};
use crate::thresholds::{EVENT_LATENCY_P99, EVENTS_PER_SECOND, GENERATOR_LATENESS_P99, SOCKETS};

covers!("BRG-6");

/// How long runs are started at the paced rate.
const PACED_FOR: Duration = Duration::from_secs(10);

/// The paced rate lies above what must be held, so that it is held over the whole window.
const PACED_RATE: f64 = EVENTS_PER_SECOND * 1.1;

const QUESTION: &str = "How can I spend less?";

/// An event at a socket: when it arrived after the capture's begin, and when the backend appended it.
struct Arrival {
    at_us: u64,
    appended_us: u64,
}

fn arrivals(views: &[(usize, RunView)], begin_unix_us: u64) -> Vec<Arrival> {
    let mut arrivals: Vec<Arrival> = views
        .iter()
        .flat_map(|(_, run)| run.frames())
        .filter_map(|frame| {
            let appended_ms = u64::try_from(frame.event()?.header.timestamp.as_unix_ms()).ok()?;
            Some(Arrival {
                at_us: frame.at_us,
                appended_us: (appended_ms * 1_000).saturating_sub(begin_unix_us),
            })
        })
        .collect();
    arrivals.sort_by_key(|arrival| arrival.at_us);
    arrivals
}

fn rate(arrivals: &[Arrival]) -> f64 {
    let (Some(first), Some(last)) = (arrivals.first(), arrivals.last()) else {
        return 0.0;
    };
    arrivals.len() as f64 / ((last.at_us - first.at_us) as f64 / 1e6)
}

/// Who talks: fifty users with records of their own and a socket each.
async fn audience(ctx: &TestContext) -> Vec<Chat> {
    let one = |nth: usize| async move {
        let user = ctx.user(&format!("user{nth}")).await;
        user.upload(&SampleRecords::generate(nth as u64, 40)).await;
        user.connect().await
    };
    join_all((0..SOCKETS).map(one)).await
}

/// What a window at the paced rate gave.
struct Paced {
    /// Events in a second, at the sockets.
    held: f64,
    latency: Timing,
    /// Of the generator.
    lateness: Timing,
}

/// Starts runs at the paced rate and takes their answers. Open model: runs start at their intended moments, whatever became
/// of those before.
async fn paced(ctx: &TestContext, chats: &mut [Chat], per_run: usize) -> Result<Paced, Repeat> {
    let unix_us = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970")
        .as_micros() as u64;
    let begin_unix_us = unix_us - ctx.capture().now_us();
    let every = Duration::from_secs_f64(per_run as f64 / PACED_RATE);
    let count = usize::try_from(PACED_FOR.as_micros() / every.as_micros()).expect("few");
    let began = Instant::now();
    let mut lateness = Timing::default();
    let mut asked = Vec::new();
    for nth in 0..count {
        let intended = began + every * u32::try_from(nth).expect("few");
        // sleeps because an open model sends at the intended moment
        tokio::time::sleep_until(intended).await;
        lateness.record(intended.elapsed());
        let socket = nth % SOCKETS;
        asked.push((socket, chats[socket].say(QUESTION).await));
    }
    let views = answers(chats, asked).await;
    let paced = arrivals(&views, begin_unix_us);
    assert_eq!(paced.len(), count * per_run, "every run has its events");
    let mut latency = Timing::default();
    for arrival in &paced {
        latency.record(Duration::from_micros(arrival.at_us.saturating_sub(arrival.appended_us)));
    }
    let (held, p99_ms) = (rate(&paced), latency.percentile_ms(99.0));
    if lateness.percentile(99.0) >= GENERATOR_LATENESS_P99 {
        let late = lateness.percentile_ms(99.0);
        return Err(Repeat::Disturbed(format!("the generator was {late:.1} ms late at p99")));
    }
    if held < EVENTS_PER_SECOND {
        return Err(Repeat::Missed(format!("{held:.0} events/s were held")));
    }
    if latency.percentile(99.0) >= EVENT_LATENCY_P99 {
        return Err(Repeat::Missed(format!("TIM-3: p99 {p99_ms:.1} ms")));
    }
    Ok(Paced {
        held,
        latency,
        lateness,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_durable_events_a_second_over_fifty_sockets_arrive_within_50_ms_at_p99() {
    TestContext::own(case!("TIM-3", "SEQ-1", "ISO-1"))
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 10_000)
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 1_000)
        .run(async |ctx| {
            let mut chats = audience(ctx).await;
            // Everyone's first run warms caches and tells how many events a run has.
            let mut per_run = 0;
            for chat in &mut chats {
                per_run = chat.ask(QUESTION).await.events().len();
            }
            let paced = repeated(ctx, "short_answers_event_latency_measurements", async || {
                paced(ctx, &mut chats, per_run).await
            })
            .await;
            ctx.figure("short_answers_events_per_second", paced.held, "events/s");
            for (name, percentile) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
                let name = format!("short_answers_event_latency_{name}_ms");
                ctx.figure(&name, paced.latency.percentile_ms(percentile), "ms");
            }
            ctx.figure_of_times("short_answers_event_latency_ms", &paced.latency);
            ctx.figure("generator_lateness_p99_ms", paced.lateness.percentile_ms(99.0), "ms");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sockets_ask_at_once_and_the_node_gives_what_it_can() {
    TestContext::own(case!("TIM-3", "SEQ-1"))
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 10_000)
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 1_000)
        .run(async |ctx| {
            ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
            let mut chats = audience(ctx).await;
            let mut asked = Vec::new();
            for _ in 0..8 {
                for (socket, chat) in chats.iter_mut().enumerate() {
                    asked.push((socket, chat.say(QUESTION).await));
                }
            }
            let views = answers(&mut chats, asked).await;
            let all = arrivals(&views, 0);
            assert_eq!(views.len(), 8 * SOCKETS);
            let reached = rate(&all);
            ctx.figure("short_answers_events_per_second_max", reached, "events/s");
            assert!(reached >= EVENTS_PER_SECOND, "{reached:.0} events/s");
        })
        .await;
}

/// Takes the answer to each message.
async fn answers(chats: &mut [Chat], asked: Vec<(usize, MessageId)>) -> Vec<(usize, RunView)> {
    let mut views = Vec::new();
    for (socket, message_id) in asked {
        let accepted = chats[socket].accepted(&message_id).await;
        let run = chats[socket].until_completed(&accepted.run_id).await;
        assert_eq!(run.completed().status, RunStatus::Completed);
        views.push((socket, run));
    }
    views
}
