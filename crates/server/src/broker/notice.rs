//! What nodes tell each other.

use kingsguard_protocol::{ConnectionId, ThreadId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::auth::FamilyId;

/// One event's frame as it is stored and sent, byte for byte (SEQ-2).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredFrame {
    /// Its place in the thread's log.
    pub seq: u64,
    /// The frame.
    pub frame: Box<RawValue>,
}

/// What one node tells all others.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Events of a thread became durable, in rising order without a hole (SEQ-6).
    Events {
        /// The thread.
        thread_id: ThreadId,
        /// The events.
        frames: Vec<StoredFrame>,
    },
    /// A thread was deleted.
    ThreadDeleted {
        /// The thread.
        thread_id: ThreadId,
    },
    /// A control frame for a user's connections on every node.
    Relay {
        /// The user.
        user_id: UserId,
        /// The connection that does not get it.
        except: Option<ConnectionId>,
        /// The frame.
        frame: Box<RawValue>,
    },
    /// A token family was revoked (AUTH-6).
    Revoked {
        /// The family.
        family_id: FamilyId,
    },
    /// Something may have been missed: Redis was away. Never sent, only handed to subscribers.
    Gap,
}

#[derive(Serialize)]
struct Envelope<'a> {
    node: &'a str,
    body: &'a Notice,
}

#[derive(Deserialize)]
struct Received {
    node: String,
    body: Box<RawValue>,
}

pub(super) fn encode(node: &str, notice: &Notice) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Envelope { node, body: notice })
}

pub(super) fn decode(bytes: &[u8]) -> Result<(String, Notice), serde_json::Error> {
    let received: Received = serde_json::from_slice(bytes)?;
    Ok((received.node, serde_json::from_str(received.body.get())?))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn frames_arrive_byte_for_byte() {
        let text = r#"{"seq":1,  "type":"agent_started","n":1.50,"s":"é"}"#;
        let notice = Notice::Events {
            thread_id: ThreadId::generate(),
            frames: vec![StoredFrame {
                seq: 1,
                frame: RawValue::from_string(text.to_owned()).expect("JSON"),
            }],
        };
        let sent = encode("node_a", &notice).expect("a notice is JSON");
        let (node, arrived) = decode(sent.as_bytes()).expect("what encode writes decode reads");
        assert_eq!(node, "node_a");
        let Notice::Events { frames, .. } = arrived else {
            panic!("another notice arrived")
        };
        assert_eq!(frames[0].frame.get(), text);
    }
}
