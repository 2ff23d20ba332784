//! What of `chaos` can be chosen: seeds, nemeses, nodes. One test is one seed, and its name says which.

use std::time::Duration;

use crate::category::{Category, SUITES};
use crate::cli::TestArgs;
use crate::exit::{Exit, Stop};
use crate::nextest::Listed;
use crate::plan::Plan;
use crate::provision::FAKETIME;

/// The category whose tests are seeds.
pub const CHAOS: &str = "chaos";

/// Every nemesis of `crates/testkit/src/chaos/nemesis.rs`; a test compares the two.
pub const NEMESES: &[&str] = &[
    "partition",
    "flapping",
    "half-open",
    "kill-node",
    "pause-node",
    "kill-redis",
    "flush-redis",
    "kill-postgres",
    "cut-postgres",
    "cut-redis",
    "rolling-restart",
    "clock-jump",
    "slow-reader",
    "connection-storm",
];

/// What one seed may take of the category's budget. Several run side by side; alone one takes about 10 s.
const SEED_BUDGET: Duration = Duration::from_secs(6);

/// What is asked of chaos.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chaos {
    /// Seed of the first test in the first round.
    first: u64,
    /// Seeds of a round; the next round goes on behind them.
    seeds: u64,
    /// Rounds of the run.
    rounds: u32,
    nemeses: Vec<String>,
    nodes: Option<u8>,
    /// Whether somebody asked for seeds, so that the proofs with planted faults are not meant.
    is_asked: bool,
}

impl Chaos {
    /// Reads the options, which make sense only where chaos is planned.
    pub fn of(args: &TestArgs, plan: &Plan, seed: u64) -> Result<Self, Stop> {
        let is_planned = plan.categories().any(|category| category.name == CHAOS);
        let is_asked = args.seeds.is_some() || args.nodes.is_some() || !args.nemesis.is_empty();
        if is_asked && !is_planned {
            return Err(Stop::usage(
                "--seeds, --nemesis and --nodes are about chaos, which is not among what was asked",
                "cargo xtask test chaos --seeds 200",
            ));
        }
        if let Some(unknown) = args.nemesis.iter().find(|name| !NEMESES.contains(&name.as_str())) {
            return Err(Stop::usage(
                format!("unknown nemesis `{unknown}`"),
                format!("choose of {}", NEMESES.join(", ")),
            ));
        }
        Ok(Self {
            first: seed,
            seeds: args.seeds.unwrap_or(plan.chaos_seeds),
            rounds: args.repeat.unwrap_or(plan.repeat),
            nemeses: args.nemesis.clone(),
            nodes: args.nodes,
            is_asked,
        })
    }

    /// Refuses to begin where a clock could not jump: a seed must not fail for what the machine lacks.
    pub fn require(&self, selected: &[&Listed]) -> Result<(), Stop> {
        let jumps = self.nemeses.is_empty() || self.nemeses.iter().any(|name| name == "clock-jump");
        let is_selected = selected.iter().any(|listed| listed.category.name == CHAOS);
        if !is_selected || !jumps || FAKETIME.is_there() {
            return Ok(());
        }
        Err(Stop::new(
            Exit::Services,
            "libfaketime, by which a node's clock jumps in chaos, is not installed",
            format!(
                "the same command with --provision, or apt-get install --no-install-recommends {}",
                FAKETIME.package
            ),
        ))
    }

    /// What is left out of the tests that were chosen: who asks for seeds does not mean the proofs.
    pub fn left_out(&self) -> Option<String> {
        let proofs = format!("(binary_id(={SUITES}::{CHAOS}) & test(/^own::planted::/))");
        self.is_asked.then_some(proofs)
    }

    /// What tells nextest to list the seeds of all rounds.
    pub fn environment_of_all(&self) -> Vec<(String, String)> {
        self.environment(self.first, self.seeds * u64::from(self.rounds))
    }

    /// What tells the test binary the seeds of one round.
    pub fn environment_of(&self, round: u32) -> Vec<(String, String)> {
        self.environment(self.first_of(round), self.seeds)
    }

    fn environment(&self, first: u64, seeds: u64) -> Vec<(String, String)> {
        let mut environment = vec![
            ("KINGSGUARD_CHAOS_SEED".to_owned(), first.to_string()),
            ("KINGSGUARD_CHAOS_SEEDS".to_owned(), seeds.to_string()),
            ("KINGSGUARD_CHAOS_NEMESES".to_owned(), self.nemeses.join(",")),
        ];
        environment.extend(
            self.nodes
                .map(|nodes| ("KINGSGUARD_CHAOS_NODES".to_owned(), nodes.to_string())),
        );
        environment
    }

    fn first_of(&self, round: u32) -> u64 {
        self.first + u64::from(round) * self.seeds
    }

    /// Whether a test runs in a round: all do, but each seed in one alone.
    pub fn runs_in(&self, round: u32, category: &Category, test: &str) -> bool {
        let Some(seed) = seed_of(category, test) else {
            return true;
        };
        (self.first_of(round)..self.first_of(round + 1)).contains(&seed)
    }

    /// How long the seeds of a round may take beyond the category's own budget.
    pub fn budget(&self, categories: &[&Category]) -> Duration {
        let is_chaos = categories.iter().any(|category| category.name == CHAOS);
        let seeds = u32::try_from(self.seeds).unwrap_or(u32::MAX);
        if is_chaos {
            SEED_BUDGET.saturating_mul(seeds)
        } else {
            Duration::ZERO
        }
    }

    /// The command that repeats a seed; `None` of a test that is none.
    pub fn repeat_command(&self, category: &Category, test: &str) -> Option<String> {
        let mut command = format!(
            "cargo xtask test chaos --no-deps --seeds 1 --seed {}",
            seed_of(category, test)?
        );
        for name in &self.nemeses {
            command += &format!(" --nemesis {name}");
        }
        if let Some(nodes) = self.nodes {
            command += &format!(" --nodes {nodes}");
        }
        Some(command)
    }
}

fn seed_of(category: &Category, test: &str) -> Option<u64> {
    (category.name == CHAOS).then(|| test.strip_prefix("own::seed_")?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::category::category;
    use crate::cli::{Cli, Command};

    fn chaos(words: &[&str]) -> Result<Chaos, Stop> {
        let words = ["cargo xtask", "test"].iter().chain(words);
        let Command::Test(args) = Cli::try_parse_from(words).expect("understood").command else {
            panic!("expected the command test")
        };
        let plan = Plan::of(&args.names, false)?;
        Chaos::of(&args, &plan, args.seed.unwrap_or(1))
    }

    #[test]
    fn the_names_are_those_of_the_test_kit() {
        let source = include_str!("../../crates/testkit/src/chaos/nemesis.rs");
        let (_, names) = source
            .split_once("pub fn name(self)")
            .expect("the function that names them");
        let (names, _) = names.split_once("\n    }\n").expect("its end");
        let names: Vec<&str> = names.split('"').skip(1).step_by(2).collect();
        assert_eq!(names, NEMESES);
    }

    #[test]
    fn an_unknown_nemesis_is_answered_with_the_known() {
        let stop = chaos(&["chaos", "--nemesis", "kill-all"]).expect_err("there is none");
        assert_eq!(stop.why, "unknown nemesis `kill-all`");
        assert!(NEMESES.iter().all(|name| stop.next.contains(name)), "{}", stop.next);
    }

    #[test]
    fn seeds_of_something_else_are_refused() {
        let stop = chaos(&["unit", "--seeds", "3"]).expect_err("unit has no seeds");
        assert!(stop.next.contains("chaos"), "{}", stop.next);
    }

    #[test]
    fn each_round_has_seeds_of_its_own() {
        let chaos = chaos(&["chaos", "--seeds", "10", "--seed", "100", "--repeat", "2"]).expect("understood");
        let category = category(CHAOS).expect("in the table");
        let rounds = |seed| {
            let name = format!("own::seed_{seed:010}");
            (0..2)
                .filter(|round| chaos.runs_in(*round, category, &name))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            [rounds(99), rounds(100), rounds(109), rounds(110), rounds(120)],
            [vec![], vec![0], vec![0], vec![1], vec![]]
        );
        assert_eq!(chaos.environment_of_all()[1].1, "20");
        assert_eq!(chaos.environment_of(1)[0].1, "110");
    }

    #[test]
    fn a_seed_is_repeated_with_all_that_was_chosen() {
        let chaos = chaos(&["chaos", "--nemesis", "partition", "half-open", "--nodes", "3"]).expect("understood");
        let category = category(CHAOS).expect("in the table");
        assert_eq!(
            chaos.repeat_command(category, "own::seed_0000000017").as_deref(),
            Some(
                "cargo xtask test chaos --no-deps --seeds 1 --seed 17 --nemesis partition --nemesis half-open --nodes 3"
            )
        );
    }
}
