//! The resume protocol as a small model, explored without a gap: every order in which commits, deliveries, cuts, resumes,
//! trims and a change of epoch can follow one another within the bounds below, on two nodes over one log.
//!
//! The model holds what SEQ-3 is about and nothing else. A node commits to the shared log and delivers it to its followers
//! later, at its own pace; a link carries frames in order until it is cut, when what it carried is lost; a client goes on
//! from its newest event. Its properties are those of the history checkers. Each way to get the protocol wrong that is
//! listed in [`Mistake`] must break the property that it is about: a model that cannot fail would show nothing.

use std::collections::VecDeque;

use pretty_assertions::assert_eq;
use stateright::{Checker, HasDiscoveries, Model, Property};

/// Events that each epoch of the log may hold.
const EVENTS_MAX: u8 = 3;
/// Times that the link may be cut.
const CUTS_MAX: u8 = 2;
/// Events that retention may drop.
const TRIMS_MAX: u8 = 1;
/// Incarnations of the log.
const EPOCHS_MAX: u8 = 2;
/// Nodes over the one log.
const NODES: usize = 2;

/// A way to get the protocol wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    /// A replay begins one event too late.
    OffByOne,
    /// A replay begins with the event that the client has.
    OneTooEarly,
    /// A follower is live while its replay still goes on.
    LiveBeforeReplayEnded,
    /// A resume is granted whatever its epoch is.
    EpochIgnored,
    /// A resume is granted though retention dropped what it needs.
    RetentionIgnored,
}

/// An event is what it is by its epoch and place; the wire shows the place only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Logged {
    epoch: u8,
    seq: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Frame {
    Recovered,
    /// `recovered: false`: the client goes on from here.
    Refused {
        epoch: u8,
        last_seq: u8,
    },
    Event(Logged),
}

/// A node's side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Follower {
    Replaying { have: u8 },
    Live,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Connection {
    node: usize,
    follower: Follower,
    in_flight: VecDeque<Frame>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    epoch: u8,
    after: u8,
    /// What the checkers would say of what it has seen.
    anomaly: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    epoch: u8,
    oldest_seq: u8,
    last_seq: u8,
    /// How far each node has delivered the log.
    delivered: [u8; NODES],
    connection: Option<Connection>,
    client: Client,
    cuts: u8,
    trims: u8,
    refusals: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Commit,
    Deliver(usize),
    Replay,
    Receive,
    Cut,
    Resume(usize),
    Trim,
    ChangeEpoch,
}

#[derive(Clone, Debug)]
struct ResumeProtocol {
    mistake: Option<Mistake>,
}

impl ResumeProtocol {
    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn resume(&self, world: &mut World, node: usize) {
        let Client { epoch, after, .. } = world.client;
        // Whoever joins reads the log's end first: what came by then is delivered, what comes later comes by the feed.
        world.delivered[node] = world.last_seq;
        let same_log = epoch == world.epoch || self.makes(Mistake::EpochIgnored);
        let kept = after + 1 >= world.oldest_seq || self.makes(Mistake::RetentionIgnored);
        let (answer, have) = if same_log && kept && after <= world.last_seq {
            let have = match self.mistake {
                Some(Mistake::OffByOne) => after + 1,
                Some(Mistake::OneTooEarly) => after.saturating_sub(1),
                _ => after,
            };
            (Frame::Recovered, have.min(world.last_seq))
        } else {
            world.refusals += 1;
            let (epoch, last_seq) = (world.epoch, world.last_seq);
            (Frame::Refused { epoch, last_seq }, world.last_seq)
        };
        let follower = Follower::Replaying { have };
        let in_flight = VecDeque::from([answer]);
        world.connection = Some(Connection {
            node,
            follower,
            in_flight,
        });
    }

    /// One event more of the replay, or the step from replay to live.
    fn replay(&self, world: &mut World) {
        let Some(connection) = &mut world.connection else {
            return;
        };
        let Follower::Replaying { have } = connection.follower else {
            return;
        };
        if have >= world.delivered[connection.node] {
            connection.follower = Follower::Live;
        } else if have + 1 < world.oldest_seq && !self.makes(Mistake::RetentionIgnored) {
            // Dropped since the resume was granted: the connection is closed and the next resume is told.
            world.connection = None;
        } else {
            let seq = (have + 1).max(world.oldest_seq);
            let epoch = world.epoch;
            connection.in_flight.push_back(Frame::Event(Logged { epoch, seq }));
            connection.follower = Follower::Replaying { have: seq };
        }
    }

    fn deliver(&self, world: &mut World, node: usize) {
        world.delivered[node] += 1;
        let (epoch, seq) = (world.epoch, world.delivered[node]);
        if let Some(connection) = world.connection.as_mut().filter(|connection| connection.node == node)
            && (connection.follower == Follower::Live || self.makes(Mistake::LiveBeforeReplayEnded))
        {
            connection.in_flight.push_back(Frame::Event(Logged { epoch, seq }));
        }
    }
}

impl Client {
    fn see(&mut self, frame: &Frame) {
        let anomaly = match frame {
            Frame::Recovered => None,
            Frame::Refused { epoch, last_seq } => {
                (self.epoch, self.after) = (*epoch, *last_seq);
                None
            }
            Frame::Event(event) if event.epoch != self.epoch => Some("stale epoch accepted"),
            Frame::Event(event) if event.seq <= self.after => Some("duplicated or reordered"),
            Frame::Event(event) if event.seq > self.after + 1 => Some("hole"),
            Frame::Event(event) => {
                self.after = event.seq;
                None
            }
        };
        // The first one counts: what follows it is its consequence.
        self.anomaly = self.anomaly.or(anomaly);
    }
}

impl Model for ResumeProtocol {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        let client = Client {
            epoch: 0,
            after: 0,
            anomaly: None,
        };
        vec![World {
            epoch: 0,
            oldest_seq: 1,
            last_seq: 0,
            delivered: [0; NODES],
            connection: None,
            client,
            cuts: 0,
            trims: 0,
            refusals: 0,
        }]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        // A world that an anomaly was seen in needs no more exploring.
        if world.client.anomaly.is_some() {
            return;
        }
        let may = |is_possible: bool, step: Step| is_possible.then_some(step);
        steps.extend(may(world.last_seq < EVENTS_MAX, Step::Commit));
        // The newest event is never dropped.
        steps.extend(may(
            world.trims < TRIMS_MAX && world.oldest_seq < world.last_seq,
            Step::Trim,
        ));
        steps.extend(may(world.epoch + 1 < EPOCHS_MAX, Step::ChangeEpoch));
        for node in 0..NODES {
            steps.extend(may(world.delivered[node] < world.last_seq, Step::Deliver(node)));
            steps.extend(may(world.connection.is_none(), Step::Resume(node)));
        }
        if let Some(connection) = &world.connection {
            steps.extend(may(connection.follower != Follower::Live, Step::Replay));
            steps.extend(may(!connection.in_flight.is_empty(), Step::Receive));
            steps.extend(may(world.cuts < CUTS_MAX, Step::Cut));
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut world = world.clone();
        match step {
            Step::Commit => world.last_seq += 1,
            Step::Deliver(node) => self.deliver(&mut world, node),
            Step::Replay => self.replay(&mut world),
            Step::Receive => {
                let frame = world.connection.as_mut()?.in_flight.pop_front()?;
                world.client.see(&frame);
            }
            Step::Cut => {
                world.cuts += 1;
                world.connection = None;
            }
            Step::Resume(node) => self.resume(&mut world, node),
            Step::Trim => {
                world.trims += 1;
                world.oldest_seq += 1;
            }
            Step::ChangeEpoch => {
                // As after a restore: everything starts anew, and no connection outlives it.
                world.epoch += 1;
                (world.oldest_seq, world.last_seq) = (1, 0);
                world.delivered = [0; NODES];
                world.connection = None;
            }
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn saw(world: &World, anomaly: &str) -> bool {
            world.client.anomaly == Some(anomaly)
        }
        /// The link is idle, the follower is live and its node has delivered everything.
        fn is_at_rest(world: &World) -> bool {
            world.connection.as_ref().is_some_and(|connection| {
                connection.in_flight.is_empty()
                    && connection.follower == Follower::Live
                    && world.delivered[connection.node] == world.last_seq
            })
        }
        vec![
            Property::always(NO_REPEAT, |_, world| !saw(world, "duplicated or reordered")),
            Property::always(NO_HOLE, |_, world| !saw(world, "hole")),
            Property::always(NO_STALE_EPOCH, |_, world| !saw(world, "stale epoch accepted")),
            Property::always(NO_SILENT_GAP, |_, world| {
                !is_at_rest(world) || (world.client.epoch, world.client.after) == (world.epoch, world.last_seq)
            }),
            // What an exploration that says `always` must have been through.
            Property::sometimes("everything arrives in spite of cuts", |_, world| {
                is_at_rest(world) && world.cuts == CUTS_MAX && world.client.after == EVENTS_MAX && world.refusals == 0
            }),
            Property::sometimes("a resume is refused for its age", |_, world| {
                is_at_rest(world) && world.refusals > 0 && world.epoch == 0
            }),
            Property::sometimes("a resume is refused for its epoch", |_, world| {
                is_at_rest(world) && world.refusals > 0 && world.epoch > 0 && world.trims == 0
            }),
        ]
    }
}

const NO_REPEAT: &str = "nothing is duplicated or reordered";
const NO_HOLE: &str = "no hole";
const NO_STALE_EPOCH: &str = "no stale epoch is accepted";
const NO_SILENT_GAP: &str = "no silent gap";

#[test]
fn no_order_of_events_loses_repeats_or_mixes_up_what_a_client_sees() {
    let checked = ResumeProtocol { mistake: None }.checker().spawn_bfs().join();
    checked.assert_properties();
    assert!(checked.is_done());
    assert!(
        checked.unique_state_count() > 10_000,
        "{} states are no exploration",
        checked.unique_state_count()
    );
}

#[rstest::rstest]
#[case(Mistake::OffByOne, NO_HOLE)]
#[case(Mistake::OneTooEarly, NO_REPEAT)]
#[case(Mistake::LiveBeforeReplayEnded, NO_HOLE)]
#[case(Mistake::EpochIgnored, NO_STALE_EPOCH)]
#[case(Mistake::RetentionIgnored, NO_HOLE)]
fn each_mistake_breaks_the_property_that_it_is_about(#[case] mistake: Mistake, #[case] property: &'static str) {
    let model = ResumeProtocol { mistake: Some(mistake) };
    let broken = HasDiscoveries::AllOf([property].into());
    let checked = model.checker().finish_when(broken).spawn_bfs().join();
    let path = checked.discovery(property);
    assert!(path.is_some(), "{mistake:?} must break `{property}`");
    let last = path.map(|path| path.last_state().clone());
    assert_eq!(last.map(|world| world.client.anomaly.is_some()), Some(true));
}
