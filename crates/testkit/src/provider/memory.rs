//! Whether services may keep their data in memory. A database for each test is hundreds of files made and removed, which
//! costs a disk's file system more than Postgres computes.

use std::fs;

use nix::sys::statvfs::statvfs;

/// Where files lie in memory, on Linux.
pub const FOLDER: &str = "/dev/shm";

/// What must be free there for a stack to lie in it: its databases and the log of Postgres, twice over.
const STACK_BYTES: u64 = 4 << 30;

/// Whether a stack may lie in memory.
#[must_use]
pub fn has_room_for_a_stack() -> bool {
    bytes_free().is_some_and(|free| free >= STACK_BYTES)
}

/// Bytes that files in [`FOLDER`] can take now: no more than its file system has, nor than the machine's memory.
fn bytes_free() -> Option<u64> {
    let files = statvfs(FOLDER).ok()?;
    let available = available_bytes(&fs::read_to_string("/proc/meminfo").ok()?)?;
    Some((files.blocks_available() * files.fragment_size()).min(available))
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_in_kibibytes() {
        let meminfo = "MemTotal:       24731708 kB\nMemFree:          350000 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(available_bytes(meminfo), Some(2 << 20));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }
}
