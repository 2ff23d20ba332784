//! A backend made wrong on purpose, by a man in the middle (PROOF-1).
//!
//! A [`Saboteur`] stands before a node or a target and changes what passes as its [`Rule`]s say: frames, close codes, HTTP
//! answers, credentials. It works before any backend, because it knows nothing but the wire. Rules are data, so that a
//! catalogue of sabotages is a file (`tests/sabotage.toml`), and anybody can write one more:
//!
//! ```
//! use kingsguard_testkit::sabotage::Rule;
//!
//! let rules: Vec<Rule> = serde_json::from_value(serde_json::json!([
//!     { "at": "to_client", "types": ["agent_completed"], "how": { "remove": "/final_response" } },
//! ])).unwrap();
//! assert_eq!(rules.len(), 1);
//! ```
//!
//! Every test of a process is run behind one where `KINGSGUARD_SABOTAGE_RULES` holds a list of rules as JSON; its record then
//! says how often each rule really did something.

pub(crate) mod http;
pub(crate) mod proxy;
mod sse;
mod tamper;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

pub use proxy::Saboteur;

/// The variable that holds the rules.
pub const RULES_VARIABLE: &str = "KINGSGUARD_SABOTAGE_RULES";

/// Where something passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Text frames to the client.
    #[default]
    ToClient,
    /// Text frames to the backend.
    ToServer,
    /// Close frames to the client.
    Close,
    /// Pongs to the client.
    Pong,
    /// Server-Sent Events to the client, as `{"id", "event", "data"}`; `types` are those of their data.
    Sse,
    /// HTTP requests, the upgrade among them.
    Request,
    /// HTTP answers, the refusal or acceptance of an upgrade among them.
    Response,
    /// The end of a client's connection.
    Leave,
}

/// One change. Whatever of its conditions stands there must hold.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Where it acts.
    #[serde(default)]
    pub at: Place,
    /// Frames of these types; all where it is empty.
    #[serde(default)]
    pub types: Vec<String>,
    /// HTTP requests whose path and query begin so, and their answers.
    #[serde(default)]
    pub path: Option<String>,
    /// HTTP answers with this status, close frames with this code.
    #[serde(default)]
    pub code: Option<u16>,
    /// Frames and bodies that hold this text.
    #[serde(default)]
    pub containing: Option<String>,
    /// Only from the so many-th match on, counted per run, or per connection where a frame belongs to no run; 1 is the first.
    #[serde(default)]
    pub from: Option<u64>,
    /// Only the so many-th match.
    #[serde(default)]
    pub nth: Option<u64>,
    /// Only events that some client has had already.
    #[serde(default)]
    pub repeated: bool,
    /// Only on every other connection.
    #[serde(default)]
    pub every_other_connection: bool,
    /// What is done.
    pub how: How,
}

/// What is done to what passes. Pointers are JSON pointers (RFC 6901).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It does not pass.
    Drop,
    /// It passes twice.
    Double,
    /// It passes so many milliseconds later, and what follows it after it.
    Delay(u64),
    /// It passes after the frame that follows it.
    SwapWithNext,
    /// A field is taken out.
    Remove(String),
    /// Fields are set.
    Set(Vec<(String, Value)>),
    /// A number is raised.
    Add((String, i64)),
    /// A field is moved to another name beside it.
    Rename((String, String)),
    /// A text in it is replaced, wherever it stands.
    Replace((String, String)),
    /// A frame passes before it.
    Before(Value),
    /// The connection ends after it.
    End,
    /// All other connections get it, too.
    Leak,
    /// A close code or HTTP status becomes another.
    Code(u16),
    /// A header line is taken out.
    RemoveHeader(String),
    /// A header line is set.
    SetHeader((String, String)),
    /// The credential is replaced by one that the backend accepted before.
    GoodCredential,
    /// The bearer's own token is put into a field.
    Credential(String),
    /// The backend is not told that the client left.
    Stay,
    /// The backend is asked to stop the client's runs.
    StopRuns,
}

/// A rule and how often it did something.
#[derive(Debug)]
struct Acting {
    rule: Rule,
    happened: AtomicU64,
}

/// What a saboteur does; shared by all that stand before the nodes of one test.
#[derive(Clone, Debug)]
pub struct Sabotage {
    state: Arc<tamper::State>,
}

impl Sabotage {
    /// Acts by these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Self {
        let acting = rules.into_iter().map(|rule| Acting {
            rule,
            happened: AtomicU64::default(),
        });
        Self {
            state: Arc::new(tamper::State::new(acting.collect())),
        }
    }

    /// What the environment asks for, if it does.
    ///
    /// # Errors
    /// The variable holds no list of rules.
    pub fn from_env() -> Result<Option<Self>> {
        let Some(text) = std::env::var(RULES_VARIABLE).ok().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let rules = serde_json::from_str(&text).with_context(|| format!("reading the rules in {RULES_VARIABLE}"))?;
        Ok(Some(Self::new(rules)))
    }

    /// How often the rules did something, together.
    #[must_use]
    pub fn happened(&self) -> u64 {
        let happened = self
            .state
            .rules
            .iter()
            .map(|acting| acting.happened.load(Ordering::Relaxed));
        happened.sum()
    }
}
