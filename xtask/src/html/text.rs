//! Numbers and words as people read them.

use kingsguard_report::{ClauseVerdict, Outcome, Verdict};
use maud::{Markup, html};

/// 7 ms, 1.24 s, 3 min 20 s.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{:.2} s", milliseconds as f64 / 1_000.0),
        _ => format!("{} min {} s", milliseconds / 60_000, milliseconds / 1_000 % 60),
    }
}

/// As many digits as tell something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1_000.0 => format!("{value:.1}"),
        _ => grouped(value.round()),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// The path of a test without its binary's package: `e2e wire::golden_path::…`.
pub fn test_name(test: &str) -> &str {
    test.strip_prefix("kingsguard-tests::").unwrap_or(test)
}

/// The same as a page shows it: lines break where words end.
pub fn test_label(test: &str) -> Markup {
    let name = test_name(test);
    let (binary, path) = match name.split_once(' ') {
        Some((binary, path)) if path.contains("::") => (binary, path),
        Some(_) | None => ("", name),
    };
    html! {
        @if !binary.is_empty() { span.dim { (binary) } " " }
        @for (place, part) in path.split("::").enumerate() {
            @if place > 0 { "::" wbr; }
            @for (place, word) in part.split('_').enumerate() { @if place > 0 { "_" wbr; } (word) }
        }
    }
}

/// Class and sign of a verdict: no meaning is in a colour alone.
#[derive(Debug, Clone, Copy)]
pub struct Sign {
    pub class: &'static str,
    pub glyph: &'static str,
}

pub fn of_clause(verdict: ClauseVerdict) -> Sign {
    let (class, glyph) = match verdict {
        ClauseVerdict::Passed => ("passed", "✓"),
        ClauseVerdict::Failed => ("failed", "✕"),
        ClauseVerdict::Warned => ("warned", "!"),
        ClauseVerdict::NotJudged => ("unjudged", "?"),
        ClauseVerdict::NotRun => ("notrun", "–"),
    };
    Sign { class, glyph }
}

pub fn of_outcome(outcome: Outcome) -> Sign {
    let (class, glyph) = match outcome {
        Outcome::Passed => ("passed", "✓"),
        Outcome::Failed => ("failed", "✕"),
        Outcome::Invalid => ("invalid", "≠"),
        Outcome::NotJudged => ("unjudged", "?"),
        Outcome::NotRun => ("notrun", "–"),
    };
    Sign { class, glyph }
}

pub fn of_run(verdict: Verdict) -> Sign {
    of_outcome(match verdict {
        Verdict::Passed => Outcome::Passed,
        Verdict::Failed => Outcome::Failed,
        Verdict::Invalid => Outcome::Invalid,
    })
}

/// A sentence of the contract, with what stands between backticks as code.
pub fn sentence(text: &str) -> Markup {
    let text = text.replace("**", "");
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// The same without marks, for where only text can stand.
pub fn plain(text: &str) -> String {
    text.replace(['`', '*'], "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn durations_and_numbers_have_as_many_digits_as_tell_something() {
        let durations = [7, 1_240, 200_000].map(duration);
        assert_eq!(durations, ["7 ms", "1.24 s", "3 min 20 s"]);
        let numbers = [0.0, 0.0123, 1.234, 12.34, 1_234_567.0, -1_234.0, 999.0].map(number);
        assert_eq!(numbers, ["0", "0.0123", "1.23", "12.3", "1,234,567", "-1,234", "999.0"]);
    }

    #[test]
    fn code_in_a_sentence_is_code() {
        let text = sentence("after `a < b` **every** time").into_string();
        assert_eq!(text, "after <code>a &lt; b</code> every time");
    }
}
