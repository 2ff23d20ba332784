//! Close codes of a connection (RFC 6455 §7.4 and contract §9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
#[repr(u16)]
pub enum CloseCode {
    /// The client asked for it (`disconnect`) or sent a close frame.
    Normal = 1000,
    /// The backend stops, or the peer was silent for too long.
    GoingAway = 1001,
    /// The peer broke RFC 6455.
    Protocol = 1002,
    /// The peer sent a binary data frame.
    Unsupported = 1003,
    /// The peer sent text that is not UTF-8.
    InvalidPayload = 1007,
    /// The peer sent a message above `message_bytes_max`.
    TooLarge = 1009,
    /// The backend failed.
    Internal = 1011,
    /// The backend restarts: reconnect soon.
    Restart = 1012,
    /// The backend is overloaded: reconnect later.
    TryAgainLater = 1013,
    /// The credential expired or was revoked (AUTH-6).
    AuthenticationEnded = 4401,
    /// The handshake was not acknowledged in time (HSK-4).
    HandshakeDeadline = 4408,
    /// The peer read more slowly than its queue allows (SEQ-7).
    SlowConsumer = 4409,
    /// The peer went on after repeated `RATE_LIMITED`.
    RateLimit = 4429,
}

impl CloseCode {
    /// Every close code of the contract.
    pub const ALL: [Self; 13] = [
        Self::Normal,
        Self::GoingAway,
        Self::Protocol,
        Self::Unsupported,
        Self::InvalidPayload,
        Self::TooLarge,
        Self::Internal,
        Self::Restart,
        Self::TryAgainLater,
        Self::AuthenticationEnded,
        Self::HandshakeDeadline,
        Self::SlowConsumer,
        Self::RateLimit,
    ];

    /// The code on the wire.
    #[must_use]
    pub fn as_u16(self) -> u16 {
        self as u16
    }
}

impl JsonSchema for CloseCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CloseCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "enum": Self::ALL.map(Self::as_u16) })
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.as_u16()
    }
}

/// A number that is no close code of the contract.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0} is no close code of the contract")]
pub struct UnknownCloseCode(pub u16);

impl TryFrom<u16> for CloseCode {
    type Error = UnknownCloseCode;

    fn try_from(code: u16) -> Result<Self, Self::Error> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_u16() == code)
            .ok_or(UnknownCloseCode(code))
    }
}
