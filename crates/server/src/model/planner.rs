//! The built-in planner: reads a request by its words, the same way every time.

use std::sync::LazyLock;

use regex::Regex;

use crate::tools::Need;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// How to spend less.
    Save,
    /// What was spent, on what.
    Spend,
    /// How spend changes by day.
    Trend,
    /// What will be spent.
    Forecast,
    /// Unusual days.
    Anomalies,
    /// How to be faster.
    Faster,
    /// How fast it is.
    Latency,
    /// Failed calls.
    Errors,
    /// Prompts that are sent again.
    Duplicates,
    /// Whether the records make sense.
    Quality,
    /// Counts and text lengths.
    Statistics,
    /// Prices of models.
    Prices,
    /// New records as they come.
    Watch,
    /// The records themselves, one by one.
    Records,
    /// None of these: an overview is the best answer.
    Overview,
}

/// Every topic with its word and the words that mean it, in the order in which they are tried.
const TOPICS: &[(Topic, &str, &[&str])] = &[
    (Topic::Watch, "watch", &["watch"]),
    (
        Topic::Records,
        "records",
        &[
            "list my usage",
            "list my records",
            "list all",
            "list every",
            "list the records",
            "every record",
            "each record",
        ],
    ),
    (
        Topic::Save,
        "save",
        &[
            "spend less",
            "pay less",
            "cost less",
            "save",
            "saving",
            "cheap",
            "reduce cost",
            "reduce my cost",
            "reduce spend",
            "reduce my spend",
            "lower cost",
            "lower my cost",
            "cut cost",
            "cut my cost",
            "optimi",
        ],
    ),
    (
        Topic::Forecast,
        "forecast",
        &[
            "forecast",
            "predict",
            "next month",
            "next week",
            "will i spend",
            "will it cost",
        ],
    ),
    (
        Topic::Trend,
        "trend",
        &["trend", "over time", "per day", "by day", "daily", "each day"],
    ),
    (
        Topic::Anomalies,
        "anomalies",
        &["anomal", "unusual", "spike", "outlier"],
    ),
    (
        Topic::Duplicates,
        "duplicates",
        &["duplicate", "repeat", "same prompt", "cache"],
    ),
    (Topic::Errors, "errors", &["error", "fail"]),
    (
        Topic::Faster,
        "faster",
        &[
            "faster",
            "speed up",
            "less latency",
            "reduce latency",
            "lower latency",
            "improve latency",
        ],
    ),
    (
        Topic::Latency,
        "latency",
        &["latency", "fast", "slow", "quick", "response time", "percentile"],
    ),
    (Topic::Prices, "prices", &["price"]),
    (
        Topic::Quality,
        "quality",
        &["quality", "valid", "check my data", "check my records"],
    ),
    (
        Topic::Spend,
        "spend",
        &[
            "spend",
            "spent",
            "cost",
            "bill",
            "by feature",
            "by model",
            "money",
            "expens",
        ],
    ),
    (
        Topic::Statistics,
        "statistics",
        &["token", "statistic", "how many", "calls", "usage"],
    ),
    (Topic::Overview, "overview", &[]),
];

impl Topic {
    /// Every topic's word, in results and for models.
    pub fn words() -> impl Iterator<Item = &'static str> {
        TOPICS.iter().map(|(_, word, _)| *word)
    }

    /// The topic of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        TOPICS.iter().find(|(_, own, _)| *own == word).map(|(topic, ..)| *topic)
    }

    /// The topic's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        TOPICS
            .iter()
            .find(|(topic, ..)| *topic == self)
            .map_or("overview", |(_, word, _)| word)
    }

    /// Whether the user wants to know what to do, not only what is.
    #[must_use]
    pub fn wants_advice(self) -> bool {
        matches!(self, Self::Save | Self::Faster)
    }

    /// What the records must have for a whole answer.
    #[must_use]
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Save => &[Need::Latency, Need::PromptHash],
            Self::Trend | Self::Forecast | Self::Anomalies => &[Need::Days],
            Self::Faster | Self::Latency => &[Need::Latency],
            Self::Duplicates => &[Need::PromptHash],
            Self::Spend => &[Need::Feature],
            Self::Errors
            | Self::Quality
            | Self::Statistics
            | Self::Prices
            | Self::Watch
            | Self::Records
            | Self::Overview => &[],
        }
    }

    /// The tools with which the data agent looks at this.
    #[must_use]
    pub fn data_tools(self) -> &'static [&'static str] {
        match self {
            Self::Save => &["spend_by_model", "spend_by_feature", "duplicate_prompts"],
            Self::Spend => &["spend_by_model", "spend_by_feature"],
            Self::Trend => &["spend_trend", "usage_anomalies"],
            Self::Forecast => &["spend_trend", "spend_forecast"],
            Self::Anomalies => &["usage_anomalies", "spend_trend"],
            Self::Faster | Self::Latency => &["latency_percentiles", "slowest_features"],
            Self::Errors => &["error_rate"],
            Self::Duplicates => &["duplicate_prompts"],
            Self::Quality => &["validate_data", "error_rate"],
            Self::Statistics => &["usage_statistics"],
            Self::Prices => &["price_list"],
            Self::Watch => &["watch_usage"],
            Self::Records => &["list_records"],
            Self::Overview => &["usage_statistics", "spend_by_model", "error_rate"],
        }
    }
}

/// Days that a request names, as it names them: reading them is a tool's work, because it can fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// First day.
    pub from: Option<String>,
    /// Last day.
    pub to: Option<String>,
    /// Days back from the newest record.
    pub last_days: Option<u64>,
}

impl Dates {
    /// Whether the request names no day.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A request as the planner understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What it is about.
    pub topic: Topic,
    /// Days that it names.
    pub dates: Dates,
    /// How slow a model may be, in milliseconds.
    pub latency_limit_ms: Option<u64>,
    /// Days that a forecast looks ahead.
    pub horizon_days: Option<u64>,
    /// Seconds to watch.
    pub watch_seconds: u64,
    /// How many records a second are listed at most; as fast as it goes where the request does not say.
    pub rows_per_second: Option<u64>,
    /// Whether it goes on from what was said before.
    pub is_follow_up: bool,
}

/// Seconds watched where a request does not say.
const WATCH_SECONDS: u64 = 5;

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant that the tests compile")
}

static DAY: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b\d{4}-\d{1,2}-\d{1,2}\b"));
static UNTIL: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(?:until|till|to|before|through)\s+$"));
static ON: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bon\s+$"));
static LAST: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(?:last|past|previous)\s+(?:(\d{1,6})\s+)?(day|week|month|year)s?\b"));
static NEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bnext\s+(?:(\d{1,6})\s+)?(day|week|month|year)s?\b"));
static LIMIT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?:under|below|within|at most|less than|faster than|<=?)\s*(\d{1,9})\s*(ms|milliseconds?|s|seconds?)\b")
});
static PACE: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b(\d{1,9})\s*(?:records?|rows?|lines?)?\s*(?:a|per|each|/)\s*second\b"));
static SECONDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b(\d{1,9})\s*(s|secs?|seconds?|minutes?|mins?)\b"));

/// Reads a request.
#[must_use]
pub fn read(content: &str) -> Reading {
    let words = content.to_lowercase();
    let found = TOPICS
        .iter()
        .find(|(_, _, means)| means.iter().any(|meaning| words.contains(meaning)));
    Reading {
        topic: found.map_or(Topic::Overview, |(topic, ..)| *topic),
        dates: dates(&words),
        latency_limit_ms: LIMIT.captures(&words).and_then(|limit| {
            let amount: u64 = limit[1].parse().ok()?;
            Some(if limit[2].starts_with('m') {
                amount
            } else {
                amount * 1_000
            })
        }),
        horizon_days: days_of(&NEXT, &words),
        watch_seconds: SECONDS.captures(&words).map_or(WATCH_SECONDS, |asked| {
            let amount = asked[1].parse::<u64>().unwrap_or(u64::MAX);
            if asked[2].starts_with('m') {
                amount.saturating_mul(60)
            } else {
                amount
            }
        }),
        rows_per_second: PACE
            .captures(&words)
            .and_then(|pace| pace[1].parse().ok())
            .filter(|rows| *rows > 0),
        is_follow_up: ["and ", "what about", "how about", "also "]
            .iter()
            .any(|start| words.trim_start().starts_with(start)),
    }
}

fn days_of(span: &Regex, words: &str) -> Option<u64> {
    let found = span.captures(words)?;
    let count: u64 = found.get(1).map_or(Ok(1), |count| count.as_str().parse()).ok()?;
    let unit = match &found[2] {
        "day" => 1,
        "week" => 7,
        "month" => 30,
        _ => 365,
    };
    Some(count * unit)
}

fn dates(words: &str) -> Dates {
    let mut named = DAY.find_iter(words);
    let text = |day: &regex::Match<'_>| Some(day.as_str().to_owned());
    let (Some(first), second) = (named.next(), named.next()) else {
        return Dates {
            last_days: days_of(&LAST, words),
            ..Dates::default()
        };
    };
    let before = &words[..first.start()];
    let (from, to) = match second {
        Some(second) => (text(&first), text(&second)),
        None if UNTIL.is_match(before) => (None, text(&first)),
        None if ON.is_match(before) => (text(&first), text(&first)),
        None => (text(&first), None),
    };
    Dates {
        from,
        to,
        last_days: None,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("How can I spend less?", Topic::Save)]
    #[case("Find a cheaper model under 800 ms", Topic::Save)]
    #[case("Show my spend from 2026-01-01 to 2026-01-31", Topic::Spend)]
    #[case("and by feature?", Topic::Spend)]
    #[case("What is the trend?", Topic::Trend)]
    #[case("How fast are my models?", Topic::Latency)]
    #[case("Make it faster", Topic::Faster)]
    #[case("Which prompts are duplicates?", Topic::Duplicates)]
    #[case("How many calls failed?", Topic::Errors)]
    #[case("What will I spend next month?", Topic::Forecast)]
    #[case("Watch my usage for 10 seconds", Topic::Watch)]
    #[case("List my usage records", Topic::Records)]
    #[case("Show every record from 2026-01-01", Topic::Records)]
    #[case("Hello", Topic::Overview)]
    #[case("", Topic::Overview)]
    fn a_request_has_the_topic_of_its_words(#[case] content: &str, #[case] expected: Topic) {
        assert_eq!(read(content).topic, expected);
    }

    #[rstest]
    #[case("from 2026-01-01 to 2026-01-31", Some("2026-01-01"), Some("2026-01-31"), None)]
    #[case("since 2026-13-45", Some("2026-13-45"), None, None)]
    #[case("until 2026-01-31", None, Some("2026-01-31"), None)]
    #[case("on 2026-01-31", Some("2026-01-31"), Some("2026-01-31"), None)]
    #[case("in the last 2 weeks", None, None, Some(14))]
    #[case("over the past month", None, None, Some(30))]
    #[case("ever", None, None, None)]
    fn days_are_found_as_they_are_named(
        #[case] content: &str,
        #[case] from: Option<&str>,
        #[case] to: Option<&str>,
        #[case] last_days: Option<u64>,
    ) {
        let expected = Dates {
            from: from.map(ToOwned::to_owned),
            to: to.map(ToOwned::to_owned),
            last_days,
        };
        assert_eq!(read(content).dates, expected);
    }

    #[test]
    fn amounts_are_read_with_their_units() {
        assert_eq!(read("watch for 2 minutes").watch_seconds, 120);
        assert_eq!(read("Watch my usage for 10 seconds").watch_seconds, 10);
        assert_eq!(read("cheaper under 2 s").latency_limit_ms, Some(2_000));
        assert_eq!(read("cheaper under 800 ms").latency_limit_ms, Some(800));
        assert_eq!(read("forecast the next 2 weeks").horizon_days, Some(14));
        assert_eq!(read("List my records at 20 per second").rows_per_second, Some(20));
        assert_eq!(read("List my records, 5 rows a second").rows_per_second, Some(5));
        assert_eq!(read("List my records at 0 per second").rows_per_second, None);
    }

    #[test]
    fn every_topic_reads_back_from_its_word() {
        for word in Topic::words() {
            assert_eq!(Topic::from_word(word).map(Topic::as_str), Some(word));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_planner_panic(content in "\\PC{0,200}") {
            let _ = read(&content);
        }
    }
}
