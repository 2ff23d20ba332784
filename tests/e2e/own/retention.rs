//! What stays resumable, and what is told of the rest.

use kingsguard_protocol::control::HandshakeComplete;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;
use sqlx::{Connection as _, PgConnection};

use crate::people::log_of;

covers!("FLOW");

/// SEQ-4: so many stay, however old.
const STAY: u64 = 1_000;
/// Enough that a listing of them passes the bound.
const RECORDS: usize = 1_100;

/// A connection that follows the thread from a place in its log.
async fn from(user: &SimulatedUser, of: &ThreadResume, after: u64) -> (Chat, HandshakeComplete) {
    let mut resume = of.clone();
    resume.point.after = after;
    let mut chat = user.open().await;
    let complete = chat.handshake_with(Some(&of.thread_id), vec![resume]).await;
    (chat, complete)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_thousand_events_stay_resumable_and_the_loss_of_older_ones_is_told() {
    TestContext::own(case!("SEQ-4", "SEQ-3", "SEQ-2"))
        .with_setting("KINGSGUARD_RETENTION_INTERVAL_MS", 100)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            ada.upload(&SampleRecords::generate(ctx.seed(), RECORDS)).await;
            let mut chat = ada.connect().await;
            let run = chat.ask("List my usage records").await;
            let end = chat.resume_points().remove(0);
            let last = end.point.after;
            assert!(last > STAY, "{last}");
            let told = |complete: &HandshakeComplete| {
                let position = &complete.threads[0];
                (position.recovered, position.oldest_seq, position.last_seq)
            };
            let (_, complete) = from(&ada, &end, last).await;
            assert_eq!(told(&complete), (true, 1, last), "the young stay, however many");

            let mut database = PgConnection::connect(&ctx.backend().await.database_url())
                .await
                .expect("the test's own database");
            sqlx::query("UPDATE events SET created_at = created_at - interval '25 hours' WHERE thread_id = $1")
                .bind(end.thread_id.as_str())
                .execute(&mut database)
                .await
                .expect("its events can be made older");
            let oldest = last - STAY + 1;
            ctx.eventually("the old are dropped", async || {
                let told = told(&from(&ada, &end, last).await.1);
                if told == (true, oldest, last) {
                    Ok(())
                } else {
                    Err(format!("{told:?}"))
                }
            })
            .await;

            let (_, complete) = from(&ada, &end, oldest - 2).await;
            assert_eq!(told(&complete), (false, oldest, last), "one of what was missed is gone");
            let (mut again, complete) = from(&ada, &end, oldest - 1).await;
            assert_eq!(told(&complete), (true, oldest, last));
            let replayed = again.until_completed(run.run_id()).await;
            let kept: Vec<_> = log_of(&run).into_iter().filter(|(seq, _)| *seq >= oldest).collect();
            assert_eq!(kept.len() as u64, STAY);
            assert_eq!(log_of(&replayed), kept);
        })
        .await;
}
