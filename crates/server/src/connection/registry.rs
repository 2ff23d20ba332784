//! Which connections of which user this node holds: for notices between them, and to end all of them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use kingsguard_protocol::{CloseCode, ConnectionId, UserId};
use tokio::sync::{Notify, broadcast};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::bridge::{Outbox, Overflow};
use crate::broker::Notice;
use crate::sync::{Mutex, MutexGuard};
use crate::telemetry;

/// This node's connections. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    members: Mutex<Members>,
    /// Wakes whoever waits until none is left.
    left: Notify,
}

#[derive(Debug, Default)]
struct Members {
    by_user: HashMap<UserId, Vec<Member>>,
    count: usize,
    /// What every connection is told, those that come later too.
    announcement: Option<Utf8Bytes>,
}

#[derive(Debug)]
struct Member {
    connection_id: ConnectionId,
    outbox: Outbox,
    /// Notices come only after `handshake_complete`, which must be the first frame after the acknowledgement (HSK-2).
    takes_notices: bool,
}

impl Connections {
    /// No connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a connection, behind whose greeting comes what is announced to all. It leaves when the registration is
    /// dropped.
    #[must_use]
    pub fn register(&self, user_id: &UserId, connection_id: &ConnectionId, outbox: &Outbox) -> Registration {
        let mut members = self.lock();
        if let Some(announcement) = &members.announcement {
            tell(outbox, announcement);
        }
        members.count += 1;
        members.by_user.entry(user_id.clone()).or_default().push(Member {
            connection_id: connection_id.clone(),
            outbox: outbox.clone(),
            takes_notices: false,
        });
        Registration {
            connections: self.clone(),
            user_id: user_id.clone(),
            connection_id: connection_id.clone(),
        }
    }

    /// Tells all of a user's connections on this node that completed the handshake, but for one.
    pub fn relay(&self, user_id: &UserId, except: Option<&ConnectionId>, frame: &Utf8Bytes) {
        let members = self.lock();
        for member in members.by_user.get(user_id).into_iter().flatten() {
            if member.takes_notices && Some(&member.connection_id) != except {
                tell(&member.outbox, frame);
            }
        }
    }

    /// Tells this node's connections what connections of the same user on other nodes relay, for good.
    pub async fn relay_notices(&self, mut notices: broadcast::Receiver<Arc<Notice>>) {
        loop {
            match notices.recv().await {
                Ok(notice) => {
                    if let Notice::Relay { user_id, except, frame } = notice.as_ref() {
                        self.relay(user_id, except.as_ref(), &frame.get().into());
                    }
                }
                // Who types is of no interest any more once it is late.
                Err(broadcast::error::RecvError::Lagged(count)) => telemetry::dropped("relay", count),
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// A connection's handshake is complete: notices may come.
    pub fn take_notices(&self, user_id: &UserId, connection_id: &ConnectionId) {
        let mut members = self.lock();
        let mine = members.by_user.get_mut(user_id).into_iter().flatten();
        for member in mine.filter(|member| member.connection_id == *connection_id) {
            member.takes_notices = true;
        }
    }

    /// Tells every connection of this node, and every one that still comes.
    pub fn announce(&self, frame: Utf8Bytes) {
        let mut members = self.lock();
        for member in members.by_user.values().flatten() {
            tell(&member.outbox, &frame);
        }
        members.announcement = Some(frame);
    }

    /// Closes every connection of this node, behind what waits for it.
    pub fn close_all(&self, code: CloseCode, reason: &'static str) {
        for member in self.lock().by_user.values().flatten() {
            member.outbox.close(code, reason);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().count
    }

    /// Waits until none is left.
    pub async fn all_left(&self) {
        loop {
            let left = self.0.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            left.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        // Every change is one push or one removal, so a panic leaves nothing half-changed.
        self.0.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slow consumer is told by its own queue, not here.
fn tell(outbox: &Outbox, frame: &Utf8Bytes) {
    match outbox.push_text(frame.clone()) {
        Ok(()) => {}
        Err(Overflow) => telemetry::dropped("relay", 1),
    }
}

/// A connection's membership; it ends when this is dropped.
#[derive(Debug)]
pub struct Registration {
    connections: Connections,
    user_id: UserId,
    connection_id: ConnectionId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut members = self.connections.lock();
        if let Some(mine) = members.by_user.get_mut(&self.user_id) {
            let before = mine.len();
            mine.retain(|member| member.connection_id != self.connection_id);
            let gone = before - mine.len();
            if mine.is_empty() {
                members.by_user.remove(&self.user_id);
            }
            members.count -= gone;
        }
        drop(members);
        self.connections.0.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use kingsguard_protocol::CloseCode;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::bridge::{OutboxReader, Outgoing};

    struct Peer {
        _registration: Registration,
        reader: OutboxReader,
    }

    fn join(connections: &Connections, user: &str, connection: &str) -> Peer {
        let (outbox, reader) = Outbox::new(10, 1_000);
        let registration = connections.register(&user.into(), &connection.into(), &outbox);
        Peer {
            _registration: registration,
            reader,
        }
    }

    /// What a peer was told so far.
    async fn told(peer: &mut Peer) -> Vec<Outgoing> {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            taken = peer.reader.next_batch(&mut batch) => taken.expect("no overflow"),
            () = std::future::ready(()) => {}
        }
        batch
    }

    fn text(text: &'static str) -> Outgoing {
        Outgoing::Text(Utf8Bytes::from_static(text))
    }

    #[tokio::test]
    async fn a_notice_reaches_the_user_s_other_connections_and_nobody_else() {
        let connections = Connections::new();
        let mut peers = [("ada", "a1"), ("ada", "a2"), ("bob", "b1")].map(|(user, id)| join(&connections, user, id));
        for (user, id) in [("ada", "a1"), ("ada", "a2"), ("bob", "b1")] {
            connections.take_notices(&user.into(), &id.into());
        }
        connections.relay(&"ada".into(), Some(&"a1".into()), &"typing".into());
        assert_eq!(told(&mut peers[0]).await, vec![]);
        assert_eq!(told(&mut peers[1]).await, vec![text("typing")]);
        assert_eq!(told(&mut peers[2]).await, vec![]);
    }

    #[tokio::test]
    async fn no_notice_comes_before_the_handshake_is_complete() {
        let connections = Connections::new();
        let mut peer = join(&connections, "ada", "a1");
        connections.relay(&"ada".into(), None, &"early".into());
        connections.take_notices(&"ada".into(), &"a1".into());
        connections.relay(&"ada".into(), None, &"late".into());
        assert_eq!(told(&mut peer).await, vec![text("late")]);
    }

    #[tokio::test]
    async fn an_announcement_reaches_those_who_come_later_and_closing_reaches_all() {
        let connections = Connections::new();
        let mut early = join(&connections, "ada", "a1");
        connections.announce("shutdown".into());
        let mut late = join(&connections, "bob", "b1");
        connections.close_all(CloseCode::Restart, "restart");
        for peer in [&mut early, &mut late] {
            let expected = vec![text("shutdown"), Outgoing::Close(CloseCode::Restart, "restart")];
            assert_eq!(told(peer).await, expected);
        }
    }

    #[tokio::test]
    async fn the_last_to_leave_ends_the_wait() {
        let connections = Connections::new();
        let peer = join(&connections, "ada", "a1");
        let waiting = tokio::spawn({
            let connections = connections.clone();
            async move { connections.all_left().await }
        });
        drop(peer);
        waiting.await.expect("the wait ends");
        assert_eq!(connections.count(), 0);
    }
}
