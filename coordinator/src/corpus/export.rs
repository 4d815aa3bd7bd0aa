//! From shards and store into the folder that users load: one pass over the run's documents in order of submission, so
//! the same corpus gives the same bytes, in the memory of a few documents.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::dataset::{Dataset, Limits};
use super::flush::document;
use super::lists::{Failed, Rejected};
use super::shard::Index;
use super::{Corpus, CorpusError, Result, Stats, Wall, atomic, blocking, card, install};
use crate::document::Document;
use crate::store::{Attempt, Filter, Record, Source, State};

/// Documents of one page: about 8 MB of the longest ones.
const PAGE: u32 = 32;

/// What an export may be told.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    pub wall: Option<Wall>,
    pub(super) limits: Limits,
}

impl Options {
    /// With the time that the run took, for `stats.json`.
    pub fn with_wall(wall: Wall) -> Self {
        Self { wall: Some(wall), ..Self::default() }
    }
}

impl Corpus {
    /// Flushes, then writes the whole export into the corpus's own folder, in the place of an earlier one.
    pub async fn export(&mut self, store: &dyn Source) -> Result<Stats> {
        let dir = self.dir.clone();
        self.export_to(store, &dir, &Options::default()).await
    }

    /// The same into another folder.
    pub async fn export_to(&mut self, store: &dyn Source, into: &Path, options: &Options) -> Result<Stats> {
        self.flush(store).await?;
        let result = match self.build(store, into, options).await {
            Ok(stats) => {
                let dir = into.to_owned();
                blocking(move || install::commit(&dir)).await.map(|()| stats)
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            // The export's own error is the one to report. What is left here now is removed by the next export.
            drop(install::abandon(into));
        }
        result
    }

    /// Writes a whole export beside the one that stands.
    pub(super) async fn build(&mut self, store: &dyn Source, into: &Path, options: &Options) -> Result<Stats> {
        let mut index = Index::default();
        let mut indexed = 0;
        let (dir, limits) = (into.to_owned(), options.limits);
        let mut out = blocking(move || Export::begin(&dir, limits)).await?;
        let mut stats = Stats::new(&self.run, options.wall);
        let mut after = None;
        loop {
            let page = store.list(&self.run.id, &Filter::default(), after, PAGE).await?;
            let mut rows = Vec::with_capacity(page.records.len());
            for stored in page.records {
                let document = document(&stored)?;
                let attempts = store.attempts(stored.id).await?;
                if stored.state == State::Accepted && !self.holds(document.id, document.round) {
                    // Accepted since the flush, or marked in a corpus that is no more.
                    self.keep(store, std::slice::from_ref(&stored)).await?;
                }
                stats.add(stored.state, &stored.reason, &document, &attempts);
                rows.push(Row { stored, document, attempts });
            }
            let (shards, new) = (self.shards(), self.entries()[indexed..].to_vec());
            indexed += new.len();
            (out, index) = blocking(move || {
                new.iter().try_for_each(|entry| index.add(&shards, entry))?;
                rows.iter().try_for_each(|row| out.add(row, &index, &shards))?;
                Ok((out, index))
            })
            .await?;
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let (recipe, end) = (self.run.recipe.clone(), stats.clone());
        let card = card::text(&stats, &self.recipe, out.model.as_ref());
        blocking(move || out.finish(&recipe, &end, &card)).await?;
        Ok(stats)
    }
}

/// One document of a page.
#[derive(Debug)]
struct Row {
    stored: Record,
    document: Document,
    attempts: Vec<Attempt>,
}

/// The files of an export, being written.
#[derive(Debug)]
struct Export {
    folder: PathBuf,
    dataset: Dataset,
    rejected: BufWriter<File>,
    failed: BufWriter<File>,
    /// What wrote the first accepted document, for the card.
    model: Option<longhand_proto::task::ModelInfo>,
}

const REJECTED: &str = "rejected.jsonl";
const FAILED: &str = "failed.jsonl";

impl Export {
    fn begin(dir: &Path, limits: Limits) -> Result<Self> {
        let folder = install::begin(dir)?;
        let create = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map(BufWriter::new).map_err(|error| CorpusError::io(&path, error))
        };
        Ok(Self {
            dataset: Dataset::new(folder.join(install::DATA), limits),
            rejected: create(REJECTED)?,
            failed: create(FAILED)?,
            folder,
            model: None,
        })
    }

    fn add(&mut self, row: &Row, index: &Index, shards: &Path) -> Result<()> {
        let Row { stored, document, attempts } = row;
        let at = |name: &str| {
            let path = self.folder.join(name);
            move |error| CorpusError::io(&path, error)
        };
        match stored.state {
            State::Accepted => {
                let line = index.read(shards, document.id)?.ok_or_else(|| CorpusError::Document {
                    id: document.id,
                    problem: "it was flushed, but no shard holds it".into(),
                })?;
                self.dataset.add(&line)?;
                if self.model.is_none() {
                    self.model.clone_from(&document.model);
                }
            }
            State::Rejected => {
                let row = Rejected::of(document).ok_or_else(|| CorpusError::Document {
                    id: document.id,
                    problem: "it is listed as rejected, but its body has no verdict".into(),
                })?;
                atomic::json_line(&mut self.rejected, &row).map_err(at(REJECTED))?;
            }
            State::Failed => {
                let row = Failed::of(stored, document, attempts);
                atomic::json_line(&mut self.failed, &row).map_err(at(FAILED))?;
            }
            State::Ready | State::Leased | State::Delayed | State::Cancelled => {}
        }
        Ok(())
    }

    fn finish(self, recipe: &str, stats: &Stats, card: &str) -> Result<()> {
        let Self { folder, dataset, rejected, failed, model: _ } = self;
        dataset.finish()?;
        for (name, file) in [(REJECTED, rejected), (FAILED, failed)] {
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .map_err(|error| CorpusError::io(&folder.join(name), error))?;
        }
        let mut json = serde_json::to_vec_pretty(stats).map_err(|e| CorpusError::io(&folder, e.into()))?;
        json.push(b'\n');
        for (name, content) in
            [("stats.json", json.as_slice()), ("recipe.toml", recipe.as_bytes()), ("README.md", card.as_bytes())]
        {
            atomic::write(&folder, name, |out| io::Write::write_all(out, content))?;
        }
        Ok(())
    }
}
