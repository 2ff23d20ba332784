//! Events on their way to other nodes.

use kingsguard_protocol::ThreadId;
use serde_json::value::RawValue;
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::{Broker, Notice, StoredFrame};
use crate::error::Chain;
use crate::telemetry;

/// Events of other nodes that the bridge may lag behind before the broker's own queue takes the lag.
const EVENTS_IN_MAX: usize = 1_024;

impl Broker {
    /// Brings durable events to all other nodes, in the order given within each thread.
    pub fn publish_events(&self, events: Vec<(ThreadId, u64, Utf8Bytes)>) {
        let mut batches: Vec<(ThreadId, Vec<StoredFrame>)> = Vec::new();
        for (thread_id, seq, text) in events {
            let frame = match RawValue::from_string(text.as_str().to_owned()) {
                Ok(frame) => StoredFrame { seq, frame },
                Err(error) => {
                    tracing::error!(thread_id = thread_id.as_str(), seq, reason = %Chain(&error), "frame is no JSON");
                    telemetry::dropped("fan_out", 1);
                    continue;
                }
            };
            match batches.iter_mut().find(|(known, _)| *known == thread_id) {
                Some((_, frames)) => frames.push(frame),
                None => batches.push((thread_id, vec![frame])),
            }
        }
        for (thread_id, frames) in batches {
            self.publish(Notice::Events { thread_id, frames });
        }
    }

    /// Durable events of other nodes. What is lost on the way is missing here: the bridge compares with the log.
    #[must_use]
    pub fn subscribe_events(&self) -> mpsc::Receiver<(ThreadId, u64, Utf8Bytes)> {
        let mut notices = self.subscribe();
        let (events, receiver) = mpsc::channel(EVENTS_IN_MAX);
        tokio::spawn(async move {
            loop {
                let notice = tokio::select! {
                    notice = notices.recv() => notice,
                    () = events.closed() => return,
                };
                match notice.as_deref() {
                    Ok(Notice::Events { thread_id, frames }) => {
                        for StoredFrame { seq, frame } in frames {
                            let event = (thread_id.clone(), *seq, Utf8Bytes::from(frame.get()));
                            if events.send(event).await.is_err() {
                                return;
                            }
                        }
                    }
                    Ok(_) => {}
                    Err(broadcast::error::RecvError::Lagged(count)) => telemetry::dropped("fan_out", *count),
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        receiver
    }
}
