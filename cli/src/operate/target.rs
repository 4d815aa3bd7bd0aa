//! Where an export goes.

use std::path::Path;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::corpus::{self, Format, StorageLocation};
use longhand_proto::RunId;

use crate::run::folder::{Folder, Identity, RunClaim};
use crate::run::temporary_folder::TemporaryFolder;

/// Locks the folder of an export for this process.
pub(super) fn claim(output: &Path, format: Format, run: &RunId, recipe_hash: &str, seed: u64) -> Result<Folder> {
    let claim = RunClaim {
        input: None,
        format: &format.to_string(),
        run: Some(run.clone()),
        recipe_hash,
        seed,
        model: "",
        weights_hash: "",
        store: Some("coordinator"),
        new_run: false,
    };
    Folder::open(output, &claim)
}

/// Where an export goes: a folder, or an object store by way of a temporary folder.
#[derive(Debug)]
pub(crate) struct Target {
    output: String,
    location: Option<StorageLocation>,
    temporary: Option<TemporaryFolder>,
}

impl Target {
    /// The target that `output` names.
    pub(crate) fn open(output: &str) -> Result<Self> {
        let location = StorageLocation::is_url(output).then(|| StorageLocation::open(output));
        let location = location.transpose().map_err(Failure::refused)?;
        let temporary = location.as_ref().map(|_| TemporaryFolder::new("export")).transpose()?;
        Ok(Self { output: output.to_owned(), location, temporary })
    }

    /// The folder that is written on this machine.
    pub(super) fn path(&self) -> &Path {
        self.temporary.as_ref().map_or(Path::new(&self.output), TemporaryFolder::path)
    }

    /// Refuses to write into the folder that is read.
    pub(crate) fn refuse(&self, from: &Path) -> Result<()> {
        if self.path().canonicalize().is_ok_and(|output| from.canonicalize().is_ok_and(|from| from == output)) {
            let from = from.display();
            return Err(Failure::refused(format!("{from} is the folder that is read; choose another output folder")));
        }
        Ok(())
    }

    /// Uploads the folder, if it is to go to an object store.
    pub(crate) async fn publish(&self, identity: &Identity) -> Result<()> {
        if let Some(location) = &self.location {
            let Identity { run, recipe_hash, .. } = identity;
            corpus::publish(self.path(), run, recipe_hash, location).await.map_err(Failure::stopped)?;
        }
        Ok(())
    }
}
