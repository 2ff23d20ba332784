//! What each client was left with: the whole log, each event once, in order.

use std::collections::BTreeSet;

use super::super::history::History;
use super::{Anomaly, AnomalyKind, Blame as _, in_log};

/// After the healing a client's log is the durable log.
pub(super) fn logs_of_clients(history: &History, found: &mut Vec<Anomaly>) {
    for log in &history.logs {
        let whose = format!("log of {}", log.client);
        for pair in log.events.windows(2) {
            let (one, next) = (&pair[0], &pair[1]);
            let kind = if next.seq == one.seq {
                AnomalyKind::Duplicated
            } else if next.seq < one.seq {
                AnomalyKind::Reordered
            } else if next.seq > one.seq + 1 {
                AnomalyKind::Hole
            } else {
                continue;
            };
            let what = format!(
                "{} has {} behind {} of {}",
                log.client, next.seq, one.seq, log.thread_id
            );
            found.blame(kind, what, vec![in_log(&whose, one), in_log(&whose, next)]);
        }
        for line in log.events.iter().filter(|line| line.thread_id != log.thread_id) {
            let what = format!("{} was given this as an event of {}", log.client, log.thread_id);
            found.blame(AnomalyKind::Phantom, what, vec![in_log(&whose, line)]);
        }
        let Some(truth) = history.truth.get(&log.thread_id) else {
            continue;
        };
        let has: BTreeSet<u64> = log.events.iter().map(|line| line.seq).collect();
        let missing: Vec<_> = truth.events.iter().filter(|line| !has.contains(&line.seq)).collect();
        if let Some(first) = missing.first() {
            let (count, last) = (missing.len(), truth.events.last().map_or(0, |line| line.seq));
            let what = format!(
                "{} lacks {count} events of {} after the healing, the first of them {} of {last}",
                log.client, log.thread_id, first.seq
            );
            found.blame(AnomalyKind::Lost, what, vec![in_log("durable log", first)]);
        }
        let kept: BTreeSet<u64> = truth.events.iter().map(|line| line.seq).collect();
        if let Some(line) = log.events.iter().find(|line| !kept.contains(&line.seq)) {
            let what = format!(
                "{} has {} of {}, which the durable log lacks",
                log.client, line.seq, log.thread_id
            );
            found.blame(AnomalyKind::Lost, what, vec![in_log(&whose, line)]);
        }
    }
}
