//! Durable events of long answers: how many in a second, and how soon each is parsed at its client.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;

use super::bare_loop;
use super::listener::{Listener, own_lateness};
use crate::measurement::{Repeat, repeated};
use crate::thresholds::{DURABLE_SHARE_OF_YARDSTICK, EVENT_LATENCY_P99, EVENTS_PER_SECOND, LatencyGoal, SOCKETS};

const QUESTION: &str = "List my usage records";

/// Fifty users with so many records of their own, and a socket each.
async fn audience(ctx: &TestContext, records: usize) -> Vec<Listener> {
    let one = |nth: usize| async move {
        let user = ctx.user(&format!("user{nth}")).await;
        user.upload(&SampleRecords::generate(nth as u64, records)).await;
        Listener::connect(ctx, &user).await
    };
    join_all((0..SOCKETS).map(one)).await
}

/// Everyone's first listing, which warms caches; gives its frames.
async fn first_listings(listeners: &mut [Listener]) -> Vec<Vec<String>> {
    let each = listeners.iter_mut().map(|listener| async move {
        let mut frames = Vec::new();
        listener.ask(QUESTION, 1, |_, text| frames.push(text.to_owned())).await;
        frames
    });
    join_all(each).await
}

/// Has all sockets do something side by side, each in a task of its own.
async fn everyone<T: Send + 'static, F>(listeners: Vec<Listener>, each: impl Fn(Listener) -> F) -> Vec<T>
where
    F: Future<Output = T> + Send + 'static,
{
    let tasks: Vec<_> = listeners.into_iter().map(|one| tokio::spawn(each(one))).collect();
    let done = join_all(tasks).await.into_iter();
    done.map(|done| done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_sockets_take_long_answers_as_fast_as_they_come() {
    const RECORDS: usize = 2_000;
    const ROUNDS: usize = 3;
    TestContext::own(case!("SEQ-1", "SEQ-2", "ISO-1"))
        .with_setting("KINGSGUARD_RUN_DEADLINE_MS", 120_000)
        .run(async |ctx| {
            let mut listeners = audience(ctx, RECORDS).await;
            let database_url = ctx.backend().await.database_url();
            let frames = first_listings(&mut listeners).await;

            let began = Instant::now();
            let counts = everyone(listeners, |mut listener| async move {
                let mut events = 0;
                listener.ask(QUESTION, ROUNDS, |_, _| events += 1).await;
                events
            })
            .await;
            let held = counts.iter().sum::<usize>() as f64 / began.elapsed().as_secs_f64();
            assert!(counts.iter().all(|events| *events > RECORDS * ROUNDS), "{counts:?}");

            let bare = bare_loop::run(&database_url, &frames, ROUNDS, Duration::ZERO).await;
            ctx.figure_against("events_per_second_durable", held, "events/s", bare.per_second);
            assert!(
                held >= bare.per_second * DURABLE_SHARE_OF_YARDSTICK,
                "{held:.0} events/s, where the yardstick has {:.0}",
                bare.per_second
            );
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_events_a_second_are_parsed_soon() {
    at_a_rate(&LatencyGoal::AT_1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_events_a_second_are_parsed_soon() {
    at_a_rate(&LatencyGoal::AT_20_000).await;
}

/// Latency at a rate that is held: each socket's listing comes at its share of the rate, and every record counts from the
/// moment at which it was to be appended.
async fn at_a_rate(goal: &LatencyGoal) {
    let LatencyGoal {
        per_second,
        p99_goal,
        suffix,
    } = *goal;
    let per_socket = per_second / SOCKETS as u64;
    let records = usize::try_from(per_socket).expect("few") * 6;
    TestContext::own(case!("TIM-3", "SEQ-1"))
        .with_setting("KINGSGUARD_RUN_DEADLINE_MS", 120_000)
        .run(async |ctx| {
            let mut listeners = audience(ctx, records).await;
            let database_url = ctx.backend().await.database_url();
            let frames = first_listings(&mut listeners).await;
            let rounds = (records / frames[0].len()).max(1);
            let every = Duration::from_secs(1) / u32::try_from(per_second).expect("few");

            let measurements = format!("event_latency_measurements{suffix}");
            let (latency, bare) = repeated(ctx, &measurements, async || {
                let mut latency = Timing::default();
                let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
                let begin = Instant::now();
                let asking = std::mem::take(&mut listeners);
                let client = own_lateness(async {
                    for (own, listener) in everyone(asking, move |one| timed(one, per_socket, begin, unix)).await {
                        latency.add(&own);
                        listeners.push(listener);
                    }
                })
                .await;
                assert_eq!(latency.count(), (records * SOCKETS) as u64, "every record arrives");

                let bare = bare_loop::run(&database_url, &frames, rounds, every).await;
                for (who, lateness) in [("the client", client), ("the yardstick's generator", bare.lateness)] {
                    // Then half of the bound or more is not the backend's.
                    if lateness.percentile(99.0) * 2 > EVENT_LATENCY_P99 {
                        let late = lateness.percentile_ms(99.0);
                        return Err(Repeat::Disturbed(format!("{who} was {late:.1} ms late at p99")));
                    }
                }
                let p99 = latency.percentile(99.0);
                if per_second as f64 <= EVENTS_PER_SECOND && p99 > EVENT_LATENCY_P99 {
                    return Err(Repeat::Missed(format!("TIM-3: p99 {p99:?} at {per_second}/s")));
                }
                Ok((latency, bare.latency))
            })
            .await;
            ctx.figure_of_times(&format!("event_latency_ms{suffix}"), &latency);
            for (name, percentile) in [("p50", 50.0), ("p95", 95.0), ("p99", 99.0)] {
                ctx.figure_against(
                    &format!("event_latency_{name}_ms{suffix}"),
                    latency.percentile_ms(percentile),
                    "ms",
                    bare.percentile_ms(percentile),
                );
            }
            let p99 = latency.percentile(99.0);
            if p99 > p99_goal {
                eprintln!("p99 {p99:?} at {per_second}/s misses the goal of {p99_goal:?}");
            }
        })
        .await;
}

/// From the moment at which each record was to be appended to its being parsed; and who listened.
async fn timed(mut listener: Listener, per_second: u64, begin: Instant, begin_unix: Duration) -> (Timing, Listener) {
    let question = format!("{QUESTION} at {per_second} per second");
    let mut first_appended = None;
    let mut latency = Timing::default();
    listener
        .ask(&question, 1, |seen, _| {
            let (Some(index), Some(false)) = (seen.index, seen.is_final) else {
                return;
            };
            // Part 0 says what the listing is about.
            let Some(nth) = index.checked_sub(1) else { return };
            let now = begin_unix + begin.elapsed();
            let first = *first_appended.get_or_insert_with(|| Duration::from_millis(seen.appended_ms()));
            let intended = first + Duration::from_secs_f64(f64::from(nth) / per_second as f64);
            latency.record(now.saturating_sub(intended));
        })
        .await;
    (latency, listener)
}
