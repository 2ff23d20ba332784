//! What the agents of one run know together.

use std::sync::Arc;

use kingsguard_protocol::ErrorCode;
use kingsguard_protocol::event::RunUsage;
use serde_json::{Value, json};

use super::memory::Memory;
use crate::model::{self, Reading, Topic};
use crate::redact;
use crate::tools::{Object, Period, Sufficiency};

/// Characters of the user's words that a thought quotes.
const QUOTE_CHARS_MAX: usize = 120;

/// One run's request and what is known about it so far.
#[derive(Clone, Debug)]
pub struct Case {
    /// The user's words, without what looks like a credential.
    pub content: String,
    /// What they mean.
    pub reading: Reading,
    /// The days that are looked at.
    pub period: Period,
    /// Whether the records are enough.
    pub sufficiency: Sufficiency,
    /// What each tool found, by tool name.
    pub findings: Arc<Object>,
    /// What went wrong and what was done instead, for the answer.
    pub troubles: Vec<String>,
    /// The newest failure of a tool.
    pub tool_failure: Option<(ErrorCode, String)>,
    /// What the model used so far.
    pub usage: RunUsage,
    /// What a model worded as the answer in a sentence, where one did.
    pub worded_summary: Option<String>,
    /// Whether the model failed in this run and the planner stands in.
    pub model_is_away: bool,
}

impl Case {
    /// A request as the planner reads it, with what the thread remembers.
    #[must_use]
    pub(super) fn new(content: &str, memory: &Memory) -> Self {
        let content = redact::text(content).into_owned();
        let mut reading = model::read(&content);
        let goes_on = reading.is_follow_up && reading.dates.is_empty();
        if reading.is_follow_up && reading.topic == Topic::Overview {
            reading.topic = memory.topic.unwrap_or(Topic::Overview);
        }
        Self {
            period: if goes_on { memory.period } else { Period::default() },
            content,
            reading,
            sufficiency: Sufficiency::Unknown,
            findings: Arc::new(Object::new()),
            troubles: Vec::new(),
            tool_failure: None,
            usage: RunUsage::default(),
            worded_summary: None,
            model_is_away: false,
        }
    }

    /// The beginning of the user's words, in quotation marks.
    #[must_use]
    pub fn quote(&self) -> String {
        let words: Vec<&str> = self.content.split_whitespace().collect();
        let words = words.join(" ");
        match words.char_indices().nth(QUOTE_CHARS_MAX) {
            None => format!("\u{201c}{words}\u{201d}"),
            Some((end, _)) => format!("\u{201c}{}…\u{201d}", &words[..end]),
        }
    }

    /// Keeps what a tool found.
    pub fn keep(&mut self, tool_name: &str, found: Object) {
        Arc::make_mut(&mut self.findings).insert(tool_name.to_owned(), Value::Object(found));
    }

    /// A number that a tool found.
    #[must_use]
    pub fn figure(&self, tool_name: &str, name: &str) -> Option<u64> {
        self.findings.get(tool_name)?.get(name)?.as_u64()
    }

    /// The parameters that every computing tool takes.
    #[must_use]
    pub fn parameters(&self) -> Object {
        Object::from_iter([("period".to_owned(), self.period.to_json())])
    }

    /// The period in words.
    #[must_use]
    pub fn period_in_words(&self) -> String {
        let period = self.period.to_json();
        let day = |name: &str| period.get(name).and_then(Value::as_str).map(|at| at[..10].to_owned());
        match (day("from"), day("to")) {
            (None, None) => "the whole time".to_owned(),
            (Some(from), None) => format!("{from} and later"),
            (None, Some(to)) => format!("the time before {to}"),
            (Some(from), Some(to)) => format!("{from} until before {to}"),
        }
    }

    /// The figures behind the answer: the facts of the case, and under each tool's name exactly what it found.
    #[must_use]
    pub fn result(&self) -> Value {
        let mut result = json!({
            "topic": self.reading.topic.as_str(),
            "sufficiency": self.sufficiency.as_str(),
            "period": self.period.to_json(),
            "troubles": self.troubles,
        });
        if let Some(fields) = result.as_object_mut() {
            let told = self.findings.iter().filter(|(tool, _)| tool.as_str() != "write_report");
            fields.extend(told.map(|(tool, found)| (tool.clone(), found.clone())));
        }
        redact::value(&result)
    }
}
