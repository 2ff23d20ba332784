//! What a backend says that it did, in Prometheus' text, beside what arrived.

use std::collections::BTreeMap;

use kingsguard_testkit::prelude::*;
use kingsguard_testkit::recording::Direction;

/// A metric's samples by the value of one of its labels.
///
/// # Panics
/// A value is no whole number.
pub fn by_label(metrics: &str, name: &str, label: &str) -> BTreeMap<String, u64> {
    let key = format!("{label}=\"");
    let mut found = BTreeMap::new();
    for line in metrics.lines() {
        let Some(labels) = line.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) else {
            continue;
        };
        let (labels, value) = labels.rsplit_once("} ").expect("a sample is labels and a value");
        let value: u64 = value.parse().expect("a count is a whole number");
        if let Some((_, rest)) = labels.split_once(&key) {
            let told = rest.split('"').next().unwrap_or_default();
            *found.entry(told.to_owned()).or_default() += value;
        }
    }
    found.retain(|_, value| *value > 0);
    found
}

/// The events that arrived over all sockets of the test so far, by type.
pub fn events_received(ctx: &TestContext) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for connection in &ctx.recording().connections {
        for entry in connection
            .entries
            .iter()
            .filter(|entry| entry.direction == Direction::Received)
        {
            let text = std::str::from_utf8(&entry.bytes).unwrap_or_default();
            if let Ok(ServerFrame::Event(event)) = ServerFrame::decode(text) {
                *found.entry(event.body.event_type().to_owned()).or_default() += 1;
            }
        }
    }
    found
}
