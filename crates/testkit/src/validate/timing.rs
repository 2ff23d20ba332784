//! TIM-1, TIM-2, TIM-4: acceptance, beginning, silence and end of a run in time.
//!
//! Times are those of arrival, less what the machine kept its processes waiting. Where the test's own process stood still for a
//! moment, or a fault that it injected acted, they say nothing and are not judged.

use std::collections::{BTreeMap, BTreeSet};

use super::Judgement;
use super::log::{RunLog, runs, thread_logs};
use super::reading::{ConnectionReading, Frame, Lateness, Reading};

const ACCEPTED_WITHIN_US: u64 = 500_000;
const STARTED_WITHIN_US: u64 = 1_000_000;
const SILENCE_MAX_US: u64 = 5_000_000;

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    let repeated = repeated_messages(reading);
    for connection in &reading.connections {
        if reading.recording.facts.beyond_normal_load {
            judgement.cannot_judge("TIM-1", "the test loads the target beyond the normal");
        } else {
            judge_acceptance(reading, connection, &repeated, judgement);
        }
        judge_silence(reading, connection, judgement);
    }
    judge_deadlines(reading, judgement);
}

/// Ids that were sent more than once in the test: only the first one begins a run.
fn repeated_messages<'a>(reading: &'a Reading<'_>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let sent = reading
        .connections
        .iter()
        .flat_map(ConnectionReading::sent)
        .filter_map(|frame| frame.str("message_id"));
    sent.filter(|id| !seen.insert(*id)).collect()
}

fn judge_acceptance(
    reading: &Reading<'_>,
    connection: &ConnectionReading<'_>,
    repeated: &BTreeSet<&str>,
    judgement: &mut Judgement,
) {
    let mut sent: BTreeMap<&str, &Frame<'_>> = BTreeMap::new();
    // When each thread's last run ended, and which runs it still has before the next one.
    let mut ended_us: BTreeMap<&str, u64> = BTreeMap::new();
    let mut open: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut awaited: BTreeMap<&str, (&Frame<'_>, &str)> = BTreeMap::new();
    for frame in &connection.frames {
        if !frame.is_received() {
            sent.extend(frame.str("message_id").map(|id| (id, frame)));
            continue;
        }
        if frame.frame_type() == "message_received" {
            let (Some(cause), Some(run)) = (frame.str("correlation_id"), frame.str("run_id")) else {
                continue;
            };
            let thread = frame.str("thread_id").unwrap_or_default();
            let Some(request) = sent.get(cause).filter(|_| !repeated.contains(cause)) else {
                continue;
            };
            match reading.lateness(request.at_us(), frame.at_us(), ACCEPTED_WITHIN_US) {
                Lateness::InTime => {}
                Lateness::Unclear(why) => judgement.cannot_judge("TIM-1", why),
                Lateness::Late => {
                    let came = format!("it took {} ms", (frame.at_us() - request.at_us()) / 1_000);
                    let places = [request.place, frame.place];
                    judgement.blame("TIM-1", "message_received within 500 ms", came, places);
                }
            }
            awaited.insert(run, (request, thread));
            open.entry(thread).or_default().insert(run);
            continue;
        }
        let Some(event) = frame.event() else { continue };
        match event.kind {
            "agent_started" => {
                let Some((request, thread)) = awaited.remove(event.run) else {
                    continue;
                };
                let others = open
                    .get(thread)
                    .is_some_and(|runs| runs.iter().any(|run| *run != event.run && !awaited.contains_key(run)));
                let before = ended_us.get(thread).copied().unwrap_or(0);
                let from_us = request.at_us().max(before);
                match reading.lateness(from_us, frame.at_us(), STARTED_WITHIN_US) {
                    Lateness::InTime => {}
                    Lateness::Late if others => {
                        judgement.cannot_judge("TIM-1", "another run of the thread was in the way");
                    }
                    Lateness::Unclear(why) => judgement.cannot_judge("TIM-1", why),
                    Lateness::Late => {
                        let came = format!("it took {} ms", (frame.at_us() - from_us) / 1_000);
                        let places = [request.place, frame.place];
                        judgement.blame("TIM-1", "agent_started within 1 s", came, places);
                    }
                }
            }
            "agent_completed" => {
                ended_us.insert(event.thread, frame.at_us());
                if let Some(runs) = open.get_mut(event.thread) {
                    runs.remove(event.run);
                }
            }
            _ => {}
        }
    }
}

/// TIM-2: between `agent_started` and `agent_completed`, as it arrived, and until the capture's end where it is open.
fn judge_silence(reading: &Reading<'_>, connection: &ConnectionReading<'_>, judgement: &mut Judgement) {
    let mut last: BTreeMap<&str, &Frame<'_>> = BTreeMap::new();
    let mut blame = |from: &Frame<'_>, to_us: u64, to: Option<&Frame<'_>>| match reading.lateness(
        from.at_us(),
        to_us,
        SILENCE_MAX_US,
    ) {
        Lateness::InTime => {}
        Lateness::Unclear(why) => judgement.cannot_judge("TIM-2", why),
        Lateness::Late => {
            let came = format!("nothing came for {} ms", (to_us - from.at_us()) / 1_000);
            let frames = std::iter::once(from.place).chain(to.map(|frame| frame.place));
            judgement.blame("TIM-2", "no silence longer than 5 s in an open run", came, frames);
        }
    };
    for event in connection.events() {
        if let Some(before) = last.get(event.run) {
            blame(before, event.frame.at_us(), Some(event.frame));
        }
        match event.kind {
            "agent_completed" => {
                last.remove(event.run);
            }
            // Within a replay, arrival says nothing about when it was said; the run counts from its next event on.
            _ => {
                last.insert(event.run, event.frame);
            }
        }
    }
    let ended_elsewhere: BTreeSet<&str> = reading
        .events()
        .filter(|event| event.kind == "agent_completed")
        .map(|event| event.run)
        .collect();
    for (run, before) in last {
        if !ended_elsewhere.contains(run) {
            blame(before, connection.until_us, None);
        }
    }
}

/// TIM-4: by the backend's own clock, with the one tolerance that the contract gives to durations (ORD-7), and less what the
/// machine kept waiting. While the test keeps it from what it stands on, a backend can end nothing: an end is durable before
/// it is said (SEQ-2).
fn judge_deadlines(reading: &Reading<'_>, judgement: &mut Judgement) {
    let deadline_ms = reading.recording.facts.run_deadline_ms as f64;
    let latest_ms = deadline_ms + 50.0 + 0.1 * deadline_ms;
    for log in thread_logs(reading).values() {
        for run in runs(reading, log) {
            let Some(started) = run.events.iter().find(|event| event.kind == "agent_started") else {
                continue;
            };
            let completed = run.events.iter().find(|event| event.kind == "agent_completed");
            let took = completed.and_then(|end| Some((end, (end.timestamp_ms()? - started.timestamp_ms()?) as f64)));
            let begun_us = started.frame.at_us();
            let (until_us, took_ms, came, end) = match took {
                Some((end, ms)) => (
                    end.frame.at_us(),
                    ms,
                    format!("run {} took {ms} ms", run.run),
                    Some(end.place()),
                ),
                None if completed.is_some() => continue,
                None => {
                    let watched_us = watched_for_us(reading, &run, begun_us);
                    let ms = watched_us as f64 / 1_000.0;
                    let came = format!("run {} is open after {ms:.0} ms", run.run);
                    (begun_us + watched_us, ms, came, None)
                }
            };
            if took_ms <= latest_ms {
                continue;
            }
            if reading.faulty_between(begun_us, until_us) {
                judgement.cannot_judge("TIM-4", "a fault of the test acted meanwhile");
            } else if took_ms - reading.recording.facts.waited_us_between(begun_us, until_us) as f64 / 1_000.0
                <= latest_ms
            {
                judgement.cannot_judge("TIM-4", "the machine kept its processes waiting meanwhile");
            } else {
                let places = std::iter::once(started.place()).chain(end);
                judgement.blame("TIM-4", format!("a run's end within {deadline_ms} ms"), came, places);
            }
        }
    }
}

/// For how long after a run's beginning somebody who saw of it was there to see its end.
fn watched_for_us(reading: &Reading<'_>, run: &RunLog<'_>, begun_us: u64) -> u64 {
    let watchers = reading.connections.iter();
    watchers
        .filter(|connection| connection.events().any(|event| event.run == run.run))
        .map(|connection| connection.until_us.saturating_sub(begun_us))
        .max()
        .unwrap_or(0)
}
