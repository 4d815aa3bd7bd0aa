//! Writes accepted documents from the store into shards.

use longhand_proto::DocumentId;

use super::{Corpus, CorpusError, Record, Result, blocking, shard};
use crate::domain::document::Document;
use crate::store::{self, Source};

/// Most documents of one shard: about 16 MB of the longest ones.
pub(super) const BATCH: u32 = 64;

const NOT_FINISHED: &str = "its state is accepted, but its text is not finished";

/// Counts of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Documents written to a shard.
    pub written: u64,
    /// Documents that the corpus held already, and that are now marked.
    pub known: u64,
    /// Documents that cannot be read, found now. They are named in the log and passed over from then on.
    pub unreadable: u64,
}

impl Corpus {
    /// Writes all accepted documents that the corpus does not hold yet. One that cannot be read does not keep the others out.
    ///
    /// # Errors
    /// The store failed, or a file cannot be written.
    pub async fn flush(&mut self, store: &dyn Source) -> Result<Flushed> {
        let mut total = Flushed::default();
        loop {
            let Flushed { written, known, unreadable } = self.flush_once(store).await?;
            if written + known + unreadable == 0 {
                return Ok(total);
            }
            total.written += written;
            total.known += known;
            total.unreadable += unreadable;
        }
    }

    /// Writes up to one shard of accepted documents. All counts are 0 if none was left.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn flush_once(&mut self, store: &dyn Source) -> Result<Flushed> {
        // Those that cannot be read stay at the head.
        let records = store.unflushed(&self.run.id, BATCH + self.unreadable.len() as u32).await?;
        self.flush_records(store, &records).await
    }

    /// Writes the shard, then the manifest, then the marks in the store.
    pub(super) async fn flush_records(&mut self, store: &dyn Source, stored: &[store::Record]) -> Result<Flushed> {
        if stored.is_empty() {
            return Ok(Flushed::default());
        }
        let before = self.unreadable.len();
        let written = self.write(stored).await?;
        let ids: Vec<DocumentId> =
            stored.iter().map(|record| record.id).filter(|id| !self.unreadable.contains_key(id)).collect();
        // Also without a document: a source that counts pages goes on to the next.
        store.mark_flushed(&self.run.id, &ids).await?;
        let unreadable = (self.unreadable.len() - before) as u64;
        Ok(Flushed { written, known: ids.len() as u64 - written, unreadable })
    }

    /// Writes shard and manifest only. Returns the number of documents written.
    pub(super) async fn write(&mut self, stored: &[store::Record]) -> Result<u64> {
        let mut records = Vec::with_capacity(stored.len());
        for stored in stored {
            let document = match document(stored) {
                Ok(document) if self.holds(document.id, document.round) => continue,
                Ok(document) => document,
                Err(error) => {
                    self.pass_over(stored.id, error.to_string());
                    continue;
                }
            };
            match Record::of(&document, &self.run, &self.recipe).filter(|_| document.is_accepted()) {
                Some(record) => records.push((record, document.round)),
                None => self.pass_over(stored.id, NOT_FINISHED.into()),
            }
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

    /// Remembers a document that cannot be read, and names it once.
    fn pass_over(&mut self, id: DocumentId, problem: String) {
        if !self.unreadable.contains_key(&id) {
            tracing::error!(run = %self.run.id, document = %id, problem, "the document cannot be exported; the others are");
            self.unreadable.insert(id, problem);
        }
    }
}

/// The document of a stored record.
pub(super) fn document(stored: &store::Record) -> Result<Document> {
    stored.document().map_err(|error| CorpusError::Document { id: stored.id, problem: error.to_string() })
}
