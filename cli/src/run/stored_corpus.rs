//! The documents of a corpus folder, whichever command wrote it.

use std::path::Path;
use std::sync::Arc;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::corpus::CorpusFolder;
use longhand_coordinator::store::{self, RedisOptions, SqliteStore, Store};
use longhand_proto::{RunId, clock};

use super::folder::Folder;
use super::temporary_folder::TemporaryFolder;

/// True if the folder holds a corpus, or a run that writes one.
pub(crate) fn is_corpus(dir: &Path) -> bool {
    Folder::is_run(dir) || dir.join("stats.json").is_file()
}

/// A run and the store that holds its documents.
#[derive(Debug)]
pub(crate) struct StoredCorpus {
    pub(crate) run: RunId,
    pub(crate) store: Arc<dyn Store>,
    /// Locked, so that no `longhand run` writes meanwhile.
    _folder: Option<Folder>,
    _temporary: Option<TemporaryFolder>,
}

impl StoredCorpus {
    /// Opens the folder's own store, or the `given` one. The documents of an exported or downloaded folder, which has no
    /// store, are read from its files.
    pub(crate) async fn open(dir: &Path, given: Option<&str>) -> Result<Self> {
        let folder = Folder::is_run(dir).then(|| Folder::reopen(dir)).transpose()?;
        let url = folder.as_ref().map(|folder| folder.store(given)).transpose();
        let url = if given.is_some() { url? } else { url.ok().flatten() };
        match (folder, url) {
            (Some(folder), Some(url)) => {
                let options = RedisOptions { allow_volatile: true, ..RedisOptions::default() };
                let store = store::open(&url, options).await.map_err(Failure::refused)?;
                Ok(Self { run: folder.identity.run.clone(), store, _folder: Some(folder), _temporary: None })
            }
            (folder, _) => {
                let corpus = CorpusFolder::open(dir).map_err(Failure::refused)?;
                let (run, temporary) = (corpus.run.id.clone(), TemporaryFolder::new("corpus")?);
                let store = SqliteStore::open(&temporary.path().join("store.sqlite"), clock::unix_ms);
                let store = store.map_err(Failure::refused)?;
                corpus.load(&store).await.map_err(Failure::refused)?;
                Ok(Self { run, store: Arc::new(store), _folder: folder, _temporary: Some(temporary) })
            }
        }
    }
}
