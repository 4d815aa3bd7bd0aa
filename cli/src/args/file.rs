//! Files that arguments name.

use std::path::Path;

use longhand_command::exit::{Failure, Result};

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::refused(format!("{}: {e}; check the path and its permissions", path.display())))
}
