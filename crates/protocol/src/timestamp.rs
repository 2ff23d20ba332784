//! Instants on the wire: RFC 3339, UTC, milliseconds, `Z` (contract §1).

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, SubsecRound, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in UTC with millisecond precision, such as `2026-01-31T08:15:30.250Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The present instant by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from(Utc::now())
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_unix_ms(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// The instant `unix_ms` milliseconds after the Unix epoch; `None` outside of the years chrono can hold.
    #[must_use]
    pub fn from_unix_ms(unix_ms: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(unix_ms).map(Self)
    }

    /// The instant as chrono's type.
    #[must_use]
    pub fn as_datetime(self) -> DateTime<Utc> {
        self.0
    }

    /// Reads what clients write (MSG-0): RFC 3339 with or without fraction, zone or `T`; without a zone UTC is meant.
    ///
    /// # Errors
    /// The text is no date and time.
    pub fn parse_lenient(text: &str) -> Result<Self, chrono::ParseError> {
        let text = text.trim();
        DateTime::parse_from_rfc3339(text)
            .or_else(|first| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z").map_err(|_| first))
            .map(|at| Self::from(at.to_utc()))
            .or_else(|first| {
                ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
                    .iter()
                    .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                    .map(|at| Self::from(at.and_utc()))
                    .ok_or(first)
            })
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.trunc_subsecs(3))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not an instant in the contract's one form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is not RFC 3339 in UTC with milliseconds and `Z`, such as 2026-01-31T08:15:30.250Z")]
pub struct ParseTimestampError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Reads the contract's one form exactly; see [`Timestamp::parse_lenient`] for what clients write.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || ParseTimestampError { text: text.to_owned() };
        let at = Self::from(DateTime::parse_from_rfc3339(text).map_err(|_| refused())?.to_utc());
        if at.to_string() == text { Ok(at) } else { Err(refused()) }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$"
        })
    }
}
