//! A thread of somebody else takes longer to refuse than one that never was. Without the fault the same body holds as
//! `e2e::wire::isolation::a_foreign_thread_takes_as_long_to_refuse_as_one_that_never_was`.

use kingsguard_testkit::prelude::*;
use kingsguard_tests::oracle::assert_no_oracle;

use super::assert_caught;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_tells_foreign_from_unknown_is_caught() {
    let test = TestContext::own(case!("ISO-2"));
    assert_caught(test, "oracle-in-timing", "ISO-2", assert_no_oracle).await;
}
