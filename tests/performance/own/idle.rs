//! What connections cost that say nothing, and that nothing of them stays behind.

use std::time::Duration;

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use kingsguard_testkit::monitor::{Holdings, Monitor};
use kingsguard_testkit::prelude::*;

use crate::thresholds::{IDLE_CONNECTION_KB, LEFT_BEHIND_BYTES};

covers!("KIT-10");

/// Users that connect; each has a second thread beside that of his connection.
const USERS: usize = 1_000;
/// How often users come and go.
const ROUNDS: usize = 6;
/// Calls to the backend that are under way at a time.
const AT_A_TIME: usize = 16;
/// How often the backend's process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

async fn process_of(ctx: &TestContext) -> u32 {
    match ctx.backend().await.process_id(0).await {
        Ok(process_id) => process_id,
        Err(error) => ctx.invalid(format!("{error:#}")),
    }
}

fn held_by(process_id: u32) -> Holdings {
    Holdings::of(process_id).expect("the backend runs")
}

/// New users, each with so many threads.
async fn users(ctx: &TestContext, count: usize, threads: usize) -> Vec<SimulatedUser> {
    let one = |nth: usize| async move {
        let user = ctx.user(&format!("user{nth}")).await;
        for thread in 0..threads {
            user.create_thread(&format!("thread {thread}")).await;
        }
        user
    };
    stream::iter(0..count).map(one).buffered(AT_A_TIME).collect().await
}

/// Has each connect with the whole handshake.
async fn connected(users: &[SimulatedUser]) -> Vec<Chat> {
    let one = |user: SimulatedUser| async move { user.connect().await };
    stream::iter(users.to_vec())
        .map(one)
        .buffered(AT_A_TIME)
        .collect()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_users_with_two_thousand_threads_cost_little_memory() {
    TestContext::own(case!("HSK-2"))
        .run(async |ctx| {
            let process_id = process_of(ctx).await;
            let users = users(ctx, USERS, 1).await;
            let before = held_by(process_id);
            let chats = connected(&users).await;
            let monitor = Monitor::start(process_id, LOOK_EVERY).expect("the backend runs");
            // sleeps because idle is what they are for some time
            tokio::time::sleep(Duration::from_secs(5)).await;
            let course = monitor.finish().expect("the backend runs");
            let resident = course.trend(|held| held.resident_bytes as f64);
            let kb = (resident.last - before.resident_bytes as f64) / 1024.0 / chats.len() as f64;
            ctx.figure("idle_connection_kb", kb, "KiB");
            ctx.figure("idle_growth_kb_per_minute", resident.per_minute / 1024.0, "KiB/min");
            assert!(held_by(process_id).open_files >= before.open_files + USERS as u64);
            assert!(kb <= IDLE_CONNECTION_KB, "{kb:.1} KiB each: {resident:?}");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_open_of_connections_that_came_and_went() {
    TestContext::own(case!("CON-6"))
        .run(async |ctx| {
            let process_id = process_of(ctx).await;
            let users = users(ctx, 200, 0).await;
            // Registering has filled the pools to Postgres and of the kit's own calls.
            let before = held_by(process_id).open_files;
            let mut settled = Vec::new();
            for _ in 0..ROUNDS {
                let mut chats = connected(&users).await;
                assert!(held_by(process_id).open_files >= users.len() as u64);
                join_all(chats.iter_mut().map(Chat::close)).await;
                drop(chats);
                let held = ctx.eventually("the end of every connection", async || {
                    let held = held_by(process_id);
                    (held.open_files <= before)
                        .then_some(held)
                        .ok_or(format!("{held:?}, of {before} files"))
                });
                settled.push(held.await);
            }
            // The first rounds fill what the allocator keeps for the next ones.
            let (warm, last) = (settled[1], settled[ROUNDS - 1]);
            let came_since = (users.len() * (ROUNDS - 2)) as u64;
            let stays = last.resident_bytes.saturating_sub(warm.resident_bytes) / came_since;
            ctx.figure("connection_left_behind_bytes", stays as f64, "bytes");
            assert!(last.threads <= warm.threads, "{settled:?}");
            assert!(
                stays <= LEFT_BEHIND_BYTES,
                "{stays} bytes of each connection stay: {settled:?}"
            );
        })
        .await;
}
