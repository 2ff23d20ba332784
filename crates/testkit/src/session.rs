//! What the users and connections of one test share.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use crate::capture::Capture;
use crate::connect::ConnectOptions;
use crate::http::Http;
use crate::link::{Link, Refused, UpgradeRequest};
use crate::target::users::Lease;
use crate::target::{Capability, Profile};
use crate::transport::{Stream, Trust, dial};

/// What the users and connections of one test share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    capture: Capture,
    http: Http,
    trust: Trust,
    profile: Arc<Profile>,
    /// The listed users, where the profile has a list and the test asked for one.
    lease: tokio::sync::Mutex<Option<Lease>>,
    /// Connections whose variables are gone: they stay open and read until the test is judged.
    parked: Mutex<Vec<Link>>,
}

impl Session {
    pub(crate) fn new(base_url: &str, capture: Capture, profile: Arc<Profile>) -> Self {
        let trust = profile.connection.trust();
        let http = Http::of(base_url, capture.clone(), profile.clone(), &trust);
        Self {
            inner: Arc::new(Inner {
                capture,
                http,
                trust,
                profile,
                lease: tokio::sync::Mutex::default(),
                parked: Mutex::default(),
            }),
        }
    }

    pub(crate) fn capture(&self) -> &Capture {
        &self.inner.capture
    }

    pub(crate) fn http(&self) -> &Http {
        &self.inner.http
    }

    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.inner.profile
    }

    pub(crate) fn lease(&self) -> &tokio::sync::Mutex<Option<Lease>> {
        &self.inner.lease
    }

    /// Claims that the target claims what a client message makes use of; otherwise the test is not judged.
    pub(crate) fn may_say(&self, text: &str) {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(text) else {
            return;
        };
        let lacking = Capability::of_message(&message)
            .into_iter()
            .find_map(|used| self.profile().lacks(used));
        if let Some(why) = lacking {
            self.capture().lacks(why);
        }
        if message["type"] == "handshake_acknowledged" {
            self.needs_handshake();
        }
    }

    /// Claims that the target has a handshake; otherwise the test is not judged.
    pub(crate) fn needs_handshake(&self) {
        self.needs(self.profile().lacks.handshake.as_deref(), "no handshake");
    }

    /// Claims that the target acknowledges messages; otherwise the test is not judged.
    pub(crate) fn needs_acknowledgement(&self) {
        self.needs(self.profile().lacks.acknowledgement.as_deref(), "no `message_received`");
    }

    /// Claims that events carry everything that every event carries; otherwise the test is not judged.
    pub(crate) fn needs_event_header(&self) {
        let lacks = &self.profile().lacks;
        if let Some((field, reason)) = lacks.fields.first_key_value() {
            self.needs(Some(reason), &format!("events without `{field}`"));
        }
        self.needs(lacks.timestamp_form.as_deref(), "timestamps of a form of its own");
    }

    /// Claims that frames of this type carry all of their own fields; otherwise the test is not judged.
    pub(crate) fn needs_fields_of(&self, frame_type: &str) {
        if let Some((field, reason)) = self.profile().lacks.own_field(frame_type) {
            self.needs(Some(reason), &format!("`{frame_type}` without `{field}`"));
        }
    }

    /// Claims that frames of this type carry a field; otherwise the test is not judged.
    pub(crate) fn needs_field(&self, frame_type: &str, field: &str) {
        let reason = self.profile().lacks.field(frame_type, field);
        self.needs(reason, &format!("`{frame_type}` without `{field}`"));
    }

    fn needs(&self, lacking: Option<&str>, what: &str) {
        if let Some(reason) = lacking {
            self.capture()
                .lacks(format!("{} has {what}: {reason}", self.profile().name));
        }
    }

    /// Claims that frames written by hand are of the target's shape; otherwise the test is not judged.
    pub(crate) fn may_write_by_hand(&self) {
        let profile = self.profile();
        if !profile.shape.is_contracts_own() {
            let why = format!(
                "{} has a shape of its own, and the test writes frames by hand",
                profile.name
            );
            self.capture().lacks(why);
        }
    }

    /// What came, as tests read it.
    pub(crate) fn in_the_contracts_words(&self, bytes: Vec<u8>) -> Vec<u8> {
        let text = std::str::from_utf8(&bytes).ok();
        match text.and_then(|text| self.profile().shape.read_text(text)) {
            Some(read) => read.into_bytes(),
            None => bytes,
        }
    }

    pub(crate) fn park(&self, link: Link) {
        self.inner
            .parked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(link);
    }

    /// Ends all connections that no variable holds.
    pub(crate) fn end_parked(&self) {
        self.inner.parked.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Asks for a WebSocket.
    ///
    /// # Panics
    /// The target cannot be reached, or does not answer HTTP.
    pub(crate) async fn upgrade(&self, user: Option<usize>, options: ConnectOptions) -> Result<Link, Refused> {
        let base = self.base_for(&options).to_owned();
        match self.try_upgrade(user, options).await {
            Ok(result) => result,
            Err(error) => panic!("opening a WebSocket at {base}: {error}"),
        }
    }

    fn base_for<'a>(&'a self, options: &'a ConnectOptions) -> &'a str {
        options.base_url.as_deref().unwrap_or_else(|| self.http().base())
    }

    /// A connection to the target on which nothing was said yet.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn dial(&self) -> io::Result<Stream> {
        dial(self.http().base(), &self.inner.trust).await
    }

    /// The same, for a target that may be away.
    ///
    /// # Errors
    /// It cannot be reached, or does not answer HTTP.
    pub(crate) async fn try_upgrade(
        &self,
        user: Option<usize>,
        options: ConnectOptions,
    ) -> io::Result<Result<Link, Refused>> {
        if options.has_ticket()
            && let Some(why) = self.profile().lacks(Capability::Tickets)
        {
            self.capture().lacks(why);
        }
        let base = self.base_for(&options).to_owned();
        let tap = self.capture().open(user, options.protocols.clone());
        let request = UpgradeRequest {
            base,
            trust: self.inner.trust.clone(),
            path_and_query: options.path_and_query(&self.profile().connection.path),
            headers: options.headers(),
        };
        Link::open(request, tap).await
    }
}
