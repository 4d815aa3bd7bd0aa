//! A model's files: mapped, or read whole where they are small texts.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use super::error::ModelError;

/// Maps a file for reading.
pub(super) fn map(path: &Path) -> Result<Mmap, ModelError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    // SAFETY: the map is read-only. Weights of a model are not rewritten in place while it runs; whoever does so changes
    // numbers or ends this process with SIGBUS, as with every program that maps its weights. Readers check all bounds
    // against the map's length, and text is checked where it is parsed and copied before the model is open.
    unsafe { Mmap::map(&file) }.map_err(|source| unreadable(path, source))
}

/// A small text file that belongs to the model; none if it does not exist.
pub(super) fn read_if_there(path: PathBuf) -> Result<Option<(PathBuf, String)>, ModelError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(&path, source)),
    }
}

/// A text file that was named by its path.
pub(super) fn read_text(path: &Path) -> Result<(PathBuf, String), ModelError> {
    std::fs::read_to_string(path).map(|text| (path.to_owned(), text)).map_err(|source| unreadable(path, source))
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> ModelError {
    ModelError::Unreadable { file: path.to_owned(), source }
}
