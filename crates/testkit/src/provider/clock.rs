//! A wall clock of one process that can be set while it runs: libfaketime stands between the process and its system. Clocks
//! that measure spans go on as they are, as they do where an administrator sets the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// The library that Debian's package `libfaketime` brings, for processes with several threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// How long a process may go on with what it read of its clock before.
pub const READ_AGAIN: Duration = Duration::from_secs(1);

/// The clock of one process.
#[derive(Clone, Debug)]
pub struct ProcessClock {
    library: PathBuf,
    file: PathBuf,
}

impl ProcessClock {
    /// A clock that is right; `file` takes how far it is off.
    ///
    /// # Errors
    /// The library is not on this machine, or the file cannot be written.
    pub fn right(file: &Path) -> Result<Self> {
        let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let folders = folders
            .map(|entry| entry.path())
            .chain(["/usr/lib", "/usr/local/lib"].map(PathBuf::from));
        let library = folders.map(|folder| folder.join(LIBRARY)).find(|path| path.is_file());
        let library = library.context(
            "a clock that jumps needs libfaketime; on Debian: apt-get install --no-install-recommends faketime",
        )?;
        let clock = Self {
            library,
            file: file.to_owned(),
        };
        clock.set(0)?;
        Ok(clock)
    }

    /// What a process is started with so that it reads this clock.
    #[must_use]
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_CACHE_DURATION", READ_AGAIN.as_secs().to_string()),
        ]
    }

    /// Sets it off by so many seconds. The process reads it within [`READ_AGAIN`].
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, seconds: i64) -> Result<()> {
        // In one step: half a number would be another time.
        let fresh = self.file.with_extension("fresh");
        fs::write(&fresh, format!("{seconds:+}\n")).with_context(|| format!("writing {}", fresh.display()))?;
        fs::rename(&fresh, &self.file).with_context(|| format!("writing {}", self.file.display()))
    }
}
