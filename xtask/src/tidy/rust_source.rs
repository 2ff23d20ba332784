//! A Rust file, read well enough to find its tests: comments and literals are told from code, braces are matched.
//! A parser would be exact and take longer to build than all of this runner.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file.
#[derive(Debug)]
pub struct RustSource {
    /// From the root of the workspace.
    pub path: PathBuf,
    pub text: String,
    /// The text with comments and the insides of literals replaced by spaces, byte for byte.
    pub code: String,
    tests: Vec<TestFn>,
}

/// A function that a test attribute stands above.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestFn {
    pub name: String,
    /// Counted from 1.
    pub line: usize,
    /// Everything from the first attribute to the name.
    pub attributes: String,
    /// The code between its braces.
    pub body: String,
}

impl RustSource {
    pub fn new(path: &Path, text: String) -> Self {
        let code = blank(&text);
        let tests = find_tests(&code);
        Self {
            path: path.to_owned(),
            text,
            code,
            tests,
        }
    }

    pub fn tests(&self) -> &[TestFn] {
        &self.tests
    }

    /// Bodies of all functions, by name: a test may leave its claim to one of them.
    pub fn functions(&self) -> Vec<(String, String)> {
        let body = |(name, span): (String, Range<usize>)| (name, self.code[span].to_owned());
        self.function_spans().into_iter().map(body).collect()
    }

    /// The innermost function around a place in the file.
    pub fn function_around(&self, at: usize) -> Option<String> {
        let around = self.function_spans().into_iter().filter(|(_, span)| span.contains(&at));
        around.min_by_key(|(_, span)| span.len()).map(|(name, _)| name)
    }

    /// The arguments of every call of a macro, as they stand between its parentheses, and where they begin.
    pub fn macro_calls(&self, name: &str) -> Vec<(usize, &str)> {
        let head = format!("{name}!(");
        let calls = self.code.match_indices(&head).filter_map(|(at, _)| {
            let open = at + head.len() - 1;
            let close = matching(&self.code, open, b'(', b')')?;
            Some((open + 1, &self.text[open + 1..close]))
        });
        calls.collect()
    }

    fn function_spans(&self) -> Vec<(String, Range<usize>)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = self.code[from..].find("fn ").map(|at| from + at) {
            from = at + 3;
            let name: String = self.code[from..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if let Some((body, close)) = body_after(&self.code, from) {
                found.push((name, close - body.len()..close));
            }
        }
        found
    }
}

/// What makes a function a test.
fn is_test_attribute(attribute: &str) -> bool {
    let path: String = attribute
        .chars()
        .take_while(|c| c.is_alphanumeric() || matches!(c, ':' | '_'))
        .collect();
    path == "test" || path == "rstest" || path.ends_with("::test") || path.ends_with("::rstest")
}

fn find_tests(code: &str) -> Vec<TestFn> {
    let mut tests = Vec::new();
    let mut from = 0;
    while let Some(start) = code[from..].find("#[").map(|at| from + at) {
        // The run of attributes that stands above one item.
        let (mut end, mut is_test) = (start, false);
        while code[end..].trim_start().starts_with("#[") {
            let open = end + code[end..].find("#[").unwrap_or(0);
            is_test |= is_test_attribute(code[open + 2..].trim_start());
            end = matching(code, open + 1, b'[', b']').map_or(code.len(), |close| close + 1);
        }
        from = end;
        if !is_test {
            continue;
        }
        let Some(at) = code[end..].find("fn ").map(|at| end + at + 3) else {
            continue;
        };
        let name: String = code[at..]
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        if let Some((body, close)) = body_after(code, at) {
            tests.push(TestFn {
                name,
                line: code[..at].matches('\n').count() + 1,
                attributes: code[start..at].to_owned(),
                body: body.to_owned(),
            });
            from = close;
        }
    }
    tests
}

/// The braces that follow a function's head, and where they end.
fn body_after(code: &str, from: usize) -> Option<(&str, usize)> {
    let open = from + code[from..].find(['{', ';'])?;
    if code.as_bytes()[open] == b';' {
        return None;
    }
    let close = matching(code, open, b'{', b'}')?;
    Some((&code[open + 1..close], close))
}

fn matching(code: &str, open: usize, left: u8, right: u8) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        if byte == left {
            depth += 1;
        } else if byte == right {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(at);
            }
        }
    }
    None
}

/// Replaces comments and the insides of string and character literals by spaces; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if !preceded_by_word(bytes, at) => raw_end(bytes, at).unwrap_or(at),
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        for byte in out.iter_mut().take(end).skip(at).filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
        at = end;
    }
    // Only whole literals and comments were replaced, so this is the same text but for them.
    String::from_utf8_lossy(&out).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |length| at + length)
}

fn block_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut here) = (0, at);
    while here < bytes.len() {
        if bytes[here..].starts_with(b"/*") {
            depth += 1;
            here += 2;
        } else if bytes[here..].starts_with(b"*/") {
            depth -= 1;
            here += 2;
            if depth == 0 {
                return here;
            }
        } else {
            here += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut here = at + 1;
    while here < bytes.len() {
        match bytes[here] {
            b'\\' => here += 2,
            b'"' => return here + 1,
            _ => here += 1,
        }
    }
    bytes.len()
}

fn raw_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    if bytes.get(at + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let from = at + 2 + hashes;
    let found = bytes[from..].windows(close.len()).position(|window| window == close);
    Some(found.map_or(bytes.len(), |length| from + length + close.len()))
}

/// A character literal, which a lifetime is not.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at + 1)? {
        b'\\' => {
            let from = at + 3;
            bytes
                .get(from..)?
                .iter()
                .take(12)
                .position(|byte| *byte == b'\'')
                .map(|length| from + length + 1)
        }
        first => {
            let length = match first {
                0xf0.. => 4,
                0xe0.. => 3,
                0xc0.. => 2,
                _ => 1,
            };
            (bytes.get(at + 1 + length) == Some(&b'\'')).then_some(at + 2 + length)
        }
    }
}

/// `r` and `br` open a raw string only where no name ends before them.
fn preceded_by_word(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|place| bytes.get(place)).copied();
    let word = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match before(1) {
        Some(b'b') => word(before(2)),
        other => word(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn source(text: &str) -> RustSource {
        RustSource::new(Path::new("x.rs"), text.to_owned())
    }

    #[test]
    fn comments_and_literals_are_no_code() {
        let text = "let a = \"assert!(\\\" {\"; // assert!\nlet b = r#\"fn \"x\" {\"#; /* { /* { */ */ let c = '{'; let d: &'a str;";
        let code = blank(text);
        assert_eq!(code.len(), text.len());
        assert!(
            !code.contains("assert") && !code.contains('{') && code.contains("let d: &'a str;"),
            "{code}"
        );
    }

    #[test]
    fn tests_are_found_with_name_line_and_body() {
        let text = "fn a() { b() }\n\n#[tokio::test(flavor = \"multi_thread\")]\n#[ignore = \"later\"]\nasync fn c() -> R {\n    if x { y() }\n}\n#[cfg(test)]\nmod m {\n  #[rstest]\n  #[case(1)]\n  fn d(#[case] n: u8) { e(n) }\n}\n";
        let found: Vec<_> = source(text)
            .tests()
            .iter()
            .map(|t| (t.name.clone(), t.line, t.body.trim().to_owned()))
            .collect();
        assert_eq!(
            found,
            [
                ("c".to_owned(), 5, "if x { y() }".to_owned()),
                ("d".to_owned(), 12, "e(n)".to_owned())
            ]
        );
        assert!(source(text).tests()[0].attributes.contains("ignore"));
    }

    #[test]
    fn functions_are_found_by_name() {
        let found = source("fn a() { b() }\ntrait T { fn c(); fn d() {} }").functions();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "d"]);
    }
}
