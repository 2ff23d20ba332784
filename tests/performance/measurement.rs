//! What the machine disturbed says nothing about a backend, and is measured again.

use kingsguard_testkit::prelude::*;

/// Measurements that are repeated, until the test gives up.
const REPEATS_MAX: usize = 3;

/// Why a measurement says nothing, or not enough to hold it against the backend.
pub enum Repeat {
    /// The machine, or the test itself, was in the way.
    Disturbed(String),
    /// A bound was missed. What the backend keeps in another window of the same test was taken from it by the machine in
    /// this one; what it keeps in none is its fault.
    Missed(String),
}

/// Measures until a measurement holds, [`REPEATS_MAX`] times more than once at most; how many it took is the figure `name`.
///
/// # Panics
/// None holds. The run is invalid where the last one was disturbed.
pub async fn repeated<V>(ctx: &TestContext, name: &str, measure: impl AsyncFnMut() -> Result<V, Repeat>) -> V {
    let mut windows = windows(ctx, name, 1, measure).await;
    windows.pop().expect("one window was asked for")
}

/// Measures in several windows, one behind the other, so that the median of what they say can be taken; those that say
/// nothing are measured again, [`REPEATS_MAX`] of all at most. How many it took is the figure `name`.
///
/// # Panics
/// Too many say nothing. The run is invalid where the last one was disturbed.
pub async fn windows<V>(
    ctx: &TestContext,
    name: &str,
    count: usize,
    mut measure: impl AsyncFnMut() -> Result<V, Repeat>,
) -> Vec<V> {
    let (mut held, mut repeats) = (Vec::with_capacity(count), 0);
    while held.len() < count {
        let repeat = match measure().await {
            Ok(value) => {
                held.push(value);
                continue;
            }
            Err(repeat) => repeat,
        };
        repeats += 1;
        let last = repeats > REPEATS_MAX;
        match repeat {
            Repeat::Disturbed(why) if last => ctx.invalid(why),
            Repeat::Missed(why) if last => panic!("{why}, and so in {repeats} measurements"),
            Repeat::Disturbed(why) | Repeat::Missed(why) => eprintln!("measurement {repeats}: {why}; once more"),
        }
    }
    ctx.figure(name, (count + repeats) as f64, "measurements");
    held
}

/// The middle one of values; of an even number the upper one of the two in the middle.
///
/// # Panics
/// There is none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
