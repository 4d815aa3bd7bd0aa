//! Restores documents that the store has lost from the records of the corpus.

use longhand_proto::task::{ModelInfo, Usage};

use super::shard::ShardIndex;
use super::{Corpus, CorpusError, Record, Result, SectionRecord, SummaryRecord, blocking};
use crate::domain::document::{Document, Progress, Section, Verdict, add_usage};
use crate::domain::plan::Plan;
use crate::domain::state::State;
use crate::store::cas::{cas_loop, read};
use crate::store::{Filter, Store, StoreError};

/// Documents of one page.
const PAGE: u32 = 256;

impl Corpus {
    /// Marks waiting documents as accepted where the corpus holds them: the store was emptied, and the rows were submitted
    /// again. Returns their number.
    ///
    /// # Errors
    /// The store failed, or a shard is damaged.
    pub async fn restore(&self, store: &dyn Store) -> Result<u64> {
        let mut waiting = Vec::new();
        let (filter, mut after) = (Filter { state: Some(State::Ready), reason: None }, None);
        loop {
            let page = store.list(&self.run.id, &filter, after, PAGE).await?;
            waiting.extend(page.records.iter().map(|record| record.id).filter(|id| self.rounds.contains_key(id)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if waiting.is_empty() {
            return Ok(0);
        }
        let (shards, entries) = (self.shards(), self.entries().to_vec());
        let lines = blocking(move || {
            let mut index = ShardIndex::default();
            entries.iter().try_for_each(|entry| index.add(&shards, entry))?;
            waiting.into_iter().map(|id| Ok((id, index.read(&shards, id)?))).collect::<Result<Vec<_>>>()
        });
        let mut restored = 0;
        for (id, line) in lines.await? {
            let (Some(line), Some(round)) = (line, self.rounds.get(&id)) else { continue };
            let record = serde_json::from_slice(&line)
                .map_err(|error| CorpusError::Document { id, problem: error.to_string() })?;
            restored += u64::from(restore(store, &record, *round).await?);
        }
        Ok(restored)
    }
}

/// Finishes a document with the text of `record`. Returns false if work on it has begun since it was submitted, or if the
/// store does not know it.
pub(super) async fn restore(store: &dyn Store, record: &Record, round: u32) -> Result<bool> {
    let Some(stored) = store.get(record.id).await? else { return Ok(false) };
    let decide = |stored: &crate::store::Record| {
        let mut document = read(stored)?;
        let untouched = document.round == 0 && matches!(document.progress, Progress::Planning { .. });
        if stored.state.is_terminal() || !untouched {
            return Err("already being written".to_owned());
        }
        document.round = round;
        finish(&mut document, record, Verdict::Accepted).map_err(|error| error.to_string())?;
        Ok((document, State::Accepted, ()))
    };
    Ok(cas_loop(store, stored, false, decide).await?.is_ok())
}

/// Makes the document what it was when the record was written, without timings, which a record does not hold.
///
/// # Errors
/// A seed of the record is no number.
pub(super) fn finish(document: &mut Document, record: &Record, verdict: Verdict) -> Result<(), StoreError> {
    let text = record.messages.last().map(|message| message.content.clone()).unwrap_or_default();
    let sections =
        record.sections.iter().map(|section| self::section(section, record)).collect::<Result<Vec<_>, _>>()?;
    let provenance = record.provenance.clone();
    document.summaries = record.summaries.iter().map(SummaryRecord::summary).collect();
    document.usage = Usage::default();
    sections.iter().for_each(|section| add_usage(&mut document.usage, section.usage));
    document.model = Some(ModelInfo {
        name: provenance.model,
        weights_hash: provenance.weights_hash,
        tokenizer_hash: provenance.tokenizer_hash,
        licence: provenance.licence,
        engine: provenance.engine,
        device: provenance.device,
        context: 0,
        sampling: provenance.recommended_sampling.unwrap_or_default(),
    });
    let votes = record.judge.iter().flat_map(|judged| &judged.votes).map(vote).collect();
    let plan = Plan { steps: record.plan.clone() };
    document.progress = Progress::Finished { plan, sections, text, verdict, votes };
    Ok(())
}

fn section(section: &SectionRecord, record: &Record) -> Result<Section, StoreError> {
    let seed = section.seed.parse().map_err(|_| {
        let seed = &section.seed;
        StoreError::Other(format!("record {}: invalid seed {seed:?}: expected a number", record.id))
    })?;
    Ok(section.section(seed))
}

fn vote(record: &super::VoteRecord) -> crate::domain::judge::Vote {
    let super::VoteRecord { scores, problem, attempt, worker, model, weights_hash, seed } = record.clone();
    let (seed, usage) = (seed.parse().unwrap_or(0), Usage::default());
    crate::domain::judge::Vote { scores, problem, attempt, worker, model, weights_hash, seed, usage }
}
