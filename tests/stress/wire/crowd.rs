//! Many users at once.

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use kingsguard_protocol::http::UsageRecord;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

covers!("STRESS", "EVT");

/// Twenty-five records that cost `cost` each and whose names carry the user's canary.
fn records(user: &SimulatedUser, cost: u64) -> SampleRecords {
    let row = |index: i64| UsageRecord {
        timestamp: (Utc::now() - TimeDelta::hours(index + 1)).into(),
        model: "gpt-4o-mini".into(),
        input_tokens: 100,
        output_tokens: 10,
        latency_ms: Some(300),
        feature: Some(format!("feature-{}", user.canary())),
        cost_microusd: Some(cost),
        prompt_hash: Some(format!("{}-{index}", user.canary())),
        success: Some(true),
    };
    SampleRecords::from_rows((0..25).map(row).collect())
}

/// What one user saw of his runs.
struct Seen {
    runs: Vec<String>,
    events: u64,
}

/// Asks `runs` questions at once and takes all answers; each must have exactly this user's figures, and the log no hole.
async fn talk(ctx: &TestContext, nth: u64, runs: usize) -> Seen {
    let user = ctx.user(&format!("user{nth}")).await;
    user.upload(&records(&user, 1_000 + nth)).await;
    let mut chat = user.connect().await;
    let mut asked = Vec::new();
    for round in 0..runs {
        asked.push(chat.say(&format!("What did I spend? {} {round}", user.canary())).await);
    }
    let mut seen = Seen {
        runs: Vec::new(),
        events: 0,
    };
    for message_id in asked {
        let accepted = chat.accepted(&message_id).await;
        let run = chat.until_completed(&accepted.run_id).await;
        assert_eq!(
            (run.completed().status, run.completed().success),
            (RunStatus::Completed, true)
        );
        let spend = &run.completed().result["spend_by_model"];
        assert_eq!(
            spend["total_cost_microusd"],
            25 * (1_000 + nth),
            "figures of another user"
        );
        assert_eq!(
            run.completed().result["spend_by_feature"]["features"][0]["feature"],
            format!("feature-{}", user.canary())
        );
        for event in run.events() {
            seen.events += 1;
            assert_eq!(event.header.seq, seen.events, "a hole or a repeat");
            assert_eq!(event.header.user_id, user.user_id());
            assert_eq!(event.header.correlation_id, message_id);
        }
        seen.runs.push(accepted.run_id.to_string());
    }
    seen
}

async fn crowd(ctx: &TestContext, users: u64, runs: usize) {
    ctx.capture().update_facts(|facts| facts.beyond_normal_load = true);
    let began = tokio::time::Instant::now();
    let seen = join_all((0..users).map(|nth| talk(ctx, nth, runs))).await;
    let took = began.elapsed().as_secs_f64();
    let ids: BTreeSet<&String> = seen.iter().flat_map(|seen| &seen.runs).collect();
    assert_eq!(
        ids.len(),
        usize::try_from(users).expect("few") * runs,
        "each message has a run of its own"
    );
    let events: u64 = seen.iter().map(|seen| seen.events).sum();
    // Every run of this question is the same: so many events, no more, no less.
    assert_eq!(events % ids.len() as u64, 0, "{events} events of {} runs", ids.len());
    let name = format!("{users}_users");
    ctx.figure(&format!("runs_per_second_{name}"), ids.len() as f64 / took, "runs/s");
    ctx.figure(&format!("events_per_second_{name}"), events as f64 / took, "events/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_users_with_twenty_runs_each_get_a_thousand_whole_runs_and_none_leaks() {
    TestContext::wire(case!("ORD-1", "ORD-3", "ORD-4", "ORD-6", "SEQ-1", "ISO-1"))
        .run(async |ctx| crowd(ctx, 50, 20).await)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_users_at_once_are_all_answered() {
    TestContext::wire(case!("ORD-1", "ORD-4", "SEQ-1", "ISO-1", "ISO-3"))
        .run(async |ctx| crowd(ctx, 100, 2).await)
        .await;
}
