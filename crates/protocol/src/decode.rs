//! Reading what clients send: tolerant where the contract is (MSG-0), exact in what it refuses (MSG-2 … MSG-4).
//!
//! No byte sequence makes this panic.

use crate::{ClientMessage, MessageId};

/// Why a client's frame is refused, in the order that ERR-1 judges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// MSG-3: not JSON.
    #[error("text is not JSON at line {line}, column {column}: {reason}")]
    Json {
        /// Line of the first byte that does not fit, from 1.
        line: usize,
        /// Column of that byte, from 1.
        column: usize,
        /// Why.
        reason: String,
    },
    /// MSG-4: a field is missing, of the wrong type or out of bounds; also deep nesting, a repeated key, a lone surrogate.
    #[error("`{pointer}` must be {expected}")]
    Validation {
        /// Where, as the client wrote it (RFC 6901).
        pointer: String,
        /// What was expected there.
        expected: String,
        /// The message's own id, where it could be read.
        correlation_id: Option<MessageId>,
    },
    /// MSG-2: the type is not of the contract.
    #[error("`{message_type}` is no message type")]
    UnknownType {
        /// The type.
        message_type: String,
        /// The message's own id, where it could be read.
        correlation_id: Option<MessageId>,
    },
}

/// What a frame says before its fields are judged: enough to judge the handshake first (ERR-1).
#[derive(Clone, Debug)]
pub struct Envelope {
    _private: (),
}

impl ClientMessage {
    /// Reads one client message from a text frame.
    ///
    /// # Errors
    /// As [`DecodeError`] says.
    pub fn decode(_text: &str) -> Result<Self, DecodeError> {
        Err(DecodeError::Json {
            line: 1,
            column: 1,
            reason: String::new(),
        })
    }
}
