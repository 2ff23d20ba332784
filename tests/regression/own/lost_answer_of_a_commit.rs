//! Postgres committed events, but the connection broke before it could say so. Where the writer's look at the log failed too, or
//! came before the commit, they were written once more, with another `seq`; and a run's end was taken for refused.

use std::collections::HashSet;

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use sqlx::{Connection as _, PgConnection};

/// So many times the node is turned away before Postgres is back: the log's writer is among them more than once.
const TURNED_AWAY: u64 = 12;

/// A place in a thread's log, taken in a transaction that does not end: a batch with an event for it is executed, and waits.
struct TakenPlace(PgConnection);

impl TakenPlace {
    async fn take(ctx: &TestContext, thread_id: &ThreadId, seq: usize) -> Self {
        let url = ctx.backend().await.database_url();
        let mut connection = PgConnection::connect(&url).await.expect("the test's own database");
        sqlx::raw_sql("BEGIN")
            .execute(&mut connection)
            .await
            .expect("a transaction");
        sqlx::query("INSERT INTO events (thread_id, seq, run_id, created_at, frame) VALUES ($1, $2, '', now(), '')")
            .bind(thread_id.as_str())
            .bind(seq as i64)
            .execute(&mut connection)
            .await
            .expect("the log does not reach so far yet");
        Self(connection)
    }

    async fn until_batches_wait(&mut self, ctx: &TestContext, batches: i64) {
        ctx.eventually("batches that wait for their place", async || {
            let waiting: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND transactionid = pg_current_xact_id()::xid",
            )
            .fetch_one(&mut self.0)
            .await
            .expect("Postgres answers");
            if waiting >= batches {
                Ok(())
            } else {
                Err(format!("{waiting} wait"))
            }
        })
        .await;
    }

    /// Gives the place back: the first that waits for it has it.
    async fn release(mut self) {
        sqlx::raw_sql("ROLLBACK")
            .execute(&mut self.0)
            .await
            .expect("Postgres answers");
        self.0.close().await.expect("Postgres says goodbye");
    }
}

/// Which event of a run is in the batch whose connection broke.
#[derive(Clone, Copy)]
enum Holding {
    Start,
    End,
}

/// When the batch whose connection broke is committed.
#[derive(Clone, Copy)]
enum Committed {
    WhilePostgresIsAway,
    AfterItWasTriedAgain,
}

async fn is_in_the_log_once(holding: Holding, committed: Committed) {
    TestContext::own(case!("SEQ-1", "SEQ-2", "ORD-1", "ORD-4", "ERR-3"))
        .with_nodes(0)
        // Nobody takes the run over meanwhile.
        .with_setting("KINGSGUARD_RUN_LEASE_MS", 60_000)
        .run(async |ctx| {
            let (postgres, url) = ctx.fault_proxy_before_postgres().await;
            ctx.add_node_with([("KINGSGUARD_DATABASE_URL", url)]).await;
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            // The run to come has as many events as this one.
            let events = chat.ask("Hello").await.events().len();
            let seq = match holding {
                Holding::Start => events + 1,
                Holding::End => events * 2,
            };
            let mut place = TakenPlace::take(ctx, &chat.thread_id(), seq).await;
            let asked = chat.say("Hello").await;
            let accepted = chat.accepted(&asked).await;
            place.until_batches_wait(ctx, 1).await;
            // Postgres does not see that nobody waits for its answer any more.
            let away = postgres.inject(Fault::partition());
            away.until_happened(TURNED_AWAY).await;
            match committed {
                Committed::WhilePostgresIsAway => {
                    place.release().await;
                    away.lift();
                }
                Committed::AfterItWasTriedAgain => {
                    away.lift();
                    place.until_batches_wait(ctx, 2).await;
                    place.release().await;
                }
            }

            let run = chat.until_completed(&accepted.run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            let path = format!("/api/threads/{}/messages?limit=100", accepted.thread_id);
            let told = ada.http().get(&path).await.expect_status(200).json();
            let events = told["events"].as_array().expect("a list of events");
            let ids: HashSet<&str> = events.iter().filter_map(|event| event["event_id"].as_str()).collect();
            assert_eq!(ids.len(), events.len(), "each event once: {events:#?}");
            let seqs: Vec<u64> = events.iter().filter_map(|event| event["seq"].as_u64()).collect();
            assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_committed_while_postgres_is_away_is_in_the_log_once() {
    is_in_the_log_once(Holding::Start, Committed::WhilePostgresIsAway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_committed_after_it_was_tried_again_is_in_the_log_once() {
    is_in_the_log_once(Holding::Start, Committed::AfterItWasTriedAgain).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runs_end_that_is_committed_while_postgres_is_away_is_told() {
    is_in_the_log_once(Holding::End, Committed::WhilePostgresIsAway).await;
}
