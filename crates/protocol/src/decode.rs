//! Reading what clients send: tolerant where the contract is (MSG-0), exact in what it refuses (MSG-2 … MSG-4).
//!
//! Two stages, so that a session can judge in ERR-1's order: [`Envelope::read`] judges JSON, envelope and type,
//! [`Envelope::into_message`] the fields; between the two a session judges the handshake.
//!
//! What is read how:
//!
//! - A field stands at the root or in the `payload` object. Where it stands in both, the root's counts. Pointers name
//!   the place where the client wrote it; a missing field's pointer is under `/payload` where there is one.
//! - `null` is the same as absent. Unknown fields are accepted, also a `run_id` where the type has none.
//! - `timestamp` is a text with date and time; zone and fraction may be missing, a number is refused.
//! - `references`, `metadata` and `context` are kept as the client's own JSON text, so that integers of any size come
//!   back exactly.
//! - Refused in any place of a frame, also in unknown fields: more than [`NESTING_LEVELS_MAX`] levels, a repeated key, a
//!   lone surrogate, U+0000 (Postgres' text cannot hold it), a number that no double can hold.
//!
//! No byte sequence makes this panic.

mod body;
mod fields;
mod message;
mod scan;
mod usage;

pub use self::body::RequestBody;
pub use self::message::{BATCH_MESSAGES_MAX, PAGE_LIMIT_MAX, REASON_CHARS_MAX, RESUME_THREADS_MAX, TITLE_CHARS_MAX};
pub use self::scan::NESTING_LEVELS_MAX;
pub use self::usage::{USAGE_COUNT_MAX, USAGE_TEXT_CHARS_MAX};

use std::fmt;

use self::fields::{Fault, Fields, TextRule};
use self::scan::{Scan, SyntaxFault};
use crate::client::ClientType;
use crate::{ClientMessage, Limits, MessageId, ThreadId};

/// Unicode code points of a `message_id` that a client makes (contract §12).
pub const MESSAGE_ID_CHARS_MAX: u64 = 128;

/// Longest unknown `type` that an error repeats, in Unicode code points.
const UNKNOWN_TYPE_CHARS_MAX: usize = 256;

/// Why a client's frame is refused, in the order that ERR-1 judges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// MSG-3: not JSON.
    #[error("text is not JSON at line {line}, column {column}: {reason}")]
    Json {
        /// Line of the first character that does not fit, from 1.
        line: usize,
        /// Column of that character, from 1.
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

impl From<SyntaxFault> for DecodeError {
    fn from(fault: SyntaxFault) -> Self {
        Self::Json {
            line: fault.line,
            column: fault.column,
            reason: fault.reason.to_owned(),
        }
    }
}

/// What a frame says before its fields are judged: enough to judge the handshake first (ERR-1).
#[derive(Clone)]
pub struct Envelope<'t> {
    /// The client's own id for the message.
    pub message_id: Option<MessageId>,
    /// The thread meant; the connection's own where absent.
    pub thread_id: Option<ThreadId>,
    /// What is asked for.
    pub client_type: ClientType,
    fields: Fields<'t>,
    is_nested: bool,
}

impl fmt::Debug for Envelope<'_> {
    /// Without the fields: they may bring a credential (AUTH-8).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Envelope")
            .field("message_id", &self.message_id)
            .field("thread_id", &self.thread_id)
            .field("client_type", &self.client_type)
            .finish_non_exhaustive()
    }
}

impl<'t> Envelope<'t> {
    /// Reads a text frame as far as its type.
    ///
    /// # Errors
    /// As [`DecodeError`] says.
    pub fn read(text: &'t str) -> Result<Self, DecodeError> {
        let mut scan = Scan::read(text)?;
        if !scan.is_object {
            return Err(Fault::new("", "an object").of_message(None));
        }
        let correlation_id = readable_message_id(&scan.fields);
        let refused = |fault: Fault| fault.of_message(correlation_id.clone());

        let name = scan
            .fields
            .at_root("type")
            .and_then(|field| serde_json::from_str::<String>(field.raw).ok());
        let client_type = name.as_deref().and_then(ClientType::from_name);
        if let Some(fault) = scan.refusal(client_type == Some(ClientType::Batch)) {
            return Err(refused(fault));
        }

        let name = name.ok_or_else(|| refused(Fault::new("/type", "a string")))?;
        let fields = scan.fields;
        judge_payload(&fields).map_err(refused)?;
        let message_id = read_message_id(&fields).map_err(refused)?;
        let thread_id = read_thread_id(&fields).map_err(refused)?;
        fields.judge_timestamp().map_err(refused)?;

        let client_type = client_type.ok_or_else(|| DecodeError::UnknownType {
            message_type: name.chars().take(UNKNOWN_TYPE_CHARS_MAX).collect(),
            correlation_id: correlation_id.clone(),
        })?;
        Ok(Self {
            message_id,
            thread_id,
            client_type,
            fields,
            is_nested: false,
        })
    }

    /// Reads one message of a `batch`. Pointers are relative to it; that it is no `batch` itself is judged with its
    /// fields.
    ///
    /// # Errors
    /// As [`DecodeError`] says.
    pub fn read_nested(text: &'t str) -> Result<Self, DecodeError> {
        let envelope = Self::read(text)?;
        Ok(Self {
            is_nested: true,
            ..envelope
        })
    }

    /// The JSON pointer of a field as the client wrote it, for who judges its value further than its form.
    #[must_use]
    pub fn pointer_of(&self, name: &str) -> String {
        self.fields
            .find(&[name])
            .map_or_else(|| format!("/{name}"), |field| field.pointer())
    }

    /// Reads the fields that belong to the type.
    ///
    /// # Errors
    /// [`DecodeError::Validation`].
    pub fn into_message(self, limits: &Limits) -> Result<ClientMessage, DecodeError> {
        let read = if self.is_nested && self.client_type == ClientType::Batch {
            Err(Fault::new("/type", "a message other than `batch`"))
        } else {
            message::read_body(self.client_type, &self.fields, limits)
        };
        match read {
            Ok(body) => Ok(ClientMessage {
                message_id: self.message_id,
                thread_id: self.thread_id,
                body,
            }),
            Err(fault) => Err(fault.of_message(self.message_id)),
        }
    }
}

impl ClientMessage {
    /// Reads one client message from a text frame: [`Envelope::read`] and [`Envelope::into_message`].
    ///
    /// # Errors
    /// As [`DecodeError`] says.
    pub fn decode(text: &str, limits: &Limits) -> Result<Self, DecodeError> {
        Envelope::read(text)?.into_message(limits)
    }

    /// Reads the body of `POST /api/chat/messages`: the fields of a `user_message`, with or without its `type`.
    ///
    /// # Errors
    /// [`DecodeError::Json`] and [`DecodeError::Validation`].
    pub fn decode_chat_body(text: &str, limits: &Limits) -> Result<Self, DecodeError> {
        body::read_chat_message(text, limits)
    }
}

fn judge_payload(fields: &Fields<'_>) -> Result<(), Fault> {
    match fields.at_root("payload") {
        Some(payload) if !(payload.raw.starts_with('{') || payload.raw == "null") => {
            Err(Fault::new(payload.pointer(), "an object"))
        }
        _ => Ok(()),
    }
}

fn read_message_id(fields: &Fields<'_>) -> Result<Option<MessageId>, Fault> {
    let text = fields.text(&["message_id"], TextRule::Sized(MESSAGE_ID_CHARS_MAX))?;
    Ok(text.map(MessageId::from))
}

/// The message's own id, for an answer that refuses it.
fn readable_message_id(fields: &Fields<'_>) -> Option<MessageId> {
    let message_id = read_message_id(fields).ok().flatten();
    message_id.filter(|message_id| !message_id.as_str().contains('\0'))
}

/// Any text: whether it names a thread of the user is not judged here (ISO-2).
fn read_thread_id(fields: &Fields<'_>) -> Result<Option<ThreadId>, Fault> {
    Ok(fields.text(&["thread_id"], TextRule::Any)?.map(ThreadId::from))
}
