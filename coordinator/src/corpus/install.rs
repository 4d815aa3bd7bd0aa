//! Puts a finished export in the place of the one before. Renaming `export.new` to `export.ready` is the point of no
//! return: before it a crash leaves the old export, after it the next start finishes the new one.

use std::fs;
use std::path::{Path, PathBuf};

use super::{CorpusError, Result, STATE};
use crate::files::atomic;

/// The folder of data files, exchanged as a whole: files of two exports never stand side by side.
pub(super) const DATA: &str = "data";

fn new(dir: &Path) -> PathBuf {
    dir.join(STATE).join("export.new")
}

fn ready(dir: &Path) -> PathBuf {
    dir.join(STATE).join("export.ready")
}

fn old(dir: &Path) -> PathBuf {
    dir.join(STATE).join("export.old")
}

/// An empty folder to write an export to.
pub(super) fn begin(dir: &Path) -> Result<PathBuf> {
    check_data(dir)?;
    resume(dir)?;
    let folder = new(dir);
    atomic::make_folder(&folder.join(DATA))?;
    Ok(folder)
}

/// The folder of [`begin`] is whole and durable: it becomes the export.
pub(super) fn commit(dir: &Path) -> Result<()> {
    stage(dir)?;
    resume(dir)
}

/// The point of no return.
pub(super) fn stage(dir: &Path) -> Result<()> {
    let (new, ready) = (new(dir), ready(dir));
    atomic::sync_folder(&new.join(DATA))?;
    atomic::sync_folder(&new)?;
    fs::rename(&new, &ready).map_err(|error| CorpusError::io(&ready, error))?;
    Ok(atomic::sync_folder(&dir.join(STATE))?)
}

/// Gives back the space of an export that failed.
pub(super) fn abandon(dir: &Path) -> Result<()> {
    Ok(atomic::remove(&new(dir))?)
}

/// Finishes an export that was ready, clears away one that was not.
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

/// The whole folder is exchanged, so it may hold nothing of the user's.
fn check_data(dir: &Path) -> Result<()> {
    for (name, path) in atomic::names(&dir.join(DATA))? {
        let ours = ["train-", "validation-"].iter().any(|split| name.starts_with(split))
            && [".jsonl", ".parquet"].iter().any(|ending| name.ends_with(ending));
        if !ours {
            return Err(CorpusError::Foreign { path });
        }
    }
    Ok(())
}
