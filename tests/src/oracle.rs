//! Whether the time of a refusal tells what its words do not (ISO-2: "the same time class for both").

use std::fmt;
use std::time::{Duration, Instant};

use kingsguard_protocol::client::GetThreadHistory;
use kingsguard_testkit::prelude::*;

/// So many pairs of questions, one about somebody else's thread and one about a thread that never was. As many messages as a
/// user may send within a second (LIM-1) are not reached.
const PAIRS: usize = 40;

/// The same side is the slower one in so many pairs: of 40 tosses of a coin, one side wins 34 or more in one of 100,000 trials.
const ALWAYS: usize = 34;

/// Times whose medians are this many times apart are of another class; below it a client that is no machine beside the
/// backend's own learns nothing.
const CLASS: f64 = 1.5;

/// How long each question of the pairs took.
#[derive(Debug, Default)]
pub struct Pairs {
    foreign: Vec<Duration>,
    unknown: Vec<Duration>,
}

impl Pairs {
    /// Whether both are refused in times of one class. A machine under load disturbs both alike.
    #[must_use]
    pub fn are_of_one_class(&self) -> bool {
        let slower = self.foreign.iter().zip(&self.unknown).filter(|(a, b)| a > b).count();
        let (foreign, unknown) = (median(&self.foreign), median(&self.unknown));
        let apart = foreign.max(unknown).as_secs_f64() / foreign.min(unknown).as_secs_f64();
        let is_always = slower >= ALWAYS || slower <= PAIRS - ALWAYS;
        !(is_always && apart > CLASS)
    }
}

impl fmt::Display for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (foreign, unknown) = (median(&self.foreign), median(&self.unknown));
        write!(
            f,
            "medians of {foreign:?} for a foreign thread and {unknown:?} for an unknown one"
        )
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Asks for somebody else's thread and for one that never was, in turn, over HTTP and over a WebSocket.
///
/// # Panics
/// The times tell the one from the other, or an answer is no refusal.
pub async fn assert_no_oracle(ctx: &TestContext) {
    let (ada, eve) = (ctx.user("ada").await, ctx.user("eve").await);
    let foreign = ada.create_thread("hers").await;
    let http = eve.http();
    let by_http = ask_in_turn(&foreign, async |thread_id| {
        let answer = http.get(&format!("/api/threads/{thread_id}/messages")).await;
        let _refusal = answer.expect_error(ErrorCode::ThreadNotFound);
    });
    let pairs = by_http.await;
    assert!(
        pairs.are_of_one_class(),
        "ISO-2 (MUST): over HTTP the time tells: {pairs}"
    );
    let mut chat = eve.connect().await;
    let by_socket = ask_in_turn(&foreign, async |thread_id| {
        let history = GetThreadHistory {
            limit: None,
            before: None,
        };
        let asked = chat.send_to(&thread_id, history).await;
        chat.refusal_of(&asked, ErrorCode::ThreadNotFound).await;
    });
    let pairs = by_socket.await;
    assert!(
        pairs.are_of_one_class(),
        "ISO-2 (MUST): over a WebSocket the time tells: {pairs}"
    );
}

/// Each side is the first of its pair as often as the second.
async fn ask_in_turn(foreign: &ThreadId, mut ask: impl AsyncFnMut(ThreadId)) -> Pairs {
    let mut pairs = Pairs::default();
    for number in 0..PAIRS {
        for is_foreign in [number % 2 == 0, number % 2 != 0] {
            let thread_id = if is_foreign {
                foreign.clone()
            } else {
                ThreadId::generate()
            };
            let began = Instant::now();
            ask(thread_id).await;
            let took = began.elapsed();
            if is_foreign {
                pairs.foreign.push(took);
            } else {
                pairs.unknown.push(took);
            }
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs in which a foreign thread takes so many microseconds more than the 1,000 to 1,500 of an unknown one.
    fn pairs(more: impl Fn(usize) -> u64) -> Pairs {
        let unknown = |number: usize| 1_000 + (number as u64 * 7_919) % 500;
        Pairs {
            foreign: (0..PAIRS)
                .map(|number| Duration::from_micros(unknown(number + 1) + more(number)))
                .collect(),
            unknown: (0..PAIRS)
                .map(|number| Duration::from_micros(unknown(number)))
                .collect(),
        }
    }

    #[test]
    fn only_what_is_always_slower_and_by_far_tells() {
        assert!(pairs(|_| 0).are_of_one_class());
        assert!(
            pairs(|_| 200).are_of_one_class(),
            "always slower, but of the same class"
        );
        assert!(
            pairs(|number| if number % 2 == 0 { 60_000 } else { 0 }).are_of_one_class(),
            "a machine under load, which is slow now and then"
        );
        assert!(!pairs(|_| 5_000).are_of_one_class());
    }
}
