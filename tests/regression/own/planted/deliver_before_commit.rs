//! An event is sent before Postgres has it: a crash between the two takes back what was seen.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use sqlx::{Connection as _, PgConnection};

use super::{assert_caught, catch_up};

fn test() -> Builder {
    // The restarted node must wait for the end of its former self's lease.
    TestContext::own(case!("SEQ-2")).with_setting("KINGSGUARD_RUN_LEASE_MS", 500)
}

/// Keeps the backend's log from being written, while everything else goes on.
struct HeldLog(PgConnection);

impl HeldLog {
    async fn hold(ctx: &TestContext) -> Self {
        let url = ctx.backend().await.database_url();
        let mut connection = PgConnection::connect(&url).await.expect("the test's own database");
        // Readers go on: this mode stands in the way of writers only. It ends with the transaction.
        sqlx::raw_sql("BEGIN; LOCK TABLE events IN EXCLUSIVE MODE")
            .execute(&mut connection)
            .await
            .expect("nobody writes yet");
        Self(connection)
    }

    async fn until_an_event_waits(&mut self, ctx: &TestContext) {
        ctx.eventually("an event that waits for Postgres", async || {
            let waiting: i64 = sqlx::query_scalar(
                // Databases of tests are clones of one template: a relation has the same number in each of them.
                "SELECT count(*) FROM pg_locks WHERE relation = 'events'::regclass AND NOT granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            )
            .fetch_one(&mut self.0)
            .await
            .expect("Postgres answers");
            if waiting > 0 { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;
    }

    /// Ends the sessions of a backend that is dead, which Postgres has not noticed, and lets the log go.
    async fn release_without_what_waits(mut self) {
        sqlx::raw_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid(); ROLLBACK",
        )
        .execute(&mut self.0)
        .await
        .expect("Postgres ends sessions");
        self.0.close().await.expect("Postgres says goodbye");
    }
}

async fn what_was_seen_survives_a_crash_during_its_commit(ctx: &TestContext) {
    let ada = ctx.user("ada").await;
    let mut chat = ada.connect().await;
    let thread_id = chat.thread_id();
    let mut log = HeldLog::hold(ctx).await;
    let asked = chat.say("Hello").await;
    let run_id = chat.accepted(&asked).await.run_id;
    log.until_an_event_waits(ctx).await;
    catch_up(&mut chat).await;
    let epoch = chat.positions()[&thread_id].0.clone();
    ctx.kill_node(0).await;
    log.release_without_what_waits().await;
    ctx.start_node(0).await;
    let mut again = ada.open().await;
    let from_the_first = ThreadResume {
        thread_id: thread_id.clone(),
        point: ResumePoint { epoch, after: 0 },
    };
    again.handshake_with(Some(&thread_id), vec![from_the_first]).await;
    let run = again.until_completed(&run_id).await;
    assert_eq!(run.completed().status, RunStatus::Failed, "its node died");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_sent_before_its_commit_is_caught() {
    let body = what_was_seen_survives_a_crash_during_its_commit;
    assert_caught(test(), "deliver-before-commit", "SEQ-2", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_seen_before_its_commit_without_it() {
    test().run(what_was_seen_survives_a_crash_during_its_commit).await;
}
