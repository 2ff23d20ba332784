//! Whether the machine gave its processes their time: what it did not is held against no backend.
//!
//! Two things are watched while a test runs. The test's own thread, which is late where the whole machine, or this process,
//! stood still; and the machine's pressure (PSI, `/proc/pressure`): for how long at least one of its processes was kept
//! waiting for a processor or a disk, and for how long the host gave a processor to others (`steal` in `/proc/stat`).

use std::fs;
use std::time::{Duration, Instant};

use crate::capture::Capture;
use crate::recording::{Stall, Wait};

/// How often the own thread looks whether it is late.
const TICK: Duration = Duration::from_millis(10);
/// From which lateness on that is a stall.
const STALL: Duration = Duration::from_millis(40);
/// How often the machine's pressure is read.
const PRESSURE_EVERY: Duration = Duration::from_millis(100);
/// Less than this of [`PRESSURE_EVERY`] is not worth a line in the recording.
const WAIT_MIN_US: u64 = 5_000;
/// How `/proc/stat` counts: a hundredth of a second, on every Linux (`USER_HZ`).
const TICK_OF_STAT_US: u64 = 10_000;

/// Watches from a thread of its own; ends when dropped.
#[derive(Debug)]
pub struct ScheduleWatch {
    stop: Option<std::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl ScheduleWatch {
    /// Begins to watch, and writes what it sees down as facts of a capture.
    #[must_use]
    pub fn over(capture: &Capture) -> Self {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let capture = capture.clone();
        let thread = std::thread::spawn(move || {
            let mut last = Instant::now();
            let mut pressure = Pressure::read(&capture);
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(TICK) {
                let late = last.elapsed().saturating_sub(TICK);
                last = Instant::now();
                if late >= STALL {
                    let stall = Stall {
                        at_us: capture.now_us(),
                        late_us: late.as_micros() as u64,
                    };
                    capture.update_facts(|facts| facts.stalls.push(stall));
                }
                if capture.now_us().saturating_sub(pressure.at_us) >= PRESSURE_EVERY.as_micros() as u64 {
                    let now = Pressure::read(&capture);
                    capture.update_facts(|facts| facts.waits.extend(pressure.until(&now)));
                    pressure = now;
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for ScheduleWatch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// What the machine's processes have waited so far, in microseconds since it was started.
struct Pressure {
    at_us: u64,
    waited_us: u64,
}

impl Pressure {
    /// A kernel without PSI tells nothing, and then only stalls excuse a backend.
    fn read(capture: &Capture) -> Self {
        let waited = |resource| {
            fs::read_to_string(format!("/proc/pressure/{resource}"))
                .ok()
                .and_then(|text| some_total_us(&text))
                .unwrap_or(0)
        };
        let stolen = fs::read_to_string("/proc/stat").ok().and_then(|text| stolen_us(&text));
        Self {
            at_us: capture.now_us(),
            waited_us: waited("cpu") + waited("io") + stolen.unwrap_or(0),
        }
    }

    /// What was waited from here to a later reading.
    fn until(&self, later: &Self) -> Option<Wait> {
        let waited_us = later.waited_us.saturating_sub(self.waited_us);
        // Waits for several things at once count once.
        let waited_us = waited_us.min(later.at_us.saturating_sub(self.at_us));
        (waited_us >= WAIT_MIN_US).then_some(Wait {
            from_us: self.at_us,
            until_us: later.at_us,
            waited_us,
        })
    }
}

/// `total` of the line `some` in `/proc/pressure/…`, in microseconds.
fn some_total_us(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_once("total=")?.1.trim().parse().ok()
}

/// The eighth figure of the line `cpu` in `/proc/stat`: what the host gave to others, over all processors.
fn stolen_us(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: u64 = line.split_whitespace().nth(8)?.parse().ok()?;
    Some(ticks * TICK_OF_STAT_US)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_and_stolen_time_are_read_as_the_kernel_writes_them() {
        let pressure =
            "some avg10=8.66 avg60=6.57 avg300=2.34 total=9129672\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_total_us(pressure), Some(9_129_672));
        assert_eq!(some_total_us("full avg10=0.00 total=7\n"), None);
        let stat = "cpu  15187 0 2918 27737 483 0 75 14 0 0\ncpu0 7742 0 1532 13592 315 0 23 7 0 0\n";
        assert_eq!(stolen_us(stat), Some(140_000));
        assert_eq!(stolen_us("intr 1 2 3\n"), None);
    }

    #[test]
    fn waits_for_several_things_at_once_count_once_and_short_ones_not() {
        let at = |at_us, waited_us| Pressure { at_us, waited_us };
        let wait = |waited_us| {
            Some(Wait {
                from_us: 1_000,
                until_us: 101_000,
                waited_us,
            })
        };
        assert_eq!(at(1_000, 50).until(&at(101_000, 40_050)), wait(40_000));
        assert_eq!(at(1_000, 50).until(&at(101_000, 180_050)), wait(100_000));
        assert_eq!(at(1_000, 50).until(&at(101_000, 4_050)), None);
    }
}
