//! A frame as it arrived, and what it means.

use kingsguard_protocol::{ControlFrame, ErrorFrame, Event, EventBody, RunId, ServerFrame};
use serde_json::Value;

use crate::recording::FrameKind;
use crate::session::Session;

/// A frame as it arrived.
///
/// Whatever a test asks of it that the target's wire lacks makes the test *not judged*: nothing stands in for it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its place among the frames of its connection in the recording.
    pub index: usize,
    /// When it arrived, in microseconds since the test's capture began.
    pub at_us: u64,
    /// What kind of frame it was.
    pub kind: FrameKind,
    /// Its payload.
    pub bytes: Vec<u8>,
    /// Its meaning, where it has one that the contract knows.
    pub meaning: Option<ServerFrame>,
    /// Why it has none, where it is a text frame.
    unreadable: Option<String>,
    /// What it means of a frame whose type lacks something.
    partial: Option<Partial>,
    session: Session,
}

/// A frame of the contract that is not whole.
#[derive(Clone, Debug)]
struct Partial {
    frame_type: String,
    run_id: Option<RunId>,
    body: Option<EventBody>,
}

impl Frame {
    pub(crate) fn new(session: &Session, index: usize, at_us: u64, kind: FrameKind, bytes: Vec<u8>) -> Self {
        let bytes = match kind {
            FrameKind::Text => session.in_the_contracts_words(bytes),
            _ => bytes,
        };
        let text = std::str::from_utf8(&bytes).ok().filter(|_| kind == FrameKind::Text);
        let (meaning, unreadable) = match text.map(ServerFrame::decode) {
            Some(Ok(meaning)) => (Some(meaning), None),
            Some(Err(error)) => (None, Some(format!("{:#}", anyhow::Error::from(error)))),
            None => (None, None),
        };
        let partial = text
            .filter(|_| !session.profile().lacks.is_nothing())
            .and_then(Partial::of);
        Self {
            index,
            at_us,
            kind,
            bytes,
            meaning,
            unreadable: unreadable.filter(|_| partial.is_none()),
            partial,
            session: session.clone(),
        }
    }

    /// The payload as text; empty where it is none.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap_or_default()
    }

    /// The payload as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    /// Why nothing can be read from it that the contract knows, where that is so and the target's profile does not say it.
    pub(crate) fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// The event that it is, header and all.
    #[must_use]
    pub fn event(&self) -> Option<&Event> {
        if let Some(event_type) = self.event_type() {
            self.session.needs_event_header();
            self.session.needs_fields_of(event_type);
        }
        match &self.meaning {
            Some(ServerFrame::Event(event)) => Some(event),
            _ => None,
        }
    }

    /// What the event that it is says of its own.
    #[must_use]
    pub fn body(&self) -> Option<&EventBody> {
        self.session.needs_fields_of(self.event_type()?);
        match (&self.meaning, &self.partial) {
            (Some(ServerFrame::Event(event)), _) => Some(&event.body),
            (_, Some(partial)) => partial.body.as_ref(),
            _ => None,
        }
    }

    /// The type of the event that it is.
    #[must_use]
    pub fn event_type(&self) -> Option<&'static str> {
        match (&self.meaning, &self.partial) {
            (Some(ServerFrame::Event(event)), _) => Some(event.body.event_type()),
            (_, Some(partial)) => EventBody::TYPES
                .iter()
                .find(|known| **known == partial.frame_type)
                .copied(),
            _ => None,
        }
    }

    /// The run that the event which it is belongs to.
    #[must_use]
    pub fn run_id(&self) -> Option<&RunId> {
        match (&self.meaning, &self.partial) {
            (Some(ServerFrame::Event(event)), _) => Some(&event.header.run_id),
            (_, Some(partial)) => partial.run_id.as_ref(),
            _ => None,
        }
    }

    /// One field of an event's own; null where it is absent.
    #[must_use]
    pub fn field(&self, field: &str) -> Value {
        if let Some(event_type) = self.event_type() {
            self.session.needs_field(event_type, field);
        }
        self.json().get(field).cloned().unwrap_or_default()
    }

    /// The control frame that it is.
    #[must_use]
    pub fn control(&self) -> Option<&ControlFrame> {
        if let Some(partial) = &self.partial
            && ControlFrame::TYPES.contains(&partial.frame_type.as_str())
        {
            self.session.needs_fields_of(&partial.frame_type);
        }
        match &self.meaning {
            Some(ServerFrame::Control(control)) => Some(control),
            _ => None,
        }
    }

    /// The error that it is.
    #[must_use]
    pub fn error(&self) -> Option<&ErrorFrame> {
        match self.control() {
            Some(ControlFrame::Error(error)) => Some(error),
            _ => None,
        }
    }

    /// The session that it came in.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    pub(crate) fn describe(&self) -> String {
        let text: String = self.text().chars().take(300).collect();
        format!("#{} {:?} {text}", self.index, self.kind)
    }
}

impl Partial {
    fn of(text: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(text).ok()?;
        Some(Self {
            frame_type: json.get("type")?.as_str()?.to_owned(),
            run_id: json.get("run_id").and_then(Value::as_str).map(RunId::from),
            body: serde_json::from_value(json).ok(),
        })
    }
}
