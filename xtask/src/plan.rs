//! From words on the command line to the order of running.

use std::time::Duration;

use crate::category::{self, Build, CATEGORIES, Category, Needs, SELECTIONS};
use crate::exit::Stop;

/// What will run, in order.
#[derive(Debug)]
pub struct Plan {
    /// As it was asked, for headings.
    pub asked: Vec<String>,
    pub waves: Vec<Wave>,
    /// How often all of it runs.
    pub repeat: u32,
    /// Seeds of chaos each time.
    pub chaos_seeds: u64,
    /// Of the whole run without building; the largest of the selections asked, none when only categories were.
    pub budget: Option<Duration>,
    pub goal: Option<Duration>,
    /// Of the categories only what this filterset keeps; none when something else was asked, too.
    pub only: Option<&'static str>,
}

/// Categories that run in one invocation of nextest, because nothing separates them.
#[derive(Debug)]
pub struct Wave {
    pub build: Build,
    pub categories: Vec<&'static Category>,
}

impl Wave {
    /// The profile of nextest: the category's own where there is one category.
    pub fn profile(&self) -> &'static str {
        match self.categories.as_slice() {
            [only] => only.name,
            _ => "ci",
        }
    }
}

impl Plan {
    pub fn of(names: &[String], with_dependencies: bool) -> Result<Self, Stop> {
        if names.is_empty() {
            return Err(Stop::usage(
                "no category or selection was named",
                "cargo xtask test mission-critical, or cargo xtask list to see all names",
            ));
        }
        let mut chosen: Vec<&'static Category> = Vec::new();
        let (mut repeat, mut budget, mut goal) = (1, None, None);
        let mut chaos_seeds = category::CHAOS_SEEDS;
        for name in names {
            if let Some(selection) = category::selection(name) {
                repeat = repeat.max(selection.repeat);
                chaos_seeds = chaos_seeds.max(selection.chaos_seeds);
                budget = budget.max(Some(selection.budget));
                goal = goal.max(Some(selection.goal));
                chosen.extend(selection.categories.iter().filter_map(|name| category::category(name)));
            } else if let Some(category) = category::category(name) {
                chosen.push(category);
            } else {
                return Err(unknown(name));
            }
        }
        let only = match names {
            [name] => category::selection(name).and_then(|selection| selection.only),
            _ => None,
        };
        if with_dependencies && only.is_none() {
            close_over_dependencies(&mut chosen);
        }
        // A category beside a selection takes its own time on top.
        if names.iter().any(|name| category::category(name).is_some()) {
            (budget, goal) = (None, None);
        }
        Ok(Self {
            only,
            asked: names.to_vec(),
            waves: waves(chosen),
            repeat,
            chaos_seeds,
            budget,
            goal,
        })
    }

    pub fn categories(&self) -> impl Iterator<Item = &'static Category> {
        self.waves.iter().flat_map(|wave| wave.categories.iter().copied())
    }

    pub fn needs_stack(&self) -> bool {
        self.categories().any(|category| category.needs == Needs::Stack)
    }

    pub fn builds(&self) -> Vec<Build> {
        let mut builds: Vec<Build> = self.waves.iter().map(|wave| wave.build).collect();
        builds.sort_unstable();
        builds.dedup();
        builds
    }
}

fn close_over_dependencies(chosen: &mut Vec<&'static Category>) {
    let mut next = 0;
    while let Some(category) = chosen.get(next) {
        let missing = category.depends_on.iter().filter_map(|name| category::category(name));
        let missing: Vec<_> = missing
            .filter(|one| !chosen.iter().any(|held| held.name == one.name))
            .collect();
        chosen.extend(missing);
        next += 1;
    }
}

/// Greedy: a category joins the wave when all it depends on (and that runs at all) is in earlier waves, it is built
/// the same way, and conflicts with nothing in the wave. More important categories choose first.
fn waves(chosen: Vec<&'static Category>) -> Vec<Wave> {
    let mut waiting: Vec<&'static Category> = CATEGORIES
        .iter()
        .filter(|category| chosen.iter().any(|held| held.name == category.name))
        .collect();
    waiting.sort_by_key(|category| category.priority);
    let mut waves: Vec<Wave> = Vec::new();
    while !waiting.is_empty() {
        let ready = |category: &Category| !waiting.iter().any(|one| category.depends_on.contains(&one.name));
        let mut wave: Option<Wave> = None;
        for category in waiting.iter().copied().filter(|category| ready(category)) {
            match &mut wave {
                None => {
                    wave = Some(Wave {
                        build: category.build,
                        categories: vec![category],
                    })
                }
                Some(wave) => {
                    let at_peace = !wave
                        .categories
                        .iter()
                        .any(|one| one.conflicts_with.contains(&category.name));
                    if at_peace && wave.build == category.build {
                        wave.categories.push(category);
                    }
                }
            }
        }
        let wave = wave.expect("the table has no cycle of dependencies, which its tests check");
        waiting.retain(|category| !wave.categories.iter().any(|one| one.name == category.name));
        waves.push(wave);
    }
    waves
}

fn unknown(name: &str) -> Stop {
    let names = CATEGORIES
        .iter()
        .map(|c| c.name)
        .chain(SELECTIONS.iter().map(|selection| selection.name));
    let nearest = names
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= 1 + known.len() / 3);
    let next = match nearest {
        Some((_, known)) => format!("did you mean `cargo xtask test {known}`?"),
        None => "cargo xtask list shows all categories and selections".to_owned(),
    };
    Stop::usage(format!("unknown category or selection `{name}`"), next)
}

/// Levenshtein's: how many letters were mistyped.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use pretty_assertions::assert_eq;

    kingsguard_report::covers!("RUN-1", "RUN-3");

    fn names(plan: &Plan) -> Vec<Vec<&'static str>> {
        plan.waves
            .iter()
            .map(|wave| wave.categories.iter().map(|category| category.name).collect())
            .collect()
    }

    fn plan(words: &[&str], with_dependencies: bool) -> Plan {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Plan::of(&words, with_dependencies).expect("a plan")
    }

    #[test]
    fn what_a_category_depends_on_runs_first() {
        assert_eq!(
            names(&plan(&["stress"], true)),
            [vec!["unit"], vec!["integration"], vec!["stress"]]
        );
    }

    #[test]
    fn dependencies_can_be_left_out() {
        assert_eq!(names(&plan(&["e2e"], false)), [vec!["e2e"]]);
    }

    #[test]
    fn categories_that_nothing_separates_share_a_wave() {
        assert_eq!(
            names(&plan(&["mission-critical"], true)),
            [vec!["unit"], vec!["integration", "regression", "e2e"]]
        );
    }

    #[test]
    fn figures_are_taken_alone() {
        let plan = plan(&["all"], true);
        for name in ["stress", "chaos", "performance"] {
            let wave = plan
                .waves
                .iter()
                .find(|wave| wave.categories.iter().any(|c| c.name == name));
            assert_eq!(wave.expect("in all").categories.len(), 1, "{name}");
        }
        assert_eq!(plan.builds(), [Build::Debug, Build::Performance]);
    }

    #[test]
    fn every_row_can_be_planned_alone() {
        for category in CATEGORIES {
            let plan = plan(&[category.name], true);
            assert_eq!(plan.categories().last().map(|last| last.name), Some(category.name));
        }
    }

    #[test]
    fn a_misspelt_name_is_answered_with_the_nearest() {
        let stop = Plan::of(&["mision-critcal".to_owned()], true).expect_err("no such name");
        assert_eq!(stop.exit, Exit::Usage);
        assert_eq!(stop.next, "did you mean `cargo xtask test mission-critical`?");
        let stop = Plan::of(&["zzzzzzzzz".to_owned()], true).expect_err("no such name");
        assert!(stop.next.contains("cargo xtask list"), "{}", stop.next);
    }

    #[test]
    fn naming_nothing_is_an_error() {
        assert_eq!(Plan::of(&[], true).expect_err("nothing").exit, Exit::Usage);
    }

    #[test]
    fn quick_needs_no_services() {
        assert!(!plan(&["quick"], true).needs_stack());
    }

    #[test]
    fn a_selection_of_some_tests_runs_these_alone() {
        let plan = plan(&["golden-path"], true);
        assert_eq!(names(&plan), [vec!["e2e"]]);
        assert!(plan.only.is_some());
    }

    #[test]
    fn distance_counts_letters() {
        for (left, right, expected) in [
            ("unit", "unit", 0),
            ("unti", "unit", 2),
            ("", "all", 3),
            ("e2", "e2e", 1),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
