//! Files that are either whole or not there: temporary name, write, fsync, rename, fsync of the folder.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::{CorpusError, Result};

/// Ending of a file that is being written.
const TEMPORARY: &str = ".tmp";

/// Writes `folder/name` by `write`. If that fails, nothing of it is left, under no name.
pub(super) fn write<T>(
    folder: &Path,
    name: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> Result<T> {
    let temporary = folder.join(format!("{name}{TEMPORARY}"));
    let path = folder.join(name);
    let written = (|| {
        let mut file = BufWriter::new(File::create(&temporary)?);
        let value = write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(value)
    })();
    match written {
        Ok(value) => sync_folder(folder).map(|()| value),
        Err(error) => {
            // The first error is the one to report; a temporary file that stays is removed at the next start.
            drop(fs::remove_file(&temporary));
            Err(CorpusError::io(&path, error))
        }
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| CorpusError::io(folder, error))
}

/// Makes a folder and those above it.
pub(super) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| CorpusError::io(folder, error))
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CorpusError::io(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Names in a folder, sorted; none if it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CorpusError::io(folder, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| CorpusError::io(folder, error))?;
        names.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    names.sort();
    Ok(names)
}

/// One line of JSON.
pub(super) fn json_line<T: serde::Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
