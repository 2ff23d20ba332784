//! Histories made by hand: one that is good, and the same with one thing wrong for each way to be wrong.

use pretty_assertions::assert_eq;

use super::super::history::{ClientLog, ConnectionHistory, History, LogLine, Seen, Standing, ThreadTruth, What};
use super::{AnomalyKind, check};

const THREAD: &str = "thread_1";
const ADA: &str = "user_ada";

fn line(seq: u64, kind: &str) -> LogLine {
    LogLine {
        kind: kind.to_owned(),
        seq,
        event_id: format!("event_{seq}"),
        thread_id: THREAD.to_owned(),
        user_id: ADA.to_owned(),
        run_id: "run_1".to_owned(),
        cause: "message_1".to_owned(),
        timestamp: format!("2026-01-01T00:00:00.{seq:03}Z"),
        execution_id: kind.starts_with("tool_").then(|| "execution_1".to_owned()),
        text: format!("{kind} {seq}"),
    }
}

/// One run with one tool call.
fn run() -> Vec<LogLine> {
    let kinds = [
        "agent_started",
        "agent_thinking",
        "tool_executing",
        "tool_completed",
        "agent_completed",
    ];
    (1..).zip(kinds).map(|(seq, kind)| line(seq, kind)).collect()
}

fn saw(whats: Vec<What>) -> ConnectionHistory {
    let seen = whats.into_iter().enumerate().map(|(frame, what)| Seen {
        frame,
        at_us: frame as u64,
        text: format!("{what:?}"),
        what,
    });
    ConnectionHistory {
        connection: 0,
        user_id: Some(ADA.to_owned()),
        seen: seen.collect(),
    }
}

fn asked(epoch: &str, after: u64) -> What {
    What::Asked(vec![(THREAD.to_owned(), epoch.to_owned(), after)])
}

fn stands(recovered: bool, last_seq: u64) -> What {
    What::Stands(vec![Standing {
        thread_id: THREAD.to_owned(),
        epoch: "epoch_1".to_owned(),
        recovered,
        last_seq,
    }])
}

fn accepted(run_id: &str) -> What {
    What::Accepted {
        message_id: "message_1".to_owned(),
        run_id: run_id.to_owned(),
        thread_id: THREAD.to_owned(),
    }
}

fn events(seqs: impl IntoIterator<Item = u64>) -> Vec<What> {
    let run = run();
    seqs.into_iter()
        .map(|seq| What::Event(run[seq as usize - 1].clone()))
        .collect()
}

/// A client that lost its connection after the second event, resumed, and has everything; a message was sent that nobody
/// knows the outcome of.
fn good() -> History {
    let mut first = vec![stands(false, 0), accepted("run_1")];
    first.extend(events([1, 2]));
    first.push(What::Said {
        message_id: "message_2".to_owned(),
    });
    let mut second = vec![asked("epoch_1", 2), stands(true, 4)];
    second.extend(events([3, 4, 5]));
    History {
        owners: [(THREAD.to_owned(), ADA.to_owned())].into(),
        connections: vec![saw(first), saw(second)],
        logs: vec![ClientLog {
            client: "client 0".to_owned(),
            user_id: ADA.to_owned(),
            thread_id: THREAD.to_owned(),
            events: run(),
        }],
        truth: [(
            THREAD.to_owned(),
            ThreadTruth {
                events: run(),
                messages: vec!["message_1".to_owned()],
            },
        )]
        .into(),
    }
}

/// Breaks the good history; claims that this kind of anomaly is found first, which is the smallest, and nothing else.
fn breaks(kind: AnomalyKind, change: impl FnOnce(&mut History)) {
    assert_eq!(kinds(change), [kind]);
}

fn kinds(change: impl FnOnce(&mut History)) -> Vec<AnomalyKind> {
    let mut history = good();
    change(&mut history);
    check(&history).into_iter().map(|anomaly| anomaly.kind).collect()
}

/// What the second connection sees after its resume was granted.
fn resumed_with(history: &mut History, seqs: impl IntoIterator<Item = u64>) {
    let mut whats = vec![asked("epoch_1", 2), stands(true, 4)];
    whats.extend(events(seqs));
    history.connections[1] = saw(whats);
}

fn truth(history: &mut History) -> &mut ThreadTruth {
    history.truth.get_mut(THREAD).expect("the good history has it")
}

/// The log and everybody's memory of it, so that nothing but its own content is wrong.
fn rewrite(history: &mut History, change: impl Fn(&mut Vec<LogLine>)) {
    change(&mut truth(history).events);
    let events = truth(history).events.clone();
    history.logs[0].events = events;
    history.connections.clear();
}

#[test]
fn a_good_history_has_no_anomaly_and_an_unknown_outcome_is_none() {
    assert_eq!(check(&good()), []);
    assert_eq!(check(&History::default()), []);
}

#[test]
fn an_event_that_a_client_lacks_at_the_end_is_lost() {
    breaks(AnomalyKind::Lost, |history| {
        history.logs[0].events.truncate(4);
    });
}

#[test]
fn a_delivered_event_that_the_log_lacks_is_lost() {
    let found = kinds(|history| {
        truth(history).events.truncate(4);
        history.logs[0].events.truncate(4);
    });
    // The end of the run is what the log lost.
    assert_eq!(found, [AnomalyKind::Lost, AnomalyKind::TerminalMissing]);
}

#[test]
fn an_event_that_comes_twice_on_one_connection_is_duplicated() {
    breaks(AnomalyKind::Duplicated, |history| resumed_with(history, [3, 4, 4, 5]));
}

#[test]
fn a_resume_that_begins_with_what_the_client_has_is_a_duplicate() {
    breaks(AnomalyKind::Duplicated, |history| resumed_with(history, [2, 3, 4, 5]));
}

#[test]
fn an_event_after_its_follower_is_reordered() {
    let found = kinds(|history| resumed_with(history, [3, 5, 4]));
    assert_eq!(found, [AnomalyKind::Reordered, AnomalyKind::SilentGap]);
}

#[test]
fn a_connection_that_goes_on_behind_events_that_it_never_got_has_a_silent_gap() {
    breaks(AnomalyKind::SilentGap, |history| resumed_with(history, [3, 5]));
    breaks(AnomalyKind::SilentGap, |history| resumed_with(history, [4, 5]));
}

#[test]
fn a_client_that_was_cut_off_has_no_gap() {
    let found = kinds(|history| resumed_with(history, [3]));
    assert_eq!(found, []);
}

#[test]
fn a_place_without_an_event_is_a_hole() {
    let found = kinds(|history| rewrite(history, |events| drop(events.remove(1))));
    assert_eq!(
        found,
        [AnomalyKind::Hole, AnomalyKind::Hole],
        "in the log and at the client"
    );
}

#[test]
fn two_events_at_one_place_are_a_duplicate() {
    breaks(AnomalyKind::Duplicated, |history| {
        let again = LogLine {
            event_id: "event_other".to_owned(),
            ..line(2, "agent_thinking")
        };
        truth(history).events.insert(2, again);
    });
}

#[test]
fn an_event_with_other_bytes_than_before_is_a_replay_that_differs() {
    breaks(AnomalyKind::ReplayDiffers, |history| {
        let What::Event(line) = &mut history.connections[1].seen[3].what else {
            panic!("the fourth frame is an event")
        };
        line.text.push(' ');
    });
}

#[test]
fn an_event_of_a_stranger_is_a_phantom() {
    breaks(AnomalyKind::Phantom, |history| {
        history.owners.insert("thread_2".to_owned(), "user_eve".to_owned());
        let stranger = LogLine {
            thread_id: "thread_2".to_owned(),
            user_id: "user_eve".to_owned(),
            ..line(1, "agent_started")
        };
        let frame = Seen {
            frame: 9,
            at_us: 9,
            text: stranger.text.clone(),
            what: What::Event(stranger),
        };
        history.connections[0].seen.push(frame);
    });
}

#[test]
fn an_event_of_another_thread_in_a_log_is_a_phantom() {
    let found = kinds(|history| {
        rewrite(history, |events| events[1].thread_id = "thread_2".to_owned());
    });
    assert_eq!(
        found,
        [AnomalyKind::Phantom, AnomalyKind::Phantom],
        "in the log and at the client"
    );
}

#[test]
fn a_resume_from_another_incarnation_must_not_be_granted() {
    breaks(AnomalyKind::StaleEpochAccepted, |history| {
        let mut whats = vec![asked("epoch_0", 2), stands(true, 4)];
        whats.extend(events([3, 4, 5]));
        history.connections[1] = saw(whats);
    });
}

#[test]
fn a_run_without_an_end_lacks_its_terminal() {
    breaks(AnomalyKind::TerminalMissing, |history| {
        rewrite(history, |events| drop(events.pop()));
    });
}

#[test]
fn a_run_that_was_promised_and_never_began_lacks_its_terminal() {
    breaks(AnomalyKind::TerminalMissing, |history| {
        truth(history).messages.push("message_3".to_owned());
        let promise = What::Accepted {
            message_id: "message_3".to_owned(),
            run_id: "run_3".to_owned(),
            thread_id: THREAD.to_owned(),
        };
        history.connections.push(saw(vec![promise]));
    });
}

#[test]
fn a_run_that_ends_twice_has_two_terminals() {
    breaks(AnomalyKind::TerminalDoubled, |history| {
        rewrite(history, |events| events.push(line(6, "agent_completed")));
    });
}

#[test]
fn a_result_before_its_call_or_a_run_before_its_start_is_the_wrong_way_round() {
    breaks(AnomalyKind::ResultBeforeStart, |history| {
        rewrite(history, |events| {
            events[2] = line(3, "tool_completed");
            events[3] = line(4, "tool_executing");
        });
    });
    breaks(AnomalyKind::ResultBeforeStart, |history| {
        rewrite(history, |events| {
            events[0] = line(1, "agent_thinking");
            events[1] = line(2, "agent_started");
        });
    });
}

#[test]
fn a_later_event_that_says_that_it_is_older_lets_time_go_back() {
    breaks(AnomalyKind::TimeWentBack, |history| {
        rewrite(history, |events| {
            events[2].timestamp = "2026-01-01T00:00:00.001Z".to_owned()
        });
    });
}

#[test]
fn an_acknowledged_message_that_the_log_does_not_hold_is_lost() {
    breaks(AnomalyKind::AcknowledgedLost, |history| truth(history).messages.clear());
}

#[test]
fn a_message_with_two_runs_is_doubled() {
    breaks(AnomalyKind::MessageDoubled, |history| {
        rewrite(history, |events| {
            let second = ["agent_started", "agent_completed"];
            events.extend((6..).zip(second).map(|(seq, kind)| LogLine {
                run_id: "run_2".to_owned(),
                ..line(seq, kind)
            }));
        });
    });
    breaks(AnomalyKind::MessageDoubled, |history| {
        history.connections[1].seen.push(Seen {
            frame: 9,
            at_us: 9,
            text: String::new(),
            what: accepted("run_2"),
        });
    });
}

#[test]
fn the_smallest_anomaly_comes_first_with_the_frames_that_show_it() {
    let mut history = good();
    resumed_with(&mut history, [3, 5]);
    history.logs[0].events.truncate(4);
    let found = check(&history);
    assert_eq!(found[0].kind, AnomalyKind::Lost);
    assert_eq!(found[0].frames, ["durable log: agent_completed 5"]);
    assert!(
        found[0]
            .to_string()
            .starts_with("lost (SEQ-2): client 0 lacks 1 events"),
        "{}",
        found[0]
    );
}
