//! Every test claims something that can be wrong, none is ignored, none sleeps for effect.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::Faults;
use super::rust_source::{RustSource, TestFn};

/// Words that make a claim: when they do not hold, the test fails.
const CLAIMS: &[&str] = &[
    "assert",
    "panic!",
    "unreachable!",
    ".expect(",
    "expect_err(",
    ".expect_error(", // of the kit: exactly this error code, or the test fails
    "snapshot!",
    "check!(",
    "bail!(",
];

/// Stands beside a sleep that has a reason, and gives it.
const SLEEP_MARK: &str = "// sleeps because ";

pub fn check(sources: &[RustSource], faults: &mut Faults) {
    // A test may leave its claim to a function of its package: `fn check(input, expected)` with a table above it.
    let mut claiming: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let functions = source
            .functions()
            .into_iter()
            .filter(|(_, body)| claims(body))
            .map(|(name, _)| name);
        claiming.entry(package(&source.path)).or_default().extend(functions);
    }
    for source in sources {
        let claiming = claiming.get(&package(&source.path));
        for test in source.tests() {
            check_test(source, test, claiming, faults);
        }
        check_constants(source, faults);
        if source.path.starts_with("tests") {
            check_sleeps(source, faults);
        }
    }
}

fn check_test(source: &RustSource, test: &TestFn, claiming: Option<&BTreeSet<String>>, faults: &mut Faults) {
    let place = format!("{}:{}: {}", source.path.display(), test.line, test.name);
    if test.name.starts_with("test_") {
        faults.push(format!("{place} is a claim in the present tense, without `test_`"));
    }
    if test.attributes.contains("#[ignore") {
        faults.push(format!("{place} is ignored"));
    }
    let delegated =
        || claiming.is_some_and(|names| names.iter().any(|name| *name != test.name && calls(&test.body, name)));
    // That something does not panic is a claim which no other word makes.
    if !claims(&test.body) && !test.name.contains("panic") && !delegated() {
        faults.push(format!("{place} asserts nothing"));
    }
}

/// The folder of the package that a file belongs to.
fn package(path: &Path) -> String {
    let depth = if path.starts_with("crates") { 2 } else { 1 };
    path.iter()
        .take(depth)
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join("/")
}

fn calls(body: &str, name: &str) -> bool {
    let call = format!("{name}(");
    body.match_indices(&call).any(|(at, _)| {
        !body[..at]
            .chars()
            .next_back()
            .is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

fn claims(body: &str) -> bool {
    CLAIMS.iter().any(|claim| body.contains(claim))
}

/// Claims and how many of their arguments are compared; what follows is a message.
const COMPARISONS: &[(&str, usize)] = &[("assert", 1), ("assert_eq", 2), ("assert_ne", 2)];

/// A claim about constants alone cannot be wrong.
fn check_constants(source: &RustSource, faults: &mut Faults) {
    for (name, compared) in COMPARISONS {
        for (at, _) in source.macro_calls(name) {
            let arguments = arguments(&source.code[at..]);
            let mut compared = arguments.iter().take(*compared);
            if compared.all(|argument| is_constant(argument)) {
                let line = source.code[..at].lines().count();
                faults.push(format!(
                    "{}:{line}: {name}! of constants cannot fail",
                    source.path.display()
                ));
            }
        }
    }
}

/// The arguments of a call, from behind its opening parenthesis on.
fn arguments(code: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => {
                found.push(&code[from..at]);
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&code[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Whether an expression names nothing: numbers, texts, `true`, `false` and operators.
fn is_constant(expression: &str) -> bool {
    expression
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
        .all(|word| ["true", "false"].contains(&word))
}

/// In the suites time passes by conditions. Waiting for a state with a deadline belongs to the kit.
fn check_sleeps(source: &RustSource, faults: &mut Faults) {
    let lines: Vec<&str> = source.text.lines().collect();
    for (number, line) in source
        .code
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("sleep("))
    {
        let from = number.saturating_sub(2);
        let excused = lines[from..=number.min(lines.len() - 1)]
            .iter()
            .any(|near| near.contains(SLEEP_MARK));
        if !excused {
            let place = format!("{}:{}", source.path.display(), number + 1);
            faults.push(format!(
                "{place}: `{}`: wait for a state, or say `{SLEEP_MARK}…`",
                line.trim()
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-12");

    fn faults(path: &str, text: &str) -> usize {
        let mut faults = Faults::new();
        check(&[RustSource::new(Path::new(path), text.to_owned())], &mut faults);
        faults.len()
    }

    #[test]
    fn a_test_that_claims_nothing_is_a_fault() {
        let cases = [
            ("#[test]\nfn a() { assert_eq!(x, 1); }", 0),
            ("#[test]\nfn a() { run(); }", 1),
            ("#[test]\nfn a() { // assert!\n run(\"assert!\"); }", 1),
            ("#[test]\nfn a() { check(1); }\nfn check(n: u8) { assert!(n > 0); }", 0),
            (
                "#[test]\nfn a() { recheck(1); }\nfn check(n: u8) { assert!(n > 0); }",
                1,
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(faults("crates/x/src/lib.rs", text), expected, "{text}");
        }
    }

    #[test]
    fn a_claim_about_constants_is_a_fault() {
        let cases = [
            ("assert!(true)", 1),
            ("assert!(1 + 1 == 2, \"{x}\", x)", 1),
            ("assert_eq!(1, 1)", 1),
            ("assert_ne!([1, 2], [3])", 1),
            ("assert_eq!(\"a\", \"a\")", 1),
            ("assert!(x)", 0),
            ("assert_eq!(f(1, 2), 3)", 0),
            ("assert_eq!(1, x, \"why\")", 0),
        ];
        for (claim, expected) in cases {
            let text = format!("#[test]\nfn a() {{ {claim}; }}");
            assert_eq!(faults("tests/unit/main.rs", &text), expected, "{claim}");
        }
    }

    #[test]
    fn an_ignored_test_is_a_fault() {
        assert_eq!(
            faults("tests/unit/main.rs", "#[test]\n#[ignore]\nfn a() { assert!(x); }"),
            1
        );
    }

    #[test]
    fn a_sleep_needs_a_reason_in_the_suites() {
        let sleeping = |reason: &str| format!("#[test]\nfn a() {{\n  {reason}\n  sleep(T);\n  assert!(x);\n}}");
        assert_eq!(faults("tests/unit/main.rs", &sleeping("")), 1);
        assert_eq!(
            faults(
                "tests/unit/main.rs",
                &sleeping("// sleeps because the clause is about silence")
            ),
            0
        );
        assert_eq!(faults("crates/x/src/lib.rs", &sleeping("")), 0);
    }
}
