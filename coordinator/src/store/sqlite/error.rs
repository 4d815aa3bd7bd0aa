//! What an error of SQLite's means to the caller.

use std::path::Path;

use rusqlite::{Error, ErrorCode};

use crate::store::StoreError;

/// Names the file and the remedy.
pub(super) fn explain(error: Error, path: &Path) -> StoreError {
    let file = path.display();
    let Error::SqliteFailure(cause, _) = &error else {
        return StoreError::Other(format!("{file}: {error}"));
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the other codes tell of faults in our own statements")]
    match cause.code {
        // Every call is one transaction, so what did not fit was rolled back.
        ErrorCode::DiskFull | ErrorCode::SystemIoFailure => {
            StoreError::Full(format!("{file}: {error}; make room on its disk (and see that it is sound), then go on"))
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            StoreError::Unreachable(format!("{file}: {error}; another process holds it"))
        }
        ErrorCode::NotADatabase => {
            StoreError::Refused(format!("{file} is not a database: name another file, or move this one away"))
        }
        ErrorCode::DatabaseCorrupt => StoreError::Refused(format!(
            "{file} is damaged ({error}): put a copy of it back, or move it away and submit again"
        )),
        ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly => StoreError::Refused(format!(
            "{file} cannot be opened for writing ({error}): its folder must exist, and both must be writable"
        )),
        _ => StoreError::Other(format!("{file}: {error}")),
    }
}
