//! Files that arguments name.

use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::files::private;

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::refused(format!("{}: {e}; check the path and its permissions", path.display())))
}

/// Reads a certificate and its key. A configuration file may name one without the other, which the parser does not see.
pub(crate) fn pair(certificate: Option<&Path>, key: Option<&Path>) -> Result<Option<(String, String)>> {
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((read(certificate)?, secret(key)?))),
        (None, None) => Ok(None),
        (Some(path), None) => Err(Failure::refused(format!("{}: a certificate needs its key", path.display()))),
        (None, Some(path)) => Err(Failure::refused(format!("{}: a key needs its certificate", path.display()))),
    }
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
