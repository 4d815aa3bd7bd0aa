//! Where a corpus is stored: a folder, or a prefix in an object store (`s3://`, `gs://`, `az://`).

use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, LazyLock};
use std::{fmt, io};

use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt;
use url::Url;

use super::{CorpusError, Result, blocking};
use crate::files::atomic;

/// Prefixes of environment variables with credentials and settings, as the clouds' own tools read them.
const SETTING_PREFIXES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The TLS implementation for object stores: the only one in this program.
static TLS: LazyLock<()> = LazyLock::new(|| {
    // An error means that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
});

/// A folder or an object store prefix. Files are written whole or not at all.
#[derive(Clone)]
pub struct StorageLocation {
    backend: Backend,
    name: String,
}

#[derive(Clone)]
enum Backend {
    Folder(PathBuf),
    /// With the prefix of all names.
    Objects(Arc<dyn ObjectStore>, Path),
}

impl fmt::Debug for StorageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StorageLocation").field(&self.name).finish()
    }
}

impl fmt::Display for StorageLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl StorageLocation {
    /// True if [`Self::open`] reads the text as a URL.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// Opens a URL, or a folder, which is created.
    ///
    /// # Errors
    /// The URL is invalid or of an unknown scheme, or the folder cannot be created.
    pub fn open(text: &str) -> Result<Self> {
        let name = text.trim_end_matches('/').to_owned();
        if !Self::is_url(text) {
            atomic::make_folder(FilePath::new(text))?;
            return Ok(Self { backend: Backend::Folder(text.into()), name });
        }
        LazyLock::force(&TLS);
        let invalid = |problem: String| CorpusError::Storage {
            name: text.to_owned(),
            problem: format!(
                "{problem}; expected s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or a folder"
            ),
        };
        let url = Url::parse(text).map_err(|error| invalid(error.to_string()))?;
        let settings =
            std::env::vars().filter(|(name, _)| SETTING_PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
        let (store, root) = object_store::parse_url_opts(&url, settings).map_err(|error| invalid(error.to_string()))?;
        Ok(Self { backend: Backend::Objects(store.into(), root), name })
    }

    /// As [`Self::open`]; a folder that is made is for this user only.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_private(text: &str) -> Result<Self> {
        if !Self::is_url(text) {
            atomic::make_private_folder(FilePath::new(text))?;
        }
        Self::open(text)
    }

    /// Writes a file durably.
    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        match &self.backend {
            Backend::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || write(&path, &bytes)).await
            }
            Backend::Objects(store, root) => {
                let put = store.put(&below(root, name), PutPayload::from(bytes)).await;
                put.map(drop).map_err(|error| self.error(name, &error))
            }
        }
    }

    /// Copies a local file; a large one by multipart upload.
    pub(super) async fn upload(&self, name: &str, from: &FilePath) -> Result<()> {
        match &self.backend {
            Backend::Folder(_) => {
                let from = from.to_owned();
                let bytes = blocking(move || std::fs::read(&from).map_err(|error| CorpusError::io(&from, error)));
                self.put(name, bytes.await?).await
            }
            Backend::Objects(store, root) => {
                let mut file = tokio::fs::File::open(from).await.map_err(|error| CorpusError::io(from, error))?;
                let mut out = BufWriter::new(Arc::clone(store), below(root, name));
                let copied = async {
                    tokio::io::copy(&mut file, &mut out).await?;
                    out.shutdown().await
                };
                copied.await.map_err(|error| self.error(name, &error))
            }
        }
    }

    /// Reads a file; none if it does not exist.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match &self.backend {
            Backend::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(CorpusError::io(&path, error)),
                })
                .await
            }
            Backend::Objects(store, root) => {
                let found = async { store.get(&below(root, name)).await?.bytes().await };
                match found.await {
                    Ok(bytes) => Ok(Some(bytes.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(self.error(name, &error)),
                }
            }
        }
    }

    /// Names of the files below `folder`, relative to the root, sorted. In a local folder not recursive.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = match &self.backend {
            Backend::Folder(root) => {
                let path = root.join(folder);
                let found = blocking(move || Ok(atomic::names(&path)?)).await?;
                let complete = found.into_iter().filter(|(name, _)| !name.ends_with(atomic::TEMPORARY));
                complete.map(|(name, _)| format!("{folder}/{name}").trim_start_matches('/').to_owned()).collect()
            }
            Backend::Objects(store, root) => {
                let prefix = below(root, folder);
                let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
                let found: Vec<ObjectMeta> =
                    store.list(prefix.as_ref()).try_collect().await.map_err(|error| self.error(folder, &error))?;
                let relative = found.iter().filter_map(|meta| meta.location.prefix_match(root));
                relative.map(|parts| Path::from_iter(parts).to_string()).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    /// Deletes a file if it exists.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match &self.backend {
            Backend::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || Ok(atomic::remove(&path)?)).await
            }
            Backend::Objects(store, root) => match store.delete(&below(root, name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.error(name, &error)),
            },
        }
    }

    fn error(&self, name: &str, error: &dyn fmt::Display) -> CorpusError {
        CorpusError::Storage { name: format!("{}/{name}", self.name), problem: error.to_string() }
    }
}

fn below(root: &Path, name: &str) -> Path {
    Path::from_iter(root.parts().chain(Path::from(name).parts()))
}

fn write(path: &FilePath, bytes: &[u8]) -> Result<()> {
    if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
        atomic::make_folder(folder)?;
        atomic::write(folder, &name.to_string_lossy(), |out| io::Write::write_all(out, bytes))?;
    }
    Ok(())
}
