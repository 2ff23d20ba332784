//! Time as a test may judge it.

use std::time::{Duration, Instant};

use super::TestContext;

impl TestContext {
    /// The time since a moment, less what the machine kept its processes waiting: what a bound of the contract is held
    /// against.
    #[must_use]
    pub fn time_since(&self, moment: Instant) -> Duration {
        let took = moment.elapsed();
        let (from_us, to_us) = (self.capture.us_at(moment), self.capture.now_us());
        let waited_us = self.capture.waited_us_between(from_us, to_us);
        took.saturating_sub(Duration::from_micros(waited_us))
    }
}
