//! The handshake of a connection, and the positions that it and later answers tell. A target without one makes tests that ask
//! for it *not judged*.

use std::collections::BTreeMap;

use kingsguard_protocol::client::{HandshakeAcknowledged, ResumePoint, ThreadResume};
use kingsguard_protocol::control::{ConnectionEstablished, HandshakeComplete, HandshakeResponse, ThreadPosition};
use kingsguard_protocol::{ClientMessage, ControlFrame, Epoch, MessageId, ServerFrame, ThreadId};

use super::Chat;
use crate::frame::Frame;

impl Chat {
    /// Waits for `connection_established` (HSK-1).
    pub async fn expect_established(&mut self) -> ConnectionEstablished {
        self.session.needs_handshake();
        let frame = self.expect("`connection_established`", |frame| {
            matches!(frame.control(), Some(ControlFrame::ConnectionEstablished(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::ConnectionEstablished(body)) => {
                self.established = Some(body.clone());
                body.clone()
            }
            other => unreachable!("just matched {other:?}"),
        }
    }

    /// Waits for `handshake_response` (HSK-1).
    pub async fn expect_offer(&mut self) -> HandshakeResponse {
        self.session.needs_handshake();
        let frame = self.expect("`handshake_response`", |frame| {
            matches!(frame.control(), Some(ControlFrame::HandshakeResponse(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::HandshakeResponse(body)) => {
                self.offered = Some(body.clone());
                body.clone()
            }
            other => unreachable!("just matched {other:?}"),
        }
    }

    /// Sends `handshake_acknowledged` for a thread (the offered one where `None`) with threads to go on with.
    pub async fn acknowledge(&mut self, thread_id: Option<&ThreadId>, resume: Vec<ThreadResume>) -> MessageId {
        self.send_message(ClientMessage {
            message_id: Some(MessageId::generate()),
            thread_id: thread_id.cloned(),
            body: HandshakeAcknowledged { resume }.into(),
        })
        .await
    }

    /// Waits for `handshake_complete` (HSK-2).
    pub async fn expect_complete(&mut self) -> HandshakeComplete {
        self.session.needs_handshake();
        let frame = self.expect("`handshake_complete`", |frame| {
            matches!(frame.control(), Some(ControlFrame::HandshakeComplete(_)))
        });
        match frame.await.control() {
            Some(ControlFrame::HandshakeComplete(body)) => body.clone(),
            other => unreachable!("just matched {other:?}"),
        }
    }

    /// The whole handshake with the offered thread.
    pub async fn handshake(&mut self) -> HandshakeComplete {
        self.handshake_with(None, Vec::new()).await
    }

    /// The whole handshake with a thread of choice and threads to go on with.
    pub async fn handshake_with(
        &mut self,
        thread_id: Option<&ThreadId>,
        resume: Vec<ThreadResume>,
    ) -> HandshakeComplete {
        self.session.needs_handshake();
        self.expect_established().await;
        let offer = self.expect_offer().await;
        self.own_thread = Some(thread_id.cloned().unwrap_or(offer.thread_id));
        self.acknowledge(thread_id, resume).await;
        self.expect_complete().await
    }

    /// What `connection_established` said.
    ///
    /// # Panics
    /// It was not waited for.
    #[must_use]
    pub fn established(&self) -> &ConnectionEstablished {
        self.session.needs_handshake();
        self.established
            .as_ref()
            .expect("the test waited for connection_established")
    }

    /// What `handshake_response` said.
    ///
    /// # Panics
    /// It was not waited for.
    #[must_use]
    pub fn offer(&self) -> &HandshakeResponse {
        self.session.needs_handshake();
        self.offered.as_ref().expect("the test waited for handshake_response")
    }

    /// The thread that this connection's messages without `thread_id` belong to.
    ///
    /// # Panics
    /// The handshake was not done.
    #[must_use]
    pub fn thread_id(&self) -> ThreadId {
        self.session.needs_handshake();
        self.own_thread.clone().expect("the test did the handshake")
    }

    /// From where each followed thread can be resumed: its epoch and the newest event that arrived.
    #[must_use]
    pub fn positions(&self) -> &BTreeMap<ThreadId, (Epoch, u64)> {
        self.session.needs_handshake();
        &self.positions
    }

    /// The same, as a `handshake_acknowledged` has it.
    pub fn resume_points(&mut self) -> Vec<ThreadResume> {
        self.session.needs_handshake();
        self.session.needs_event_header();
        self.take_arrived();
        self.positions
            .iter()
            .map(|(thread_id, (epoch, after))| ThreadResume {
                thread_id: thread_id.clone(),
                point: ResumePoint {
                    epoch: epoch.clone(),
                    after: *after,
                },
            })
            .collect()
    }

    pub(super) fn note_position(&mut self, frame: &Frame) {
        let mut reached = |position: &ThreadPosition| {
            // A granted resume goes on from what the client had; everything else goes on live.
            let known = self.positions.get(&position.thread_id).map(|(_, after)| *after);
            let after = if position.recovered {
                known.unwrap_or(position.oldest_seq - 1)
            } else {
                position.last_seq
            };
            self.positions
                .insert(position.thread_id.clone(), (position.epoch.clone(), after));
        };
        match &frame.meaning {
            Some(ServerFrame::Control(control)) => match control.as_ref() {
                ControlFrame::HandshakeComplete(complete) => complete.threads.iter().for_each(reached),
                ControlFrame::ThreadSwitched(switched) => {
                    reached(&switched.position);
                    self.own_thread = Some(switched.position.thread_id.clone());
                }
                ControlFrame::ThreadCreated(created) => {
                    self.positions
                        .insert(created.thread_id.clone(), (created.epoch.clone(), 0));
                    self.own_thread = Some(created.thread_id.clone());
                }
                _ => {}
            },
            Some(ServerFrame::Event(event)) => {
                if let Some((_, after)) = self.positions.get_mut(&event.header.thread_id) {
                    *after = event.header.seq;
                }
            }
            Some(ServerFrame::Unknown { .. }) | None => {}
        }
    }

    /// Starts a resumed connection from where another one was.
    pub(crate) fn adopt_positions(&mut self, points: &[ThreadResume]) {
        for resume in points {
            self.positions.insert(
                resume.thread_id.clone(),
                (resume.point.epoch.clone(), resume.point.after),
            );
        }
    }
}
