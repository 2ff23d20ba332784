//! The hand-over from replay to live, as a state machine: commits, deliveries that come late, twice, in any order or not
//! at all, and connections that join, catch up, go live and leave, in every order that chance makes.
//!
//! The reference is the log itself. Whatever happens, a follower gets exactly the events after its point, in order, each
//! once; and once everything was read, all of them.

use std::collections::BTreeMap;

use futures_util::FutureExt as _;
use kingsguard_protocol::ThreadId;
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::hub::{CatchUp, FollowerId, Hub};
use super::{Outbox, OutboxReader, Outgoing};

/// Connections that follow the one thread of the test.
const CONNECTIONS: usize = 3;
/// Events that the log may come to hold.
const EVENTS_MAX: u64 = 30;
/// Events that one read of the log brings.
const PAGE: usize = 3;
/// Steps of one order of things.
const STEPS: std::ops::Range<usize> = 1..60;
/// Orders of things.
const CASES: u32 = 256;

/// From where a connection follows.
#[derive(Clone, Copy, Debug)]
enum From {
    /// From now on.
    Live,
    /// After a part of what is committed, in percent.
    After(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Commit,
    /// Brings a committed event to the hub, whether it was brought before or not: so many before the newest.
    Deliver(u64),
    /// Reads what the feed lacks, as is done where a delivery told of a gap.
    FillGap,
    Join(usize, From),
    /// The next step of a connection on its way to being live.
    Advance(usize),
    Leave(usize),
}

/// What decides which steps are possible.
#[derive(Clone, Debug)]
struct Log {
    committed: u64,
    following: [bool; CONNECTIONS],
}

impl ReferenceStateMachine for Log {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        (0..5u64)
            .prop_map(|committed| Self {
                committed,
                following: [false; CONNECTIONS],
            })
            .boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let from = prop_oneof![Just(From::Live), (0..=100u64).prop_map(From::After)];
        prop_oneof![
            6 => Just(Step::Commit),
            8 => (0..6u64).prop_map(Step::Deliver),
            2 => Just(Step::FillGap),
            3 => (0..CONNECTIONS, from).prop_map(|(connection, from)| Step::Join(connection, from)),
            8 => (0..CONNECTIONS).prop_map(Step::Advance),
            1 => (0..CONNECTIONS).prop_map(Step::Leave),
        ]
        .boxed()
    }

    fn preconditions(log: &Self, step: &Step) -> bool {
        match step {
            Step::Commit => log.committed < EVENTS_MAX,
            Step::Deliver(back) => *back < log.committed,
            Step::FillGap => true,
            Step::Join(connection, _) => !log.following[*connection],
            Step::Advance(connection) | Step::Leave(connection) => log.following[*connection],
        }
    }

    fn apply(mut log: Self, step: &Step) -> Self {
        match step {
            Step::Commit => log.committed += 1,
            Step::Join(connection, _) => log.following[*connection] = true,
            Step::Leave(connection) => log.following[*connection] = false,
            Step::Deliver(_) | Step::FillGap | Step::Advance(_) => {}
        }
        log
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It joined; the log's end is not read yet.
    Joined,
    /// It replays: it has everything up to here.
    Replaying(u64),
    Live,
}

#[derive(Debug)]
struct Connection {
    id: FollowerId,
    outbox: Outbox,
    reader: OutboxReader,
    from: From,
    phase: Phase,
    /// What it has before its first event.
    start: u64,
    received: Vec<u64>,
}

#[derive(Debug)]
struct Node {
    hub: Hub,
    thread: ThreadId,
    connections: BTreeMap<usize, Connection>,
}

fn frame(seq: u64) -> Utf8Bytes {
    Utf8Bytes::from(seq.to_string())
}

impl Node {
    fn deliver(&self, seq: u64) {
        let was_seeded = self.hub.position(&self.thread).is_some();
        let lacks = self.hub.deliver(&self.thread, seq, &frame(seq));
        if let Some(position) = self.hub.position(&self.thread).filter(|_| was_seeded) {
            assert!(
                position >= seq || lacks,
                "nobody was told that events before {seq} are missing"
            );
        }
    }

    fn fill_gap(&self, committed: u64) {
        while let Some(position) = self.hub.position(&self.thread).filter(|position| *position < committed) {
            let page = (position + 1..=committed).take(PAGE);
            self.hub.fill(&self.thread, page.map(|seq| (seq, frame(seq))));
        }
    }

    fn join(&mut self, connection: usize, from: From) {
        let (outbox, reader) = Outbox::new(1_000, 100_000);
        let id = self.hub.join(&self.thread, &outbox);
        let joined = Connection {
            id,
            outbox,
            reader,
            from,
            phase: Phase::Joined,
            start: 0,
            received: Vec::new(),
        };
        self.connections.insert(connection, joined);
    }

    /// What `Bridge::follow` and its replay do, step by step.
    fn advance(&mut self, connection: usize, committed: u64) {
        let phase = self.connections[&connection].phase;
        if phase == Phase::Joined && self.hub.seed(&self.thread, committed) < committed {
            self.fill_gap(committed);
        }
        let connection = self.connections.get_mut(&connection).expect("it follows");
        match phase {
            Phase::Joined => {
                let last_seq = self.hub.position(&self.thread).expect("it was seeded");
                connection.start = match connection.from {
                    From::Live => last_seq,
                    From::After(percent) => last_seq * percent / 100,
                };
                connection.phase = Phase::Replaying(connection.start);
            }
            Phase::Replaying(have) => match self.hub.catch_up(&self.thread, connection.id, have) {
                CatchUp::Live => connection.phase = Phase::Live,
                CatchUp::ReadLog => {
                    let page = (have + 1..=committed).take(PAGE).map(|seq| (seq, frame(seq)));
                    self.hub.fill(&self.thread, page.clone());
                    for (seq, frame) in page {
                        connection.outbox.push_text(frame).expect("there is room");
                        connection.phase = Phase::Replaying(seq);
                    }
                }
                CatchUp::Gone => panic!("it never left"),
            },
            Phase::Live => {}
        }
    }

    fn leave(&mut self, connection: usize) {
        let gone = self.connections.remove(&connection).expect("it follows");
        self.hub.leave(&self.thread, gone.id);
        assert!(!self.hub.is_followed_by(&self.thread, &gone.outbox));
    }

    /// Takes what arrived at each connection; it must be what comes next in the log.
    fn judge_arrivals(&mut self) {
        let position = self.hub.position(&self.thread);
        for connection in self.connections.values_mut() {
            let mut arrived = Vec::new();
            if let Some(taken) = connection.reader.next_batch(&mut arrived).now_or_never() {
                taken.expect("the queue is large enough");
            }
            connection
                .received
                .extend(arrived.into_iter().map(|outgoing| match outgoing {
                    Outgoing::Text(text) => text.parse::<u64>().expect("frames are numbers here"),
                    Outgoing::Close(..) => panic!("nobody closes"),
                }));
            let expected = (connection.start + 1..).take(connection.received.len());
            assert_eq!(connection.received, expected.collect::<Vec<_>>());
            if connection.phase == Phase::Live {
                let has = connection.start + connection.received.len() as u64;
                assert_eq!(Some(has), position, "a live follower has what was delivered");
            }
        }
    }
}

struct HandOver;

impl StateMachineTest for HandOver {
    type SystemUnderTest = Node;
    type Reference = Log;

    fn init_test(_: &Log) -> Node {
        Node {
            hub: Hub::default(),
            thread: ThreadId::from("thread_1"),
            connections: BTreeMap::new(),
        }
    }

    fn apply(mut node: Node, log: &Log, step: Step) -> Node {
        match step {
            Step::Commit => {}
            Step::Deliver(back) => node.deliver(log.committed - back),
            Step::FillGap => node.fill_gap(log.committed),
            Step::Join(connection, from) => node.join(connection, from),
            Step::Advance(connection) => node.advance(connection, log.committed),
            Step::Leave(connection) => node.leave(connection),
        }
        node.judge_arrivals();
        node
    }

    fn check_invariants(node: &Node, log: &Log) {
        assert!(
            node.hub
                .position(&node.thread)
                .is_none_or(|position| position <= log.committed)
        );
        let followed = log.following.iter().any(|following| *following);
        assert_eq!(
            node.hub.threads().is_empty(),
            !followed,
            "a feed lives as long as its followers"
        );
    }

    /// Everybody comes to rest: then everybody has everything.
    fn teardown(mut node: Node, log: Log) {
        let connections: Vec<usize> = node.connections.keys().copied().collect();
        for connection in connections {
            while node.connections[&connection].phase != Phase::Live {
                node.advance(connection, log.committed);
            }
        }
        node.fill_gap(log.committed);
        node.judge_arrivals();
        for connection in node.connections.values() {
            assert_eq!(connection.start + connection.received.len() as u64, log.committed);
        }
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_follower_gets_exactly_what_comes_after_its_point(sequential STEPS => HandOver);
}
