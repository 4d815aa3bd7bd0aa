//! The machine of a measurement.

use std::fs;
use std::thread::available_parallelism;

use serde::Serialize;

/// The machine of a measurement, and the version of the program.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) version: &'static str,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

impl Machine {
    /// This machine.
    pub(crate) fn here() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = info.lines().find_map(|line| line.strip_prefix("model name"));
        Self {
            processor: name.map_or("unknown", |name| name.trim_start_matches([' ', '\t', ':'])).to_owned(),
            cores: available_parallelism().map_or(1, Into::into),
            version: longhand_proto::VERSION,
            unix_ms: longhand_proto::clock::unix_ms(),
        }
    }
}
