//! The spellings of the runner that this one replaces: understood where ours means the same, answered with ours
//! where it does not, never silently ignored.

use crate::exit::Stop;

/// What becomes of an old word.
enum Answer {
    /// Ours, word for word.
    Means(&'static [&'static str]),
    /// Nothing to do: it is always so here. Why.
    Always(&'static str),
    /// Not ours; what to type instead.
    Instead(&'static str),
}

const OPTIONS: &[(&str, Answer)] = &[
    ("--list-categories", Answer::Means(&["list"])),
    ("--show-category-stats", Answer::Means(&["list"])),
    ("--real-services", Answer::Always("services are always real here")),
    (
        "--parallel",
        Answer::Always("tests always run in parallel here; --jobs says how many"),
    ),
    (
        "--progress-mode",
        Answer::Always("a bar in a terminal and plain lines elsewhere, by themselves"),
    ),
    ("--no-docker", Answer::Means(&["--services", "processes"])),
    ("--skip-docker", Answer::Means(&["--services", "processes"])),
    ("--docker-dedicated", Answer::Means(&["--services", "containers"])),
    (
        "--no-fast-fail",
        Answer::Always("all tests run unless --fail-fast is given"),
    ),
    (
        "--real-llm",
        Answer::Instead("set KINGSGUARD_MODEL_URL for the backend that is judged, and name it by --target URL"),
    ),
    ("--staging-e2e", Answer::Instead("cargo xtask test e2e --env staging")),
    ("--prefer-staging", Answer::Instead("cargo xtask test … --env staging")),
    (
        "--service",
        Answer::Instead("name categories: cargo xtask test unit integration"),
    ),
    ("--keyword", Answer::Instead("--pattern TEXT")),
    ("-k", Answer::Instead("--pattern TEXT")),
    ("--markers", Answer::Instead("--pattern FILTERSET")),
    ("-m", Answer::Instead("--pattern FILTERSET")),
    ("--file", Answer::Instead("--pattern 'test(/^wire::NAME/)'")),
    ("--maxfail", Answer::Instead("--fail-fast")),
    (
        "--fail-fast-mode",
        Answer::Instead("--fail-fast; a category whose dependency failed is never run anyway"),
    ),
    ("--coverage", Answer::Instead("cargo llvm-cov nextest")),
    (
        "--json-output",
        Answer::Always("target/reports/latest/summary.json is always written"),
    ),
    ("--validate", Answer::Instead("cargo xtask tidy")),
    ("--failed-first", Answer::Instead("--pattern TEXT")),
    (
        "--resume-from",
        Answer::Instead("--no-deps with the categories that are left"),
    ),
];

const CATEGORIES: &[(&str, &str)] = &[
    ("mission_critical", "mission-critical"),
    ("golden_path", "golden-path"),
    ("golden_path_unit", "golden-path"),
    ("golden_path_integration", "golden-path"),
    ("golden_path_e2e", "golden-path"),
    ("smoke", "quick"),
    ("startup", "integration"),
    ("database", "integration"),
    ("api", "integration"),
    ("websocket", "integration"),
    ("agent", "e2e"),
    ("security", "integration"),
    ("e2e_critical", "e2e"),
    ("e2e_full", "e2e"),
    ("real_e2e", "e2e"),
    ("deployment_critical", "mission-critical"),
    ("post_deployment", "mission-critical"),
];

/// Arguments in our words, and what to tell whoever typed the old ones.
#[derive(Debug, PartialEq, Eq)]
pub struct Translated {
    pub arguments: Vec<String>,
    pub notes: Vec<String>,
}

/// Translates what follows `cargo xtask`.
pub fn translate(arguments: &[String]) -> Result<Translated, Stop> {
    let mut arguments = arguments.to_vec();
    // The old runner had no verbs: options stood alone.
    let bare = [
        "--category",
        "--categories",
        "--real-services",
        "--fast-fail",
        "--list-categories",
    ];
    if arguments.first().is_some_and(|first| {
        bare.iter()
            .any(|one| first == one || first.starts_with(&format!("{one}=")))
    }) {
        arguments.insert(0, "test".to_owned());
    }
    let mut translated = Translated {
        arguments: Vec::new(),
        notes: Vec::new(),
    };
    if arguments.first().map(String::as_str) != Some("test") {
        translated.arguments = arguments;
        return Ok(translated);
    }
    let mut rest = arguments.into_iter();
    while let Some(word) = rest.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with('-') => (option, Some(value)),
            _ => (word.as_str(), None),
        };
        if let Some((_, answer)) = OPTIONS.iter().find(|(old, _)| *old == option) {
            match answer {
                Answer::Means(["list"]) => {
                    translated.notes.push(format!("{option} is `cargo xtask list` here"));
                    translated.arguments = vec!["list".to_owned()];
                    return Ok(translated);
                }
                Answer::Means(ours) => {
                    translated.notes.push(format!("{option} is `{}` here", ours.join(" ")));
                    translated.arguments.extend(ours.iter().map(|word| (*word).to_owned()));
                }
                Answer::Always(why) => {
                    translated.notes.push(format!("{option}: {why}"));
                    if option == "--progress-mode" && value.is_none() {
                        rest.next();
                    }
                }
                Answer::Instead(ours) => return Err(Stop::usage(format!("`{option}` is not known here"), *ours)),
            }
        } else if let Some((_, ours)) = CATEGORIES.iter().find(|(old, _)| *old == value.unwrap_or(&word)) {
            translated
                .notes
                .push(format!("{} is `{ours}` here", value.unwrap_or(&word)));
            translated.arguments.push(match value {
                Some(_) => format!("{option}={ours}"),
                None => (*ours).to_owned(),
            });
        } else {
            translated.arguments.push(word);
        }
    }
    Ok(translated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

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
            (&["--category=golden_path"], &["test", "--category=golden-path"]),
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
        ];
        for (old, new) in cases {
            assert_eq!(ours(old).expect("understood"), *new, "{old:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_answered_with_ours() {
        let stop = ours(&["test", "unit", "-k", "resume"]).expect_err("not ours");
        assert_eq!((stop.exit.code(), stop.next.as_str()), (2, "--pattern TEXT"));
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
    fn every_old_category_leads_to_one_of_ours() {
        for (old, ours) in CATEGORIES {
            let known = crate::category::category(ours).is_some() || crate::category::selection(ours).is_some();
            assert!(known, "{old} → {ours}");
        }
    }
}
