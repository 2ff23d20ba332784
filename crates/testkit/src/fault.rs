//! Faults of a network, put on a link on purpose (KIT-8).
//!
//! A [`FaultProxy`] stands on loopback before one upstream: a node, Postgres, Redis. A [`Fault`] is a value; injecting it
//! gives a [`FaultGuard`], and the fault acts until the guard is lifted or dropped. Several act at once. Each counts what it
//! really did: a test whose fault never happened proves nothing, so [`TestContext`](crate::TestContext) lets it fail.
//!
//! ```
//! use kingsguard_testkit::fault::{Direction, Fault, FaultProxy};
//! use std::time::{Duration, Instant};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let upstream = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let proxy = FaultProxy::before_bytes(&upstream.local_addr()?.to_string(), 7).await;
//! let mut client = tokio::net::TcpStream::connect(proxy.address()).await?;
//! let (mut server, _) = upstream.accept().await?;
//!
//! let slow = proxy.inject(Fault::latency(Duration::from_millis(50)).with_direction(Direction::ToUpstream));
//! let sent = Instant::now();
//! client.write_all(b"hello").await?;
//! let mut came = [0; 5];
//! server.read_exact(&mut came).await?;
//! assert_eq!(&came, b"hello");
//! assert!(sent.elapsed() >= Duration::from_millis(50));
//! assert_eq!(slow.lift(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # What a fault means on bytes and on frames
//!
//! TCP gives its bytes whole and in order or ends; no network can make it do otherwise. So what a lossy network does to
//! *messages* has a meaning only where the proxy knows messages: behind [`FaultProxy::before_websocket`], which passes the
//! HTTP upgrade and then knows the frames of RFC 6455 in both directions. What passes is a *unit*: there a frame, elsewhere
//! (and before the upgrade) a piece of bytes as it was read.
//!
//! | fault | on bytes | on WebSocket frames | counts |
//! |---|---|---|---|
//! | [`Fault::latency`] | each unit arrives later by it; the order stays | likewise | units delayed |
//! | [`Fault::bandwidth`] | so many bytes pass in a second, and the sender feels it | likewise | units slowed |
//! | [`Fault::slice`] | units arrive in small pieces with pauses | likewise: a frame arrives in pieces | units cut up |
//! | [`Fault::cut`] | by chance the connection is reset in place of a unit | likewise | connections reset |
//! | [`Fault::drop`] | the lost bytes are the connection's end, as [`Fault::cut`] | by chance a whole data frame is swallowed, and the connection goes on | connections, frames |
//! | [`Fault::corrupt`] | by chance one bit of a unit is changed | by chance a frame is made one that RFC 6455 forbids | units changed |
//! | [`Fault::reorder`] | refused: TCP keeps the order | by chance a data frame arrives after its follower | pairs swapped |
//! | [`Fault::duplicate`] | refused: TCP repeats nothing | by chance a data frame arrives twice | frames repeated |
//! | [`Fault::half_open`] | nothing passes and nobody is told; at its end the connections are reset | likewise | connections |
//! | [`Fault::reset`] | connections are reset, new ones at once | likewise | connections |
//! | [`Fault::partition`] | connections end, new ones are closed at once; lifting it repairs | likewise | connections |
//! | [`Fault::hold`] | nothing passes; all of it arrives at the release | likewise | units held |
//!
//! Frames are swallowed, repeated and swapped whole, and only those that are a whole text or binary message: pieces of a
//! message and control frames pass, for to touch those is to break the protocol, which is what `corrupt` does.
//!
//! A corrupt frame is one whose receiver *must* notice: a reserved bit (1002), or a byte that no UTF-8 has (1007). A flipped
//! letter would make another good message, and nothing in the protocol could tell it from an honest one.
//!
//! Every decision comes from the proxy's seed, the number of the fault, the number of the connection and the direction: the
//! same units in the same order meet the same faults.

use std::fmt;
use std::time::Duration;

mod active;
mod lane;
pub(crate) mod proxy;
pub(crate) mod unit;

#[cfg(test)]
mod tests;

pub use active::FaultGuard;
pub(crate) use active::Ledger;
pub use proxy::FaultProxy;

/// Which way something goes through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to what the proxy stands before.
    ToUpstream,
    /// From what the proxy stands before to the client.
    ToClient,
    /// Both ways.
    Both,
}

impl Direction {
    /// Whether what goes `way` goes in this direction.
    #[must_use]
    pub fn includes(self, way: Self) -> bool {
        self == way || self == Self::Both || way == Self::Both
    }
}

/// What a fault does. The [module](self) says what each means on bytes and on frames.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// Everything arrives later.
    Latency {
        /// By how much.
        delay: Duration,
        /// By up to how much more or less, evenly spread.
        jitter: Duration,
    },
    /// Only so much passes in a second.
    Bandwidth {
        /// How much.
        bytes_per_second: u64,
    },
    /// Units are lost.
    Drop {
        /// How probable that is for each.
        probability: f64,
    },
    /// The connection is reset in place of a unit.
    Cut {
        /// How probable that is for each unit.
        probability: f64,
    },
    /// Nothing passes and nobody is told.
    HalfOpen,
    /// Connections are reset.
    Reset,
    /// Units arrive in pieces.
    Slice {
        /// The largest piece.
        bytes_max: usize,
        /// The pause between two pieces.
        pause: Duration,
    },
    /// A frame arrives after its follower.
    Reorder {
        /// How probable that is for each.
        probability: f64,
    },
    /// A frame arrives twice.
    Duplicate {
        /// How probable that is for each.
        probability: f64,
    },
    /// A unit is changed.
    Corrupt {
        /// How probable that is for each.
        probability: f64,
    },
    /// No connection lives.
    Partition,
    /// Nothing passes until the release.
    Hold,
}

/// A fault: what, in which direction. A plain value; [`FaultProxy::inject`] makes it act.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    kind: FaultKind,
    direction: Direction,
    may_not_happen: bool,
}

impl Fault {
    fn of(kind: FaultKind) -> Self {
        Self {
            kind,
            direction: Direction::Both,
            may_not_happen: false,
        }
    }

    fn by_chance(probability: f64, kind: impl FnOnce(f64) -> FaultKind) -> Self {
        assert!(
            (0.0..=1.0).contains(&probability),
            "a probability lies between 0 and 1, not at {probability}"
        );
        Self::of(kind(probability))
    }

    /// Everything arrives later by `delay`. The order stays, and what follows does not wait for what was before: a long
    /// way, not a narrow one.
    #[must_use]
    pub fn latency(delay: Duration) -> Self {
        let jitter = Duration::ZERO;
        Self::of(FaultKind::Latency { delay, jitter })
    }

    /// Lets a latency vary by up to `jitter` in both directions, evenly spread.
    ///
    /// # Panics
    /// The fault is no latency.
    #[must_use]
    pub fn with_jitter(mut self, jitter: Duration) -> Self {
        match &mut self.kind {
            FaultKind::Latency { jitter: own, .. } => *own = jitter,
            other => panic!("only a latency has a jitter, not {other:?}"),
        }
        self
    }

    /// Only so many bytes pass in a second, in each direction and connection. The sender feels it once the proxy's bounded
    /// buffers are full.
    ///
    /// # Panics
    /// It is 0, which would be [`Fault::hold`].
    #[must_use]
    pub fn bandwidth(bytes_per_second: u64) -> Self {
        assert!(bytes_per_second > 0, "nothing at all passes: that is Fault::hold");
        Self::of(FaultKind::Bandwidth { bytes_per_second })
    }

    /// Each data frame is swallowed with this probability; on bytes, the connection ends there.
    ///
    /// # Panics
    /// It is no probability.
    #[must_use]
    pub fn drop(probability: f64) -> Self {
        Self::by_chance(probability, |probability| FaultKind::Drop { probability })
    }

    /// With this probability for each unit, the connection is reset in its place, as when a phone loses its network.
    ///
    /// # Panics
    /// It is no probability.
    #[must_use]
    pub fn cut(probability: f64) -> Self {
        Self::by_chance(probability, |probability| FaultKind::Cut { probability })
    }

    /// Nothing passes, not even the end of a connection, and nobody is told: a peer whose machine lost its power. At the
    /// end of the fault the connections that had it are reset, as a machine does that knows nothing of them.
    #[must_use]
    pub fn half_open() -> Self {
        Self::of(FaultKind::HalfOpen)
    }

    /// Resets every connection; new ones too, until it is lifted. With a direction, only that end sees a reset and the
    /// other a plain end.
    #[must_use]
    pub fn reset() -> Self {
        Self::of(FaultKind::Reset)
    }

    /// Units arrive in pieces of 1 to `bytes_max` bytes with a pause between them.
    ///
    /// # Panics
    /// A piece could have no byte.
    #[must_use]
    pub fn slice(bytes_max: usize, pause: Duration) -> Self {
        assert!(bytes_max > 0, "a piece has at least one byte");
        Self::of(FaultKind::Slice { bytes_max, pause })
    }

    /// Each data frame arrives after the one that follows it, with this probability. Only before WebSockets.
    ///
    /// # Panics
    /// It is no probability.
    #[must_use]
    pub fn reorder(probability: f64) -> Self {
        Self::by_chance(probability, |probability| FaultKind::Reorder { probability })
    }

    /// Each data frame arrives twice with this probability. Only before WebSockets.
    ///
    /// # Panics
    /// It is no probability.
    #[must_use]
    pub fn duplicate(probability: f64) -> Self {
        Self::by_chance(probability, |probability| FaultKind::Duplicate { probability })
    }

    /// Each unit is changed with this probability: a frame so that its receiver must notice, bytes by one bit.
    ///
    /// # Panics
    /// It is no probability.
    #[must_use]
    pub fn corrupt(probability: f64) -> Self {
        Self::by_chance(probability, |probability| FaultKind::Corrupt { probability })
    }

    /// The two sides cannot reach each other: connections end, new ones are closed at once. Lifting it is the repair.
    /// It has no direction: TCP needs both ways.
    #[must_use]
    pub fn partition() -> Self {
        Self::of(FaultKind::Partition)
    }

    /// Nothing passes, but nothing is lost: at the release everything arrives in order. New connections are accepted and
    /// held as well.
    #[must_use]
    pub fn hold() -> Self {
        Self::of(FaultKind::Hold)
    }

    /// Acts only on what goes this way; without it, a fault acts both ways.
    ///
    /// # Panics
    /// The fault is a partition: TCP needs both ways.
    #[must_use]
    pub fn with_direction(mut self, direction: Direction) -> Self {
        assert!(
            self.kind != FaultKind::Partition || direction == Direction::Both,
            "a partition has no direction: TCP needs both ways; Fault::half_open has one"
        );
        self.direction = direction;
        self
    }

    /// Lets the test hold where this fault did nothing. Without this word a fault that never happened fails its test.
    #[must_use]
    pub fn which_may_not_happen(mut self) -> Self {
        self.may_not_happen = true;
        self
    }

    /// What it does.
    #[must_use]
    pub fn kind(&self) -> &FaultKind {
        &self.kind
    }

    /// On what it acts.
    #[must_use]
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Whether [`Fault::which_may_not_happen`] was said.
    #[must_use]
    pub fn may_not_happen(&self) -> bool {
        self.may_not_happen
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FaultKind::Latency { delay, jitter } => {
                write!(f, "latency of {} ± {} ms", delay.as_millis(), jitter.as_millis())
            }
            FaultKind::Bandwidth { bytes_per_second } => write!(f, "bandwidth of {bytes_per_second} bytes/s"),
            FaultKind::Drop { probability } => write!(f, "drop of {} %", probability * 100.0),
            FaultKind::Cut { probability } => write!(f, "cut at {} %", probability * 100.0),
            FaultKind::HalfOpen => f.write_str("half-open"),
            FaultKind::Reset => f.write_str("reset"),
            FaultKind::Slice { bytes_max, pause } => {
                write!(
                    f,
                    "slices of {bytes_max} bytes with {} ms between",
                    pause.as_micros() as f64 / 1e3
                )
            }
            FaultKind::Reorder { probability } => write!(f, "reorder of {} %", probability * 100.0),
            FaultKind::Duplicate { probability } => write!(f, "duplicate of {} %", probability * 100.0),
            FaultKind::Corrupt { probability } => write!(f, "corruption of {} %", probability * 100.0),
            FaultKind::Partition => f.write_str("partition"),
            FaultKind::Hold => f.write_str("hold"),
        }?;
        match self.direction {
            Direction::ToUpstream => f.write_str(" to upstream"),
            Direction::ToClient => f.write_str(" to client"),
            Direction::Both => Ok(()),
        }
    }
}
