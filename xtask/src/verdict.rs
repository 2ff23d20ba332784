//! One answer from all that was seen. It never rests on absence: what did not run has not passed.

use kingsguard_report::Verdict;

use crate::exit::Exit;

/// What a verdict is made of.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    pub interrupted: bool,
    /// Services that could not be had, in the words of who tried.
    pub services_missing: Option<String>,
    pub selected: usize,
    pub executed: usize,
    pub failed: usize,
    /// Tests in which the machine or the generator fell short.
    pub invalid: usize,
    /// Sources that disagree, or a machine that fell short.
    pub contradictions: Vec<String>,
    /// Categories or selections that took longer than allowed.
    pub over_budget: Vec<String>,
    /// Selected tests that were not executed though nothing failed before them and the target allows them.
    pub unexplained: usize,
}

/// The answer: a number for scripts, a sentence for people when it is not `passed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub exit: Exit,
    pub verdict: Verdict,
    pub reason: Option<String>,
}

/// Judges. The first rule that fits decides: a failed test is worth more than any doubt about the others,
/// and a doubt is worth more than a count.
pub fn judge(facts: &Facts) -> Answer {
    let answer = |exit, verdict, reason: String| Answer {
        exit,
        verdict,
        reason: Some(reason),
    };
    if facts.interrupted {
        return answer(
            Exit::Interrupted,
            Verdict::Invalid,
            "interrupted by a signal".to_owned(),
        );
    }
    if facts.failed > 0 {
        let noun = if facts.failed == 1 { "test" } else { "tests" };
        return answer(Exit::Failed, Verdict::Failed, format!("{} {noun} failed", facts.failed));
    }
    if let Some(why) = &facts.services_missing {
        return answer(Exit::Services, Verdict::Invalid, why.clone());
    }
    if facts.selected == 0 {
        return answer(Exit::Nothing, Verdict::Invalid, "no test was selected".to_owned());
    }
    if let Some(first) = facts.contradictions.first() {
        let more = match facts.contradictions.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        return answer(
            Exit::Invalid,
            Verdict::Invalid,
            format!("the run cannot be believed: {first}{more}"),
        );
    }
    if facts.invalid > 0 {
        let noun = if facts.invalid == 1 { "test" } else { "tests" };
        return answer(
            Exit::Invalid,
            Verdict::Invalid,
            format!("the machine or the generator fell short in {} {noun}", facts.invalid),
        );
    }
    if let Some(first) = facts.over_budget.first() {
        return answer(Exit::Budget, Verdict::Failed, first.clone());
    }
    if facts.executed == 0 {
        return answer(Exit::Nothing, Verdict::Invalid, "no test was executed".to_owned());
    }
    if facts.unexplained > 0 {
        return answer(
            Exit::Invalid,
            Verdict::Invalid,
            format!("{} selected tests were not executed", facts.unexplained),
        );
    }
    Answer {
        exit: Exit::Passed,
        verdict: Verdict::Passed,
        reason: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-6", "PROOF-3");

    fn sound() -> Facts {
        Facts {
            selected: 3,
            executed: 3,
            ..Facts::default()
        }
    }

    #[test]
    fn everything_executed_and_held_is_passed() {
        assert_eq!(
            judge(&sound()),
            Answer {
                exit: Exit::Passed,
                verdict: Verdict::Passed,
                reason: None
            }
        );
    }

    #[test]
    fn each_shortcoming_has_its_exit_code() {
        let cases = [
            (Facts { failed: 1, ..sound() }, Exit::Failed),
            (
                Facts {
                    selected: 0,
                    executed: 0,
                    ..sound()
                },
                Exit::Nothing,
            ),
            (Facts { executed: 0, ..sound() }, Exit::Nothing),
            (
                Facts {
                    services_missing: Some("no Postgres".to_owned()),
                    executed: 0,
                    ..sound()
                },
                Exit::Services,
            ),
            (
                Facts {
                    over_budget: vec!["unit took 61 s".to_owned()],
                    ..sound()
                },
                Exit::Budget,
            ),
            (
                Facts {
                    contradictions: vec!["a".to_owned()],
                    ..sound()
                },
                Exit::Invalid,
            ),
            (Facts { invalid: 1, ..sound() }, Exit::Invalid),
            (
                Facts {
                    unexplained: 1,
                    executed: 2,
                    ..sound()
                },
                Exit::Invalid,
            ),
            (
                Facts {
                    interrupted: true,
                    ..sound()
                },
                Exit::Interrupted,
            ),
        ];
        for (facts, expected) in cases {
            let answer = judge(&facts);
            assert_eq!(answer.exit, expected, "{facts:?}");
            assert!(
                answer.reason.is_some_and(|reason| !reason.is_empty()),
                "{facts:?} has no reason"
            );
            assert_ne!(answer.verdict, Verdict::Passed, "{facts:?}");
        }
    }

    #[test]
    fn a_failed_test_outweighs_doubts_and_time() {
        let facts = Facts {
            failed: 2,
            contradictions: vec!["a".to_owned()],
            over_budget: vec!["b".to_owned()],
            unexplained: 4,
            ..sound()
        };
        assert_eq!(judge(&facts).exit, Exit::Failed);
    }

    #[test]
    fn nothing_seen_is_never_passed() {
        assert_ne!(judge(&Facts::default()).exit, Exit::Passed);
    }
}
