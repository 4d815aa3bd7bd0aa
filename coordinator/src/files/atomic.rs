//! Files that are either whole or not there: temporary name, write, fsync, rename, fsync of the folder.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::error::FileError;

/// Of an operation on a file.
pub type Result<T> = std::result::Result<T, FileError>;

/// Ending of a file that is being written.
pub(crate) const TEMPORARY: &str = ".tmp";

/// A file on its way: it has a temporary name until [`Pending::commit`], and is removed if that never comes.
#[derive(Debug)]
pub(crate) struct Pending {
    path: PathBuf,
    temporary: PathBuf,
    /// None once committed.
    file: Option<BufWriter<File>>,
}

impl Pending {
    /// Begins a file; it gets its name in [`Pending::commit`].
    pub(crate) fn create(path: &Path) -> Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let file = File::create(&temporary).map_err(|error| FileError::io(path, error))?;
        Ok(Self { path: path.to_owned(), temporary, file: Some(BufWriter::new(file)) })
    }

    /// Makes the content durable, then the name.
    pub(crate) fn commit(mut self) -> Result<()> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let durable = file.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        match durable.and_then(|()| fs::rename(&self.temporary, &self.path)) {
            Ok(()) => {
                sync_folder(self.path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")))
            }
            Err(error) => {
                // The first error is the one to report; a temporary file that stays is removed at the next start.
                drop(fs::remove_file(&self.temporary));
                Err(FileError::io(&self.path, error))
            }
        }
    }

    fn file(&mut self) -> io::Result<&mut BufWriter<File>> {
        self.file.as_mut().ok_or_else(|| io::Error::other("the file is complete"))
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // Nobody waits for it; one that stays is overwritten by the next try.
            drop(fs::remove_file(&self.temporary));
        }
    }
}

/// Writes `folder/name` by `write`. If that fails, nothing of it is left, under no name.
pub(crate) fn write<T>(folder: &Path, name: &str, write: impl FnOnce(&mut Pending) -> io::Result<T>) -> Result<T> {
    let path = folder.join(name);
    let mut file = Pending::create(&path)?;
    let value = write(&mut file).map_err(|error| FileError::io(&path, error))?;
    file.commit().map(|()| value)
}

/// Replaces the file at `path` by `bytes`: after a crash either the old or the new content is there.
///
/// # Errors
/// The file cannot be written; the old one stays.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Pending::create(path)?;
    file.write_all(bytes).map_err(|error| FileError::io(path, error))?;
    file.commit()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| FileError::io(folder, error))
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|error| FileError::io(folder, error))
}

/// Makes a folder that only this user can enter, and those above it. One that is there keeps its permissions.
///
/// # Errors
/// It cannot be made.
pub fn make_private_folder(folder: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| FileError::io(folder, error))
}

/// Removes a file or a folder with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::io(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Names in a folder, sorted; none if it is not there.
pub(crate) fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FileError::io(folder, error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| FileError::io(folder, error))?;
        names.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    names.sort();
    Ok(names)
}

/// One line of JSON.
pub(crate) fn json_line<T: serde::Serialize>(out: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}
