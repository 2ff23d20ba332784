//! The threads' logs as all connections of a test saw them together, and what of each run that shows.

use std::collections::BTreeMap;

use super::reading::{ConnectionReading, EventFrame, Reading};

/// What all connections together saw of one thread's log in one epoch; of a repeated `seq` the first arrival.
pub(super) type ThreadLog<'a> = BTreeMap<u64, EventFrame<'a>>;

/// One run within the log.
pub(super) struct RunLog<'a> {
    pub(super) run: &'a str,
    /// In the order of the log.
    pub(super) events: Vec<EventFrame<'a>>,
    /// Whether the capture surely holds the run's first event.
    pub(super) begins: bool,
    /// Whether the capture holds every event between the run's first and last one.
    pub(super) whole: bool,
}

impl RunLog<'_> {
    pub(super) fn of_kind(&self, kind: &str) -> Vec<EventFrame<'_>> {
        self.events.iter().filter(|event| event.kind == kind).copied().collect()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.events.iter().any(|event| event.kind == "agent_completed")
    }
}

/// The logs of all threads, by thread and epoch.
pub(super) fn thread_logs<'a>(reading: &'a Reading<'a>) -> BTreeMap<(&'a str, &'a str), ThreadLog<'a>> {
    let mut logs: BTreeMap<(&str, &str), ThreadLog<'_>> = BTreeMap::new();
    let mut only_epoch: BTreeMap<&str, &str> = BTreeMap::new();
    for connection in &reading.connections {
        for frame in connection.texts() {
            for position in frame.positions() {
                // The first one found stands for connections that were never told; a second one is told where it matters.
                only_epoch.entry(position.thread).or_insert(position.epoch);
            }
        }
    }
    for connection in &reading.connections {
        let mut epochs: BTreeMap<&str, &str> = BTreeMap::new();
        for frame in connection.texts() {
            for position in frame.positions() {
                epochs.insert(position.thread, position.epoch);
            }
            if let Some(event) = frame.event() {
                let epoch = epochs
                    .get(event.thread)
                    .or_else(|| only_epoch.get(event.thread))
                    .copied()
                    .unwrap_or_default();
                logs.entry((event.thread, epoch))
                    .or_default()
                    .entry(event.seq)
                    .or_insert(event);
            }
        }
    }
    logs
}

/// The runs of a thread's log.
pub(super) fn runs<'a>(reading: &'a Reading<'a>, log: &ThreadLog<'a>) -> Vec<RunLog<'a>> {
    let mut by_run: BTreeMap<&str, Vec<EventFrame<'a>>> = BTreeMap::new();
    for event in log.values() {
        by_run.entry(event.run).or_default().push(*event);
    }
    by_run
        .into_iter()
        .map(|(run, events)| {
            let (first, last) = (
                events.first().map_or(0, |event| event.seq),
                events.last().map_or(0, |event| event.seq),
            );
            let from_the_first = (1..first).all(|seq| log.contains_key(&seq));
            RunLog {
                run,
                begins: from_the_first || was_announced(reading, run),
                whole: (first..=last).all(|seq| log.contains_key(&seq)),
                events,
            }
        })
        .collect()
}

/// Whether the connection that was told of the run's acceptance, before any of the run's events arrived anywhere, already
/// followed the thread: then the run's first event came to it. Where the connection was damaged, that event may be among
/// what is not looked at.
fn was_announced(reading: &Reading<'_>, run: &str) -> bool {
    let announced = reading
        .connections
        .iter()
        .flat_map(|connection| connection.texts().map(move |frame| (connection, frame)))
        .filter(|(_, frame)| frame.frame_type() == "message_received" && frame.str("run_id") == Some(run))
        .min_by_key(|(_, frame)| frame.at_us());
    let Some((connection, announcement)) = announced else {
        return false;
    };
    let thread = announcement.str("thread_id").unwrap_or_default();
    let followed = connection
        .texts()
        .take_while(|frame| frame.at_us() <= announcement.at_us())
        .any(|frame| frame.positions().iter().any(|position| position.thread == thread));
    let earlier_event = reading
        .events()
        .any(|event| event.run == run && event.frame.at_us() < announcement.at_us());
    // Said again, it is answered with the run that it began the first time, wherever that was.
    let said_once = reading
        .connections
        .iter()
        .flat_map(ConnectionReading::sent)
        .filter(|frame| frame.str("message_id").is_some() && frame.str("message_id") == announcement.str("message_id"))
        .count()
        <= 1;
    followed && !earlier_event && said_once && connection.connection.damaged_us.is_none()
}
