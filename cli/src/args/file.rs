//! Files that arguments name.

use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::files::private;

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::refused(format!("{}: {e}; check the path and its permissions", path.display())))
}

/// Reads a file with a secret, which other users must not be able to read.
pub(crate) fn secret(path: &Path) -> Result<String> {
    let at = |e| Failure::refused(format!("{}: {e}", path.display()));
    if !private::is_private(path).map_err(at)? {
        return Err(Failure::refused(format!(
            "{} is readable by other users; run `chmod 600` on it, or `chmod 640` if it belongs to root",
            path.display()
        )));
    }
    read(path)
}
