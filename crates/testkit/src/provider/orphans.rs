//! Processes that outlived who started them: it was killed after their start and before they had asked the kernel to die with it.

use std::fs;

use nix::sys::signal::Signal;

use crate::process::ProcessId;

/// The variable that names who started a process.
const STARTED_BY: &str = "TESTKIT_STARTED_BY";

/// What to put into the environment of a process that must not outlive this one.
#[must_use]
pub fn mark() -> (&'static str, String) {
    let ProcessId { pid, started } = ProcessId::current();
    (STARTED_BY, format!("{pid}/{started}"))
}

/// Kills what bears the mark of a process that is gone and was handed to the system's first process.
pub fn end() {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for orphan in pids.filter_map(ProcessId::of).filter(is_orphan) {
        orphan.signal(Signal::SIGKILL);
    }
}

fn is_orphan(process: &ProcessId) -> bool {
    // Whoever stands in another namespace of processes has a parent there that is alive, by a number that is not known here.
    process.parent() == Some(1) && started_by(process.pid).is_some_and(|parent| !parent.is_alive())
}

fn started_by(pid: u32) -> Option<ProcessId> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok());
    let mark = variables.find_map(|variable| variable.strip_prefix(STARTED_BY)?.strip_prefix('='))?;
    let (pid, started) = mark.split_once('/')?;
    Some(ProcessId {
        pid: pid.parse().ok()?,
        started: started.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::*;

    /// A process whose starter, named in the mark, has ended.
    fn left_behind(mark: (&str, String)) -> ProcessId {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "sleep 60 >/dev/null 2>&1 & echo $!"])
            .env(mark.0, mark.1);
        let output = shell.output().expect("a shell");
        let pid = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("a number");
        ProcessId::of(pid).expect("it sleeps")
    }

    #[test]
    fn who_outlived_his_starter_is_ended_and_nobody_else() {
        let mut gone = Command::new("true").spawn().expect("a process");
        let starter = ProcessId::of(gone.id());
        gone.wait().expect("it ends");
        let started = starter.map_or(1, |starter| starter.started);
        let orphan = left_behind((STARTED_BY, format!("{}/{started}", gone.id())));
        let of_a_living_one = left_behind(mark());
        let unmarked = left_behind(("ANOTHER", String::new()));
        let deadline = Instant::now() + Duration::from_secs(20);
        while orphan.is_alive() && Instant::now() < deadline {
            end();
            std::thread::sleep(Duration::from_millis(10));
        }
        let alive = [orphan, of_a_living_one, unmarked].map(ProcessId::is_alive);
        of_a_living_one.signal(Signal::SIGKILL);
        unmarked.signal(Signal::SIGKILL);
        assert_eq!(alive, [false, true, true]);
    }
}
