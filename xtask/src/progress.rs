//! What runs, how many are done, and how long it will take: a bar in a terminal, plain lines elsewhere.

use std::collections::BTreeSet;
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
    /// What history says that the whole takes.
    expected: Option<Duration>,
}

impl Progress {
    pub fn new(total: usize, expected: Option<Duration>) -> Self {
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
            expected,
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
        if let Some(left) = self.time_left() {
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

    /// By history where there is one, else by the share that is done.
    fn time_left(&self) -> Option<Duration> {
        let elapsed = self.started.elapsed();
        if let Some(expected) = self.expected.filter(|expected| *expected > elapsed) {
            return Some(expected - elapsed);
        }
        let left = self.total.saturating_sub(self.done);
        (self.done > 0).then(|| elapsed.mul_f64(left as f64 / self.done as f64))
    }
}
