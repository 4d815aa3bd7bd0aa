//! Where a corpus lies when that may be far away: a folder, or a URL of an object store (`s3://`, `gs://`, `az://`).

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

/// Environment variables that say how to get in, as the clouds' own tools read them.
const SETTINGS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// Clouds are spoken to with the one implementation of TLS that this program has.
static TLS: LazyLock<()> = LazyLock::new(|| {
    // Somebody else may have chosen before: then theirs serves.
    drop(rustls::crypto::ring::default_provider().install_default());
});

/// A place for files that are whole or not there.
#[derive(Clone)]
pub struct Place {
    store: Store,
    name: String,
}

#[derive(Clone)]
enum Store {
    Folder(PathBuf),
    /// And the prefix of all names.
    Objects(Arc<dyn ObjectStore>, Path),
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.name).finish()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Place {
    /// True for what [`Self::open`] takes as a URL.
    pub fn is_url(text: &str) -> bool {
        text.contains("://")
    }

    /// A URL, or a folder, which is made.
    pub fn open(text: &str) -> Result<Self> {
        let name = text.trim_end_matches('/').to_owned();
        if !Self::is_url(text) {
            atomic::make_folder(FilePath::new(text))?;
            return Ok(Self { store: Store::Folder(text.into()), name });
        }
        LazyLock::force(&TLS);
        let refused = |problem: String| CorpusError::Place {
            name: text.to_owned(),
            problem: format!(
                "{problem}; want s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or a folder"
            ),
        };
        let url = Url::parse(text).map_err(|error| refused(error.to_string()))?;
        let settings = std::env::vars().filter(|(name, _)| SETTINGS.iter().any(|prefix| name.starts_with(prefix)));
        let (store, root) = object_store::parse_url_opts(&url, settings).map_err(|error| refused(error.to_string()))?;
        Ok(Self { store: Store::Objects(store.into(), root), name })
    }

    /// Writes a file, whole and durably.
    pub(super) async fn put(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        match &self.store {
            Store::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || write(&path, &bytes)).await
            }
            Store::Objects(store, root) => {
                let put = store.put(&below(root, name), PutPayload::from(bytes)).await;
                put.map(drop).map_err(|error| self.fault(name, &error))
            }
        }
    }

    /// Copies a file there; a large one in parts, which become a file together.
    pub(super) async fn upload(&self, name: &str, from: &FilePath) -> Result<()> {
        match &self.store {
            Store::Folder(_) => {
                let from = from.to_owned();
                let bytes = blocking(move || std::fs::read(&from).map_err(|error| CorpusError::io(&from, error)));
                self.put(name, bytes.await?).await
            }
            Store::Objects(store, root) => {
                let mut file = tokio::fs::File::open(from).await.map_err(|error| CorpusError::io(from, error))?;
                let mut out = BufWriter::new(Arc::clone(store), below(root, name));
                let copied = async {
                    tokio::io::copy(&mut file, &mut out).await?;
                    out.shutdown().await
                };
                copied.await.map_err(|error| self.fault(name, &error))
            }
        }
    }

    /// None if it is not there.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match &self.store {
            Store::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || match std::fs::read(&path) {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(CorpusError::io(&path, error)),
                })
                .await
            }
            Store::Objects(store, root) => {
                let found = async { store.get(&below(root, name)).await?.bytes().await };
                match found.await {
                    Ok(bytes) => Ok(Some(bytes.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(self.fault(name, &error)),
                }
            }
        }
    }

    /// Names of the files below a folder, relative to the root, sorted. Of a folder of this machine only those that
    /// stand in it directly.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>> {
        let mut names: Vec<String> = match &self.store {
            Store::Folder(root) => {
                let path = root.join(folder);
                let found = blocking(move || Ok(atomic::names(&path)?)).await?;
                let whole = found.into_iter().filter(|(name, _)| !name.ends_with(atomic::TEMPORARY));
                whole.map(|(name, _)| format!("{folder}/{name}").trim_start_matches('/').to_owned()).collect()
            }
            Store::Objects(store, root) => {
                let prefix = below(root, folder);
                let prefix = (!prefix.as_ref().is_empty()).then_some(prefix);
                let found: Vec<ObjectMeta> =
                    store.list(prefix.as_ref()).try_collect().await.map_err(|error| self.fault(folder, &error))?;
                let relative = found.iter().filter_map(|meta| meta.location.prefix_match(root));
                relative.map(|parts| Path::from_iter(parts).to_string()).collect()
            }
        };
        names.sort();
        Ok(names)
    }

    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        match &self.store {
            Store::Folder(folder) => {
                let path = folder.join(name);
                blocking(move || Ok(atomic::remove(&path)?)).await
            }
            Store::Objects(store, root) => match store.delete(&below(root, name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(error) => Err(self.fault(name, &error)),
            },
        }
    }

    fn fault(&self, name: &str, error: &dyn fmt::Display) -> CorpusError {
        CorpusError::Place { name: format!("{}/{name}", self.name), problem: error.to_string() }
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
