//! ORD: each run alone is well formed — one beginning, one end, everything that starts ends.

use std::collections::BTreeMap;

use super::Judgement;
use super::log::{RunLog, ThreadLog, runs, thread_logs};
use super::reading::{EventFrame, Place, Reading};

/// ORD-7: how far a stated duration may be from the timestamps' distance, beside a tenth of it.
const DURATION_SLACK_MS: f64 = 50.0;

pub(super) fn judge(reading: &Reading<'_>, judgement: &mut Judgement) {
    for ((thread, _), log) in &thread_logs(reading) {
        judge_clock(thread, log, judgement);
        for run in runs(reading, log) {
            judge_run(&run, judgement);
        }
    }
}

/// Runs that have begun and not ended, on connections that are open.
pub(super) fn under_way(reading: &Reading<'_>) -> Option<String> {
    let mut open: BTreeMap<&str, bool> = BTreeMap::new();
    for connection in reading
        .connections
        .iter()
        .filter(|connection| connection.is_open_at_end())
    {
        for frame in connection
            .texts()
            .filter(|frame| frame.frame_type() == "message_received")
        {
            open.entry(frame.str("run_id")?).or_insert(true);
        }
        for event in connection.events() {
            open.entry(event.run).or_insert(true);
        }
    }
    for event in reading.events().filter(|event| event.kind == "agent_completed") {
        open.insert(event.run, false);
    }
    open.into_iter()
        .find(|(_, open)| *open)
        .map(|(run, _)| format!("run {run} has not ended"))
}

/// ORD-7: timestamps never go backwards within a thread.
fn judge_clock(thread: &str, log: &ThreadLog<'_>, judgement: &mut Judgement) {
    let mut last: Option<(i64, Place)> = None;
    for event in log.values() {
        let Some(at) = event.timestamp_ms() else { continue };
        if let Some((before, place)) = last
            && at < before
        {
            let came = format!(
                "event {} of {thread} is {} ms before the one before it",
                event.seq,
                before - at
            );
            judgement.blame(
                "ORD-7",
                "timestamps that never go backwards within a thread",
                came,
                [place, event.place()],
            );
        }
        last = Some((at, event.place()));
    }
}

fn judge_run(run: &RunLog<'_>, judgement: &mut Judgement) {
    if !run.whole {
        for clause in ["ORD-1", "ORD-2", "ORD-3", "ORD-4", "ORD-5"] {
            judgement.cannot_judge(clause, format!("the capture has a hole within run {}", run.run));
        }
        return;
    }
    judge_beginning(run, judgement);
    judge_end(run, judgement);
    judge_thinking(run, judgement);
    match run.lacks.field("tool_executing", "execution_id") {
        Some(reason) => judge_tools_by_name(run, reason, judgement),
        None => TOOLS.judge(run, judgement),
    }
    let subagents = Pairing {
        clause: "ORD-5",
        start: "subagent_started",
        end: "subagent_completed",
        key: |event| {
            let agent = event.frame.str("agent_name").unwrap_or_default();
            format!("{agent} at step {}", event.frame.u64("step_number").unwrap_or_default())
        },
    };
    subagents.judge(run, judgement);
    if let ([started, ..], [completed, ..]) = (
        run.of_kind("agent_started").as_slice(),
        run.of_kind("agent_completed").as_slice(),
    ) {
        judge_duration(started, completed, judgement);
    }
}

fn judge_beginning(run: &RunLog<'_>, judgement: &mut Judgement) {
    let started = run.of_kind("agent_started");
    if started.len() > 1 {
        let places = started.iter().map(EventFrame::place);
        let came = format!("run {} has {}", run.run, started.len());
        judgement.blame("ORD-1", "exactly one agent_started", came, places);
        return;
    }
    if !run.begins && started.is_empty() {
        judgement.cannot_judge("ORD-1", format!("the capture begins within run {}", run.run));
        return;
    }
    if let Some(first) = run.events.first()
        && first.kind != "agent_started"
    {
        let came = format!("run {} begins with {}", run.run, first.kind);
        judgement.blame(
            "ORD-1",
            "agent_started before every other event of the run",
            came,
            [first.place()],
        );
    }
}

fn judge_end(run: &RunLog<'_>, judgement: &mut Judgement) {
    let completed = run.of_kind("agent_completed");
    match completed.as_slice() {
        [] => judgement.cannot_judge("ORD-4", format!("run {} was open when the capture ended", run.run)),
        [only] => {
            let late: Vec<Place> = run
                .events
                .iter()
                .filter(|event| event.seq > only.seq)
                .map(EventFrame::place)
                .collect();
            if !late.is_empty() {
                let came = format!("run {} goes on after it", run.run);
                judgement.blame(
                    "ORD-4",
                    "agent_completed after every other event of the run",
                    came,
                    late,
                );
            }
        }
        several => {
            let came = format!("run {} has {}", run.run, several.len());
            judgement.blame(
                "ORD-4",
                "exactly one agent_completed",
                came,
                several.iter().map(EventFrame::place),
            );
        }
    }
}

fn judge_thinking(run: &RunLog<'_>, judgement: &mut Judgement) {
    if !run.of_kind("agent_thinking").is_empty() {
        return;
    }
    let Some(end) = run.events.iter().find(|event| event.kind == "agent_completed") else {
        judgement.cannot_judge("ORD-2", format!("run {} was open when the capture ended", run.run));
        return;
    };
    if run.begins {
        let came = format!("run {} has none", run.run);
        judgement.blame(
            "ORD-2",
            "at least one agent_thinking between start and completion",
            came,
            [end.place()],
        );
    } else {
        judgement.cannot_judge("ORD-2", format!("the capture begins within run {}", run.run));
    }
}

/// ORD-3 where nothing but its name tells one execution from another: they pair in their order as long as none of a name
/// begins before the one before it has ended. Where they overlap, their number must agree, and which end belongs to which
/// start is not judged.
fn judge_tools_by_name(run: &RunLog<'_>, reason: &str, judgement: &mut Judgement) {
    let mut by_name: BTreeMap<&str, Vec<EventFrame<'_>>> = BTreeMap::new();
    for event in run
        .events
        .iter()
        .filter(|event| [TOOLS.start, TOOLS.end].contains(&event.kind))
    {
        let name = event.frame.str("tool_name").unwrap_or_default();
        by_name.entry(name).or_default().push(*event);
    }
    for (name, events) in by_name {
        let overlap = events
            .windows(2)
            .any(|pair| pair[0].kind == TOOLS.start && pair[1].kind == TOOLS.start);
        let starts = events.iter().filter(|event| event.kind == TOOLS.start).count();
        if overlap && (!run.has_ended() || starts * 2 == events.len()) {
            judgement.cannot_judge(
                "ORD-3",
                format!("`{name}` overlaps itself, and without `execution_id`: {reason}"),
            );
            continue;
        }
        let mut nth = 0;
        let mut pairs = Pairs::new();
        for event in &events {
            let is_start = event.kind == TOOLS.start;
            nth += usize::from(is_start || nth == 0);
            let pair = pairs.entry(format!("{name}, {nth} of the name")).or_default();
            if is_start { &mut pair.0 } else { &mut pair.1 }.push(*event);
        }
        TOOLS.judge_pairs(run, pairs, judgement);
    }
}

const TOOLS: Pairing = Pairing {
    clause: "ORD-3",
    start: "tool_executing",
    end: "tool_completed",
    key: |event| {
        let text = |field| event.frame.str(field).unwrap_or_default();
        format!("{} {}", text("execution_id"), text("tool_name"))
    },
};

/// Starts and ends by what they have in common.
type Pairs<'a> = BTreeMap<String, (Vec<EventFrame<'a>>, Vec<EventFrame<'a>>)>;

/// Starts and ends that belong together.
struct Pairing {
    clause: &'static str,
    start: &'static str,
    end: &'static str,
    key: fn(&EventFrame<'_>) -> String,
}

impl Pairing {
    fn judge(&self, run: &RunLog<'_>, judgement: &mut Judgement) {
        let mut pairs = Pairs::new();
        for event in &run.events {
            if event.kind == self.start {
                pairs.entry((self.key)(event)).or_default().0.push(*event);
            } else if event.kind == self.end {
                pairs.entry((self.key)(event)).or_default().1.push(*event);
            }
        }
        self.judge_pairs(run, pairs, judgement);
    }

    fn judge_pairs(&self, run: &RunLog<'_>, pairs: Pairs<'_>, judgement: &mut Judgement) {
        for (key, (starts, ends)) in pairs {
            let places = starts.iter().chain(&ends).map(|event| event.place());
            match (starts.as_slice(), ends.as_slice()) {
                ([start], [end]) if start.seq < end.seq => judge_duration(start, end, judgement),
                ([_], [_]) => {
                    judgement.blame(
                        self.clause,
                        format!("{} after {}", self.end, self.start),
                        format!("{key} ends first"),
                        places,
                    );
                }
                ([_], []) if !run.has_ended() => {
                    judgement.cannot_judge(self.clause, format!("run {} was open when the capture ended", run.run));
                }
                ([], [_]) if !run.begins => {
                    judgement.cannot_judge(self.clause, format!("the capture begins within run {}", run.run));
                }
                (starts, ends) => {
                    let came = format!("{key} has {} and {}", starts.len(), ends.len());
                    judgement.blame(
                        self.clause,
                        format!("one {} and one {}", self.start, self.end),
                        came,
                        places,
                    );
                }
            }
        }
    }
}

/// ORD-7: a stated duration agrees with the timestamps.
fn judge_duration(start: &EventFrame<'_>, end: &EventFrame<'_>, judgement: &mut Judgement) {
    let (Some(from), Some(to), Some(stated)) = (start.timestamp_ms(), end.timestamp_ms(), end.frame.u64("duration_ms"))
    else {
        return;
    };
    let observed = (to - from) as f64;
    if (stated as f64 - observed).abs() > DURATION_SLACK_MS + 0.1 * observed.abs() {
        judgement.blame(
            "ORD-7",
            format!("a duration within 50 ms and a tenth of the observed {observed} ms"),
            format!("{} says {stated} ms", end.kind),
            [start.place(), end.place()],
        );
    }
}
