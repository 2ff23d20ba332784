//! What the machine disturbed says nothing about a backend, and is measured again.

use kingsguard_testkit::prelude::*;

/// Measurements at most, until one says something.
const MEASUREMENTS_MAX: usize = 4;

/// Why a measurement says nothing, or not enough to hold it against the backend.
pub enum Repeat {
    /// The machine, or the test itself, was in the way.
    Disturbed(String),
    /// A bound was missed. What the backend keeps in another window of the same test was taken from it by the machine in
    /// this one; what it keeps in none is its fault.
    Missed(String),
}

/// Measures until a measurement holds, [`MEASUREMENTS_MAX`] times at most; how many it took is the figure `name`.
///
/// # Panics
/// None holds. The run is invalid where the last one was disturbed.
pub async fn repeated<V>(ctx: &TestContext, name: &str, mut measure: impl AsyncFnMut() -> Result<V, Repeat>) -> V {
    let mut nth = 1;
    loop {
        let repeat = match measure().await {
            Ok(value) => {
                ctx.figure(name, nth as f64, "measurements");
                return value;
            }
            Err(repeat) => repeat,
        };
        let last = nth == MEASUREMENTS_MAX;
        match repeat {
            Repeat::Disturbed(why) if last => ctx.invalid(why),
            Repeat::Missed(why) if last => panic!("{why}, and so in {MEASUREMENTS_MAX} measurements"),
            Repeat::Disturbed(why) | Repeat::Missed(why) => eprintln!("measurement {nth}: {why}; once more"),
        }
        nth += 1;
    }
}
