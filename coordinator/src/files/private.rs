//! Files with secrets.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a secret in this file is its owner's alone. As PostgreSQL has it for keys: where root owns the file, a group may read
/// it, since that is how a secret is handed to a process without the rights of root, as Kubernetes does.
///
/// # Errors
/// The file cannot be looked at.
pub fn is_private(path: &Path) -> io::Result<bool> {
    let file = std::fs::metadata(path)?;
    Ok(is_private_mode(file.mode(), file.uid()))
}

const fn is_private_mode(mode: u32, owner: u32) -> bool {
    let forbidden = if owner == 0 { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_what_root_owns() {
        for (mode, owner, is_private) in [
            (0o600, 1_000, true),
            (0o400, 1_000, true),
            (0o640, 1_000, false),
            (0o604, 1_000, false),
            (0o440, 0, true),
            (0o640, 0, true),
            (0o660, 0, false),
            (0o644, 0, false),
        ] {
            assert_eq!(is_private_mode(0o100_000 | mode, owner), is_private, "{mode:o} of {owner}");
        }
    }
}
