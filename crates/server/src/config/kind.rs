//! Kinds of settings: how a text becomes a value, and which texts are accepted.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use kingsguard_protocol::http::Secret;

/// How one setting is written, read and limited.
pub(super) trait Kind {
    type Value;

    /// What the number counts, or what kind of text it is.
    fn unit(&self) -> &'static str;
    /// The default as it would be written.
    fn default(&self) -> Option<String>;
    /// Which values are accepted, for people.
    fn limits(&self) -> String;
    /// The value of a text, or what was expected instead.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;
    /// The value where nothing is set; `None` where something must be.
    fn absent(&self) -> Option<Self::Value> {
        self.default().and_then(|text| self.parse(&text).ok())
    }
    /// Whether the value is never shown.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A whole number.
pub(super) struct Count {
    pub(super) unit: &'static str,
    pub(super) default: u64,
    pub(super) within: RangeInclusive<u64>,
}

fn parse_within(text: &str, within: &RangeInclusive<u64>) -> Result<u64, String> {
    let expected = || {
        format!(
            "must be a whole number from {} to {}, not `{text}`",
            within.start(),
            within.end()
        )
    };
    let number = text.trim().replace('_', "").parse().map_err(|_| expected())?;
    if within.contains(&number) {
        Ok(number)
    } else {
        Err(expected())
    }
}

impl Kind for Count {
    type Value = u64;

    fn unit(&self) -> &'static str {
        self.unit
    }
    fn default(&self) -> Option<String> {
        Some(self.default.to_string())
    }
    fn limits(&self) -> String {
        format!("{} – {}", self.within.start(), self.within.end())
    }
    fn parse(&self, text: &str) -> Result<u64, String> {
        parse_within(text, &self.within)
    }
}

/// A duration, written in milliseconds.
pub(super) struct Millis {
    pub(super) default: u64,
    pub(super) within: RangeInclusive<u64>,
}

impl Kind for Millis {
    type Value = Duration;

    fn unit(&self) -> &'static str {
        "ms"
    }
    fn default(&self) -> Option<String> {
        Some(self.default.to_string())
    }
    fn limits(&self) -> String {
        format!("{} – {}", self.within.start(), self.within.end())
    }
    fn parse(&self, text: &str) -> Result<Duration, String> {
        parse_within(text, &self.within).map(Duration::from_millis)
    }
}

/// On or off.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;

    fn unit(&self) -> &'static str {
        "switch"
    }
    fn default(&self) -> Option<String> {
        Some("false".to_owned())
    }
    fn limits(&self) -> String {
        "true, false".to_owned()
    }
    fn parse(&self, text: &str) -> Result<bool, String> {
        match text.trim() {
            "true" | "1" | "on" => Ok(true),
            "false" | "0" | "off" => Ok(false),
            other => Err(format!("must be true or false, not `{other}`")),
        }
    }
}

/// A text without control characters.
pub(super) struct Text {
    pub(super) unit: &'static str,
    pub(super) default: &'static str,
}

impl Kind for Text {
    type Value = String;

    fn unit(&self) -> &'static str {
        self.unit
    }
    fn default(&self) -> Option<String> {
        Some(self.default.to_owned())
    }
    fn limits(&self) -> String {
        "1 – 1000 characters".to_owned()
    }
    fn parse(&self, text: &str) -> Result<String, String> {
        let fits = (1..=1000).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if fits {
            Ok(text.to_owned())
        } else {
            Err("must be 1 – 1000 characters, none of them control".to_owned())
        }
    }
}

/// A text that may be absent.
pub(super) struct Optional {
    pub(super) unit: &'static str,
}

impl Kind for Optional {
    type Value = Option<String>;

    fn unit(&self) -> &'static str {
        self.unit
    }
    fn default(&self) -> Option<String> {
        None
    }
    fn limits(&self) -> String {
        "1 – 1000 characters".to_owned()
    }
    fn parse(&self, text: &str) -> Result<Option<String>, String> {
        let kind = Text {
            unit: self.unit,
            default: "",
        };
        kind.parse(text).map(Some)
    }
    fn absent(&self) -> Option<Option<String>> {
        Some(None)
    }
}

/// An address with port.
pub(super) struct Address {
    pub(super) default: &'static str,
}

impl Kind for Address {
    type Value = SocketAddr;

    fn unit(&self) -> &'static str {
        "address:port"
    }
    fn default(&self) -> Option<String> {
        Some(self.default.to_owned())
    }
    fn limits(&self) -> String {
        "IPv4:port or [IPv6]:port".to_owned()
    }
    fn parse(&self, text: &str) -> Result<SocketAddr, String> {
        text.trim()
            .parse()
            .map_err(|_| format!("must be an address with port such as {}, not `{text}`", self.default))
    }
}

/// Origins of web pages, separated by commas.
pub(super) struct Origins;

impl Kind for Origins {
    type Value = Vec<String>;

    fn unit(&self) -> &'static str {
        "origins"
    }
    fn default(&self) -> Option<String> {
        None
    }
    fn limits(&self) -> String {
        "scheme://host[:port], separated by commas; none allows all".to_owned()
    }
    fn parse(&self, text: &str) -> Result<Vec<String>, String> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins
            .map(|origin| {
                let host = origin
                    .strip_prefix("https://")
                    .or_else(|| origin.strip_prefix("http://"));
                match host {
                    Some(host) if !host.is_empty() && !host.contains(['/', ' ', '?', '#']) => {
                        Ok(origin.to_ascii_lowercase())
                    }
                    _ => Err(format!(
                        "must hold origins such as https://chat.example, not `{origin}`"
                    )),
                }
            })
            .collect()
    }
    fn absent(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// A text that must be set and is never shown.
pub(super) struct Hidden {
    pub(super) unit: &'static str,
    /// What it must begin with; any of these.
    pub(super) schemes: &'static [&'static str],
    pub(super) bytes_min: usize,
}

impl Kind for Hidden {
    type Value = Secret;

    fn unit(&self) -> &'static str {
        self.unit
    }
    fn default(&self) -> Option<String> {
        None
    }
    fn limits(&self) -> String {
        if self.schemes.is_empty() {
            format!("at least {} bytes", self.bytes_min)
        } else {
            format!("begins with {}", self.schemes.join(" or "))
        }
    }
    fn parse(&self, text: &str) -> Result<Secret, String> {
        if text.len() < self.bytes_min {
            return Err(format!(
                "must be at least {} bytes long, not {}",
                self.bytes_min,
                text.len()
            ));
        }
        if !self.schemes.is_empty() && !self.schemes.iter().any(|scheme| text.starts_with(scheme)) {
            return Err(format!("must begin with {}", self.schemes.join(" or ")));
        }
        Ok(Secret::from(text))
    }
    fn is_secret(&self) -> bool {
        true
    }
}

/// A text that may be absent and is never shown.
pub(super) struct OptionalHidden {
    pub(super) unit: &'static str,
}

impl Kind for OptionalHidden {
    type Value = Option<Secret>;

    fn unit(&self) -> &'static str {
        self.unit
    }
    fn default(&self) -> Option<String> {
        None
    }
    fn limits(&self) -> String {
        "any text".to_owned()
    }
    fn parse(&self, text: &str) -> Result<Option<Secret>, String> {
        Ok(Some(Secret::from(text)))
    }
    fn absent(&self) -> Option<Option<Secret>> {
        Some(None)
    }
    fn is_secret(&self) -> bool {
        true
    }
}
