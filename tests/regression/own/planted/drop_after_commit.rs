//! One event is committed and never sent: only who comes back later ever sees it.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use super::assert_caught;

fn test() -> Builder {
    TestContext::own(case!("SEQ-1"))
}

async fn a_live_connection_sees_a_whole_run(ctx: &TestContext) {
    let mut chat = ctx.user("ada").await.connect().await;
    let run = chat.ask("Hello").await;
    assert_eq!(run.completed().status, RunStatus::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_dropped_between_commit_and_send_is_caught() {
    assert_caught(test(), "drop-after-commit", "SEQ-1", a_live_connection_sees_a_whole_run).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_dropped_without_it() {
    test().run(a_live_connection_sees_a_whole_run).await;
}
