//! chaos: whole services under a workload while nemeses strike, by seed; then a healing, and the judgement of everything that
//! any client saw. One test for each seed.
//!
//! | variable | default | what |
//! |---|---|---|
//! | `KINGSGUARD_CHAOS_SEED` | 1 | the first seed |
//! | `KINGSGUARD_CHAOS_SEEDS` | 4 | how many seeds |
//! | `KINGSGUARD_CHAOS_NEMESES` | all | names, separated by commas |
//! | `KINGSGUARD_CHAOS_NODES` | 2 | nodes of the service |
//!
//! `cargo xtask test chaos --seeds N` sets them.

mod choice;
mod healing;
mod planted;
mod seed;
mod workload;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::choice::Choice;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let choice = match Choice::from_env() {
        Ok(choice) => choice,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::from(2);
        }
    };
    let trials = choice.seeds().map(|seed| {
        let choice = choice.clone();
        Trial::test(seed::name(seed), move || {
            seed::run(seed, &choice);
            Ok(())
        })
    });
    let proofs = planted::PLANTED.iter().map(|planted| {
        Trial::test(planted.claim, || {
            planted.prove();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.chain(proofs).collect()).exit_code()
}
