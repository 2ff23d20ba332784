//! What each connection shows: order, gaps, repeats, other people's events, granted resumes, equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use super::super::history::{ConnectionHistory, History, LogLine, Seen, What};
use super::{Anomaly, AnomalyKind, Blame as _, in_log, on_connection};

/// What a connection may see next of a thread.
#[derive(Default)]
struct Following {
    /// The next place; `None` before the service said where the thread stands.
    next: Option<u64>,
    /// Places that came since it stands there.
    came: BTreeSet<u64>,
}

/// After a thread's place was told, exactly the next one comes, each time.
pub(super) fn order_on_each_connection(history: &History, found: &mut Vec<Anomaly>) {
    for connection in &history.connections {
        let mut threads: BTreeMap<&str, Following> = BTreeMap::new();
        let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
        let mut before: BTreeMap<&str, &Seen> = BTreeMap::new();
        for seen in &connection.seen {
            match &seen.what {
                What::Asked(points) => asked.extend(points.iter().map(|(thread, _, after)| (thread.as_str(), *after))),
                What::Stands(standings) => {
                    for standing in standings {
                        let after = match (standing.recovered, asked.get(standing.thread_id.as_str())) {
                            (true, Some(after)) => *after,
                            (true, None) | (false, _) => standing.last_seq,
                        };
                        let following = Following {
                            next: Some(after + 1),
                            came: BTreeSet::new(),
                        };
                        threads.insert(&standing.thread_id, following);
                        before.insert(&standing.thread_id, seen);
                    }
                }
                What::Event(line) => {
                    let following = threads.entry(&line.thread_id).or_default();
                    let frames = |last: &Seen| {
                        let frames = [before.get(line.thread_id.as_str()).copied(), Some(last)];
                        let frames = frames.into_iter().flatten();
                        frames.map(|seen| on_connection(connection.connection, seen)).collect()
                    };
                    judge_next(following, line, connection, |kind, what| {
                        found.blame(kind, what, frames(seen))
                    });
                    following.came.insert(line.seq);
                    following.next = Some(following.next.unwrap_or(0).max(line.seq + 1));
                    before.insert(&line.thread_id, seen);
                }
                What::Said { .. } | What::Accepted { .. } => {}
            }
        }
    }
}

fn judge_next(
    following: &Following,
    line: &LogLine,
    connection: &ConnectionHistory,
    blame: impl FnOnce(AnomalyKind, String),
) {
    let (seq, thread_id, number) = (line.seq, &line.thread_id, connection.connection);
    match following.next {
        None => {}
        Some(next) if next == seq => {}
        Some(next) if seq > next => {
            let what = format!("connection {number} got {seq} of {thread_id} where {next} is next");
            blame(AnomalyKind::SilentGap, what);
        }
        Some(_) if following.came.contains(&seq) => {
            let what = format!("connection {number} got {seq} of {thread_id} a second time");
            blame(AnomalyKind::Duplicated, what);
        }
        Some(next) if following.came.is_empty() => {
            // It was told to stand behind this one: the client has it already.
            let what = format!(
                "connection {number} goes on after {} of {thread_id}, and got {seq} again",
                next - 1
            );
            blame(AnomalyKind::Duplicated, what);
        }
        Some(next) => {
            let what = format!("connection {number} got {seq} of {thread_id} after {}", next - 1);
            blame(AnomalyKind::Reordered, what);
        }
    }
}

/// A resume is granted for the present incarnation of the log alone.
pub(super) fn epochs(history: &History, found: &mut Vec<Anomaly>) {
    for connection in &history.connections {
        let mut asked: BTreeMap<&str, (&str, &Seen)> = BTreeMap::new();
        for seen in &connection.seen {
            match &seen.what {
                What::Asked(points) => {
                    asked.extend(
                        points
                            .iter()
                            .map(|(thread, epoch, _)| (thread.as_str(), (epoch.as_str(), seen))),
                    );
                }
                What::Stands(standings) => {
                    for standing in standings.iter().filter(|standing| standing.recovered) {
                        let Some((epoch, ask)) = asked.get(standing.thread_id.as_str()) else {
                            continue;
                        };
                        if *epoch != standing.epoch {
                            let what = format!(
                                "a resume of {} from epoch {epoch} was granted, and its epoch is {}",
                                standing.thread_id, standing.epoch
                            );
                            let frames = [*ask, seen].map(|seen| on_connection(connection.connection, seen));
                            found.blame(AnomalyKind::StaleEpochAccepted, what, frames.to_vec());
                        }
                    }
                }
                What::Said { .. } | What::Accepted { .. } | What::Event(_) => {}
            }
        }
    }
}

/// A connection sees its own user's threads, and nothing that nobody caused.
pub(super) fn phantoms(history: &History, found: &mut Vec<Anomaly>) {
    for connection in &history.connections {
        for seen in &connection.seen {
            let What::Event(line) = &seen.what else {
                continue;
            };
            let frames = || vec![on_connection(connection.connection, seen)];
            let owner = history.owners.get(&line.thread_id);
            if connection.user_id.is_some() && owner.is_some() && owner != connection.user_id.as_ref() {
                let what = format!(
                    "connection {} got an event of a stranger's thread",
                    connection.connection
                );
                found.blame(AnomalyKind::Phantom, what, frames());
            } else if let Some(owner) = owner.filter(|owner| **owner != line.user_id) {
                let what = format!("an event of {owner}'s thread says that it is {}'s", line.user_id);
                found.blame(AnomalyKind::Phantom, what, frames());
            }
        }
    }
    for (thread_id, truth) in &history.truth {
        let foreign = truth.events.iter().filter(|line| {
            let owner = history.owners.get(thread_id);
            line.thread_id != *thread_id || owner.is_some_and(|owner| *owner != line.user_id)
        });
        for line in foreign {
            let what = format!("the log of {thread_id} holds an event of another thread or user");
            found.blame(AnomalyKind::Phantom, what, vec![in_log("durable log", line)]);
        }
    }
}

/// The same place of the same log has the same bytes, wherever and whenever it is seen.
pub(super) fn bytes(history: &History, found: &mut Vec<Anomaly>) {
    // A log has one incarnation in a chaos run: a second one would be told by `epochs` and by the truth.
    let mut first: BTreeMap<(&str, u64), (&str, String)> = BTreeMap::new();
    let delivered = history.connections.iter().flat_map(|connection| {
        connection.seen.iter().filter_map(|seen| match &seen.what {
            What::Event(line) => Some((seen.at_us, line, on_connection(connection.connection, seen))),
            What::Asked(_) | What::Said { .. } | What::Stands(_) | What::Accepted { .. } => None,
        })
    });
    let mut delivered: Vec<_> = delivered.collect();
    delivered.sort_by_key(|(at_us, _, _)| *at_us);
    let delivered = delivered.into_iter().map(|(_, line, place)| (line, place));
    let truth = history.truth.values().flat_map(|truth| &truth.events);
    let truth = truth.map(|line| (line, in_log("durable log", line)));
    for (line, place) in delivered.chain(truth) {
        match first.get(&(line.thread_id.as_str(), line.seq)) {
            None => {
                first.insert((&line.thread_id, line.seq), (&line.text, place));
            }
            Some((text, _)) if *text == line.text => {}
            Some((_, earlier)) => {
                let what = format!("{} of {} is not what it was", line.seq, line.thread_id);
                found.blame(AnomalyKind::ReplayDiffers, what, vec![earlier.clone(), place]);
            }
        }
    }
}
