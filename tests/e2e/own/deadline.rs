//! Runs that take too long.

use kingsguard_testkit::prelude::*;
use pretty_assertions::assert_eq;

use crate::people::of_type;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_passes_its_deadline_is_timed_out_with_its_tools_closed() {
    TestContext::own(case!("TIM-4", "ORD-3", "ORD-4", "ORD-5"))
        .with_setting("KINGSGUARD_RUN_DEADLINE_MS", 1_500)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask("Watch my usage for 25 seconds").await;
            let completed = run.completed();
            assert_eq!((completed.status, completed.success), (RunStatus::TimedOut, false));
            let error = completed.error.as_ref().expect("it says why");
            assert_eq!(error.error_code, ErrorCode::AgentTimeout);
            assert!(completed.duration_ms <= 2_000, "{} ms", completed.duration_ms);
            assert!(completed.duration_ms >= 1_000, "{} ms", completed.duration_ms);
            let tool = &run.tools_named("watch_usage")[0];
            let end = tool.completed.as_ref().expect("its pair is closed");
            assert!(!end.success);
            assert!(
                matches!(end.status, ToolStatus::Cancelled | ToolStatus::Timeout),
                "{end:?}"
            );
            let ends = of_type(&run, "subagent_completed");
            assert_eq!(ends.last().map(|end| &end["success"]), Some(&json!(false)));
            let next = chat.ask("Hello").await;
            assert_eq!(next.completed().status, RunStatus::Completed, "the thread goes on");
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_on_silence_is_kept_by_signs_of_life() {
    TestContext::own(case!("TIM-2", "EVT-6"))
        .with_setting("KINGSGUARD_SILENCE_MAX_MS", 200)
        .run(async |ctx| {
            let ada = ctx.user("ada").await;
            let mut chat = ada.connect().await;
            let run = chat.ask("Watch my usage for 2 seconds").await;
            assert_eq!(run.completed().status, RunStatus::Completed);
            let signs = run
                .events()
                .into_iter()
                .filter(|event| matches!(event.body, EventBody::ProgressUpdate(_)) && event.header.seq > 1);
            assert!(
                signs.count() >= 5,
                "a short bound on silence makes many signs of life: {:?}",
                run.types()
            );
        })
        .await;
}
