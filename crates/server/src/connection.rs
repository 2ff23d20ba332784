//! The thin edge of one WebSocket: upgrade, frames, heartbeat, close codes. What its messages mean is in
//! [`crate::session`]; what they ask for is carried out by the [`clerk`].
//!
//! A connection is one task. It reads, writes, keeps time and carries out one message at a time, none of which waits
//! for another: while a message is carried out, pings are answered and events are written. Messages that arrive
//! meanwhile wait, a few of them here and the others in the peer's TCP connection.
//!
//! What ends a connection ends it at once for everyone else: its place is free, its queue is shut and nobody is told of
//! it any more, while the close handshake may still go on (CON-6). Messages that had arrived are carried out all the
//! same.

pub mod clerk;
pub mod drain;
pub mod headers;
pub mod observed;
pub mod registry;
pub mod upgrade;
pub mod wire;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kingsguard_protocol::{CloseCode, ConnectionId, ErrorCode, ThreadId, Timestamp};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::app::App;
use crate::auth::{FamilyId, Identity};
use crate::bridge::{Outbox, OutboxReader, Outgoing, Overflow};
use crate::error::ApiError;
use crate::limiter::Place;
use crate::session::{Facts, Session, answer};
use crate::telemetry;

use self::clerk::Clerk;
use self::wire::{Bounds, Ending, Moved, Reads, Wire};

pub use self::drain::drain;
pub use self::registry::Connections;
pub use self::upgrade::upgrade;

/// Messages that wait to be carried out; more wait in the peer's TCP connection. Enough that a burst is read at once,
/// few enough that large messages cost no memory.
const INBOX_MAX: usize = 8;
/// How long a close may wait behind frames that the peer does not read. AUTH-6 grants 5 s from the fact to the close.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// How long the close frame may take after that.
const FORCED_FAREWELL: Duration = Duration::from_secs(1);
/// How long a slow consumer may take to read up to its close frame. It costs one write buffer meanwhile.
const SLOW_CONSUMER_FAREWELL: Duration = Duration::from_secs(30);

type Work = Pin<Box<dyn Future<Output = Box<Clerk>> + Send>>;
type Revoked = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who carries messages out.
enum Hands {
    Free(Box<Clerk>),
    Busy(Work),
    /// Only within one call.
    Moving,
}

/// A close that was queued and must not wait for ever.
struct Leaving {
    by: Instant,
    code: CloseCode,
    reason: &'static str,
}

/// Until when the connection may live (AUTH-6).
struct Lease {
    family_id: FamilyId,
    expires_at: Timestamp,
    ends: Instant,
}

impl Lease {
    fn of(identity: &Identity) -> Self {
        let left_ms = identity.expires_at.as_unix_ms() - Timestamp::now().as_unix_ms();
        Self {
            family_id: identity.family_id.clone(),
            expires_at: identity.expires_at,
            ends: Instant::now() + Duration::from_millis(u64::try_from(left_ms).unwrap_or(0)),
        }
    }
}

struct Connection<S> {
    app: Arc<App>,
    wire: Wire<S>,
    outbox: Outbox,
    queue: OutboxReader,
    batch: Vec<Outgoing>,
    hands: Hands,
    inbox: VecDeque<Utf8Bytes>,
    is_open: bool,
    acknowledge_by: Instant,
    pinged_at: Instant,
    /// Up to when the peer's silence was our own doing: it was not read.
    unread_until: Instant,
    lease: Lease,
    revoked: Revoked,
    leaving: Option<Leaving>,
}

/// Holds an upgraded socket until its end.
pub async fn hold<S>(app: Arc<App>, socket: S, identity: Identity, place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let limits = app.config.limits();
    let queue_bytes_max = bounded(limits.queue_bytes_max);
    let (outbox, queue) = Outbox::new(bounded(limits.queue_frames_max), queue_bytes_max);
    let session = Session::new(Facts {
        connection_id: ConnectionId::generate(),
        offered: ThreadId::generate(),
        limits,
        rate_limited_max: app.config.rate_limited_max,
    });
    let connection_id = session.facts().connection_id.clone();
    let heartbeat_ms = u64::try_from(app.config.heartbeat_interval.as_millis()).unwrap_or(u64::MAX);
    for frame in answer::greeting(session.facts(), heartbeat_ms, env!("CARGO_PKG_VERSION")) {
        clerk::push(&outbox, &frame);
    }
    let registration = app.connections.register(&identity.user_id, &connection_id, &outbox);
    telemetry::connection_opened();
    tracing::debug!(%connection_id, user_id = %identity.user_id, "connection opened");

    let bounds = Bounds {
        message_bytes_max: bounded(limits.message_bytes_max),
        frame_out_bytes_max: queue_bytes_max,
    };
    let now = Instant::now();
    let mut connection = Connection {
        wire: Wire::new(socket, bounds).await,
        queue,
        batch: Vec::new(),
        inbox: VecDeque::new(),
        is_open: false,
        acknowledge_by: now + app.config.handshake_deadline,
        pinged_at: now,
        unread_until: now,
        lease: Lease::of(&identity),
        revoked: until_revoked(&app, &identity),
        leaving: None,
        hands: Hands::Free(Box::new(Clerk::new(app.clone(), session, identity, outbox.clone()))),
        outbox,
        app: app.clone(),
    };
    let (ending, patience) = connection.carry().await;

    let Connection {
        wire,
        queue,
        hands,
        inbox,
        ..
    } = connection;
    drop((registration, queue, place));
    telemetry::connection_closed(ending.code());
    tracing::debug!(%connection_id, code = ending.code(), "connection ended");
    finish(hands, inbox);
    Box::pin(wire.farewell(ending, patience)).await;
}

/// Carries out what had arrived, without a connection.
fn finish(hands: Hands, inbox: VecDeque<Utf8Bytes>) {
    if matches!(hands, Hands::Free(_)) && inbox.is_empty() {
        return;
    }
    tokio::spawn(async move {
        let mut clerk = match hands {
            Hands::Free(clerk) => clerk,
            Hands::Busy(work) => work.await,
            Hands::Moving => return,
        };
        for text in inbox {
            if clerk.is_over() {
                return;
            }
            clerk = clerk.handle(text).await;
        }
    });
}

fn until_revoked(app: &Arc<App>, identity: &Identity) -> Revoked {
    let app = app.clone();
    let family_id = identity.family_id.clone();
    Box::pin(async move { app.auth.until_revoked(&family_id).await })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Carries frames, messages and time until the end; returns how it ends and how long the end may take.
    async fn carry(&mut self) -> (Ending, Duration) {
        let sleep = tokio::time::sleep_until(self.next_deadline());
        tokio::pin!(sleep);
        loop {
            self.take_up_next();
            let reads = if self.inbox.len() < INBOX_MAX {
                Reads::On
            } else {
                Reads::Paused
            };
            if reads == Reads::Paused {
                self.unread_until = Instant::now();
            }
            let deadline = self.next_deadline();
            if sleep.deadline() != deadline {
                sleep.as_mut().reset(deadline);
            }
            let takes_batch = self.wire.is_idle();
            tokio::select! {
                moved = self.wire.moved(reads) => match moved {
                    Moved::Text(text) if self.leaving.is_none() => self.inbox.push_back(text),
                    Moved::Text(_) | Moved::Idle => {}
                    Moved::Ending(ending) => return (ending, self.app.config.close_deadline),
                },
                taken = take_batch(&mut self.queue, &mut self.batch, takes_batch) => match taken {
                    Ok(()) => {
                        if let Some(ending) = self.queue_batch() {
                            return (ending, self.app.config.close_deadline);
                        }
                    }
                    Err(Overflow) => return self.end_slow_consumer(),
                },
                clerk = work_done(&mut self.hands) => self.put_down(clerk),
                () = &mut self.revoked => {
                    self.revoked = Box::pin(std::future::pending());
                    self.end_authentication(ErrorCode::AuthTokenRevoked);
                }
                () = &mut sleep => {
                    if let Some(end) = self.keep_time() {
                        return end;
                    }
                }
            }
        }
    }

    fn take_up_next(&mut self) {
        if !matches!(self.hands, Hands::Free(_)) {
            return;
        }
        let Some(text) = self.inbox.pop_front() else { return };
        if let Hands::Free(clerk) = std::mem::replace(&mut self.hands, Hands::Moving) {
            self.hands = Hands::Busy(Box::pin(clerk.handle(text)));
        }
    }

    fn put_down(&mut self, clerk: Box<Clerk>) {
        self.is_open |= clerk.is_open();
        let identity = clerk.identity();
        if identity.expires_at != self.lease.expires_at || identity.family_id != self.lease.family_id {
            self.lease = Lease::of(identity);
            self.revoked = until_revoked(&self.app, identity);
        }
        if clerk.is_over() {
            self.inbox.clear();
        }
        self.hands = Hands::Free(clerk);
        if self.inbox.is_empty() {
            self.inbox = VecDeque::new();
        }
    }

    /// Hands a batch to the wire; returns the end where the batch has one.
    fn queue_batch(&mut self) -> Option<Ending> {
        let mut ending = None;
        for outgoing in std::mem::take(&mut self.batch) {
            match outgoing {
                Outgoing::Text(text) => self.wire.queue(text),
                Outgoing::Close(code, reason) => ending = Some(Ending::Close(code, reason)),
            }
        }
        ending
    }

    /// When time has something to say next.
    fn next_deadline(&self) -> Instant {
        let interval = self.app.config.heartbeat_interval;
        let mut next = (self.pinged_at + interval).min(self.silent_at()).min(self.lease_ends());
        if self.awaits_acknowledgement() {
            next = next.min(self.acknowledge_by);
        }
        self.leaving.as_ref().map_or(next, |leaving| next.min(leaving.by))
    }

    /// When a peer that says nothing more counts as gone (CON-2).
    fn silent_at(&self) -> Instant {
        self.wire.heard_at().max(self.unread_until) + self.app.config.heartbeat_interval * 2
    }

    fn lease_ends(&self) -> Instant {
        match self.leaving {
            None => self.lease.ends,
            // The end of the lease cannot end more than is ending.
            Some(_) => self.lease.ends.max(Instant::now() + LEAVE_WITHIN),
        }
    }

    /// An acknowledgement that arrived is not late because it is still being carried out (HSK-4).
    fn awaits_acknowledgement(&self) -> bool {
        !self.is_open && self.leaving.is_none() && self.inbox.is_empty() && matches!(self.hands, Hands::Free(_))
    }

    fn keep_time(&mut self) -> Option<(Ending, Duration)> {
        let now = Instant::now();
        let interval = self.app.config.heartbeat_interval;
        if let Some(leaving) = self.leaving.as_ref().filter(|leaving| leaving.by <= now) {
            self.wire.give_up_waiting();
            return Some((Ending::Close(leaving.code, leaving.reason), FORCED_FAREWELL));
        }
        if self.silent_at() <= now {
            self.wire.give_up_waiting();
            let ending = Ending::Close(CloseCode::GoingAway, "silent for two heartbeat intervals");
            // CON-2 grants three intervals until the end.
            return Some((ending, self.app.config.close_deadline.min(interval / 2)));
        }
        if self.lease_ends() <= now {
            self.end_authentication(ErrorCode::AuthTokenExpired);
        } else if self.awaits_acknowledgement() && self.acknowledge_by <= now {
            self.leave(CloseCode::HandshakeDeadline, "handshake not acknowledged in time");
        }
        if self.pinged_at + interval <= now {
            self.pinged_at = now;
            self.wire.ping();
        }
        None
    }

    /// The credential ended: say so, and close (AUTH-6).
    fn end_authentication(&mut self, code: ErrorCode) {
        if self.leaving.is_none() {
            clerk::push(&self.outbox, &ApiError::new(code).into_control(None));
            self.leave(CloseCode::AuthenticationEnded, "authentication ended");
        }
    }

    /// Queues the close frame behind what waits, and takes no more messages.
    fn leave(&mut self, code: CloseCode, reason: &'static str) {
        self.inbox.clear();
        self.outbox.close(code, reason);
        self.leaving = Some(Leaving {
            by: Instant::now() + LEAVE_WITHIN,
            code,
            reason,
        });
    }

    /// The queue is at its bound: what waits is let go, resume brings it (SEQ-7).
    fn end_slow_consumer(&mut self) -> (Ending, Duration) {
        telemetry::dropped("slow_consumer", 1);
        self.wire.give_up_waiting();
        let error = ApiError::new(ErrorCode::SlowConsumer).into_control(None);
        if let Some(text) = clerk::text_of(&error) {
            self.wire.queue(text);
        }
        (
            Ending::Close(CloseCode::SlowConsumer, "reads too slowly"),
            SLOW_CONSUMER_FAREWELL,
        )
    }
}

/// Takes what is queued for the peer, or, while the wire is busy, only waits for the queue's bound to be passed.
async fn take_batch(queue: &mut OutboxReader, batch: &mut Vec<Outgoing>, takes: bool) -> Result<(), Overflow> {
    if takes {
        queue.next_batch(batch).await
    } else {
        Err(queue.overflowed().await)
    }
}

async fn work_done(hands: &mut Hands) -> Box<Clerk> {
    match hands {
        Hands::Busy(work) => work.await,
        Hands::Free(_) | Hands::Moving => std::future::pending().await,
    }
}
