//! The REST side of a target.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kingsguard_protocol::{ErrorCode, ErrorFrame};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::capture::Capture;
use crate::target::{Capability, Profile};
use crate::transport::Trust;

/// How long one call may take before the test is told that the target hangs.
const CALL_DEADLINE: Duration = Duration::from_secs(60);

/// Calls one target, with or without a bearer token. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Http {
    client: reqwest::Client,
    base: String,
    bearer: Option<String>,
    capture: Capture,
    profile: Arc<Profile>,
}

impl Http {
    /// A client for the target at `base`, such as `http://127.0.0.1:8080`.
    #[must_use]
    pub fn new(base: &str, capture: Capture) -> Self {
        Self::of(base, capture, Arc::default(), &Trust::default())
    }

    /// The same, for a target with a profile.
    ///
    /// # Panics
    /// The profile's authorities cannot be read.
    pub(crate) fn of(base: &str, capture: Capture, profile: Arc<Profile>, trust: &Trust) -> Self {
        // A second test of the same process finds it installed already; both are the same provider.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_DEADLINE);
        client = if trust.is_about(base) {
            match trust.config() {
                Ok(config) => client.tls_backend_preconfigured(config.as_ref().clone()),
                Err(error) => panic!("preparing TLS for {base}: {error:#}"),
            }
        } else {
            // Reading the machine's authorities would cost each test more than starting its backend.
            client.tls_certs_only([])
        };
        let client = client.build().expect("the options are constant");
        Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
            bearer: None,
            capture,
            profile,
        }
    }

    /// The same, with a bearer token.
    #[must_use]
    pub fn with_bearer(&self, token: &str) -> Self {
        Self {
            bearer: Some(token.to_owned()),
            ..self.clone()
        }
    }

    /// The same, by another address of the target.
    #[must_use]
    pub fn at(&self, base: &str) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            ..self.clone()
        }
    }

    /// The target's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// A request to be completed with headers and a body; send it with [`Http::send`]. Where the target does not claim
    /// what the call makes use of, the test is not judged.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        if let Some(why) = Capability::of_call(path).and_then(|used| self.profile.lacks(used)) {
            self.capture.lacks(why);
        }
        self.request_unasked(method, path)
    }

    /// The same, for what a profile itself names.
    pub(crate) fn request_unasked(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The target cannot be reached or does not answer HTTP.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let (client, request) = request.build_split();
        let request = request?;
        let call = format!("{} {}", request.method(), request.url().path());
        let response = client.execute(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await?.to_vec();
        Ok(Answer {
            call,
            status,
            headers,
            body,
            capture: self.capture.clone(),
        })
    }

    /// As [`Http::try_send`], for a target that must answer.
    ///
    /// # Panics
    /// The target cannot be reached or does not answer HTTP.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("calling {}: {}", self.base, chain(&error)),
        }
    }

    /// `GET path`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `GET path` of a target that may be away.
    ///
    /// # Errors
    /// It cannot be reached or does not answer HTTP.
    pub async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.try_send(self.request(Method::GET, path)).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `POST path` with a body of another type.
    pub async fn post_as(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("content-type", content_type)
            .body(body);
        self.send(request).await
    }

    /// `PATCH path` with a JSON body.
    pub async fn patch(&self, path: &str, body: &(impl Serialize + ?Sized)) -> Answer {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }
}

/// What a call answered.
#[derive(Clone)]
pub struct Answer {
    call: String,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    capture: Capture,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}: {}", self.call, self.status, self.text())
    }
}

impl Answer {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.capture.count_check();
        self.status.as_u16()
    }

    /// A header's value, where it is there and text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok())
    }

    /// The body's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.body
    }

    /// The body as text; bytes that are none are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        self.parse()
    }

    /// The body as a type of the contract.
    ///
    /// # Panics
    /// It does not fit.
    #[must_use]
    pub fn parse<T: DeserializeOwned>(&self) -> T {
        self.capture.count_check();
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("{self:?}: body is no {}: {error}", std::any::type_name::<T>()),
        }
    }

    /// Claims the status.
    ///
    /// # Panics
    /// It is another.
    #[must_use]
    pub fn expect_status(self, status: u16) -> Self {
        self.capture.count_check();
        assert!(self.status.as_u16() == status, "expected {status}, but {self:?}");
        self
    }

    /// Claims a refusal with this code: its status and its error body (contract §9).
    ///
    /// # Panics
    /// The status or the body is another.
    #[must_use]
    pub fn expect_error(self, code: ErrorCode) -> ErrorFrame {
        let answer = self.expect_status(code.http_status());
        let body: ErrorFrame = answer.parse();
        assert!(body.error_code == code, "expected {code}, but {answer:?}");
        assert!(
            !body.message.trim().is_empty(),
            "an error says what to do, but {answer:?}"
        );
        body
    }
}

/// An error with everything behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        text.push_str(": ");
        text.push_str(&next.to_string());
        source = next.source();
    }
    text
}
