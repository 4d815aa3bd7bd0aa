//! A finished export, put where others read it: an object store, or any other place.
//!
//! Each file becomes whole or not at all. `manifest.json` says what belongs together: it stands there first and says
//! that more is to come, and last with everything. So the same command may be given again whenever it was cut short, and
//! sends only what is not there yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use longhand_proto::RunId;
use serde::{Deserialize, Serialize};

use super::{CorpusError, Place, Result, STATE, blocking};
use crate::files::atomic;

const MANIFEST: &str = "manifest.json";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Published {
    /// Files sent now.
    pub sent: u64,
    /// Files that were there already.
    pub kept: u64,
    /// Files of an earlier export that were taken away.
    pub removed: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    run: String,
    recipe_hash: String,
    /// False while files are on their way.
    complete: bool,
    /// By name. Those that are there; of an export on its way, those that were there before it too.
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct File {
    bytes: u64,
    /// Of the whole file, hexadecimal.
    blake3: String,
}

/// Puts the export that stands in `folder` into `place`.
///
/// # Errors
/// The place holds another run, or something that no export wrote; or it cannot be written.
pub async fn publish(folder: &Path, run: &RunId, recipe_hash: &str, place: &Place) -> Result<Published> {
    let mut contents = begin(run, recipe_hash, place).await?;
    let from = folder.to_owned();
    let local = blocking(move || files(&from)).await?;
    let mut done = Published::default();
    for (name, (path, file)) in &local {
        if contents.files.get(name) == Some(file) {
            done.kept += 1;
            continue;
        }
        place.upload(name, path).await?;
        contents.files.insert(name.clone(), file.clone());
        contents.put(place).await?;
        done.sent += 1;
    }
    let earlier: Vec<String> = contents.files.keys().filter(|name| !local.contains_key(*name)).cloned().collect();
    contents.files.retain(|name, _| local.contains_key(name));
    contents.complete = true;
    contents.put(place).await?;
    // A reader of `data/*` should not find two exports side by side for long; one who reads the manifest never does.
    for name in earlier {
        place.remove(&name).await?;
        done.removed += 1;
    }
    Ok(done)
}

/// What the place holds by now, marked as changing.
async fn begin(run: &RunId, recipe_hash: &str, place: &Place) -> Result<Contents> {
    let refused = |problem: String| Err(CorpusError::Place { name: place.to_string(), problem });
    let mut contents = match place.get(MANIFEST).await? {
        Some(bytes) => match serde_json::from_slice::<Contents>(&bytes) {
            Ok(contents) if contents.run == run.as_str() && contents.recipe_hash == recipe_hash => contents,
            Ok(other) => {
                return refused(format!("it holds run {} already; choose another prefix", other.run));
            }
            Err(error) => {
                return refused(format!(
                    "its manifest.json was not written by an export ({error}); choose another prefix"
                ));
            }
        },
        None => {
            if let Some(name) = place.list("").await?.first() {
                return refused(format!("it holds {name}, which no export wrote; choose an empty prefix"));
            }
            let (run, recipe_hash) = (run.to_string(), recipe_hash.to_owned());
            Contents { run, recipe_hash, complete: false, files: BTreeMap::new() }
        }
    };
    contents.complete = false;
    contents.put(place).await?;
    Ok(contents)
}

impl Contents {
    async fn put(&self, place: &Place) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(self)
            .map_err(|error| CorpusError::Place { name: place.to_string(), problem: error.to_string() })?;
        text.push(b'\n');
        place.put(MANIFEST, text).await
    }
}

/// The files of an export by their names: data first, as readers look for the others to know that it is there.
fn files(folder: &Path) -> Result<BTreeMap<String, (PathBuf, File)>> {
    let mut files = BTreeMap::new();
    for (name, path) in atomic::names(folder)? {
        if name == STATE {
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
