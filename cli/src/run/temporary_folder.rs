//! A folder that is removed when it is dropped.

use std::fs;
use std::path::{Path, PathBuf};

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::files::atomic;
use longhand_proto::LeaseId;

/// A folder that only this user reads.
#[derive(Debug)]
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    /// A new folder, named after what it is for.
    pub(crate) fn new(purpose: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("longhand-{purpose}-{}", LeaseId::mint()));
        atomic::make_private_folder(&path)
            .map_err(|e| Failure::refused(format!("{e}; set TMPDIR to a writable folder")))?;
        Ok(Self(path))
    }

    /// Path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "temporary folder {} could not be removed", self.0.display());
        }
    }
}
