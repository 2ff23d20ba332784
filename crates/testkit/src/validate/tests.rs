//! For every validator a good recording that stays green, and for each rule one minimal change that turns exactly its
//! clause red.

mod mutations;
mod recordings;
mod unjudged;

use std::collections::BTreeSet;

use pretty_assertions::assert_eq;

use super::{Judgement, judge};
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
