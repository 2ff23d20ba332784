//! What thinks for the agents: the built-in deterministic planner, or an OpenAI-compatible endpoint.
//!
//! A model reads requests and words summaries. It never computes a figure: figures come from tools.

mod attempts;
pub mod breaker;
mod openai;
mod planner;

use std::sync::Arc;

use crate::config::Config;

pub use breaker::{Breaker, BreakerState};
pub use openai::{Completion, FunctionCall, ModelError, ModelSettings, OpenAiCompatible};
pub use planner::{Dates, Reading, Topic, read};

/// Characters that the planner counts as one token, a usual mean of English text.
const CHARS_PER_TOKEN: usize = 4;

/// Tokens of a text as the planner counts them: its characters divided by 4, rounded up.
#[must_use]
pub fn count_tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(CHARS_PER_TOKEN) as u64
}

/// What thinks for the agents.
#[derive(Clone, Debug, Default)]
pub enum Model {
    /// The built-in planner: deterministic, needs nothing.
    #[default]
    Planner,
    /// An endpoint that reads requests and words summaries in place of the planner.
    OpenAiCompatible(Arc<OpenAiCompatible>),
}

impl Model {
    /// The endpoint that the configuration names, or the planner.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn configured(config: &Config) -> Result<Self, reqwest::Error> {
        let (Some(url), Some(name)) = (&config.model_url, &config.model_name) else {
            return Ok(Self::Planner);
        };
        let endpoint = OpenAiCompatible::new(ModelSettings {
            url: url.clone(),
            name: name.clone(),
            api_key: config.model_api_key.clone(),
            timeout: config.model_timeout,
            breaker_failures_max: config.breaker_failures_max,
            breaker_open: config.breaker_open,
            falls_back: config.model_fallback.is_some(),
        })?;
        Ok(Self::OpenAiCompatible(Arc::new(endpoint)))
    }

    /// The name under which the price catalogue knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Planner => crate::tools::PLANNER_MODEL,
            Self::OpenAiCompatible(endpoint) => endpoint.name(),
        }
    }

    /// Tokens that a text counts for where the planner thinks; where an endpoint does, only what it reports counts.
    #[must_use]
    pub(crate) fn planner_tokens(&self, text: &str) -> u64 {
        match self {
            Self::Planner => count_tokens(text),
            Self::OpenAiCompatible(_) => 0,
        }
    }

    /// The endpoint's breaker, for health and metrics; the planner has none.
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        match self {
            Self::Planner => None,
            Self::OpenAiCompatible(endpoint) => Some(endpoint.breaker()),
        }
    }
}
