//! The known fields of a frame, each with the pointer under which its client wrote it, and the rules that read them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::DecodeError;
use crate::{MessageId, Timestamp};

/// The largest number that a client can name: what Postgres holds as `bigint`. A larger one means the same, as no log
/// gets there.
const COUNT_MAX: u64 = i64::MAX.unsigned_abs();

/// A place that does not hold what the contract asks for there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) pointer: String,
    pub(super) expected: String,
}

impl Fault {
    pub(super) fn new(pointer: impl Into<String>, expected: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            expected: expected.into(),
        }
    }

    pub(super) fn of_message(self, correlation_id: Option<MessageId>) -> DecodeError {
        DecodeError::Validation {
            pointer: self.pointer,
            expected: self.expected,
            correlation_id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Root,
    Payload,
}

/// One field as it stands in the text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'t> {
    pub(super) place: Place,
    pub(super) name: &'static str,
    /// Its value's JSON text.
    pub(super) raw: &'t str,
}

impl<'t> Field<'t> {
    pub(super) fn pointer(&self) -> String {
        match self.place {
            Place::Root => format!("/{}", self.name),
            Place::Payload => format!("/payload/{}", self.name),
        }
    }

    fn fault(&self, expected: impl Into<String>) -> Fault {
        Fault::new(self.pointer(), expected)
    }

    /// Reads it as `T`; anything else is answered with what was `expected`.
    pub(super) fn read<T: Deserialize<'t>>(&self, expected: &str) -> Result<T, Fault> {
        serde_json::from_str(self.raw).map_err(|_| self.fault(expected))
    }
}

/// What a text must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextRule {
    /// Any text.
    Any,
    /// Any text but none that is blank.
    Filled,
    /// Up to so many Unicode code points, also none.
    AtMost(u64),
    /// From 1 to so many Unicode code points.
    Sized(u64),
    /// From 1 to so many Unicode code points, and not blank.
    FilledUpTo(u64),
}

impl TextRule {
    fn expected(self) -> String {
        match self {
            Self::Any => "a string".to_owned(),
            Self::Filled => "a string that is not blank".to_owned(),
            Self::AtMost(max) => format!("a string of at most {} characters", grouped(max)),
            Self::Sized(max) | Self::FilledUpTo(max) => format!("a string of 1–{} characters", grouped(max)),
        }
    }

    pub(super) fn judge(self, text: &str) -> Result<(), String> {
        let is_blank = || text.trim().is_empty();
        let fits = |max: u64| text.chars().count() as u64 <= max;
        let holds = match self {
            Self::Any => true,
            Self::Filled => !is_blank(),
            Self::AtMost(max) => fits(max),
            Self::Sized(max) => !text.is_empty() && fits(max),
            Self::FilledUpTo(max) if !text.is_empty() && is_blank() => {
                return Err(format!("a string of 1–{} characters that is not blank", grouped(max)));
            }
            Self::FilledUpTo(max) => !text.is_empty() && fits(max),
        };
        if holds { Ok(()) } else { Err(self.expected()) }
    }
}

/// A number as people write it: `8,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The known fields of one frame or body. Where a field stands both at the root and in `payload`, the root's counts;
/// `null` is the same as absent in either place.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields<'t> {
    fields: Vec<Field<'t>>,
}

/// Every field that some message or body of the contract has; the scan keeps no others.
const NAMES: &[&str] = &[
    "type",
    "payload",
    "message_id",
    "thread_id",
    "timestamp",
    "content",
    "text",
    "message",
    "references",
    "metadata",
    "agent_name",
    "user_request",
    "context",
    "run_id",
    "reason",
    "event_id",
    "status",
    "title",
    "limit",
    "cursor",
    "resume",
    "before",
    "token",
    "category",
    "content_type",
    "period",
    "messages",
    "email",
    "password",
    "name",
    "refresh_token",
    "ttl_seconds",
    "single_use",
    "model",
    "input_tokens",
    "output_tokens",
    "latency_ms",
    "feature",
    "cost_microusd",
    "prompt_hash",
    "success",
];

impl<'t> Fields<'t> {
    pub(super) fn known_name(key: &str) -> Option<&'static str> {
        NAMES.iter().find(|name| **name == key).copied()
    }

    pub(super) fn keep(&mut self, field: Field<'t>) {
        self.fields.push(field);
    }

    /// A field at the root, also where it is `null`.
    pub(super) fn at_root(&self, name: &str) -> Option<&Field<'t>> {
        self.fields
            .iter()
            .find(|field| field.place == Place::Root && field.name == name)
    }

    /// A field by the first of its names that is present and not `null`, at the root before `payload`.
    pub(super) fn find(&self, names: &[&str]) -> Option<&Field<'t>> {
        [Place::Root, Place::Payload].into_iter().find_map(|place| {
            names.iter().find_map(|name| {
                self.fields
                    .iter()
                    .find(|field| field.place == place && field.name == *name && field.raw != "null")
            })
        })
    }

    /// Where a missing field would stand.
    fn missing(&self, name: &str, expected: impl Into<String>) -> Fault {
        let in_payload = self.at_root("payload").is_some_and(|payload| payload.raw != "null");
        let place = if in_payload { "/payload" } else { "" };
        Fault::new(format!("{place}/{name}"), expected)
    }

    pub(super) fn text(&self, names: &[&str], rule: TextRule) -> Result<Option<String>, Fault> {
        let Some(field) = self.find(names) else { return Ok(None) };
        let text: String = field.read(&rule.expected())?;
        rule.judge(&text).map_err(|expected| field.fault(expected))?;
        Ok(Some(text))
    }

    pub(super) fn required_text(&self, names: &[&'static str], rule: TextRule) -> Result<String, Fault> {
        let name = names.first().copied().unwrap_or_default();
        self.text(names, rule)?
            .ok_or_else(|| self.missing(name, rule.expected()))
    }

    /// An integer of 0 or more.
    pub(super) fn count(&self, name: &str) -> Result<Option<u64>, Fault> {
        self.find(&[name])
            .map(|field| read_count(field.raw).ok_or_else(|| field.fault(COUNT_EXPECTED)))
            .transpose()
    }

    pub(super) fn integer_within(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Fault> {
        let Some(field) = self.find(&[name]) else {
            return Ok(None);
        };
        match read_count(field.raw) {
            Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
            _ => Err(field.fault(format!("an integer of {}–{}", grouped(min), grouped(max)))),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.find(&[name]).map(|field| field.read("true or false")).transpose()
    }

    /// One of several words.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Fault> {
        let Some(field) = self.find(&[name]) else {
            return Ok(None);
        };
        let text = serde_json::from_str::<String>(field.raw).ok();
        words
            .iter()
            .find(|(word, _)| text.as_deref() == Some(*word))
            .map(|(_, value)| Some(*value))
            .ok_or_else(|| field.fault(one_of(words)))
    }

    pub(super) fn required_word<T: Copy>(&self, name: &'static str, words: &[(&str, T)]) -> Result<T, Fault> {
        self.word(name, words)?.ok_or_else(|| self.missing(name, one_of(words)))
    }

    /// A list, its text kept as it was.
    pub(super) fn raw_list(&self, name: &str) -> Result<Option<Box<RawValue>>, Fault> {
        self.raw(name, '[', "a list")
    }

    /// An object, its text kept as it was.
    pub(super) fn raw_object(&self, name: &str) -> Result<Option<Box<RawValue>>, Fault> {
        self.raw(name, '{', "an object")
    }

    fn raw(&self, name: &str, opening: char, expected: &str) -> Result<Option<Box<RawValue>>, Fault> {
        let Some(field) = self.find(&[name]) else {
            return Ok(None);
        };
        if !field.raw.starts_with(opening) {
            return Err(field.fault(expected));
        }
        RawValue::from_string(field.raw.to_owned())
            .map(Some)
            .map_err(|_| field.fault(expected))
    }

    /// The members of a list of bounded length, each as its own text.
    pub(super) fn members(&self, name: &str, max: usize, expected: &str) -> Result<Option<Members<'t>>, Fault> {
        let Some(field) = self.find(&[name]) else {
            return Ok(None);
        };
        let members: Vec<&'t RawValue> = field.read(expected)?;
        if members.len() > max {
            return Err(field.fault(expected));
        }
        Ok(Some(Members {
            pointer: field.pointer(),
            members,
        }))
    }

    pub(super) fn required_members(
        &self,
        name: &'static str,
        max: usize,
        expected: &str,
    ) -> Result<Members<'t>, Fault> {
        match self.members(name, max, expected)? {
            Some(found) if found.members.is_empty() => Err(Fault::new(found.pointer, expected)),
            Some(found) => Ok(found),
            None => Err(self.missing(name, expected)),
        }
    }

    /// An instant as clients write it: only its form is judged, nothing of it is taken on trust (MSG-0).
    pub(super) fn judge_timestamp(&self) -> Result<(), Fault> {
        const EXPECTED: &str = "a date and time such as 2026-01-31T08:15:30Z";
        let Some(field) = self.find(&["timestamp"]) else {
            return Ok(());
        };
        let text: String = field.read(EXPECTED)?;
        Timestamp::parse_lenient(&text)
            .map(|_| ())
            .map_err(|_| field.fault(EXPECTED))
    }
}

/// A list's members and where the list stands.
pub(super) struct Members<'t> {
    pub(super) pointer: String,
    pub(super) members: Vec<&'t RawValue>,
}

pub(super) const COUNT_EXPECTED: &str = "an integer of 0 or more";

/// Reads an integer of 0 or more, however large.
pub(super) fn read_count(raw: &str) -> Option<u64> {
    let is_integer = !raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_digit());
    is_integer.then(|| raw.parse().unwrap_or(COUNT_MAX).min(COUNT_MAX))
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let quoted: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}
