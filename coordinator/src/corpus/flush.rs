//! From the store into shards.

use longhand_proto::DocumentId;

use super::{Corpus, CorpusError, Record, Result, blocking, shard};
use crate::domain::document::Document;
use crate::store::{self, Source};

/// Most documents of one shard: about 16 MB of the longest ones.
pub(super) const BATCH: u32 = 64;

/// What a flush did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Documents written to a shard now.
    pub written: u64,
    /// Documents that the corpus held already; they are marked now.
    pub known: u64,
}

impl Corpus {
    /// Writes all accepted documents that the corpus does not hold yet.
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

    /// Writes up to one shard of accepted documents. Both numbers are 0 if nothing was left to do.
    pub async fn flush_once(&mut self, store: &dyn Source) -> Result<Flushed> {
        let records = store.unflushed(&self.run.id, BATCH).await?;
        self.keep(store, &records).await
    }

    /// Shard, manifest, mark: in this order.
    pub(super) async fn keep(&mut self, store: &dyn Source, stored: &[store::Record]) -> Result<Flushed> {
        if stored.is_empty() {
            return Ok(Flushed::default());
        }
        let ids: Vec<DocumentId> = stored.iter().map(|record| record.id).collect();
        let written = self.write(stored).await?;
        store.mark_flushed(&self.run.id, &ids).await?;
        Ok(Flushed { written, known: ids.len() as u64 - written })
    }

    /// Shard and manifest only. Returns the number of documents written.
    pub(super) async fn write(&mut self, stored: &[store::Record]) -> Result<u64> {
        let mut records = Vec::with_capacity(stored.len());
        for stored in stored {
            let document = document(stored)?;
            if self.holds(document.id, document.round) {
                continue;
            }
            let record = Record::of(&document, &self.run, &self.recipe).ok_or_else(|| CorpusError::Document {
                id: stored.id,
                problem: "it is listed as accepted, but its body is not finished".into(),
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
        self.take(entry);
        Ok(written)
    }
}

/// The document of a stored record.
pub(super) fn document(stored: &store::Record) -> Result<Document> {
    stored.document().map_err(|error| CorpusError::Document { id: stored.id, problem: error.to_string() })
}
