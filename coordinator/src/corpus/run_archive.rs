//! The whole state of a run that has ended, outside the store: what `longhand archive` writes and `longhand restore` reads.
//!
//! ```text
//! LOCATION/RUN/documents-000001.jsonl   documents with attempts and revisions, one on each line
//! LOCATION/RUN/run.json                 the run, and its files with their hashes; written last
//! ```

use longhand_proto::RunId;
use serde::{Deserialize, Serialize};

use super::{CorpusError, Result, StorageLocation};
use crate::files::atomic;
use crate::store::{Counts, EndedDocument, Run};

/// Raised with every change of what the files mean.
const FORMAT: u32 = 1;
/// Bytes after which a file is written.
const FILE_BYTES: usize = 32 << 20;

/// Contents of an archived run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunManifest {
    /// Version of the format.
    pub format: u32,
    /// The run.
    pub run: Run,
    /// Its documents by state.
    pub counts: Counts,
    /// Its files, in order.
    pub files: Vec<ArchivedFile>,
}

/// One file of an archived run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Name of the file.
    pub file: String,
    /// Number of documents in it.
    pub documents: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Of the whole file, hexadecimal.
    pub blake3: String,
}

/// Writes one run. Nothing counts before [`RunArchive::finish`].
#[derive(Debug)]
pub struct RunArchive {
    location: StorageLocation,
    run: Run,
    files: Vec<ArchivedFile>,
    lines: Vec<u8>,
    documents: u64,
}

impl RunArchive {
    /// Begins to write the run to `location`.
    ///
    /// # Errors
    /// Another run of this name is there, or the location cannot be read.
    pub async fn create(location: StorageLocation, run: Run) -> Result<Self> {
        if let Some(there) = Self::manifest(&location, &run.id).await?
            && (there.run.created_ms, &there.run.recipe_hash) != (run.created_ms, &run.recipe_hash)
        {
            return Err(CorpusError::Storage {
                name: format!("{location}/{}", run.id),
                problem: "another run of this name was archived here; give another location".into(),
            });
        }
        Ok(Self { location, run, files: Vec::new(), lines: Vec::new(), documents: 0 })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// A file cannot be written.
    pub async fn add(&mut self, document: &EndedDocument) -> Result<()> {
        let failed = |problem: String| CorpusError::Document { id: document.id, problem };
        atomic::json_line(&mut self.lines, document).map_err(|error| failed(error.to_string()))?;
        self.documents += 1;
        if self.lines.len() >= FILE_BYTES {
            self.write().await?;
        }
        Ok(())
    }

    /// Writes the rest and then the manifest, and reads every file again.
    ///
    /// # Errors
    /// A file cannot be written, or is not read as it was written.
    pub async fn finish(mut self, counts: Counts) -> Result<RunManifest> {
        if self.documents > 0 {
            self.write().await?;
        }
        let Self { location, run, files, .. } = self;
        let manifest = RunManifest { format: FORMAT, run, counts, files };
        let bytes = serde_json::to_vec_pretty(&manifest).map_err(|error| storage(&location, &error.to_string()))?;
        for file in &manifest.files {
            Self::read_file(&location, &manifest.run.id, file).await?;
        }
        location.put(&format!("{}/run.json", manifest.run.id), bytes).await?;
        Ok(manifest)
    }

    async fn write(&mut self) -> Result<()> {
        let bytes = std::mem::take(&mut self.lines);
        let entry = ArchivedFile {
            file: format!("documents-{:06}.jsonl", self.files.len() + 1),
            documents: std::mem::take(&mut self.documents),
            bytes: bytes.len() as u64,
            blake3: blake3::hash(&bytes).to_hex().to_string(),
        };
        self.location.put(&format!("{}/{}", self.run.id, entry.file), bytes).await?;
        self.files.push(entry);
        Ok(())
    }

    /// The manifest of a run at `location`; none if there is no such run.
    ///
    /// # Errors
    /// It cannot be read, or is of another format.
    pub async fn manifest(location: &StorageLocation, run: &RunId) -> Result<Option<RunManifest>> {
        let Some(bytes) = location.get(&format!("{run}/run.json")).await? else { return Ok(None) };
        let manifest: RunManifest =
            serde_json::from_slice(&bytes).map_err(|error| storage(location, &format!("{run}/run.json: {error}")))?;
        if manifest.format != FORMAT {
            let format = manifest.format;
            return Err(storage(
                location,
                &format!("{run}/run.json has format {format}: expected {FORMAT}; use a newer build"),
            ));
        }
        Ok(Some(manifest))
    }

    /// The documents of one file, checked against the manifest.
    ///
    /// # Errors
    /// The file is missing or damaged.
    pub async fn read_file(location: &StorageLocation, run: &RunId, file: &ArchivedFile) -> Result<Vec<EndedDocument>> {
        let name = format!("{run}/{}", file.file);
        let damaged = || storage(location, &format!("{name} is missing or damaged: restore it from a backup"));
        let bytes = location.get(&name).await?.ok_or_else(damaged)?;
        if blake3::hash(&bytes).to_hex().as_str() != file.blake3 {
            return Err(damaged());
        }
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|_| damaged())).collect()
    }
}

fn storage(location: &StorageLocation, problem: &str) -> CorpusError {
    CorpusError::Storage { name: location.to_string(), problem: problem.to_owned() }
}
