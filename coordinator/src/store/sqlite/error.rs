//! SQLite's errors as errors of the store.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::store::StoreError;

/// Names the file and the remedy.
pub(super) fn explain(error: Error, path: &Path) -> StoreError {
    let file = path.display();
    let Error::SqliteFailure(cause, _) = &error else {
        return StoreError::Other(format!("{file}: {error}"));
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the other codes are faults of the statements themselves")]
    match cause.code {
        // Every call is one transaction, so what did not fit was rolled back.
        ErrorCode::DiskFull | ErrorCode::SystemIoFailure => {
            StoreError::Full(format!("{file}: {error}; free space on its disk and check the disk, then retry"))
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Unreachable(format!("{file}: {error}; another process has it locked"))
        }
        ErrorCode::NotADatabase => {
            StoreError::Refused(format!("{file} is not a database: give another path, or move this file away"))
        }
        ErrorCode::DatabaseCorrupt => StoreError::Refused(format!(
            "{file} is damaged ({error}): restore a backup of it, or move it away and submit again"
        )),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => StoreError::Refused(format!(
            "{file} cannot be opened for writing ({error}): check that its folder exists and that both are writable"
        )),
        _ => StoreError::Other(format!("{file}: {error}")),
    }
}
