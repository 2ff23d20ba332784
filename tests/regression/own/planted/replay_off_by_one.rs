//! A replay begins one event too early.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use super::assert_caught;

fn test() -> Builder {
    TestContext::own(case!("SEQ-3"))
}

async fn a_resume_goes_on_after_what_the_client_has(ctx: &TestContext) {
    let ada = ctx.user("ada").await;
    let mut chat = ada.connect().await;
    chat.ask("Hello").await;
    chat.drop_connection().await;
    let mut again = ada.resume(&mut chat).await;
    let run = again.ask("Hello again").await;
    assert_eq!(run.completed().status, RunStatus::Completed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_is_off_by_one_is_caught() {
    let body = a_resume_goes_on_after_what_the_client_has;
    assert_caught(test(), "replay-off-by-one", "SEQ-3", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_is_exact_without_it() {
    test().run(a_resume_goes_on_after_what_the_client_has).await;
}
