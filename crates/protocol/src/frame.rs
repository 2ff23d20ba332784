//! Any frame that a backend sends, read tolerantly.

use std::borrow::Cow;

use serde::{Deserialize, de};
use serde_json::Value;

use crate::{ControlFrame, Event, EventBody};

/// A frame of a backend. Unknown extra fields are tolerated; an unknown type is kept as such (EVT-7).
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    /// Part of a thread's log.
    Event(Box<Event>),
    /// Outside of the log.
    Control(Box<ControlFrame>),
    /// A type that the contract does not know.
    Unknown {
        /// Its `type`.
        frame_type: String,
        /// The whole frame.
        frame: Value,
    },
}

/// Why a text is no frame of the contract.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Not JSON.
    #[error("frame is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// JSON, but no object with a string under `type`.
    #[error("frame is no object with a string `type`")]
    NoType,
    /// Of a known type, with a field missing or of the wrong type.
    #[error("frame of type `{frame_type}` does not fit the contract")]
    BadFields {
        /// Its `type`.
        frame_type: String,
        /// Which field, and why.
        #[source]
        source: serde_json::Error,
    },
}

impl ServerFrame {
    /// Reads one frame.
    ///
    /// # Errors
    /// The text is not JSON, no object with a `type`, or of a known type with fields that do not fit it.
    pub fn decode(text: &str) -> Result<Self, FrameError> {
        let frame_type = FrameType::read(text).map_err(|error| {
            if error.is_data() {
                FrameError::NoType
            } else {
                FrameError::NotJson(error)
            }
        })?;
        let bad_fields = |source| FrameError::BadFields {
            frame_type: frame_type.clone().into_owned(),
            source,
        };
        if EventBody::TYPES.contains(&frame_type.as_ref()) {
            serde_json::from_str(text).map(Self::Event).map_err(bad_fields)
        } else if let Some(control) = ControlFrame::read_body(&frame_type, text) {
            control.map(Box::new).map(Self::Control).map_err(bad_fields)
        } else {
            let frame = serde_json::from_str(text).map_err(bad_fields)?;
            Ok(Self::Unknown {
                frame_type: frame_type.into_owned(),
                frame,
            })
        }
    }

    /// The frame's `type`.
    #[must_use]
    pub fn frame_type(&self) -> &str {
        match self {
            Self::Event(event) => event.body.event_type(),
            Self::Control(control) => control.frame_type(),
            Self::Unknown { frame_type, .. } => frame_type,
        }
    }
}

/// A frame's `type`, read before its fields.
#[derive(Deserialize)]
pub(crate) struct FrameType<'t> {
    #[serde(rename = "type", borrow)]
    frame_type: Cow<'t, str>,
}

impl<'t> FrameType<'t> {
    pub(crate) fn read(text: &'t str) -> serde_json::Result<Cow<'t, str>> {
        let tag: Self = serde_json::from_str(text)?;
        // serde reads lists as structs too.
        if !text.trim_start().starts_with('{') {
            return Err(de::Error::custom("a frame is an object"));
        }
        Ok(tag.frame_type)
    }
}
