//! For every validator a good recording that stays green, and for each rule one minimal change that turns exactly its
//! clause red.

mod lacking;
mod mutations;
mod recordings;
mod unjudged;

use std::collections::BTreeSet;

use pretty_assertions::assert_eq;

use super::{Judgement, judge};
use crate::clause::Clause;
use crate::recording::Recording;

/// Judges a recording that nothing is wrong with.
fn assert_green(recording: &Recording) -> Judgement {
    let judgement = judge(recording);
    let said: Vec<String> = judgement.violations.iter().map(ToString::to_string).collect();
    assert_eq!(said, Vec::<String>::new());
    judgement
}

/// Judges a recording that exactly one thing is wrong with.
fn assert_red(recording: &Recording, clause: &'static str) {
    let judgement = judge(recording);
    let said: Vec<String> = judgement.violations.iter().map(ToString::to_string).collect();
    assert_eq!(judgement.broken(), BTreeSet::from([clause]), "{said:#?}");
}

#[test]
fn the_clauses_that_recordings_show_are_those_that_the_validators_name() {
    let sources = [
        include_str!("connection.rs"),
        include_str!("disclosure.rs"),
        include_str!("errors.rs"),
        include_str!("events.rs"),
        include_str!("handshake.rs"),
        include_str!("isolation.rs"),
        include_str!("limits.rs"),
        include_str!("log.rs"),
        include_str!("order.rs"),
        include_str!("sequence.rs"),
        include_str!("timing.rs"),
    ];
    let words = sources.iter().flat_map(|source| source.split('"'));
    let named: BTreeSet<&str> = words
        .filter_map(|word| Clause::find(word).map(|clause| clause.id))
        .collect();
    assert_eq!(named, super::JUDGED.iter().copied().collect());
}
