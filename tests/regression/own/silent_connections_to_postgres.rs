//! Open connections to Postgres swallowed everything and nobody was told, as when its machine loses its power; new ones worked.
//! Statements that were under way waited as long as TCP does, a quarter of an hour, and the log and the lease of the node with them.

use futures_util::future::join_all;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

/// More than the node has connections to Postgres.
const REQUESTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_connections_to_postgres_fell_silent_goes_on_over_new_ones() {
    TestContext::own(case!("SEQ-1", "SEQ-2", "ORD-4", "ERR-3"))
        .with_nodes(0)
        .with_setting("KINGSGUARD_DATABASE_STATEMENT_TIMEOUT_MS", 2_000)
        .run(async |ctx| {
            let (falls_silent, url) = ctx.fault_proxy_before_postgres().await;
            let (stays, _) = ctx.fault_proxy_before_postgres().await;
            let way = FaultProxy::before_bytes(&falls_silent.address().to_string(), ctx.seed()).await;
            ctx.add_node_with([("KINGSGUARD_DATABASE_URL", way.lead(&url))]).await;
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let asked = chat.say("Watch my usage for 3 seconds").await;
            let accepted = chat.accepted(&asked).await;
            let silence = falls_silent.inject(Fault::half_open());
            silence.until_happened(1).await;
            way.set_upstream(&stays.address().to_string());

            let run = chat.until_completed(&accepted.run_id).await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            ctx.eventually("every connection to Postgres is a new one", async || {
                let answers = join_all((0..REQUESTS).map(|_| async { ada.http().get("/api/threads").await })).await;
                match answers.iter().find(|answer| answer.status() != 200) {
                    Some(refused) => Err(refused.text()),
                    None => Ok(()),
                }
            })
            .await;
            assert_eq!(chat.ask("Hello").await.completed().status, RunStatus::Completed);
            silence.lift();
        })
        .await;
}
