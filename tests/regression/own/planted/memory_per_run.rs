//! Something of each run stays in memory when the run has ended.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::monitor::Holdings;
use kingsguard_testkit::prelude::*;

use super::assert_caught;

/// Runs that fill what the allocator and the pools keep anyway.
const WARM_UP: usize = 10;
/// Runs whose memory is looked at.
const RUNS: usize = 20;
/// What each may leave behind at most: far less than is planted, and far more than the few KiB that an allocator keeps.
const LEFT_BEHIND_MAX: u64 = 64 * 1024;

fn test() -> Builder {
    TestContext::own(case!("ORD-4"))
        .with_setting("KINGSGUARD_MESSAGES_BURST_MAX", 100)
        .with_setting("KINGSGUARD_MESSAGES_PER_MINUTE_MAX", 1_000)
}

async fn ended_runs_hold_no_memory(ctx: &TestContext) {
    let mut chat = ctx.user("ada").await.connect().await;
    let process_id = ctx.backend().await.process_id(0).await.expect("the node runs");
    let held = || Holdings::of(process_id).expect("the node runs").resident_bytes;
    for _ in 0..WARM_UP {
        chat.ask("Hello").await;
    }
    let before = held();
    for _ in 0..RUNS {
        chat.ask("Hello").await;
    }
    let each = held().saturating_sub(before) / RUNS as u64;
    assert!(
        each <= LEFT_BEHIND_MAX,
        "MEM (MUST): each run that ended holds {each} bytes, more than {LEFT_BEHIND_MAX}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_stays_of_each_run_is_caught() {
    assert_caught(test(), "memory-per-run", "MEM", ended_runs_hold_no_memory).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_of_ended_runs_is_given_back_without_it() {
    test().run(ended_runs_hold_no_memory).await;
}
