//! What thinks for the agents: the built-in deterministic planner, or an OpenAI-compatible endpoint.
//!
//! A model reads requests and words summaries. It never computes a figure: figures come from tools.

mod planner;

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
}

impl Model {
    /// The name under which the price catalogue knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Planner => crate::tools::PLANNER_MODEL,
        }
    }

    /// Tokens that a text counts for where the planner thinks; where an endpoint does, only what it reports counts.
    #[must_use]
    pub(crate) fn planner_tokens(&self, text: &str) -> u64 {
        match self {
            Self::Planner => count_tokens(text),
        }
    }
}
