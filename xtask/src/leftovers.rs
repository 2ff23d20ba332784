//! Processes of a run whose runner was killed. Each process below a runner carries the runner's mark in its
//! environment, so that the next start finds it, whatever it is and whoever its parent became.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The mark: `<pid of the runner>:<when that process began, in ticks since boot>`.
pub const MARK: &str = "KINGSGUARD_RUNNER";

/// This process's mark, for the environment of what it starts.
pub fn mark() -> String {
    let pid = std::process::id();
    format!("{pid}:{}", began(pid).unwrap_or_default())
}

/// Ends all processes of runners that are gone; says how many there were.
pub fn sweep() -> usize {
    let orphans = orphans();
    for pid in &orphans {
        // A process that has just gone is what we want.
        let _gone = kill(Pid::from_raw(*pid), Signal::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while orphans.iter().any(|pid| alive(*pid)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    for pid in orphans.iter().filter(|pid| alive(**pid)) {
        let _gone = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    orphans.len()
}

fn orphans() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| mark_of(*pid).is_some_and(|mark| !runner_lives(&mark)))
        .collect()
}

fn mark_of(pid: i32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{MARK}=");
    let entry = environment
        .split(|byte| *byte == 0)
        .find(|entry| entry.starts_with(prefix.as_bytes()))?;
    String::from_utf8(entry.get(prefix.len()..)?.to_vec()).ok()
}

fn runner_lives(mark: &str) -> bool {
    mark.split_once(':').is_some_and(|(pid, start)| {
        pid.parse()
            .is_ok_and(|pid| began(pid).is_some_and(|began| began.to_string() == start))
    })
}

/// Field 22 of `/proc/<pid>/stat`; together with the number it names a process for good.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces.
    let fields = stat.get(stat.rfind(')')? + 2..)?;
    fields.split(' ').nth(19)?.parse().ok()
}

fn alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    kingsguard_report::covers!("RUN-5");

    #[test]
    fn a_process_of_a_dead_runner_is_found_and_one_of_a_living_runner_is_left_alone() {
        let mut orphan = Command::new("sleep")
            .arg("60")
            .env(MARK, "1:999999999")
            .spawn()
            .expect("sleep starts");
        let mut ours = Command::new("sleep")
            .arg("60")
            .env(MARK, mark())
            .spawn()
            .expect("sleep starts");
        let pid = |child: &std::process::Child| i32::try_from(child.id()).expect("pids are small");
        let deadline = Instant::now() + Duration::from_secs(10);
        // The environment is visible once the program has replaced the fork.
        while mark_of(pid(&ours)).is_none() || mark_of(pid(&orphan)).is_none() {
            assert!(Instant::now() < deadline, "the processes did not start");
            std::thread::yield_now();
        }
        let found = orphans();
        assert!(found.contains(&pid(&orphan)), "{found:?}");
        assert!(!found.contains(&pid(&ours)), "{found:?}");
        for child in [&mut orphan, &mut ours] {
            child.kill().expect("it runs");
            child.wait().expect("it is ours");
        }
    }
}
