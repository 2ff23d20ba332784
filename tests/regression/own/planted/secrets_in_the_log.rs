//! Access tokens are written to the log.

use kingsguard_testkit::context::Builder;
use kingsguard_testkit::prelude::*;

use super::assert_caught;

fn test() -> Builder {
    TestContext::own(case!("AUTH-8"))
}

async fn no_token_stands_in_the_log(ctx: &TestContext) {
    let ada = ctx.user("ada").await;
    ada.connect().await.ask("Hello").await;
    let log = ctx.log_of(0).await;
    ctx.check("there is a log to look at", log.lines().count() > 0);
    assert!(
        !log.contains(&ada.access_token()),
        "AUTH-8 (MUST): an access token stands in the log"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_the_log_is_caught() {
    assert_caught(test(), "secrets-in-the-log", "AUTH-8", no_token_stands_in_the_log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_is_in_the_log_without_it() {
    test().run(no_token_stands_in_the_log).await;
}
