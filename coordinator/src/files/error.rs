//! Why a file could not be read or written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a file could not be read or written. No half file stands under a final name in any case.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("no space left to write {}; free some space, then rerun the same command: nothing is lost", path.display())]
    Full { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl FileError {
    /// The error of an operation on the file or folder at `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        let full = matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full { Self::Full { path } } else { Self::Io { path, source } }
    }
}
