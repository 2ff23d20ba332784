//! What is asked of this binary: seeds, nemeses, nodes.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use kingsguard_testkit::chaos::Nemesis;

/// How many seeds a plain run has: enough to see that all parts work together.
const SEEDS: u64 = 4;

/// Nodes of the service. With one there is nobody to take over.
const NODES: usize = 2;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Choice {
    seeds: Range<u64>,
    /// Nemeses that the seeds choose from.
    pub nemeses: Vec<Nemesis>,
    /// Nodes of the service.
    pub nodes: usize,
}

impl Choice {
    /// Reads the environment.
    pub fn from_env() -> Result<Self> {
        let first = number("KINGSGUARD_CHAOS_SEED", 1)?;
        let count = number("KINGSGUARD_CHAOS_SEEDS", SEEDS)?;
        let nodes = number("KINGSGUARD_CHAOS_NODES", NODES as u64)?;
        ensure!(
            (1..=9).contains(&nodes),
            "KINGSGUARD_CHAOS_NODES is {nodes}, not 1 to 9"
        );
        let names = std::env::var("KINGSGUARD_CHAOS_NEMESES").unwrap_or_default();
        let nemeses = if names.is_empty() {
            Nemesis::ALL.to_vec()
        } else {
            names.split(',').map(Nemesis::named).collect::<Result<_>>()?
        };
        Ok(Self {
            seeds: first..first.saturating_add(count),
            nemeses,
            nodes: nodes as usize,
        })
    }

    /// One nemesis on the usual nodes.
    pub fn of(nemesis: Nemesis) -> Self {
        Self {
            seeds: 0..0,
            nemeses: vec![nemesis],
            nodes: NODES,
        }
    }

    /// All seeds that are asked for.
    pub fn seeds(&self) -> Range<u64> {
        self.seeds.clone()
    }

    /// The command that repeats one of them.
    pub fn repeat_command(&self, seed: u64) -> String {
        let mut command = format!("cargo xtask test chaos --no-deps --seeds 1 --seed {seed}");
        if self.nemeses != Nemesis::ALL {
            for nemesis in &self.nemeses {
                command += &format!(" --nemesis {nemesis}");
            }
        }
        if self.nodes != NODES {
            command += &format!(" --nodes {}", self.nodes);
        }
        command
    }
}

fn number(name: &str, absent: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text
            .parse()
            .with_context(|| format!("reading {name}, which is `{text}`")),
        _ => Ok(absent),
    }
}
