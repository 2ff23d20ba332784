//! Those who talk in these tests.

use kingsguard_testkit::prelude::*;

use crate::expected::Expected;

/// The question whose answer takes every agent of the workflow.
pub const SPEND_LESS: &str = "How can I spend less?";

/// A user with usage records brought as CSV, and what must be computed from that same CSV.
pub async fn customer(ctx: &TestContext, label: &str, seed: u64, rows: usize) -> (SimulatedUser, Expected) {
    let user = ctx.user(label).await;
    let records = SampleRecords::generate(seed, rows);
    user.upload_csv(&records).await;
    (user, Expected::from_csv(&records.to_csv()))
}

/// The `correlation_id` of every event, the `run_id` and the `user_id`, each once.
pub fn origins(run: &RunView) -> Vec<(String, String, String)> {
    let mut origins: Vec<_> = run
        .events()
        .into_iter()
        .map(|event| {
            let header = &event.header;
            (
                header.correlation_id.to_string(),
                header.run_id.to_string(),
                header.user_id.to_string(),
            )
        })
        .collect();
    origins.dedup();
    origins
}

/// The agents that took part, in the order in which they began.
pub fn agents_of(run: &RunView) -> Vec<String> {
    run.events()
        .into_iter()
        .filter(|event| matches!(event.body, EventBody::SubagentStarted(_)))
        .map(|event| event.header.agent_name.clone())
        .collect()
}

/// The events of a run that are of one type, as they stand on the wire.
pub fn of_type(run: &RunView, event_type: &str) -> Vec<Value> {
    run.frames()
        .iter()
        .map(Frame::json)
        .filter(|event| event["type"] == event_type)
        .collect()
}

/// Everything that a connection saw of a thread's log, as `seq` and bytes.
pub fn log_of(run: &RunView) -> Vec<(u64, String)> {
    run.frames()
        .iter()
        .filter_map(|frame| Some((frame.event()?.header.seq, frame.text().to_owned())))
        .collect()
}

/// The run of a connection that ended is found whole over another.
pub async fn finds_whole(again: &mut Chat, earlier: &mut Chat, run_id: &RunId) {
    let rest = again.until_completed(run_id).await;
    assert_eq!(
        rest.completed().status,
        RunStatus::Completed,
        "a run outlives its connection"
    );
    let of_run = |frame: &&Frame| frame.event().is_some_and(|event| event.header.run_id == *run_id);
    let seqs: Vec<u64> = earlier
        .unclaimed()
        .iter()
        .filter(of_run)
        .chain(rest.frames())
        .filter_map(|frame| Some(frame.event()?.header.seq))
        .collect();
    assert_eq!(
        seqs,
        (1..=seqs.len() as u64).collect::<Vec<_>>(),
        "each once, before and after"
    );
}
