//! Replaces an export by a finished new one. Renaming `export.new` to `export.ready` is the commit point: a crash before it
//! leaves the old export, after it the next start completes the new one.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{CorpusError, Result};
use crate::files::atomic;

/// Subfolder of the output folder for shards and manifest.
pub(super) const STATE_FOLDER: &str = ".longhand";
/// The folder of data files, replaced as a whole: files of two exports are never mixed.
pub(super) const DATA: &str = "data";

fn new(dir: &Path) -> PathBuf {
    dir.join(STATE_FOLDER).join("export.new")
}

fn ready(dir: &Path) -> PathBuf {
    dir.join(STATE_FOLDER).join("export.ready")
}

fn old(dir: &Path) -> PathBuf {
    dir.join(STATE_FOLDER).join("export.old")
}

/// Creates the empty folder that an export is written to.
pub(super) fn begin(dir: &Path) -> Result<PathBuf> {
    check_data(dir)?;
    resume(dir)?;
    let folder = new(dir);
    atomic::make_folder(&folder.join(DATA))?;
    Ok(folder)
}

/// Makes the folder of [`begin`], which is complete, the export.
pub(super) fn commit(dir: &Path) -> Result<()> {
    stage(dir)?;
    resume(dir)
}

/// Makes the new export durable, then passes the commit point.
pub(super) fn stage(dir: &Path) -> Result<()> {
    let (new, ready) = (new(dir), ready(dir));
    atomic::sync_folder(&new.join(DATA))?;
    atomic::sync_folder(&new)?;
    fs::rename(&new, &ready).map_err(|error| CorpusError::io(&ready, error))?;
    Ok(atomic::sync_folder(&dir.join(STATE_FOLDER))?)
}

/// Removes an export that failed.
pub(super) fn abandon(dir: &Path) -> Result<()> {
    Ok(atomic::remove(&new(dir))?)
}

/// Completes an export that passed the commit point, removes one that did not.
pub(super) fn resume(dir: &Path) -> Result<()> {
    atomic::remove(&new(dir))?;
    let ready = ready(dir);
    for (name, from) in atomic::names(&ready)? {
        let to = dir.join(&name);
        if name == DATA && to.exists() {
            atomic::remove(&old(dir))?;
            rename(&to, &old(dir))?;
        }
        rename(&from, &to)?;
    }
    if ready.exists() {
        atomic::sync_folder(dir)?;
    }
    atomic::remove(&ready)?;
    Ok(atomic::remove(&old(dir))?)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| CorpusError::io(to, error))
}

/// The whole folder is replaced, so it may hold no file of the user.
fn check_data(dir: &Path) -> Result<()> {
    for (name, path) in atomic::names(&dir.join(DATA))? {
        let is_export = ["train-", "validation-"].iter().any(|split| name.starts_with(split))
            && [".jsonl", ".parquet"].iter().any(|ending| name.ends_with(ending));
        if !is_export {
            return Err(CorpusError::UnexpectedFile { path });
        }
    }
    Ok(())
}
