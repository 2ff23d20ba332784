//! What a process of this machine holds: memory, open files, threads, processor time, looked at again and again (KIT-10).
//!
//! It reads `/proc` of a process that the test started. Of a container or of a target elsewhere there is none; then
//! [`crate::deployment::Deployment::process_id`] says so.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::{CancellationToken, DropGuard};

/// How `/proc` counts processor time: a hundredth of a second, on every Linux (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holdings {
    /// Memory that is really there, in bytes.
    pub resident_bytes: u64,
    /// Open files, sockets among them.
    pub open_files: u64,
    /// Threads of the operating system.
    pub threads: u64,
    /// Processor time since it began, its own and the system's for it.
    pub cpu: Duration,
}

impl Holdings {
    /// Looks at a process.
    ///
    /// # Errors
    /// There is no such process, or it is another user's.
    pub fn of(process_id: u32) -> io::Result<Self> {
        let folder = format!("/proc/{process_id}");
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        Ok(Self {
            resident_bytes: field(&status, "VmRSS:")? * 1024,
            threads: field(&status, "Threads:")?,
            open_files: fs::read_dir(format!("{folder}/fd"))?.count() as u64,
            cpu: cpu(&stat).ok_or_else(|| unreadable("stat"))?,
        })
    }
}

fn unreadable(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} of a process does not read"))
}

/// The number behind a name in `/proc/…/status`.
fn field(status: &str, name: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| unreadable(name))
}

/// User and system time in `/proc/…/stat`: the 14th and 15th field. The second, the program's name, may hold blanks and
/// parentheses, so counting begins behind its end.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// Looks at a process at an interval until it is finished or let go.
#[derive(Debug)]
pub struct Monitor {
    process_id: u32,
    began: Instant,
    seen: Arc<Mutex<Vec<(Duration, Holdings)>>>,
    _ends: DropGuard,
}

impl Monitor {
    /// Begins to look, at once and then `every` so often.
    ///
    /// # Errors
    /// There is no such process.
    pub fn start(process_id: u32, every: Duration) -> io::Result<Self> {
        let began = Instant::now();
        let seen = Arc::new(Mutex::new(vec![(Duration::ZERO, Holdings::of(process_id)?)]));
        let ends = CancellationToken::new();
        tokio::spawn(ends.clone().run_until_cancelled_owned({
            let seen = seen.clone();
            async move {
                loop {
                    tokio::time::sleep(every).await;
                    // The process may end while it is looked at; what was seen until then stays.
                    let Ok(holdings) = Holdings::of(process_id) else { return };
                    push(&seen, began, holdings);
                }
            }
        }));
        Ok(Self {
            process_id,
            began,
            seen,
            _ends: ends.drop_guard(),
        })
    }

    /// Looks a last time and says what was seen.
    ///
    /// # Errors
    /// The process is gone.
    pub fn finish(self) -> io::Result<Course> {
        push(&self.seen, self.began, Holdings::of(self.process_id)?);
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Course { seen: seen.clone() })
    }
}

fn push(seen: &Mutex<Vec<(Duration, Holdings)>>, began: Instant, holdings: Holdings) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.push((began.elapsed(), holdings));
}

/// What a process held over a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    seen: Vec<(Duration, Holdings)>,
}

/// How one number went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trend {
    /// The least that was seen.
    pub min: f64,
    /// The most that was seen.
    pub max: f64,
    /// What was seen last.
    pub last: f64,
    /// How much it grows in a minute: the slope of the straight line that lies nearest (least squares).
    pub per_minute: f64,
}

impl Course {
    /// How one number of the holdings went: `course.trend(|held| held.open_files as f64)`.
    #[must_use]
    pub fn trend(&self, of: impl Fn(&Holdings) -> f64) -> Trend {
        let points: Vec<(f64, f64)> = self
            .seen
            .iter()
            .map(|(at, held)| (at.as_secs_f64() / 60.0, of(held)))
            .collect();
        Trend {
            min: points.iter().map(|(_, y)| *y).fold(f64::INFINITY, f64::min),
            max: points.iter().map(|(_, y)| *y).fold(f64::NEG_INFINITY, f64::max),
            last: points.last().map_or(0.0, |(_, y)| *y),
            per_minute: slope(&points),
        }
    }
}

/// The slope of the straight line that lies nearest to the points; 0 where they are all at one place.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|(x, _)| *x), mean(|(_, y)| *y));
    let spread: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    let common: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    if spread > 0.0 { common / spread } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_seen_to_hold_what_it_holds() {
        let own = std::process::id();
        let before = Holdings::of(own).expect("it runs");
        let file = fs::File::open("/proc/self/status").expect("it is there");
        let after = Holdings::of(own).expect("it runs");
        drop(file);
        assert!(
            after.open_files > 0 && after.threads > 0 && after.resident_bytes > 0,
            "{after:?}"
        );
        assert!(after.cpu >= before.cpu, "{before:?} {after:?}");
    }

    #[test]
    fn processor_time_stands_behind_a_name_with_blanks_and_parentheses() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 99 1 1";
        assert_eq!(cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_trend_has_the_ends_and_the_slope() {
        let held = |open_files| Holdings {
            resident_bytes: 0,
            open_files,
            threads: 1,
            cpu: Duration::ZERO,
        };
        let seen = [(0, 10), (30, 40), (60, 30)].map(|(at, files)| (Duration::from_secs(at), held(files)));
        let course = Course { seen: seen.to_vec() };
        let expected = Trend {
            min: 10.0,
            max: 40.0,
            last: 30.0,
            per_minute: 20.0,
        };
        assert_eq!(course.trend(|held| held.open_files as f64), expected);
    }
}
