//! A message is acknowledged and kept nowhere.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;

use super::assert_caught;

fn test() -> Builder {
    TestContext::own(case!("MSG-5"))
}

async fn an_acknowledged_message_is_kept_when_its_node_dies(ctx: &TestContext) {
    let ada = ctx.user("ada").await;
    let mut chat = ada.connect().await;
    let asked = chat.say("Hello").await;
    let accepted = chat.accepted(&asked).await;
    ctx.kill_node(0).await;
    ctx.start_node(0).await;
    let path = format!("/api/threads/{}/messages", accepted.thread_id);
    let kept = ada.http().get(&path).await.json();
    let contents: Vec<&Value> = kept["messages"].as_array().into_iter().flatten().collect();
    assert!(
        contents.iter().any(|message| message["content"] == "Hello"),
        "MSG-5 (MUST): an acknowledged message is not in the history: {kept}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_lost_after_its_acknowledgement_is_caught() {
    let body = an_acknowledged_message_is_kept_when_its_node_dies;
    assert_caught(test(), "lost-after-acknowledgement", "MSG-5", body).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_message_is_kept_without_it() {
    test().run(an_acknowledged_message_is_kept_when_its_node_dies).await;
}
