//! Events go to whoever named the thread, whosever it is.

use kingsguard_protocol::client::SwitchThread;
use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use super::{assert_caught, catch_up};

fn test() -> Builder {
    TestContext::own(case!("ISO-1"))
}

async fn one_who_names_a_foreign_thread_sees_nothing_of_it(ctx: &TestContext) {
    let mut ada = ctx.user("ada").await.connect().await;
    let mut bob = ctx.user("bob").await.connect().await;
    // Whatever the answer is: what comes after it counts.
    let asked = bob.send_to(&ada.thread_id(), SwitchThread { resume: None }).await;
    bob.answer_to(&asked).await;
    let run = ada.ask("Hello").await;
    assert_eq!(run.completed().status, RunStatus::Completed);
    catch_up(&mut bob).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_out_by_thread_id_only_is_caught() {
    let body = one_who_names_a_foreign_thread_sees_nothing_of_it;
    assert_caught(test(), "fan-out-by-thread-only", "ISO-1", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fan_out_asks_for_the_user_without_it() {
    test().run(one_who_names_a_foreign_thread_sees_nothing_of_it).await;
}
