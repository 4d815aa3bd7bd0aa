//! Writes accepted documents from the store into shards.

use longhand_proto::DocumentId;

use super::{Corpus, CorpusError, Record, Result, blocking, shard};
use crate::domain::document::Document;
use crate::store::{self, Source};

/// Most documents of one shard: about 16 MB of the longest ones.
pub(super) const BATCH: u32 = 64;

/// Counts of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Documents written to a shard.
    pub written: u64,
    /// Documents that the corpus held already, and that are now marked.
    pub known: u64,
}

impl Corpus {
    /// Writes all accepted documents that the corpus does not hold yet.
    ///
    /// # Errors
    /// The store failed, holds an invalid document, or a file cannot be written.
    pub async fn flush(&mut self, store: &dyn Source) -> Result<Flushed> {
        let mut total = Flushed::default();
        loop {
            let Flushed { written, known } = self.flush_once(store).await?;
            if written + known == 0 {
                return Ok(total);
            }
            total.written += written;
            total.known += known;
        }
    }

    /// Writes up to one shard of accepted documents. Both counts are 0 if none was left.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn flush_once(&mut self, store: &dyn Source) -> Result<Flushed> {
        let records = store.unflushed(&self.run.id, BATCH).await?;
        self.flush_records(store, &records).await
    }

    /// Writes the shard, then the manifest, then the marks in the store.
    pub(super) async fn flush_records(&mut self, store: &dyn Source, stored: &[store::Record]) -> Result<Flushed> {
        if stored.is_empty() {
            return Ok(Flushed::default());
        }
        let ids: Vec<DocumentId> = stored.iter().map(|record| record.id).collect();
        let written = self.write(stored).await?;
        store.mark_flushed(&self.run.id, &ids).await?;
        Ok(Flushed { written, known: ids.len() as u64 - written })
    }

    /// Writes shard and manifest only. Returns the number of documents written.
    pub(super) async fn write(&mut self, stored: &[store::Record]) -> Result<u64> {
        let mut records = Vec::with_capacity(stored.len());
        for stored in stored {
            let document = document(stored)?;
            if self.holds(document.id, document.round) {
                continue;
            }
            let record = Record::of(&document, &self.run, &self.recipe).filter(|_| document.is_accepted());
            let record = record.ok_or_else(|| CorpusError::Document {
                id: stored.id,
                problem: "its state is accepted, but its text is not finished".into(),
            })?;
            records.push((record, document.round));
        }
        if records.is_empty() {
            return Ok(0);
        }
        let written = records.len() as u64;
        let (folder, number, manifest) = (self.shards(), self.next, self.manifest.clone());
        let (entry, manifest) = blocking(move || {
            let entry = shard::write(&folder, number, &records)?;
            let manifest = manifest.append(&entry)?;
            Ok((entry, manifest))
        })
        .await?;
        self.manifest = manifest;
        self.add_entry(entry);
        Ok(written)
    }
}

/// The document of a stored record.
pub(super) fn document(stored: &store::Record) -> Result<Document> {
    stored.document().map_err(|error| CorpusError::Document { id: stored.id, problem: error.to_string() })
}
