//! The proxy: a listener on loopback, and for each of its connections one to the upstream.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::active::{ActingNow, Faults, Ledger};
use super::lane::{Lane, LaneEnd, queue};
use super::unit::{Cutter, Units, Upgrade};
use super::{Direction, Fault, FaultGuard, FaultKind};

/// How many connections pass at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// How long the upstream may take to accept. On loopback it does so at once or not at all.
const UPSTREAM_PATIENCE: Duration = Duration::from_secs(5);

/// Asked of the system for each socket's buffers. Its own would take megabytes before a sender feels a slow link.
const SOCKET_BUFFER_BYTES: u32 = 64 * 1024;

/// A proxy on loopback before one upstream. It lives as long as the value; its connections end with it.
///
/// It outlives its upstream: while that is away, what connects is accepted and closed at once, as a balancer does.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    _ends_with_this: DropGuard,
}

#[derive(Debug)]
struct Shared {
    units: Units,
    upstream: Mutex<String>,
    faults: Arc<Faults>,
    connections: AtomicU64,
}

impl FaultProxy {
    /// Stands before `upstream_authority` (host and port) and passes bytes: for Postgres, Redis, anything over TCP.
    ///
    /// # Panics
    /// Loopback has no free port.
    pub async fn before_bytes(upstream_authority: &str, seed: u64) -> Self {
        Self::start(upstream_authority, Units::Bytes, seed, Ledger::default())
    }

    /// Stands before a node: plain HTTP passes as bytes, and where an upgrade is accepted, frames are known.
    ///
    /// # Panics
    /// Loopback has no free port.
    pub async fn before_websocket(upstream_authority: &str, seed: u64) -> Self {
        Self::start(upstream_authority, Units::Frames, seed, Ledger::default())
    }

    pub(crate) fn noted_before_bytes(upstream_authority: &str, seed: u64, ledger: Ledger) -> Self {
        Self::start(upstream_authority, Units::Bytes, seed, ledger)
    }

    pub(crate) fn noted_before_websocket(upstream_authority: &str, seed: u64, ledger: Ledger) -> Self {
        Self::start(upstream_authority, Units::Frames, seed, ledger)
    }

    fn start(upstream_authority: &str, units: Units, seed: u64, ledger: Ledger) -> Self {
        let (listener, address) = match listen() {
            Ok(bound) => bound,
            Err(error) => panic!("listening on loopback before {upstream_authority}: {error}"),
        };
        let shared = Arc::new(Shared {
            units,
            upstream: Mutex::new(upstream_authority.to_owned()),
            faults: Arc::new(Faults::new(upstream_authority, seed, ledger)),
            connections: AtomicU64::new(0),
        });
        let ending = CancellationToken::new();
        tokio::spawn(
            ending
                .clone()
                .run_until_cancelled_owned(accept(listener, Arc::clone(&shared), ending.clone())),
        );
        Self {
            shared,
            address,
            _ends_with_this: ending.drop_guard(),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL, leading through the proxy: its host and port are replaced, credentials, path and query stay.
    ///
    /// # Panics
    /// It is no URL.
    #[must_use]
    pub fn lead(&self, url: &str) -> String {
        let Some((scheme, rest)) = url.split_once("://") else {
            panic!("expected a URL to lead through the proxy, not {url}");
        };
        let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let credentials = authority
            .rsplit_once('@')
            .map_or(String::new(), |(credentials, _)| format!("{credentials}@"));
        format!("{scheme}://{credentials}{}{after}", self.address)
    }

    /// Lets a fault act until its guard is lifted or dropped. Several act at once.
    ///
    /// # Panics
    /// The fault is one of frames and the proxy passes bytes.
    pub fn inject(&self, fault: Fault) -> FaultGuard {
        assert!(
            self.shared.units == Units::Frames
                || !matches!(fault.kind(), FaultKind::Reorder { .. } | FaultKind::Duplicate { .. }),
            "TCP neither swaps nor repeats its bytes: {fault} needs FaultProxy::before_websocket"
        );
        self.shared.faults.inject(fault)
    }

    /// Sends new connections to another upstream (host and port); those that are open stay where they are.
    pub fn set_upstream(&self, authority: &str) {
        *self.shared.upstream.lock().unwrap_or_else(PoisonError::into_inner) = authority.to_owned();
    }

    /// How many connections it accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

pub(crate) fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    // Accepted connections take the sizes of their listener.
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

pub(crate) async fn connect(authority: &str) -> io::Result<TcpStream> {
    let mut refusal = io::Error::new(io::ErrorKind::NotFound, "upstream has no address");
    for address in lookup_host(authority).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        match socket.connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, ending: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let (client, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            // The peer is gone already, or the process has no handle left for a moment.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        let ending = ending.clone();
        tokio::spawn(async move {
            let number = shared.connections.fetch_add(1, Ordering::Relaxed);
            ending
                .run_until_cancelled(carry(&shared, client, address, number))
                .await;
            drop(place);
        });
    }
}

/// How a connection ends before its streams do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// Both sides see a plain end.
    Plain,
    /// This side sees a reset.
    Reset(Direction),
}

async fn carry(shared: &Shared, mut client: TcpStream, client_address: SocketAddr, number: u64) {
    let mut faults = shared.faults.watch();
    if severed(&faults.borrow_and_update()) {
        return;
    }
    let authority = shared.upstream.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Ok(Ok(mut upstream)) = tokio::time::timeout(UPSTREAM_PATIENCE, connect(&authority)).await else {
        return;
    };
    for side in [&client, &upstream] {
        side.set_nodelay(true).ok();
    }
    let cut = {
        let upgrade = Upgrade::default();
        let (client_source, client_sink) = client.split();
        let (upstream_source, upstream_sink) = upstream.split();
        let lane = |way| {
            Lane::new(
                way,
                shared.units,
                number,
                client_address,
                faults.clone(),
                shared.faults.ledger(),
            )
        };
        let cutter = |answers| Cutter::new(shared.units, &upgrade, answers);
        let (there, there_queue) = queue();
        let (back, back_queue) = queue();
        let lanes = async {
            tokio::try_join!(
                lane(Direction::ToUpstream).read(client_source, cutter(false), there),
                lane(Direction::ToUpstream).write(upstream_sink, there_queue),
                lane(Direction::ToClient).read(upstream_source, cutter(true), back),
                lane(Direction::ToClient).write(client_sink, back_queue),
            )
        };
        tokio::select! {
            biased;
            cut = supervise(faults.clone()) => cut,
            ended = lanes => match ended {
                Ok(_) => Cut::Plain,
                Err(LaneEnd::Gone | LaneEnd::Cut) => Cut::Reset(Direction::Both),
            },
        }
    };
    if let Cut::Reset(direction) = cut {
        if direction.includes(Direction::ToClient) {
            client.set_zero_linger().ok();
        }
        if direction.includes(Direction::ToUpstream) {
            upstream.set_zero_linger().ok();
        }
    }
}

/// Whether a partition lies between the two sides; counts it.
fn severed(acting: &ActingNow) -> bool {
    let mut severed = false;
    for active in acting.iter() {
        if *active.fault().kind() == FaultKind::Partition {
            active.count();
            severed = true;
        }
    }
    severed
}

/// Waits until a fault ends the connection as a whole; says how.
async fn supervise(mut faults: watch::Receiver<ActingNow>) -> Cut {
    let mut half_opened = Vec::new();
    loop {
        let acting = Arc::clone(&faults.borrow_and_update());
        if severed(&acting) {
            return Cut::Plain;
        }
        for active in acting.iter() {
            match active.fault().kind() {
                FaultKind::Reset => {
                    active.count();
                    return Cut::Reset(active.fault().direction());
                }
                FaultKind::HalfOpen if !half_opened.contains(&active.number()) => {
                    active.count();
                    half_opened.push(active.number());
                }
                _ => {}
            }
        }
        let lifted = |number: &u64| !acting.iter().any(|active| active.number() == *number);
        if half_opened.iter().any(lifted) {
            return Cut::Reset(Direction::Both);
        }
        if faults.changed().await.is_err() {
            return Cut::Plain;
        }
    }
}
