//! One direction of one connection: a reader that decides what happens to each unit, a bounded queue in which delayed units
//! wait, and a writer.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use super::active::{ActingNow, ActiveFault, Ledger};
use super::unit::{Cutter, Unit, Units};
use super::{Direction, FaultKind};

/// How many units may wait in one direction of a connection. At the bound the proxy stops reading, and the sender feels it.
const UNITS_IN_FLIGHT_MAX: usize = 1_024;

/// How many bytes may wait in one direction of a connection. Small, so that a slow link is felt by a sender soon; a latency
/// above `this / rate` narrows a link to it.
const BYTES_IN_FLIGHT_MAX: usize = 256 * 1024;

/// How long a frame that shall be overtaken waits for the one that overtakes it. Where none comes it passes, in its place.
const OVERTAKING_PATIENCE: Duration = Duration::from_millis(200);

/// Bandwidth is given in pieces of this part of a second, so that it is even.
const BANDWIDTH_PIECES_PER_SECOND: u64 = 50;

/// Why a lane ended before its stream did.
#[derive(Debug)]
pub(super) enum LaneEnd {
    /// One of the two sides is gone.
    Gone,
    /// A fault cut it.
    Cut,
}

/// What both halves of a lane know.
#[derive(Clone, Debug)]
pub(super) struct Lane<'a> {
    pub(super) way: Direction,
    pub(super) units: Units,
    pub(super) connection: u64,
    pub(super) client: SocketAddr,
    pub(super) faults: watch::Receiver<ActingNow>,
    pub(super) ledger: &'a Ledger,
    dice: BTreeMap<u64, StdRng>,
}

/// A unit on its way.
#[derive(Debug)]
pub(super) struct InFlight {
    unit: Unit,
    due: Instant,
    _room: OwnedSemaphorePermit,
}

/// What happens to a unit.
enum Fate {
    Passes { unit: Unit, copies: usize },
    WaitsForFollower { unit: Unit, fault: Arc<ActiveFault> },
    Lost,
    CutsHere,
}

/// The queue between the halves of a lane.
pub(super) fn queue() -> (mpsc::Sender<InFlight>, mpsc::Receiver<InFlight>) {
    mpsc::channel(UNITS_IN_FLIGHT_MAX)
}

impl<'a> Lane<'a> {
    pub(super) fn new(
        way: Direction,
        units: Units,
        connection: u64,
        client: SocketAddr,
        faults: watch::Receiver<ActingNow>,
        ledger: &'a Ledger,
    ) -> Self {
        Self {
            way,
            units,
            connection,
            client,
            faults,
            ledger,
            dice: BTreeMap::new(),
        }
    }

    fn acting(&self) -> ActingNow {
        Arc::clone(&self.faults.borrow())
    }

    /// The faults that act on this way now, in the order in which they were injected.
    fn acting_here(&self) -> Vec<Arc<ActiveFault>> {
        let acting = self.faults.borrow();
        acting.iter().filter(|active| active.acts(self.way)).cloned().collect()
    }

    fn dice_of(&mut self, fault: &ActiveFault) -> &mut StdRng {
        let (connection, way) = (self.connection, self.way);
        self.dice
            .entry(fault.number())
            .or_insert_with(|| fault.dice(connection, way))
    }

    fn hits(&mut self, fault: &ActiveFault, probability: f64) -> bool {
        self.dice_of(fault).random_bool(probability)
    }

    fn damages(&self, fault: &Arc<ActiveFault>) {
        fault.count();
        self.ledger.damaged(self.client);
    }

    /// The end of a lane whose socket failed; while the connection is half-open nobody hears of it.
    async fn gone<T>(&self) -> Result<T, LaneEnd> {
        let half_open = self
            .acting()
            .iter()
            .any(|active| *active.fault().kind() == FaultKind::HalfOpen);
        if half_open {
            std::future::pending::<()>().await;
        }
        Err(LaneEnd::Gone)
    }

    // ---- reading ----------------------------------------------------------------------------------------------------

    /// Reads units, decides about each, and queues what passes, until the stream ends.
    pub(super) async fn read(
        mut self,
        mut source: impl AsyncRead + Unpin,
        mut cutter: Cutter<'_>,
        queue: mpsc::Sender<InFlight>,
    ) -> Result<(), LaneEnd> {
        let room = Arc::new(Semaphore::new(BYTES_IN_FLIGHT_MAX));
        let mut last_due = Instant::now();
        let mut waiting: Option<(Unit, Arc<ActiveFault>)> = None;
        loop {
            let next = match &waiting {
                None => cutter.next(&mut source).await,
                Some(_) => match tokio::time::timeout(OVERTAKING_PATIENCE, cutter.next(&mut source)).await {
                    Ok(next) => next,
                    Err(_) => {
                        if let Some((unit, _)) = waiting.take() {
                            self.pass(unit, &queue, &room, &mut last_due).await?;
                        }
                        continue;
                    }
                },
            };
            let unit = match next {
                Ok(Some(unit)) => unit,
                Ok(None) => {
                    if let Some((unit, _)) = waiting.take() {
                        self.pass(unit, &queue, &room, &mut last_due).await?;
                    }
                    return Ok(());
                }
                Err(_) => return self.gone().await,
            };
            match self.decide(unit, waiting.is_none()) {
                Fate::Lost => {}
                Fate::CutsHere => return Err(LaneEnd::Cut),
                Fate::WaitsForFollower { unit, fault } => waiting = Some((unit, fault)),
                Fate::Passes { unit, copies } => {
                    let overtakes = unit.is_whole_message();
                    if !overtakes && let Some((earlier, _)) = waiting.take() {
                        self.pass(earlier, &queue, &room, &mut last_due).await?;
                    }
                    for _ in 0..copies {
                        self.pass(unit.clone(), &queue, &room, &mut last_due).await?;
                    }
                    if let Some((earlier, fault)) = waiting.take() {
                        self.damages(&fault);
                        self.pass(earlier, &queue, &room, &mut last_due).await?;
                    }
                }
            }
        }
    }

    fn decide(&mut self, mut unit: Unit, may_wait: bool) -> Fate {
        let mut copies = 1;
        for active in &self.acting_here() {
            match *active.fault().kind() {
                FaultKind::Cut { probability } if self.hits(active, probability) => {
                    active.count();
                    return Fate::CutsHere;
                }
                FaultKind::Drop { probability } if self.units == Units::Bytes && self.hits(active, probability) => {
                    active.count();
                    return Fate::CutsHere;
                }
                FaultKind::Drop { probability } if unit.is_whole_message() && self.hits(active, probability) => {
                    self.damages(active);
                    return Fate::Lost;
                }
                FaultKind::Corrupt { probability }
                    if (unit.frame.is_some() || self.units == Units::Bytes) && self.hits(active, probability) =>
                {
                    unit.corrupt(self.dice_of(active));
                    self.damages(active);
                }
                FaultKind::Duplicate { probability } if unit.is_whole_message() && self.hits(active, probability) => {
                    copies += 1;
                    self.damages(active);
                }
                FaultKind::Reorder { probability }
                    if may_wait && unit.is_whole_message() && self.hits(active, probability) =>
                {
                    let fault = Arc::clone(active);
                    return Fate::WaitsForFollower { unit, fault };
                }
                FaultKind::Cut { .. }
                | FaultKind::Drop { .. }
                | FaultKind::Corrupt { .. }
                | FaultKind::Duplicate { .. }
                | FaultKind::Reorder { .. } => {}
                // When it is queued or written, or for the connection as a whole.
                FaultKind::Latency { .. }
                | FaultKind::Bandwidth { .. }
                | FaultKind::Slice { .. }
                | FaultKind::Hold
                | FaultKind::HalfOpen
                | FaultKind::Reset
                | FaultKind::Partition => {}
            }
        }
        Fate::Passes { unit, copies }
    }

    async fn pass(
        &mut self,
        unit: Unit,
        queue: &mpsc::Sender<InFlight>,
        room: &Arc<Semaphore>,
        last_due: &mut Instant,
    ) -> Result<(), LaneEnd> {
        let mut delay = Duration::ZERO;
        for active in &self.acting_here() {
            if let FaultKind::Latency { delay: own, jitter } = *active.fault().kind() {
                let spread = self.dice_of(active).random_range(-1.0..=1.0);
                let signed = own.as_secs_f64() + jitter.as_secs_f64() * spread;
                delay += Duration::from_secs_f64(signed.max(0.0));
                active.count();
            }
        }
        // A unit never overtakes another: TCP keeps the order.
        let due = (Instant::now() + delay).max(*last_due);
        *last_due = due;
        let bytes = unit.bytes.len().min(BYTES_IN_FLIGHT_MAX) as u32;
        let Ok(permit) = Arc::clone(room).acquire_many_owned(bytes).await else {
            return Err(LaneEnd::Gone);
        };
        let in_flight = InFlight {
            unit,
            due,
            _room: permit,
        };
        queue.send(in_flight).await.map_err(|_| LaneEnd::Gone)
    }

    // ---- writing ----------------------------------------------------------------------------------------------------

    /// Writes what is queued, each unit when it is due, then the stream's end.
    pub(super) async fn write(
        mut self,
        mut sink: impl AsyncWrite + Unpin,
        mut queue: mpsc::Receiver<InFlight>,
    ) -> Result<(), LaneEnd> {
        let mut free_at = Instant::now();
        // What TCP lost it lost to the end: nothing passes behind it, even if the fault is lifted a moment before the
        // connection is reset.
        let mut swallowed = false;
        while let Some(in_flight) = queue.recv().await {
            tokio::time::sleep_until(in_flight.due).await;
            self.wait_for_release(true).await;
            swallowed |= self.swallows();
            if swallowed {
                continue;
            }
            if self.write_unit(&in_flight.unit, &mut sink, &mut free_at).await.is_err() {
                return self.gone().await;
            }
        }
        self.wait_for_release(false).await;
        if swallowed || self.swallows() {
            // Not even the end is told; what supervises the connection ends it with the fault.
            std::future::pending::<()>().await;
        }
        // The other side may have ended before.
        sink.shutdown().await.ok();
        Ok(())
    }

    async fn write_unit(
        &mut self,
        unit: &Unit,
        sink: &mut (impl AsyncWrite + Unpin),
        free_at: &mut Instant,
    ) -> io::Result<()> {
        let mut rate: Option<u64> = None;
        let mut slices: Option<(Arc<ActiveFault>, usize, Duration)> = None;
        for active in &self.acting_here() {
            match *active.fault().kind() {
                FaultKind::Bandwidth { bytes_per_second } => {
                    active.count();
                    rate = Some(rate.map_or(bytes_per_second, |other| other.min(bytes_per_second)));
                }
                FaultKind::Slice { bytes_max, pause } if unit.bytes.len() > 1 => {
                    slices = Some((Arc::clone(active), bytes_max, pause));
                }
                _ => {}
            }
        }
        let mut rest = unit.bytes.as_slice();
        while !rest.is_empty() {
            let mut bytes = rest.len();
            if let Some(rate) = rate {
                let even = usize::try_from(rate / BANDWIDTH_PIECES_PER_SECOND).unwrap_or(bytes);
                bytes = bytes.min(even.max(1));
            }
            if let Some((fault, bytes_max, _)) = &slices {
                let size = self.dice_of(fault).random_range(1..=*bytes_max);
                bytes = bytes.min(size);
            }
            if let Some(rate) = rate {
                // Time that the timer was late by is made up for, idle time is not.
                let late_by_at_most = Duration::from_secs(1) / BANDWIDTH_PIECES_PER_SECOND as u32;
                let begins = (*free_at).max(Instant::now() - late_by_at_most);
                *free_at = begins + Duration::from_secs_f64(bytes as f64 / rate as f64);
                tokio::time::sleep_until(*free_at).await;
            }
            let (piece, more) = rest.split_at(bytes);
            sink.write_all(piece).await?;
            if rest.len() == unit.bytes.len()
                && !more.is_empty()
                && let Some((fault, _, _)) = &slices
            {
                fault.count();
            }
            rest = more;
            if let Some((_, _, pause)) = &slices
                && !rest.is_empty()
            {
                tokio::time::sleep(*pause).await;
            }
        }
        Ok(())
    }

    /// Waits until nothing holds this way; a unit that has to wait is counted once.
    async fn wait_for_release(&mut self, counts: bool) {
        let mut counted: Vec<u64> = Vec::new();
        loop {
            let acting = Arc::clone(&self.faults.borrow_and_update());
            let holds = |active: &&Arc<ActiveFault>| active.acts(self.way) && *active.fault().kind() == FaultKind::Hold;
            let mut held = false;
            for active in acting.iter().filter(holds) {
                held = true;
                if counts && !counted.contains(&active.number()) {
                    counted.push(active.number());
                    active.count();
                }
            }
            if !held || self.faults.changed().await.is_err() {
                return;
            }
        }
    }

    fn swallows(&self) -> bool {
        self.acting()
            .iter()
            .any(|active| active.acts(self.way) && *active.fault().kind() == FaultKind::HalfOpen)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::super::Fault;
    use super::super::active::Faults;
    use super::*;

    async fn in_flight(text: &str) -> InFlight {
        let room = Arc::new(Semaphore::new(1));
        InFlight {
            unit: Unit {
                bytes: text.into(),
                frame: None,
            },
            due: Instant::now(),
            _room: room.acquire_owned().await.expect("there is room"),
        }
    }

    #[tokio::test]
    async fn nothing_passes_behind_what_a_half_open_link_swallowed() {
        let ledger = Ledger::default();
        let faults = Arc::new(Faults::new("a node", 1, ledger.clone()));
        let (queued, queue) = queue();
        let (mut client, sink) = tokio::io::duplex(64);
        let address = ([127, 0, 0, 1], 1).into();
        let lane = Lane::new(Direction::ToClient, Units::Bytes, 0, address, faults.watch(), &ledger);
        let writing = lane.write(sink, queue);
        let judging = async {
            let mut before = [0; 1];
            queued.send(in_flight("1").await).await.expect("it writes");
            client.read_exact(&mut before).await.expect("it passes");
            let fault = faults.inject(Fault::half_open());
            queued.send(in_flight("2").await).await.expect("it writes");
            // sleeps because nothing tells that a unit was swallowed
            tokio::time::sleep(Duration::from_millis(50)).await;
            fault.lift();
            queued.send(in_flight("3").await).await.expect("it writes");
            let mut after = [0; 1];
            let read = tokio::time::timeout(Duration::from_millis(100), client.read(&mut after)).await;
            assert!(read.is_err(), "{read:?}: {after:?}");
        };
        tokio::select! {
            ended = writing => panic!("{ended:?}"),
            () = judging => {}
        }
    }
}
