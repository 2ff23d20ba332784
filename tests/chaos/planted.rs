//! Faults that are planted in the service on purpose, and are seen by the checkers. Whether a seed meets one is a matter of
//! chance, so several may try; a checker that sees nothing in any of them sees nothing.

use kingsguard_testkit::case::Case;
use kingsguard_testkit::chaos::{AnomalyKind, CLAUSES, Nemesis};

use crate::choice::Choice;
use crate::seed;

/// How many seeds may try.
const SEEDS: u64 = 5;

/// A planted fault, what brings it out, and what it then looks like.
#[derive(Debug)]
pub struct Planted {
    /// The name of its test.
    pub claim: &'static str,
    sabotage: &'static str,
    nemesis: Nemesis,
    kinds: &'static [AnomalyKind],
}

/// All of them.
pub const PLANTED: &[Planted] = &[
    Planted {
        claim: "own::planted::an_event_that_is_not_sent_is_seen_as_a_silent_gap",
        sabotage: "drop-after-commit",
        nemesis: Nemesis::FlushRedis,
        kinds: &[AnomalyKind::SilentGap],
    },
    Planted {
        claim: "own::planted::an_event_that_is_sent_before_it_is_durable_is_seen_as_lost_or_changed",
        sabotage: "deliver-before-commit",
        nemesis: Nemesis::KillPostgres,
        kinds: &[AnomalyKind::Lost, AnomalyKind::ReplayDiffers, AnomalyKind::Duplicated],
    },
    Planted {
        claim: "own::planted::a_replay_that_is_off_by_one_is_seen_as_a_duplicate",
        sabotage: "replay-off-by-one",
        nemesis: Nemesis::Partition,
        kinds: &[AnomalyKind::Duplicated],
    },
    Planted {
        claim: "own::planted::a_lease_that_is_not_fenced_is_seen_as_a_run_that_goes_on_after_its_end",
        sabotage: "lease-not-fenced",
        nemesis: Nemesis::PauseNode,
        kinds: &[AnomalyKind::TerminalDoubled],
    },
    Planted {
        claim: "own::planted::fan_out_to_whoever_names_a_thread_is_seen_as_phantoms",
        sabotage: "fan-out-by-thread-only",
        nemesis: Nemesis::FlushRedis,
        kinds: &[AnomalyKind::Phantom],
    },
];

impl Planted {
    /// Runs seeds on the broken service until the checkers see the fault.
    ///
    /// # Panics
    /// They do not.
    pub fn prove(&self) {
        let choice = Choice::of(self.nemesis);
        let mut seen = Vec::new();
        for seed in 1..=SEEDS {
            let repeat = format!("cargo xtask test chaos --no-deps --pattern 'test(={})'", self.claim);
            let case = Case::made("chaos", self.claim, CLAUSES, repeat);
            let test = seed::test(case, seed).with_sabotage(self.sabotage);
            let failure = seed::runtime().block_on(test.look_for_failure(async |ctx| {
                let (_, anomalies) = seed::strike(ctx, &choice).await?;
                seen = anomalies.iter().map(|anomaly| anomaly.kind).collect();
                seed::judge(&anomalies)
            }));
            if failure.is_some() && self.kinds.iter().any(|kind| seen.contains(kind)) {
                return;
            }
            eprintln!("seed {seed} of {} shows {seen:?}: {failure:?}", self.sabotage);
        }
        panic!(
            "{SEEDS} seeds on a service with {} show no {:?}",
            self.sabotage, self.kinds
        );
    }
}
