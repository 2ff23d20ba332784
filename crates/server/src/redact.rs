//! Keeps credentials and overlong strings out of what leaves the backend (EVT-8, AUTH-8).
//!
//! Pure: a value goes in, a value that may be shown comes out. Redacting twice changes nothing more.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

/// Characters of a string that stay; the contract (EVT-8) chose the number.
pub const STRING_CHARS_MAX: usize = 2_000;

/// What stands where a credential was.
pub const REDACTED: &str = "[redacted]";

/// A key that contains one of these, in any case, has a value that is never shown (EVT-8).
const SECRET_KEYS: [&str; 6] = ["password", "secret", "token", "api_key", "authorization", "credential"];

/// What looks like a credential inside a text: a JWT, what follows `Bearer`, and keys that begin with `sk-`.
static CREDENTIALS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        r"eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?",
        r"|(?i:\bbearer)\s+[A-Za-z0-9._~+/=-]{6,}",
        r"|\bsk-[A-Za-z0-9_-]{6,}",
        r"|(?i:\b(?:password|passwd|secret|api[_-]?key|credential|access[_-]?token|refresh[_-]?token))\s*[=:]\s*[^\s,;]+",
    ))
    .expect("the pattern is a constant that the tests compile")
});

/// The object with every secret value replaced and every overlong string cut.
#[must_use]
pub fn object(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .map(|(key, value)| (text(key).into_owned(), field(key, value)))
        .collect()
}

/// The value with every secret value inside it replaced and every overlong string cut.
#[must_use]
pub fn value(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(object(fields)),
        Value::Array(items) => Value::Array(items.iter().map(self::value).collect()),
        Value::String(words) => Value::String(cut(&text(words)).into_owned()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The text with what looks like a credential replaced; its length is left alone.
#[must_use]
pub fn text(words: &str) -> Cow<'_, str> {
    CREDENTIALS.replace_all(words, REDACTED)
}

/// The text, cut to its first [`STRING_CHARS_MAX`] characters and a mark that says how many were cut.
#[must_use]
pub fn cut(words: &str) -> Cow<'_, str> {
    match words.char_indices().nth(STRING_CHARS_MAX) {
        None => Cow::Borrowed(words),
        Some(_) if is_cut(words) => Cow::Borrowed(words),
        Some((end, _)) => {
            let dropped = words[end..].chars().count();
            Cow::Owned(format!("{}… [{dropped} characters cut]", &words[..end]))
        }
    }
}

/// Whether the text is already what [`cut`] makes, so that cutting twice does not lie about the count.
fn is_cut(words: &str) -> bool {
    let rest: String = words.chars().skip(STRING_CHARS_MAX).take(64).collect();
    rest.strip_prefix("… [")
        .and_then(|rest| rest.strip_suffix(" characters cut]"))
        .is_some_and(|count| !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit()))
}

fn field(key: &str, value: &Value) -> Value {
    let key = key.to_lowercase();
    if !SECRET_KEYS.iter().any(|secret| key.contains(secret)) {
        return self::value(value);
    }
    match value {
        // A count of tokens is no token.
        Value::Number(_) if key.ends_with("tokens") => value.clone(),
        Value::Null => Value::Null,
        _ => Value::String(REDACTED.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn check(given: Value, expected: Value) {
        assert_eq!(value(&given), expected);
        assert_eq!(value(&expected), expected, "redacting twice changes nothing more");
    }

    #[test]
    fn values_under_secret_keys_are_replaced_at_any_depth_and_in_any_case() {
        check(
            json!({"user_Password": "hunter2", "a": [{"API_KEY": {"x": 1}}], "Authorization": ["Basic abc"], "model": "m"}),
            json!({"user_Password": REDACTED, "a": [{"API_KEY": REDACTED}], "Authorization": REDACTED, "model": "m"}),
        );
    }

    #[test]
    fn counts_of_tokens_stay_and_other_values_under_such_keys_do_not() {
        check(
            json!({"input_tokens": 12, "TOKENS": 3, "token": 4, "output_tokens": "abc"}),
            json!({"input_tokens": 12, "TOKENS": 3, "token": REDACTED, "output_tokens": REDACTED}),
        );
    }

    #[rstest]
    #[case("see eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl ok", "see [redacted] ok")]
    #[case("Authorization: Bearer abcdef123456", "Authorization: [redacted]")]
    #[case("key sk-abcdefgh123", "key [redacted]")]
    #[case("my password: hunter2, thanks", "my [redacted], thanks")]
    #[case("how many tokens did task-force use?", "how many tokens did task-force use?")]
    fn credentials_in_a_text_are_replaced(#[case] given: &str, #[case] expected: &str) {
        check(json!(given), json!(expected));
    }

    #[test]
    fn a_long_string_is_cut_and_says_how_much_is_missing() {
        // The contract's number (EVT-8), whatever the constant says.
        let whole = "ä".repeat(2_000);
        check(
            json!(format!("{whole}{}", "ä".repeat(7))),
            json!(format!("{whole}… [7 characters cut]")),
        );
        check(json!(whole), json!(whole));
    }

    #[test]
    fn a_credential_across_the_cut_is_replaced_before_it_is_cut() {
        let given = format!("{} sk-{}", "a".repeat(STRING_CHARS_MAX - 6), "b".repeat(40));
        let shown = value(&json!(given)).to_string();
        assert!(!shown.contains("sk-b"), "{shown}");
    }

    fn secret_value() -> impl Strategy<Value = String> {
        "Zq[a-zA-Z0-9]{12,40}"
    }

    proptest! {
        #[test]
        fn no_secret_value_survives(
            secret in secret_value(),
            prefix in "[a-zA-Z_]{0,8}",
            key in prop::sample::select(SECRET_KEYS.to_vec()),
            upper in any::<bool>(),
            depth in 0usize..6,
            filler in 0usize..2_100,
        ) {
            let key = if upper { key.to_uppercase() } else { key.to_owned() };
            let mut given = json!({ format!("{prefix}{key}"): secret.clone(), "list": [{ key: [secret.clone()] }] });
            for _ in 0..depth {
                given = json!([{ "inner": given, "note": format!("{}Bearer {secret}", " ".repeat(filler)) }]);
            }
            prop_assert!(!value(&given).to_string().contains(&secret));
        }

        #[test]
        fn whatever_has_no_secret_and_is_short_stays(words in "[ a-z0-9]{0,200}", number in any::<i64>()) {
            let given = json!({"words": words, "number": number, "input_tokens": number});
            prop_assert_eq!(value(&given), given);
        }

        #[test]
        fn no_string_stays_longer_than_allowed(words in "\\PC{0,2100}") {
            let shown = value(&json!(words));
            let chars = shown.as_str().expect("a string stays a string").chars().count();
            prop_assert!(chars <= STRING_CHARS_MAX + 40);
        }
    }
}
