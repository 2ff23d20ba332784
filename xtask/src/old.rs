//! The spellings of the runner that this one replaces: understood where ours means the same, answered with ours
//! where it does not, never silently ignored.

mod table;

use std::fmt::Write as _;

use clap::CommandFactory as _;

use crate::cli::Cli;
use crate::exit::Stop;
use table::{Answer, CATEGORIES, Counterpart, ENVIRONMENTS, GROUPS, Value};

/// Arguments in our words, and what to tell whoever typed the old ones.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Translated {
    pub arguments: Vec<String>,
    pub notes: Vec<String>,
}

/// Translates what follows `cargo xtask`.
pub fn translate(arguments: &[String]) -> Result<Translated, Stop> {
    let mut arguments = arguments.to_vec();
    // The old runner had no verbs: options stood alone.
    if arguments
        .first()
        .is_some_and(|first| table::option(parts(first).0).is_some())
    {
        arguments.insert(0, "test".to_owned());
    }
    let mut translated = Translated::default();
    if arguments.first().map(String::as_str) != Some("test") {
        translated.arguments = arguments;
        return Ok(translated);
    }
    let mut rest = arguments.into_iter();
    while let Some(word) = rest.next() {
        let (option, value) = parts(&word);
        let Some(old) = table::option(option) else {
            if option.starts_with('-') {
                let takes_next = value.is_none() && takes_value(option);
                translated.arguments.push(word);
                if takes_next {
                    translated.arguments.extend(rest.next());
                }
            } else {
                let ours = category(&word, &mut translated.notes)?;
                translated.arguments.push(ours);
            }
            continue;
        };
        let mut value = value.map(str::to_owned);
        if value.is_none() && old.value == Value::One {
            value = rest.next();
        }
        match &old.answer {
            Answer::Same(_) => {
                translated.arguments.push(option.to_owned());
                if let Some(value) = value {
                    let ours = match option {
                        "--category" | "--categories" => category(&value, &mut translated.notes)?,
                        "--env" => environment(value, &mut translated.notes),
                        "--pattern" => pattern(value, &mut translated.notes),
                        _ => value,
                    };
                    translated.arguments.push(ours);
                }
            }
            Answer::Means(["list"]) => {
                translated.notes.push(format!("{option} is `cargo xtask list` here"));
                translated.arguments = vec!["list".to_owned()];
                return Ok(translated);
            }
            Answer::Means(ours) => {
                translated.notes.push(format!("{option} is `{}` here", ours.join(" ")));
                translated.arguments.extend(ours.iter().map(|word| (*word).to_owned()));
            }
            Answer::Always(why) => translated.notes.push(format!("{option}: {why}")),
            Answer::Instead(ours) => return Err(Stop::usage(format!("`{option}` is not known here"), *ours)),
        }
    }
    Ok(translated)
}

/// An option and the value behind its `=`.
fn parts(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((option, value)) if option.starts_with('-') => (option, Some(value)),
        _ => (word, None),
    }
}

/// Whether the word behind an option of `cargo xtask test` is its value, and so not a category however it reads.
fn takes_value(option: &str) -> bool {
    let cli = Cli::command();
    let test = cli.find_subcommand("test").into_iter();
    let mut options = test.flat_map(clap::Command::get_arguments);
    options.any(|known| {
        let named = known
            .get_long()
            .into_iter()
            .chain(known.get_all_aliases().unwrap_or_default());
        known.get_action().takes_values() && named.into_iter().any(|name| option.strip_prefix("--") == Some(name))
    })
}

fn category(word: &str, notes: &mut Vec<String>) -> Result<String, Stop> {
    match CATEGORIES.iter().find(|(old, _)| *old == word) {
        None => Ok(word.to_owned()),
        Some((old, Counterpart::Is(ours))) => {
            if old != ours {
                notes.push(format!("{old} is `{ours}` here"));
            }
            Ok((*ours).to_owned())
        }
        Some((old, Counterpart::Missing(why))) => Err(Stop::usage(
            format!("`{old}` has no counterpart here, {why}"),
            "cargo xtask list",
        )),
    }
}

fn environment(word: String, notes: &mut Vec<String>) -> String {
    match ENVIRONMENTS.iter().find(|(old, _)| *old == word) {
        None => word,
        Some((old, ours)) => {
            notes.push(format!("--env {old} is `--env {ours}` here"));
            (*ours).to_owned()
        }
    }
}

/// The old runner wrote asterisks around the words that it looked for.
fn pattern(word: String, notes: &mut Vec<String>) -> String {
    let bare = word.trim_matches('*');
    if bare == word || bare.is_empty() {
        return word;
    }
    notes.push(format!("--pattern {word} is `--pattern {bare}` here"));
    bare.to_owned()
}

/// The table for people, as two chapters of a document.
pub fn markdown() -> String {
    let mut text = String::from("## Options of the runner\n");
    for group in GROUPS {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n### {}\n\n| there | here |\n|---|---|\n", group.title);
        for old in group.options {
            let spellings: Vec<String> = old.spellings.iter().map(|word| format!("`{word}`")).collect();
            let answer = match &old.answer {
                Answer::Same(ours) => format!("understood: {ours}"),
                Answer::Means(["list"]) => "understood as `cargo xtask list`".to_owned(),
                Answer::Means(ours) => format!("understood as `{}`", ours.join(" ")),
                Answer::Always(why) => format!("not needed: {why}"),
                Answer::Instead(ours) => format!("type instead: {ours}"),
            };
            let _ = writeln!(text, "| {} | {} |", spellings.join(", "), answer.replace('|', "\\|"));
        }
    }
    text.push_str("\n## Categories of the runner\n\n");
    text.push_str(
        "Understood wherever a category may stand. `unit`, `integration`, `e2e` and `performance` are spelt alike.\n\n",
    );
    text.push_str("| there | here |\n|---|---|\n");
    for (old, counterpart) in CATEGORIES {
        let _ = match counterpart {
            Counterpart::Is(ours) => writeln!(text, "| `{old}` | `cargo xtask test {ours}` |"),
            Counterpart::Missing(why) => writeln!(text, "| `{old}` | {why} |"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;
    use pretty_assertions::assert_eq;

    use super::*;

    kingsguard_report::covers!("ORIG-2");

    fn ours(words: &[&str]) -> Result<Vec<String>, Stop> {
        translate(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).map(|done| done.arguments)
    }

    #[test]
    fn old_spellings_are_understood() {
        let cases: &[(&[&str], &[&str])] = &[
            (&["test", "mission_critical"], &["test", "mission-critical"]),
            (
                &["--category", "mission_critical"],
                &["test", "--category", "mission-critical"],
            ),
            (
                &["--categories", "unit", "smoke"],
                &["test", "--categories", "unit", "quick"],
            ),
            (&["--category=golden_path"], &["test", "--category", "golden-path"]),
            (&["--list-categories"], &["list"]),
            (&["test", "--list-categories"], &["list"]),
            (
                &["test", "e2e", "--real-services", "--fast-fail"],
                &["test", "e2e", "--fast-fail"],
            ),
            (
                &["test", "e2e", "--no-docker"],
                &["test", "e2e", "--services", "processes"],
            ),
            (&["test", "unit", "--progress-mode", "json"], &["test", "unit"]),
            (&["test", "unit", "--json-verbosity=3"], &["test", "unit"]),
            (
                &["test", "e2e", "--pattern", "*agent_golden_path*"],
                &["test", "e2e", "--pattern", "agent_golden_path"],
            ),
            (
                &["test", "e2e", "--env", "prod"],
                &["test", "e2e", "--env", "production"],
            ),
        ];
        for (old, new) in cases {
            assert_eq!(ours(old).expect("understood"), *new, "{old:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_answered_with_ours() {
        let stop = ours(&["test", "unit", "-k", "resume"]).expect_err("not ours");
        assert_eq!((stop.exit.code(), stop.next.as_str()), (2, "--pattern TEXT"));
        let stop = ours(&["test", "frontend"]).expect_err("not ours");
        assert_eq!((stop.exit.code(), stop.next.as_str()), (2, "cargo xtask list"));
    }

    #[test]
    fn our_own_words_pass_unchanged() {
        let words = ["test", "mission-critical", "--pattern", "resume", "--seed=7"];
        let done = translate(&words.map(str::to_owned)).expect("ours");
        assert_eq!(
            done,
            Translated {
                arguments: words.map(str::to_owned).to_vec(),
                notes: Vec::new()
            }
        );
    }

    #[test]
    fn a_value_is_never_read_as_a_category() {
        for words in [["test", "--pattern", "websocket"], ["test", "--target", "agent"]] {
            assert_eq!(ours(&words).expect("ours"), words);
        }
    }

    #[test]
    fn every_old_category_leads_to_one_of_ours() {
        for (old, counterpart) in CATEGORIES {
            if let Counterpart::Is(ours) = counterpart {
                let known = crate::category::category(ours).is_some() || crate::category::selection(ours).is_some();
                assert!(known, "{old} → {ours}");
            }
        }
    }

    #[test]
    fn every_old_option_stands_once_and_what_it_becomes_is_understood() {
        let mut seen = BTreeSet::new();
        for old in GROUPS.iter().flat_map(|group| group.options) {
            for spelling in old.spellings {
                assert!(seen.insert(*spelling), "{spelling} stands twice");
                let value = match *spelling {
                    "--workers" => "3",
                    _ => "staging",
                };
                let mut words = vec!["test", "unit", *spelling];
                words.extend((old.value == Value::One).then_some(value));
                let Ok(ours) = ours(&words) else {
                    assert!(matches!(old.answer, Answer::Instead(_)), "{spelling}");
                    continue;
                };
                let line = std::iter::once("cargo xtask".to_owned()).chain(ours);
                assert!(
                    Cli::try_parse_from(line.clone()).is_ok(),
                    "{:?}",
                    line.collect::<Vec<_>>()
                );
            }
        }
        assert!(seen.len() > 80, "{} spellings", seen.len());
    }

    #[test]
    fn the_document_shows_every_word() {
        let text = markdown();
        let spellings = GROUPS
            .iter()
            .flat_map(|group| group.options)
            .flat_map(|old| old.spellings);
        for word in spellings.chain(CATEGORIES.iter().map(|(old, _)| old)) {
            assert!(text.contains(&format!("`{word}`")), "{word}");
        }
    }
}
