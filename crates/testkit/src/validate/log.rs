//! The threads' logs as all connections of a test saw them together, and what of each run that shows.

use std::collections::{BTreeMap, BTreeSet};

use kingsguard_protocol::client::ClientType;
use kingsguard_report::lacks::Lacks;

use super::reading::{ConnectionReading, EventFrame, Frame, Reading};

/// What all connections together saw of one thread's log in one epoch; of a repeated `seq` the first arrival. Where events have no
/// `seq`, what one connection saw.
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
    pub(super) lacks: &'a Lacks,
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
                let epoch = if reading.is_unnumbered() {
                    connection.label.as_str()
                } else {
                    let known = epochs.get(event.thread).or_else(|| only_epoch.get(event.thread));
                    known.copied().unwrap_or_default()
                };
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
            let from_the_first = || (1..first).all(|seq| log.contains_key(&seq));
            RunLog {
                run,
                begins: if reading.is_unnumbered() {
                    began_here(reading, &events)
                } else {
                    from_the_first() || was_announced(reading, run)
                },
                whole: (first..=last).all(|seq| log.contains_key(&seq)),
                events,
                lacks: reading.lacks,
            }
        })
        .collect()
}

/// Whether a run of which events came without `seq` surely began on the connection that they came to: it opens with its own
/// beginning, or it came after a message of this connection whose run nobody else can have begun.
fn began_here(reading: &Reading<'_>, events: &[EventFrame<'_>]) -> bool {
    let Some(first) = events.first() else { return false };
    if first.kind == "agent_started" {
        return true;
    }
    let own = &reading.connections[first.place().connection];
    let starts_a_run = |frame: &&Frame<'_>| {
        matches!(
            ClientType::from_name(frame.frame_type()),
            Some(ClientType::UserMessage | ClientType::StartAgent | ClientType::ExampleMessage)
        )
    };
    let said = |connection: &ConnectionReading<'_>| {
        let before = connection.sent().filter(|frame| frame.at_us() <= first.frame.at_us());
        before.filter(starts_a_run).count()
    };
    let others = reading.connections.iter().filter(|other| other.label != own.label);
    let begun: BTreeSet<&str> = own
        .events()
        .filter(|event| event.kind == "agent_started" && event.run != first.run)
        .map(|event| event.run)
        .collect();
    said(own) > begun.len()
        && others
            .filter(|other| other.connection.user == own.connection.user)
            .all(|other| said(other) == 0)
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
