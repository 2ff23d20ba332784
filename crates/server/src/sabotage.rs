//! Faults that are planted on purpose, so that the suite can be seen to find each of them.
//!
//! An ordinary build holds none: there [`planted`] is the constant `false`, and only the feature `sabotage` of the binary
//! `kingsguard-server-sabotaged` knows the [`CATALOGUE`]. A hook asks in one line where the fault belongs:
//!
//! ```ignore
//! let fences = if sabotage::planted(Fault::LeaseNotFenced) { Vec::new() } else { fences };
//! ```
//!
//! To plant another fault, add a row below, ask for it in one place, and add the test that finds it.

/// One way to be wrong: what it is called, which clause it breaks, and how.
#[cfg(feature = "sabotage")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Sabotage {
    /// What `KINGSGUARD_SABOTAGE` names it by.
    pub id: &'static str,
    /// The clause of the contract that the suite must name when it finds it; where none speaks of it, a row of the mission.
    pub clause: &'static str,
    /// What the server does wrong.
    pub sentence: &'static str,
    #[serde(skip)]
    fault: Fault,
}

/// Makes [`Fault`] and [`CATALOGUE`] of the same rows.
macro_rules! catalogue {
    ($($fault:ident = $id:literal breaks $clause:literal: $sentence:literal;)+) => {
        /// A fault that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $(#[doc = $sentence] $fault,)+
        }

        /// Every fault that can be planted.
        #[cfg(feature = "sabotage")]
        pub const CATALOGUE: &[Sabotage] = &[
            $(Sabotage { id: $id, clause: $clause, sentence: $sentence, fault: Fault::$fault },)+
        ];
    };
}

catalogue! {
    DropAfterCommit = "drop-after-commit" breaks "SEQ-1":
        "The fourth event of every log is committed and counted as delivered, but not sent to those who follow live.";
    DeliverBeforeCommit = "deliver-before-commit" breaks "SEQ-2":
        "Events are sent before Postgres has committed them.";
    ReplayOffByOne = "replay-off-by-one" breaks "SEQ-3":
        "A resume goes on with the event that the client has already.";
    LeaseNotFenced = "lease-not-fenced" breaks "ORD-4":
        "A node that was paused past its lease still writes into a run that another node took over and ended.";
    FanOutByThreadOnly = "fan-out-by-thread-only" breaks "ISO-1":
        "Whoever names a thread follows it, whosever it is.";
    OrphansStay = "orphans-stay" breaks "SEQ-9":
        "Nobody ends the runs of a node that died.";
    LostAfterAcknowledgement = "lost-after-acknowledgement" breaks "MSG-5":
        "A message is acknowledged and kept nowhere.";
    OracleInTiming = "oracle-in-timing" breaks "ISO-2":
        "A thread of somebody else takes longer to refuse than one that never was.";
    SecretsInTheLog = "secrets-in-the-log" breaks "AUTH-8":
        "Every access token that is judged is written to the log.";
    MemoryPerRun = "memory-per-run" breaks "MEM":
        "A mebibyte of each run stays when the run has ended.";
}

/// What [`Fault::MemoryPerRun`] leaves behind, in bytes.
pub const LEAKED_BYTES: usize = 1024 * 1024;

/// The `seq` that [`Fault::DropAfterCommit`] drops: within every run, and followed by events that show the hole.
pub const DROPPED_SEQ: u64 = 4;

/// Whether a fault is planted: never, in an ordinary build.
#[cfg(not(feature = "sabotage"))]
#[inline(always)]
#[must_use]
pub const fn planted(_fault: Fault) -> bool {
    false
}

/// Whether a fault is planted.
#[cfg(feature = "sabotage")]
#[must_use]
pub fn planted(fault: Fault) -> bool {
    chosen::get().is_some_and(|sabotage| sabotage.fault == fault)
}

#[cfg(feature = "sabotage")]
pub use self::chosen::{UnknownSabotage, choose};

#[cfg(feature = "sabotage")]
mod chosen {
    use std::sync::OnceLock;

    use super::{CATALOGUE, Sabotage};

    static CHOSEN: OnceLock<&'static Sabotage> = OnceLock::new();

    /// A name that the catalogue does not hold.
    #[derive(Debug, thiserror::Error)]
    #[error("`{id}` is no sabotage; choose one of {}", ids())]
    pub struct UnknownSabotage {
        id: String,
    }

    fn ids() -> String {
        CATALOGUE.iter().map(|one| one.id).collect::<Vec<_>>().join(", ")
    }

    /// Plants a fault for the rest of the process's life; the first choice stays.
    ///
    /// # Errors
    /// There is no such fault.
    pub fn choose(id: &str) -> Result<&'static Sabotage, UnknownSabotage> {
        let found = CATALOGUE.iter().find(|one| one.id == id);
        let sabotage = found.ok_or_else(|| UnknownSabotage { id: id.to_owned() })?;
        Ok(CHOSEN.get_or_init(|| sabotage))
    }

    pub(super) fn get() -> Option<&'static Sabotage> {
        CHOSEN.get().copied()
    }
}

#[cfg(all(test, feature = "sabotage"))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_says_what_it_does() {
        let ids: BTreeSet<&str> = CATALOGUE.iter().map(|one| one.id).collect();
        assert_eq!(ids.len(), CATALOGUE.len());
        for one in CATALOGUE {
            assert!(one.sentence.ends_with('.') && one.clause.contains('-'), "{one:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_in_the_catalogue_is_refused_with_those_that_are() {
        let refused = choose("drop-after-comit").expect_err("it is misspelt").to_string();
        assert!(CATALOGUE.iter().all(|one| refused.contains(one.id)), "{refused}");
    }
}
