//! Copies a finished export to a storage location.
//!
//! Each file is written whole or not at all. `manifest.json` lists the files: it is written first as incomplete, and last as
//! complete. After an interruption the same command resumes, and sends only what is missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longhand_proto::RunId;
use serde::{Deserialize, Serialize};

use super::{CorpusError, Result, STATE_FOLDER, StorageLocation, blocking};
use crate::files::atomic;

const MANIFEST: &str = "manifest.json";

/// Counts of a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Files sent.
    pub sent: u64,
    /// Files that were present already.
    pub kept: u64,
    /// Files of an earlier export that were deleted.
    pub removed: u64,
}

/// `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    run: String,
    recipe_hash: String,
    /// False while files are being sent.
    complete: bool,
    /// Files that are present, by name; while incomplete, files of the earlier export too.
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    bytes: u64,
    /// Of the whole file, hexadecimal.
    blake3: String,
}

/// Copies the export in `folder` to `location`.
///
/// # Errors
/// The location holds another run or files of no export, or it cannot be written.
pub async fn publish(folder: &Path, run: &RunId, recipe_hash: &str, location: &StorageLocation) -> Result<Published> {
    let mut contents = begin(run, recipe_hash, location).await?;
    let from = folder.to_owned();
    let local = blocking(move || files(&from)).await?;
    let mut published = Published::default();
    for (name, (path, file)) in &local {
        if contents.files.get(name) == Some(file) {
            published.kept += 1;
            continue;
        }
        location.upload(name, path).await?;
        contents.files.insert(name.clone(), file.clone());
        contents.put(location).await?;
        published.sent += 1;
    }
    let earlier: Vec<String> = contents.files.keys().filter(|name| !local.contains_key(*name)).cloned().collect();
    contents.files.retain(|name, _| local.contains_key(name));
    contents.complete = true;
    contents.put(location).await?;
    // Last, so that all files of the manifest exist at all times.
    for name in earlier {
        location.remove(&name).await?;
        published.removed += 1;
    }
    Ok(published)
}

/// The current contents of the location, marked as incomplete.
async fn begin(run: &RunId, recipe_hash: &str, location: &StorageLocation) -> Result<Contents> {
    let refused = |problem: String| Err(CorpusError::Storage { name: location.to_string(), problem });
    let mut contents = match location.get(MANIFEST).await? {
        Some(bytes) => match serde_json::from_slice::<Contents>(&bytes) {
            Ok(contents) if contents.run == run.as_str() && contents.recipe_hash == recipe_hash => contents,
            Ok(other) => {
                return refused(format!("already holds run {}; choose another prefix", other.run));
            }
            Err(error) => {
                return refused(format!("manifest.json was not written by an export ({error}); choose another prefix"));
            }
        },
        None => {
            if let Some(name) = location.list("").await?.first() {
                return refused(format!("holds {name}, which no export wrote; choose an empty prefix"));
            }
            let (run, recipe_hash) = (run.to_string(), recipe_hash.to_owned());
            Contents { run, recipe_hash, complete: false, files: BTreeMap::new() }
        }
    };
    contents.complete = false;
    contents.put(location).await?;
    Ok(contents)
}

impl Contents {
    async fn put(&self, location: &StorageLocation) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| CorpusError::Storage { name: location.to_string(), problem: error.to_string() })?;
        text.push(b'\n');
        location.put(MANIFEST, text).await
    }
}

/// The files of an export by name. Data files come first in this order.
fn files(folder: &Path) -> Result<BTreeMap<String, (PathBuf, File)>> {
    let mut files = BTreeMap::new();
    for (name, path) in atomic::names(folder)? {
        if name == STATE_FOLDER {
            continue;
        }
        if path.is_dir() {
            for (inner, path) in atomic::names(&path)? {
                files.insert(format!("{name}/{inner}"), (path.clone(), file(&path)?));
            }
        } else {
            files.insert(name, (path.clone(), file(&path)?));
        }
    }
    Ok(files)
}

fn file(path: &Path) -> Result<File> {
    let mut hash = blake3::Hasher::new();
    let read = std::fs::File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut hash));
    let bytes = read.map_err(|error| CorpusError::io(path, error))?;
    Ok(File { bytes, blake3: hash.finalize().to_hex().to_string() })
}
