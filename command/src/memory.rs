//! How much memory this process may use for the KV cache.

use std::fs;

/// Default share of the available memory: weights, other programs and the page cache need the rest.
const SHARE: u64 = 4;
/// Used where the system does not report the available memory.
const UNKNOWN: u64 = 1 << 30;

/// Bytes for the KV cache: what is needed, at most a share of what is available.
pub(crate) fn default_kv(need: u64) -> u64 {
    need.min(available().map_or(UNKNOWN, |bytes| bytes / SHARE))
}

/// Bytes available without swapping: of the machine, or of the container if that is less.
pub fn available() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let read = |name| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok();
    let container = container_available(read("memory.max"), read("memory.current"));
    match (machine, container) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// `memory.max` is "max" where there is no limit.
fn container_available(max: Option<String>, current: Option<String>) -> Option<u64> {
    let max: u64 = max?.trim().parse().ok()?;
    let current: u64 = current?.trim().parse().ok()?;
    Some(max.saturating_sub(current))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_files_of_the_system_are_parsed() {
        assert_eq!(mem_available("MemTotal:  10 kB\nMemAvailable:    4096 kB\n"), Some(4096 * 1024));
        assert_eq!(mem_available("MemTotal:  10 kB\n"), None);
        assert_eq!(container_available(Some("max\n".into()), Some("5\n".into())), None);
        assert_eq!(container_available(Some("100\n".into()), Some("30\n".into())), Some(70));
        assert_eq!(container_available(Some("100\n".into()), Some("130\n".into())), Some(0));
    }

    #[test]
    fn the_default_is_no_more_than_what_is_needed() {
        assert_eq!(default_kv(1024), 1024);
        assert!(default_kv(u64::MAX) < u64::MAX);
    }
}
