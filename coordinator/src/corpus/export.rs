//! Writes the export folder from shards and store: one pass over the run's documents in order of submission, then one over
//! the records in the same order. The same corpus gives the same bytes; memory holds a few documents at a time.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use longhand_proto::DocumentId;
use serde_json::{Map, Value};

use super::dataset::DatasetWriter;
use super::flush::document;
use super::rejections::{Failed, Rejected};
use super::shard::ShardIndex;
use super::split::Clusters;
use super::{
    Corpus, CorpusError, Format, Limits, Packing, Record, Result, RunTiming, Stats, TokenCount, blocking, card,
    replace_export,
};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::files::atomic;
use crate::store::{self, Attempt, Filter, Run, Source};
use crate::text::filter::{NEAR_DUPLICATE, NearDuplicateIndex};
use crate::text::shingles;

/// Documents of one page: about 8 MB of the longest ones.
const PAGE: u32 = 32;

/// Options of an export.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Format of the data files.
    pub format: Format,
    /// Share of the records for the validation split, 0 to 1.
    pub validation: f64,
    /// With a tokenizer, `stats.json` says how records fill a trainer's context window.
    pub tokens: Option<TokenCount>,
    /// Measured time of the run, for `stats.json`.
    pub timing: Option<RunTiming>,
    /// Sizes of the data files.
    pub limits: Limits,
}

impl Options {
    /// Defaults, with the measured time of the run.
    pub fn with_timing(timing: RunTiming) -> Self {
        Self { timing: Some(timing), ..Self::default() }
    }
}

impl Corpus {
    /// Flushes, then replaces the export in the corpus's own folder.
    ///
    /// # Errors
    /// As [`Self::export_to`].
    pub async fn export(&mut self, store: &dyn Source) -> Result<Stats> {
        let dir = self.dir.clone();
        self.export_to(store, &dir, &Options::default()).await
    }

    /// Flushes, then replaces the export in the folder `into`. After an error the earlier export is unchanged.
    ///
    /// # Errors
    /// The store failed, a shard is damaged, or a file cannot be written. A document that cannot be read is passed over: it is
    /// listed in `failed.jsonl`, class `unreadable`.
    pub async fn export_to(&mut self, store: &dyn Source, into: &Path, options: &Options) -> Result<Stats> {
        self.flush(store).await?;
        let result = match self.build(store, into, options).await {
            Ok(stats) => {
                let dir = into.to_owned();
                blocking(move || replace_export::commit(&dir)).await.map(|()| stats)
            }
            Err(error) => Err(error),
        };
        if result.is_err() {
            // The first error is reported. What remains is removed by the next export.
            drop(replace_export::abandon(into));
        }
        result
    }

    /// Writes a complete export next to the current one.
    pub(super) async fn build(&mut self, store: &dyn Source, into: &Path, options: &Options) -> Result<Stats> {
        let mut index = ShardIndex::default();
        let mut indexed = 0;
        let (dir, run, recipe) = (into.to_owned(), self.run.clone(), self.recipe.clone());
        let mut out = blocking(move || Export::begin(&dir, run, recipe)).await?;
        let mut stats = Stats::new(&self.run, options.timing);
        let mut others = NearDuplicateIndex::new();
        let most = NEAR_DUPLICATE.threshold(&self.recipe.filters).unwrap_or(1.0);
        let mut after = None;
        loop {
            let page = store.list(&self.run.id, &Filter::default(), after, PAGE).await?;
            let (mut rows, mut unreadable) = (Vec::with_capacity(page.records.len()), Vec::new());
            for mut stored in page.records {
                let mut document = match self.readable(store, &stored).await? {
                    Ok(document) => document,
                    Err(problem) => {
                        stats.add_unreadable();
                        unreadable.push((stored.id, problem));
                        continue;
                    }
                };
                let attempts = store.attempts(stored.id).await?;
                if let Some(rule) = duplicate(&mut document, &mut others, most) {
                    stored.state = State::Rejected;
                    stored.reason = rule.into();
                }
                stats.add(stored.state, &stored.reason, &document, &attempts);
                rows.push(Row { stored, document, attempts });
            }
            let (shards, new) = (self.shards(), self.entries()[indexed..].to_vec());
            indexed += new.len();
            (out, index) = blocking(move || {
                new.iter().try_for_each(|entry| index.add(&shards, entry))?;
                rows.iter().try_for_each(|row| out.add(row))?;
                unreadable.iter().try_for_each(|(id, problem)| out.add_unreadable(*id, problem))?;
                Ok((out, index))
            })
            .await?;
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let (shards, options) = (self.shards(), options.clone());
        blocking(move || {
            out.write_data(&mut stats, &options, &index, &shards)?;
            let card = card::text(&stats, &out.recipe, options.format, out.first.as_ref());
            out.finish(&stats, &card)?;
            Ok(stats)
        })
        .await
    }

    /// The document of a record, held by a shard if it is accepted; or why it is passed over.
    async fn readable(&mut self, store: &dyn Source, stored: &store::Record) -> Result<Result<Document, String>> {
        let document = match document(stored) {
            Ok(document) => document,
            Err(error) => return Ok(Err(error.to_string())),
        };
        if stored.state == State::Accepted && !self.holds(document.id, document.round) {
            // Accepted since the flush, or marked by a corpus that was deleted.
            self.flush_records(store, std::slice::from_ref(stored)).await?;
        }
        if let Some(problem) = self.unreadable.get(&stored.id) {
            return Ok(Err(problem.clone()));
        }
        if stored.state == State::Rejected && Rejected::of(&document, &self.run, &self.recipe).is_none() {
            return Ok(Err("its state is rejected, but it has no verdict".into()));
        }
        Ok(Ok(document))
    }
}

/// Rejects an accepted document that is a near duplicate of an earlier one, and returns the rule.
fn duplicate(document: &mut Document, others: &mut NearDuplicateIndex, most: f64) -> Option<&'static str> {
    let Progress::Finished { text, verdict: verdict @ Verdict::Accepted, .. } = &mut document.progress else {
        return None;
    };
    let measured = others.measure(document.id, text, most);
    let rule = measured.fired.then_some(measured.rule)?;
    *verdict = measured.rejected();
    Some(rule)
}

/// One document of a page.
#[derive(Debug)]
struct Row {
    stored: store::Record,
    document: Document,
    attempts: Vec<Attempt>,
}

/// The files of an export while they are written.
#[derive(Debug)]
struct Export {
    run: Run,
    recipe: Recipe,
    folder: PathBuf,
    accepted: Vec<Accepted>,
    clusters: Clusters,
    rejected: BufWriter<File>,
    failed: BufWriter<File>,
    /// The first accepted document, for the card.
    first: Option<Document>,
}

/// A record that goes into the data files.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    id: DocumentId,
    /// Equal for all candidates of one instruction, which are consecutive.
    instruction: u64,
}

const TRAIN: &str = "train";
const VALIDATION: &str = "validation";
const REJECTED: &str = "rejected.jsonl";
const FAILED: &str = "failed.jsonl";

impl Export {
    fn begin(dir: &Path, run: Run, recipe: Recipe) -> Result<Self> {
        let folder = replace_export::begin(dir)?;
        let create = |name: &str| {
            let path = folder.join(name);
            File::create(&path).map(BufWriter::new).map_err(|error| CorpusError::io(&path, error))
        };
        Ok(Self {
            run,
            recipe,
            accepted: Vec::new(),
            clusters: Clusters::new(),
            rejected: create(REJECTED)?,
            failed: create(FAILED)?,
            folder,
            first: None,
        })
    }

    fn add(&mut self, row: &Row) -> Result<()> {
        let Row { stored, document, attempts } = row;
        let at = |name: &str| {
            let path = self.folder.join(name);
            move |error| CorpusError::io(&path, error)
        };
        match stored.state {
            State::Accepted => {
                let instruction = shingles::fingerprint(&document.instruction.identity());
                self.accepted.push(Accepted { id: document.id, instruction });
                self.clusters.add(&document.instruction.text());
                if self.first.is_none() {
                    self.first = Some(document.clone());
                }
            }
            State::Rejected => {
                if let Some(row) = Rejected::of(document, &self.run, &self.recipe) {
                    atomic::json_line(&mut self.rejected, &row).map_err(at(REJECTED))?;
                }
            }
            State::Failed => {
                let row = Failed::of(stored, document, attempts);
                atomic::json_line(&mut self.failed, &row).map_err(at(FAILED))?;
            }
            State::Ready | State::Leased | State::Delayed | State::Cancelled => {}
        }
        Ok(())
    }

    /// A document that cannot be read is listed among those that failed.
    fn add_unreadable(&mut self, id: DocumentId, problem: &str) -> Result<()> {
        let row = Failed::unreadable(id, problem);
        atomic::json_line(&mut self.failed, &row).map_err(|error| CorpusError::io(&self.folder.join(FAILED), error))
    }

    /// Writes the data files and adds their counts to `stats`.
    fn write_data(&self, stats: &mut Stats, options: &Options, index: &ShardIndex, shards: &Path) -> Result<()> {
        let dataset =
            |split| DatasetWriter::new(self.folder.join(replace_export::DATA), split, options.format, options.limits);
        let mut splits = [(TRAIN, dataset(TRAIN), 0u64), (VALIDATION, dataset(VALIDATION), 0)];
        let in_validation = self.clusters.validation(options.validation, stats.seed);
        let mut lengths = Vec::new();
        let mut at = 0;
        for candidates in self.accepted.chunk_by(|one, next| one.instruction == next.instruction) {
            let (_, dataset, count) = &mut splits[usize::from(in_validation[at])];
            at += candidates.len();
            let lines = candidates.iter().map(|it| line(index, shards, it.id)).collect::<Result<Vec<_>>>()?;
            let records = || lines.iter().map(|line| record(line)).collect::<Result<Vec<Record>>>();
            if let Some(tokens) = &options.tokens {
                lengths.extend(records()?.iter().map(|record| (tokens.count)(&record.messages)));
            }
            if options.format.extensions().contains(&"parquet") {
                lines.iter().try_for_each(|line| dataset.add(line))?;
                *count += lines.len() as u64;
            } else {
                for row in options.format.rows(&records()?) {
                    dataset.add(row.to_string().as_bytes())?;
                    *count += 1;
                }
            }
        }
        stats.packing = options.tokens.as_ref().and_then(|tokens| Packing::of(&tokens.name, lengths));
        let mut entries = Map::new();
        if splits[0].2 == 0 {
            // Pairs may be found for the instructions of one split only: that one is the training split.
            splits.swap(0, 1);
        }
        for (split, (_, dataset, count)) in [TRAIN, VALIDATION].into_iter().zip(splits) {
            if count == 0 {
                continue;
            }
            dataset.finish(split)?;
            if let Some(mut entry) = options.format.llama_factory() {
                // The folder itself, as `datasets.load_dataset` reads it by its card: one entry, however many files there are.
                entry["script_url"] = ".".into();
                entry["split"] = split.into();
                let name = if split == TRAIN { stats.run.to_string() } else { format!("{}-{split}", stats.run) };
                entries.insert(name, entry);
            }
            stats.splits.insert(split.into(), count);
        }
        json(&self.folder, "dataset_info.json", &Value::Object(entries))
    }

    fn finish(self, stats: &Stats, card: &str) -> Result<()> {
        let Self { run, folder, rejected, failed, .. } = self;
        for (name, file) in [(REJECTED, rejected), (FAILED, failed)] {
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)
                .and_then(|file| file.sync_all())
                .map_err(|error| CorpusError::io(&folder.join(name), error))?;
        }
        json(&folder, "stats.json", stats)?;
        for (name, content) in [("recipe.toml", run.recipe.as_str()), ("README.md", card)] {
            atomic::write(&folder, name, |out| io::Write::write_all(out, content.as_bytes()))?;
        }
        Ok(())
    }
}

fn json(folder: &Path, name: &str, value: &impl serde::Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| CorpusError::io(folder, error.into()))?;
    text.push(b'\n');
    Ok(atomic::write(folder, name, |out| io::Write::write_all(out, &text))?)
}

fn line(index: &ShardIndex, shards: &Path, id: DocumentId) -> Result<Vec<u8>> {
    let problem = "it is marked as flushed, but no shard holds it";
    index.read(shards, id)?.ok_or_else(|| CorpusError::Document { id, problem: problem.into() })
}

fn record(line: &[u8]) -> Result<Record> {
    serde_json::from_slice(line).map_err(|error| CorpusError::io(Path::new("a shard"), error.into()))
}
