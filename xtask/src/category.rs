//! The one table of what can be run. `cargo xtask list`, `--help`, the README, the nextest profiles
//! (checked by `tidy`) and the execution are all made of it; to change a category is to change a row here.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// The package whose test binaries are the categories.
pub const SUITES: &str = "kingsguard-tests";

/// The package whose integration tests exercise services and therefore belong to `integration`.
const TESTKIT: &str = "kingsguard-testkit";

/// Order of running, and of worrying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Critical,
    High,
    Medium,
    Low,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        })
    }
}

/// What must be there before the first test of a category starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Needs {
    Nothing,
    /// Postgres, Redis and the server's binary, or a target given by address.
    Stack,
}

/// How the code under test is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Build {
    Debug,
    /// Figures of an unoptimised server would mean nothing.
    Performance,
}

impl Build {
    /// The profile of Cargo.toml.
    pub fn cargo_profile(self) -> &'static str {
        match self {
            Self::Debug => "dev",
            Self::Performance => "performance",
        }
    }

    /// Where cargo puts what it builds with it, below the target folder.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Performance => "performance",
        }
    }
}

/// Tests that belong to a category, in words from which both nextest's filter and our own judgement follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The test binary of this name in `tests/`.
    Suite(&'static str),
    /// Tests that stand beside the code, in every package, and integration tests of packages that start nothing.
    BesideTheCode,
    /// Integration tests of the test kit: they start services.
    KitItself,
}

impl Source {
    /// The filterset of nextest that selects exactly these tests.
    pub fn filterset(self) -> String {
        match self {
            Self::Suite(name) => format!("binary_id(={SUITES}::{name})"),
            Self::BesideTheCode => {
                format!("(all() - (kind(=test) & (package(={SUITES}) + package(={TESTKIT}))))")
            }
            Self::KitItself => format!("(package(={TESTKIT}) & kind(=test))"),
        }
    }

    /// Whether the tests of a binary are among these.
    pub fn holds(self, package: &str, kind: &str, binary: &str) -> bool {
        let is_test = kind == "test";
        match self {
            Self::Suite(name) => package == SUITES && is_test && binary == name,
            Self::BesideTheCode => !(is_test && [SUITES, TESTKIT].contains(&package)),
            Self::KitItself => package == TESTKIT && is_test,
        }
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Category {
    /// One word in five places: folder in `tests/`, test binary, nextest profile, argument, folder in the report.
    pub name: &'static str,
    pub summary: &'static str,
    pub priority: Priority,
    /// Run first; when one of them fails, this one is not run.
    pub depends_on: &'static [&'static str],
    /// Never at the same time: they would disturb each other's figures or starve each other.
    pub conflicts_with: &'static [&'static str],
    pub needs: Needs,
    pub build: Build,
    /// Above it the run ends with exit code 5, and what has not ended is stopped.
    pub budget: Duration,
    pub runs: &'static [Source],
}

impl Category {
    pub fn filterset(&self) -> String {
        self.runs
            .iter()
            .map(|source| source.filterset())
            .collect::<Vec<_>>()
            .join(" + ")
    }

    pub fn holds(&self, package: &str, kind: &str, binary: &str) -> bool {
        self.runs.iter().any(|source| source.holds(package, kind, binary))
    }
}

/// Budgets are about three times what two cores take, so that a busy machine does not fail a sound backend.
pub const CATEGORIES: &[Category] = &[
    Category {
        name: "unit",
        summary: "pure code: wire types, validators, state machines, the runner itself",
        priority: Priority::Critical,
        depends_on: &[],
        conflicts_with: &[],
        needs: Needs::Nothing,
        build: Build::Debug,
        budget: Duration::from_secs(60),
        runs: &[Source::BesideTheCode, Source::Suite("unit")],
    },
    Category {
        name: "integration",
        summary: "one part of the contract at a time, over real sockets against real Postgres and Redis",
        priority: Priority::Critical,
        depends_on: &["unit"],
        conflicts_with: &["stress", "chaos", "performance"],
        needs: Needs::Stack,
        build: Build::Debug,
        budget: Duration::from_secs(240),
        runs: &[Source::Suite("integration"), Source::KitItself],
    },
    Category {
        name: "regression",
        summary: "every fault found once, so that it is not found twice",
        priority: Priority::High,
        depends_on: &["unit"],
        conflicts_with: &["stress", "chaos", "performance"],
        needs: Needs::Stack,
        build: Build::Debug,
        budget: Duration::from_secs(120),
        runs: &[Source::Suite("regression")],
    },
    Category {
        name: "e2e",
        summary: "whole journeys of a user: register, connect, ask, watch the five events, come back",
        priority: Priority::High,
        depends_on: &["unit"],
        conflicts_with: &["stress", "chaos", "performance"],
        needs: Needs::Stack,
        build: Build::Debug,
        budget: Duration::from_secs(240),
        runs: &[Source::Suite("e2e")],
    },
    Category {
        name: "stress",
        summary: "many users at once, bounds reached on purpose; exactness must survive",
        priority: Priority::Medium,
        depends_on: &["integration"],
        conflicts_with: &["integration", "regression", "e2e", "chaos", "performance"],
        needs: Needs::Stack,
        build: Build::Debug,
        budget: Duration::from_secs(600),
        runs: &[Source::Suite("stress")],
    },
    Category {
        name: "chaos",
        summary: "services that die and come back by seed, and what every client saw meanwhile: nothing lost, doubled, leaked",
        priority: Priority::Medium,
        depends_on: &["unit"],
        conflicts_with: &["integration", "regression", "e2e", "stress", "performance"],
        needs: Needs::Stack,
        build: Build::Debug,
        // For what comes before the first seed; each seed adds its own.
        budget: Duration::from_secs(120),
        runs: &[Source::Suite("chaos")],
    },
    Category {
        name: "performance",
        summary: "figures: latency and throughput, of an optimised build, beside a yardstick of the same machine",
        priority: Priority::Low,
        depends_on: &["integration"],
        conflicts_with: &["integration", "regression", "e2e", "stress", "chaos"],
        needs: Needs::Stack,
        build: Build::Performance,
        budget: Duration::from_secs(600),
        runs: &[Source::Suite("performance")],
    },
];

/// A named set of categories, for one question.
#[derive(Debug)]
pub struct Selection {
    pub name: &'static str,
    /// The question that it answers.
    pub summary: &'static str,
    pub categories: &'static [&'static str],
    /// Of these categories only what this filterset of nextest keeps; then without what they depend on.
    pub only: Option<&'static str>,
    /// What a built workspace on two cores is expected to stay under; shown, and a remark when missed.
    pub goal: Duration,
    /// Above it the run ends with exit code 5.
    pub budget: Duration,
    /// How often everything runs, each time with another seed.
    pub repeat: u32,
    /// Seeds of chaos in each of these.
    pub chaos_seeds: u64,
}

/// Seeds of chaos where nobody asked for a number: enough to see that all its parts work together.
pub const CHAOS_SEEDS: u64 = 4;

pub const SELECTIONS: &[Selection] = &[
    Selection {
        name: "mission-critical",
        summary: "may this be deployed?",
        categories: &["unit", "integration", "e2e", "regression"],
        only: None,
        goal: Duration::from_secs(60),
        budget: Duration::from_secs(600),
        repeat: 1,
        chaos_seeds: CHAOS_SEEDS,
    },
    Selection {
        name: "quick",
        summary: "did I break something obvious? needs no services",
        categories: &["unit"],
        // The server's own wiring and the judgement of stored recordings; without what waits for back-off in real time.
        only: Some("(package(kingsguard-server) - test(/wording/)) + binary_id(kingsguard-tests::unit)"),
        goal: Duration::from_secs(5),
        budget: Duration::from_secs(60),
        repeat: 1,
        chaos_seeds: CHAOS_SEEDS,
    },
    Selection {
        name: "golden-path",
        summary: "can a user talk to an agent and get the right answer?",
        categories: &["e2e"],
        only: Some("test(/^wire::(golden_path|content|events|stopping|sufficiency|turns)::/)"),
        goal: Duration::from_secs(30),
        budget: Duration::from_secs(300),
        repeat: 1,
        chaos_seeds: CHAOS_SEEDS,
    },
    Selection {
        name: "gate",
        summary: "the same with every MUST clause judged, the slow ones too: what `cargo xtask gate` runs",
        categories: &["unit", "integration", "e2e", "regression", "stress", "performance"],
        // Of the load only what alone judges a MUST clause: SEQ-7, TIM-5, TIM-3.
        only: Some(
            "(all() - binary_id(kingsguard-tests::stress) - binary_id(kingsguard-tests::performance)) \
             + test(=own::slow_reader::a_slow_reader_is_closed_delays_nobody_and_gets_everything_by_resume) \
             + test(=own::bad_links::after_each_of_ten_partitions_the_connection_is_resumed_within_three_seconds) \
             + test(=own::events::a_thousand_durable_events_a_second_over_fifty_sockets_arrive_within_50_ms_at_p99)",
        ),
        goal: Duration::from_secs(120),
        budget: Duration::from_secs(900),
        repeat: 1,
        chaos_seeds: CHAOS_SEEDS,
    },
    Selection {
        name: "watch",
        summary: "is a running system well? light checks over the wire: what `cargo xtask watch` runs",
        categories: &["integration", "e2e"],
        only: Some(
            "test(=wire::golden_path::golden_path_a_new_user_brings_records_asks_and_receives_the_five_events_in_order) \
             + test(=wire::recovery::a_run_outlives_its_connection_and_its_end_is_found_by_resume_and_in_the_history) \
             + test(=wire::recovery::two_connections_of_one_user_see_the_same_bytes) \
             + test(=wire::isolation::a_foreign_thread_and_one_that_never_was_are_refused_alike_everywhere) \
             + test(=wire::stopping::a_stopped_run_says_so_closes_its_tools_and_ends_cancelled) \
             + test(=wire::timing::messages_are_accepted_within_half_a_second_and_begun_within_one)",
        ),
        goal: Duration::from_secs(10),
        budget: Duration::from_secs(120),
        repeat: 1,
        chaos_seeds: CHAOS_SEEDS,
    },
    Selection {
        name: "nightly",
        summary: "does it hold three times over, with three seeds, and through 2,100 seeds of chaos?",
        categories: &[
            "unit",
            "integration",
            "regression",
            "e2e",
            "stress",
            "chaos",
            "performance",
        ],
        only: None,
        goal: Duration::from_secs(50 * 60),
        budget: Duration::from_secs(100 * 60),
        repeat: 3,
        chaos_seeds: 700,
    },
    Selection {
        name: "all",
        summary: "everything once",
        categories: &[
            "unit",
            "integration",
            "regression",
            "e2e",
            "stress",
            "chaos",
            "performance",
        ],
        only: None,
        goal: Duration::from_secs(5 * 60),
        budget: Duration::from_secs(25 * 60),
        repeat: 1,
        chaos_seeds: CHAOS_SEEDS,
    },
];

pub fn category(name: &str) -> Option<&'static Category> {
    CATEGORIES.iter().find(|category| category.name == name)
}

pub fn selection(name: &str) -> Option<&'static Selection> {
    SELECTIONS.iter().find(|selection| selection.name == name)
}

/// The category that a test binary belongs to; every test belongs to exactly one.
pub fn category_of(package: &str, kind: &str, binary: &str) -> Option<&'static Category> {
    CATEGORIES.iter().find(|category| category.holds(package, kind, binary))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    kingsguard_report::covers!("RUN-2");

    #[test]
    fn every_name_in_the_table_is_a_row_of_it() {
        for category in CATEGORIES {
            for other in category.depends_on.iter().chain(category.conflicts_with) {
                assert!(super::category(other).is_some(), "{} names {other}", category.name);
            }
        }
        for selection in SELECTIONS {
            for name in selection.categories {
                assert!(super::category(name).is_some(), "{} names {name}", selection.name);
            }
        }
    }

    #[test]
    fn names_are_unique_over_categories_and_selections() {
        let names: Vec<_> = CATEGORIES
            .iter()
            .map(|c| c.name)
            .chain(SELECTIONS.iter().map(|selection| selection.name))
            .collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn conflicts_are_mutual() {
        for category in CATEGORIES {
            for other in category.conflicts_with {
                let other = super::category(other).expect("checked by the closure test");
                assert!(
                    other.conflicts_with.contains(&category.name),
                    "{} ↔ {}",
                    category.name,
                    other.name
                );
            }
        }
    }

    #[test]
    fn all_and_nightly_leave_no_category_out() {
        let all: BTreeSet<_> = CATEGORIES.iter().map(|category| category.name).collect();
        for name in ["all", "nightly"] {
            let selection = selection(name).expect("named in the table");
            assert_eq!(
                selection.categories.iter().copied().collect::<BTreeSet<_>>(),
                all,
                "{name}"
            );
        }
    }

    #[test]
    fn every_binary_belongs_to_exactly_one_category() {
        let binaries = [
            ("kingsguard-protocol", "lib", "kingsguard-protocol"),
            ("kingsguard-protocol", "test", "round_trip"),
            ("kingsguard-server", "lib", "kingsguard-server"),
            ("kingsguard-server", "bin", "kingsguard-server"),
            (TESTKIT, "lib", "kingsguard-testkit"),
            (TESTKIT, "test", "providers"),
            ("xtask", "bin", "xtask"),
            (SUITES, "lib", SUITES),
            (SUITES, "test", "unit"),
            (SUITES, "test", "integration"),
            (SUITES, "test", "e2e"),
            (SUITES, "test", "stress"),
            (SUITES, "test", "chaos"),
            (SUITES, "test", "regression"),
            (SUITES, "test", "performance"),
        ];
        for (package, kind, binary) in binaries {
            let holders: Vec<_> = CATEGORIES
                .iter()
                .filter(|c| c.holds(package, kind, binary))
                .map(|c| c.name)
                .collect();
            assert_eq!(holders.len(), 1, "{package}::{binary} ({kind}) is in {holders:?}");
        }
    }

    #[test]
    fn a_category_is_named_as_its_test_binary() {
        for category in CATEGORIES {
            assert!(
                category.runs.contains(&Source::Suite(category.name)),
                "{}",
                category.name
            );
        }
    }

    #[test]
    fn nothing_that_needs_no_services_depends_on_what_does() {
        for category in CATEGORIES.iter().filter(|category| category.needs == Needs::Nothing) {
            for other in category.depends_on {
                let other = super::category(other).expect("checked by the closure test");
                assert_eq!(other.needs, Needs::Nothing, "{} → {}", category.name, other.name);
            }
        }
    }
}
