//! What runs, how many are done, and how long it will take: a bar in a terminal, plain lines elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a line at most this often.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

pub struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    last_line: Instant,
    total: usize,
    done: usize,
    failed: usize,
    running: BTreeSet<String>,
    work: Work,
}

/// How much of the whole each test is.
struct Work {
    /// What history says that a test takes; one that it does not know takes [`Work::usual`].
    of_test: HashMap<String, Duration>,
    usual: Duration,
    whole: Duration,
    done: Duration,
}

impl Work {
    fn of(tests: &[(String, Option<Duration>)]) -> Self {
        let known: Vec<Duration> = tests.iter().filter_map(|(_, took)| *took).collect();
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        // Where history knows none, each counts alike.
        let usual = known
            .iter()
            .sum::<Duration>()
            .checked_div(count)
            .unwrap_or(Duration::from_millis(1));
        let whole = tests.iter().map(|(_, took)| took.unwrap_or(usual)).sum();
        let of_test = tests.iter().filter_map(|(name, took)| Some((name.clone(), (*took)?)));
        Self {
            of_test: of_test.collect(),
            usual,
            whole,
            done: Duration::ZERO,
        }
    }

    fn end(&mut self, test: &str) {
        self.done += self.of_test.get(test).copied().unwrap_or(self.usual);
    }

    /// How long the rest takes where what is done took so long: so many tests run at once as did until now.
    fn left(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.whole.saturating_sub(self.done);
        (!self.done.is_zero()).then(|| elapsed.mul_f64(left.as_secs_f64() / self.done.as_secs_f64()))
    }
}

impl Progress {
    /// Of these tests, in the words of the stream of results, with what each took the last time.
    pub fn new(tests: impl IntoIterator<Item = (String, Option<Duration>)>) -> Self {
        let tests: Vec<_> = tests.into_iter().collect();
        let total = tests.len();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let now = Instant::now();
        Self {
            bar,
            started: now,
            last_line: now,
            total,
            done: 0,
            failed: 0,
            running: BTreeSet::new(),
            work: Work::of(&tests),
        }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    pub fn test_started(&mut self, name: &str) {
        self.running.insert(name.to_owned());
    }

    pub fn test_ended(&mut self, name: &str, held: bool) {
        self.running.remove(name);
        self.done += 1;
        self.work.end(name);
        self.failed += usize::from(!held);
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
        }
    }

    /// To be called a few times a second.
    pub fn tick(&mut self) {
        let mut words = Vec::new();
        if self.failed > 0 {
            words.push(format!("{} failed", self.failed));
        }
        if let Some(left) = self.work.left(self.started.elapsed()) {
            words.push(format!("about {} s left", left.as_secs()));
        }
        if let Some(first) = self.running.first() {
            let others = match self.running.len() - 1 {
                0 => String::new(),
                others => format!(" and {others} more"),
            };
            words.push(format!("{}{others}", first.rsplit('$').next().unwrap_or(first)));
        }
        let words = words.join(", ");
        if let Some(bar) = &self.bar {
            bar.set_message(words);
        } else if self.last_line.elapsed() >= PLAIN_EVERY {
            self.last_line = Instant::now();
            eprintln!(
                "    progress {}/{} after {} s: {words}",
                self.done,
                self.total,
                self.started.elapsed().as_secs()
            );
        }
    }

    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_time_left_goes_by_the_work_that_is_done_and_not_by_the_number_of_tests() {
        let tests = [("long", Some(seconds(8))), ("short", Some(seconds(2))), ("new", None)];
        let mut work = Work::of(&tests.map(|(name, took)| (name.to_owned(), took)));
        assert_eq!(work.left(seconds(1)), None, "nothing is done yet");
        work.end("short");
        // 13 of 15 are left, and 2 took 4: half of what they took before.
        assert_eq!(work.left(seconds(4)), Some(seconds(26)));
        work.end("new");
        work.end("long");
        assert_eq!(work.left(seconds(9)), Some(seconds(0)));
    }

    #[test]
    fn without_a_history_each_test_counts_alike() {
        let mut work = Work::of(&["a", "b"].map(|name| (name.to_owned(), None)));
        work.end("a");
        assert_eq!(work.left(seconds(3)), Some(seconds(3)));
    }
}
