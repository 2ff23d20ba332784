//! The machine that a suite run ran on: figures of different machines are compared with care.

use std::fs;

use kingsguard_report::Machine;

/// This machine. What it does not tell stays empty; no verdict depends on it.
pub fn this() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let of_kernel = |name: &str| read(&format!("/proc/sys/kernel/{name}")).trim().to_owned();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = [
        of_kernel("ostype"),
        of_kernel("osrelease"),
        std::env::consts::ARCH.to_owned(),
    ];
    Machine {
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
        processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
        memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or_default(),
        kernel: kernel.join(" ").trim().to_owned(),
    }
}

/// `MemTotal:       16384 kB`, in bytes.
fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = field(meminfo, "MemTotal")?;
    let kib: u64 = total.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn field(text: &str, name: &str) -> Option<String> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(field, _)| field.trim() == name)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn fields_are_read_as_the_kernel_writes_them() {
        let meminfo = "MemTotal:       24731708 kB\nMemFree:          350000 kB\n";
        assert_eq!(memory_bytes(meminfo), Some(24_731_708 * 1024));
        let cpuinfo = "processor\t: 0\nmodel name\t: A Processor @ 2.00GHz\n";
        assert_eq!(field(cpuinfo, "model name"), Some("A Processor @ 2.00GHz".to_owned()));
        assert_eq!(memory_bytes("nothing"), None);
    }
}
