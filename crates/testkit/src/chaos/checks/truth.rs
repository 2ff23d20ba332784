//! What the durable log shows by itself, and against what was promised and delivered.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{History, LogLine, What};
use super::{Anomaly, AnomalyKind, Blame as _, in_log, on_connection};

const LOG: &str = "durable log";

/// What any client has seen stays.
pub(super) fn delivered_events_are_kept(history: &History, found: &mut Vec<Anomaly>) {
    let mut told = BTreeSet::new();
    for connection in &history.connections {
        for seen in &connection.seen {
            let What::Event(line) = &seen.what else {
                continue;
            };
            let Some(truth) = history.truth.get(&line.thread_id) else {
                continue;
            };
            let is_kept = truth.events.iter().any(|kept| kept.seq == line.seq);
            if !is_kept && told.insert((&line.thread_id, line.seq)) {
                let what = format!(
                    "{} of {} was delivered, and the durable log lacks it",
                    line.seq, line.thread_id
                );
                found.blame(
                    AnomalyKind::Lost,
                    what,
                    vec![on_connection(connection.connection, seen)],
                );
            }
        }
    }
}

/// Places begin with 1 and rise by 1; no event stands twice.
pub(super) fn places(history: &History, found: &mut Vec<Anomaly>) {
    for (thread_id, truth) in &history.truth {
        let mut before: Option<&LogLine> = None;
        let mut names: BTreeMap<&str, &LogLine> = BTreeMap::new();
        for line in &truth.events {
            let expected = before.map_or(1, |before| before.seq + 1);
            let frames = || before.into_iter().chain([line]).map(|line| in_log(LOG, line)).collect();
            let what = || format!("the log of {thread_id} has {} where {expected} is next", line.seq);
            if line.seq > expected {
                found.blame(AnomalyKind::Hole, what(), frames());
            } else if before.is_some_and(|before| before.seq == line.seq) {
                found.blame(AnomalyKind::Duplicated, what(), frames());
            } else if line.seq < expected {
                found.blame(AnomalyKind::Reordered, what(), frames());
            }
            if let Some(first) = names.insert(&line.event_id, line) {
                let what = format!("the log of {thread_id} holds {} twice", line.event_id);
                found.blame(
                    AnomalyKind::Duplicated,
                    what,
                    vec![in_log(LOG, first), in_log(LOG, line)],
                );
            }
            before = Some(line);
        }
    }
}

/// A run begins with its start, ends with one end, and a tool's result follows its call.
pub(super) fn runs(history: &History, found: &mut Vec<Anomaly>) {
    for truth in history.truth.values() {
        let mut runs: BTreeMap<&str, Vec<&LogLine>> = BTreeMap::new();
        for line in &truth.events {
            runs.entry(&line.run_id).or_default().push(line);
        }
        for (run_id, lines) in runs {
            judge_run(run_id, &lines, found);
        }
    }
}

fn judge_run(run_id: &str, lines: &[&LogLine], found: &mut Vec<Anomaly>) {
    let mut end: Option<&LogLine> = None;
    let mut is_started = false;
    let mut calls: BTreeSet<&str> = BTreeSet::new();
    for line in lines {
        if let Some(end) = end {
            let what = format!("{run_id} ended, and then came {}", line.kind);
            found.blame(
                AnomalyKind::TerminalDoubled,
                what,
                vec![in_log(LOG, end), in_log(LOG, line)],
            );
        }
        let call = line.execution_id.as_deref().unwrap_or_default();
        match line.kind.as_str() {
            "agent_started" => is_started = true,
            "tool_executing" => {
                calls.insert(call);
            }
            "tool_completed" if !calls.contains(call) => {
                let what = format!("the result of {call} came before its call");
                found.blame(AnomalyKind::ResultBeforeStart, what, vec![in_log(LOG, line)]);
            }
            "agent_completed" => end = Some(line),
            _ => {}
        }
        if !is_started {
            is_started = true; // said once
            let what = format!("{run_id} begins with {}", line.kind);
            found.blame(AnomalyKind::ResultBeforeStart, what, vec![in_log(LOG, line)]);
        }
    }
    if let (None, Some(last)) = (end, lines.last()) {
        let what = format!("{run_id} has not ended after the healing; its last event:");
        found.blame(AnomalyKind::TerminalMissing, what, vec![in_log(LOG, last)]);
    }
}

/// Time never goes back within a thread. All timestamps have one form, so that their order is that of their letters.
pub(super) fn times(history: &History, found: &mut Vec<Anomaly>) {
    for (thread_id, truth) in &history.truth {
        for pair in truth.events.windows(2) {
            if pair[1].timestamp < pair[0].timestamp {
                let what = format!("{} of {thread_id} is older than {}", pair[1].seq, pair[0].seq);
                let frames = pair.iter().map(|line| in_log(LOG, line)).collect();
                found.blame(AnomalyKind::TimeWentBack, what, frames);
            }
        }
    }
}

/// An acknowledged message is in the log, with the run that was named; no message has two runs. A message without a known
/// outcome may have none or one.
pub(super) fn messages(history: &History, found: &mut Vec<Anomaly>) {
    // A run by the message that caused it, as its start says; a stop names another cause.
    let mut answers: BTreeMap<&str, BTreeMap<&str, &LogLine>> = BTreeMap::new();
    for line in history.truth.values().flat_map(|truth| &truth.events) {
        if line.kind == "agent_started" {
            answers.entry(&line.cause).or_default().insert(&line.run_id, line);
        }
    }
    for (message_id, runs) in answers.iter().filter(|(_, runs)| runs.len() > 1) {
        let what = format!("{message_id} has {} runs", runs.len());
        let frames = runs.values().map(|line| in_log(LOG, line)).collect();
        found.blame(AnomalyKind::MessageDoubled, what, frames);
    }
    let mut named: BTreeMap<&str, (&str, String)> = BTreeMap::new();
    for connection in &history.connections {
        for seen in &connection.seen {
            let What::Accepted {
                message_id,
                run_id,
                thread_id,
            } = &seen.what
            else {
                continue;
            };
            let frame = on_connection(connection.connection, seen);
            match named.get(message_id.as_str()) {
                Some((first, earlier)) if first != run_id => {
                    let what = format!("{message_id} was said to have {first} and {run_id}");
                    found.blame(AnomalyKind::MessageDoubled, what, vec![earlier.clone(), frame]);
                }
                Some(_) => {}
                None => {
                    named.insert(message_id, (run_id, frame.clone()));
                    let Some(truth) = history.truth.get(thread_id) else {
                        continue;
                    };
                    if !truth.messages.contains(message_id) {
                        let what = format!("{message_id} was acknowledged, and {thread_id} does not hold it");
                        found.blame(AnomalyKind::AcknowledgedLost, what, vec![frame]);
                    } else if !truth.events.iter().any(|line| line.run_id == *run_id) {
                        let what = format!("{message_id} was acknowledged with {run_id}, which has no event");
                        found.blame(AnomalyKind::TerminalMissing, what, vec![frame]);
                    }
                }
            }
        }
    }
}
