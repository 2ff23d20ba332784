//! `validate_content`: whether content would be accepted, without doing anything with it.

use kingsguard_protocol::Limits;
use kingsguard_protocol::control::ContentIssue;
use serde::de::IgnoredAny;

/// Why `content` would be refused as `content_type`; empty where it would be accepted.
///
/// `json` is JSON of any kind; every other type is text that a `user_message` could carry.
#[must_use]
pub fn judge(content: &str, content_type: &str, limits: &Limits) -> Vec<ContentIssue> {
    match content_type.to_ascii_lowercase().as_str() {
        "json" | "application/json" => judge_json(content),
        _ => judge_text(content, limits),
    }
}

fn judge_json(content: &str) -> Vec<ContentIssue> {
    match serde_json::from_str::<IgnoredAny>(content) {
        Ok(_) => Vec::new(),
        Err(error) => vec![ContentIssue {
            pointer: format!("line {}", error.line()),
            expected: format!("JSON; it breaks off at column {}", error.column()),
        }],
    }
}

fn judge_text(content: &str, limits: &Limits) -> Vec<ContentIssue> {
    let chars = u64::try_from(content.chars().count()).unwrap_or(u64::MAX);
    if content.trim().is_empty() || chars > limits.content_chars_max {
        return vec![ContentIssue {
            pointer: "/content".to_owned(),
            expected: format!("1–{} characters, not all of them blank", limits.content_chars_max),
        }];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::tests::limits;
    use super::*;

    #[rstest]
    #[case::text("What did I spend?", "user_message", true)]
    #[case::any_other_type_is_text("# Title", "markdown", true)]
    #[case::blank(" \n", "user_message", false)]
    #[case::json("[1, {\"a\": null}]", "json", true)]
    #[case::media_type("{}", "application/json", true)]
    #[case::broken_json("{\"a\": }", "json", false)]
    fn content_is_judged_by_its_type(#[case] content: &str, #[case] content_type: &str, #[case] accepted: bool) {
        assert_eq!(judge(content, content_type, &limits()).is_empty(), accepted);
    }

    #[test]
    fn text_above_the_limit_is_refused_by_code_points_not_bytes() {
        let limit = usize::try_from(limits().content_chars_max).expect("a small number");
        assert_eq!(judge(&"é".repeat(limit), "text", &limits()), Vec::new());
        assert_eq!(judge(&"e".repeat(limit + 1), "text", &limits()).len(), 1);
    }
}
