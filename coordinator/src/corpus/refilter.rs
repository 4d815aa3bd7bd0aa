//! Judges the written documents of a run anew, with the filters of another recipe. No model writes or votes again.

use std::collections::HashMap;
use std::thread;

use async_trait::async_trait;
use longhand_proto::{DocumentId, RunId};
use serde::Serialize;
use tokio::sync::Mutex;

use super::{Result, blocking};
use crate::domain::document::{Document, Progress, Verdict};
use crate::domain::judge;
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::SCORE_QUALITY;
use crate::store::{self, Attempt, Filter, Page, Record, Run, Source, StoreError};
use crate::text::filter::{self, NEAR_DUPLICATE, NearDuplicateIndex};

/// Documents of one page.
const PAGE: u32 = 64;

/// A run as another recipe filters it: what an export reads of it, and what moved. The source does not change.
#[derive(Debug)]
pub struct Refiltered<'a> {
    source: &'a dyn Source,
    run: Run,
    /// The verdicts that differ from the stored ones.
    verdicts: HashMap<DocumentId, Verdict>,
    /// Documents with a verdict, those accepted before, and those accepted now.
    pub documents: u64,
    pub accepted_before: u64,
    pub accepted_now: u64,
    /// What moved, in the order in which the rules are asked. Rules that reject nothing, before or now, are left out.
    pub rules: Vec<RuleMoves>,
    /// Place in the order of submission up to which accepted documents were written, and up to which they were handed out.
    written: Mutex<(Option<u64>, Option<u64>)>,
}

/// What another threshold does to the documents of one rule. Field names are those of `longhand filter --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleMoves {
    /// Name of the rule.
    pub rule: String,
    /// Its threshold in the run's recipe; none where it is off, or no rule of this version.
    pub threshold_before: Option<f64>,
    /// Its threshold now.
    pub threshold_now: Option<f64>,
    /// Documents that it rejected before.
    pub rejected_before: u64,
    /// Documents that it rejects now.
    pub rejected_now: u64,
    /// Documents that it rejected, and that are accepted now.
    pub newly_accepted: u64,
    /// Documents that were accepted, and that it rejects now.
    pub newly_rejected: u64,
}

impl<'a> Refiltered<'a> {
    /// Judges every document of the run with the filters of `recipe`, and the least score of its judge. All else of the run's
    /// own recipe stays: it says how the texts were written.
    ///
    /// # Errors
    /// There is no such run, the source failed, or it holds an invalid document.
    pub async fn judge(source: &'a dyn Source, run: &RunId, recipe: &Recipe) -> Result<Self> {
        let mut run =
            source.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
        let before = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
        let mut now = Recipe { filters: recipe.filters.clone(), ..before.clone() };
        now.judge.min = recipe.judge.min;
        (run.recipe, run.recipe_hash) = (now.to_toml(), now.hash());
        let mut tally = Tally::new(before, now.clone());
        let mut after = None;
        loop {
            let page = source.list(&run.id, &Filter::default(), after, PAGE).await?;
            let documents = page.records.iter().map(super::flush::document).collect::<Result<Vec<_>>>()?;
            let recipe = now.clone();
            let judged = blocking(move || Ok(verdicts(documents, &recipe))).await?;
            judged.into_iter().for_each(|(document, verdict)| tally.add(&document, verdict));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let rules = tally.moves();
        let Tally { verdicts, documents, accepted_before, accepted_now, .. } = tally;
        let written = Mutex::default();
        Ok(Self { source, run, verdicts, documents, accepted_before, accepted_now, rules, written })
    }

    /// The run with the recipe that the corpus is filtered with.
    pub const fn run(&self) -> &Run {
        &self.run
    }

    /// The record with the document's verdict now.
    fn refiltered(&self, record: Record) -> store::Result<Record> {
        let Some(verdict) = self.verdicts.get(&record.id) else { return Ok(record) };
        let mut document = record.document().map_err(|error| StoreError::Other(error.to_string()))?;
        let Progress::Finished { verdict: stored, .. } = &mut document.progress else { return Ok(record) };
        stored.clone_from(verdict);
        let (state, reason) = match verdict {
            Verdict::Accepted => (State::Accepted, String::new()),
            Verdict::Rejected { rule, .. } => (State::Rejected, rule.clone()),
        };
        let body = serde_json::to_string(&document).map_err(|error| StoreError::Other(error.to_string()))?;
        Ok(Record { state, reason, body, ..record })
    }
}

#[async_trait]
impl Source for Refiltered<'_> {
    async fn run(&self, id: &RunId) -> store::Result<Option<Run>> {
        Ok((*id == self.run.id).then(|| self.run.clone()))
    }

    async fn attempts(&self, document: DocumentId) -> store::Result<Vec<Attempt>> {
        self.source.attempts(document).await
    }

    async fn list(&self, run: &RunId, filter: &Filter, after: Option<u64>, limit: u32) -> store::Result<Page> {
        let page = self.source.list(run, &Filter::default(), after, limit).await?;
        let records =
            page.records.into_iter().map(|record| self.refiltered(record)).collect::<store::Result<Vec<_>>>()?;
        let selected = |record: &Record| {
            filter.state.is_none_or(|state| state == record.state)
                && filter.reason.as_ref().is_none_or(|reason| *reason == record.reason)
        };
        Ok(Page { records: records.into_iter().filter(selected).collect(), next: page.next })
    }

    async fn unflushed(&self, run: &RunId, limit: u32) -> store::Result<Vec<Record>> {
        let mut written = self.written.lock().await;
        let filter = Filter { state: Some(State::Accepted), reason: None };
        let (mut after, mut found) = (written.0, Vec::new());
        loop {
            let page = self.list(run, &filter, after, limit - found.len() as u32).await?;
            found.extend(page.records);
            after = page.next.or_else(|| found.last().map(|record| record.seq));
            if page.next.is_none() || found.len() as u32 == limit {
                written.1 = after;
                return Ok(found);
            }
        }
    }

    async fn mark_flushed(&self, _: &RunId, _: &[DocumentId]) -> store::Result<Vec<DocumentId>> {
        let mut written = self.written.lock().await;
        written.0 = written.1.take().or(written.0);
        Ok(Vec::new())
    }
}

/// What moves, while the documents pass in the order of submission.
struct Tally {
    before: Recipe,
    now: Recipe,
    /// Near duplicates are decided at the export, with each recipe's own threshold among the documents that it accepts.
    others_before: NearDuplicateIndex,
    others_now: NearDuplicateIndex,
    verdicts: HashMap<DocumentId, Verdict>,
    documents: u64,
    accepted_before: u64,
    accepted_now: u64,
    rules: HashMap<String, RuleMoves>,
}

impl Tally {
    fn new(before: Recipe, now: Recipe) -> Self {
        let (others_before, others_now) = (NearDuplicateIndex::new(), NearDuplicateIndex::new());
        let (verdicts, rules) = (HashMap::new(), HashMap::new());
        let (documents, accepted_before, accepted_now) = (0, 0, 0);
        Self { before, now, others_before, others_now, verdicts, documents, accepted_before, accepted_now, rules }
    }

    fn add(&mut self, document: &Document, verdict: Option<Verdict>) {
        let Progress::Finished { text, verdict: stored, .. } = &document.progress else { return };
        let Some(verdict) = verdict else { return };
        let before = among(&mut self.others_before, document.id, text, stored, &self.before);
        let now = among(&mut self.others_now, document.id, text, &verdict, &self.now);
        let (was, is) = (rejecting(&before), rejecting(&now));
        self.documents += 1;
        self.accepted_before += u64::from(was.is_none());
        self.accepted_now += u64::from(is.is_none());
        if let Some(rule) = was {
            let moves = self.moves_of(rule);
            moves.rejected_before += 1;
            moves.newly_accepted += u64::from(is.is_none());
        }
        if let Some(rule) = is {
            let moves = self.moves_of(rule);
            moves.rejected_now += 1;
            moves.newly_rejected += u64::from(was.is_none());
        }
        if now != *stored {
            self.verdicts.insert(document.id, now);
        }
    }

    fn moves_of(&mut self, rule: &str) -> &mut RuleMoves {
        let threshold = |recipe: &Recipe| match filter::all().find(|known| known.name == rule) {
            Some(known) => known.threshold(&recipe.filters),
            None => (rule == SCORE_QUALITY).then_some(recipe.judge.min),
        };
        let (threshold_before, threshold_now) = (threshold(&self.before), threshold(&self.now));
        self.rules.entry(rule.to_owned()).or_insert_with(|| RuleMoves {
            rule: rule.to_owned(),
            threshold_before,
            threshold_now,
            rejected_before: 0,
            rejected_now: 0,
            newly_accepted: 0,
            newly_rejected: 0,
        })
    }

    fn moves(&mut self) -> Vec<RuleMoves> {
        let mut moves: Vec<RuleMoves> = std::mem::take(&mut self.rules).into_values().collect();
        let place = |moves: &RuleMoves| filter::all().position(|rule| rule.name == moves.rule).unwrap_or(usize::MAX);
        moves.sort_by_key(|moves| (place(moves), moves.rule.clone()));
        moves
    }
}

/// The verdict among the documents before: an accepted one may be a near duplicate of them.
fn among(others: &mut NearDuplicateIndex, id: DocumentId, text: &str, verdict: &Verdict, recipe: &Recipe) -> Verdict {
    if *verdict != Verdict::Accepted {
        return verdict.clone();
    }
    let measured = others.measure(id, text, NEAR_DUPLICATE.threshold(&recipe.filters).unwrap_or(1.0));
    if measured.fired { measured.rejected() } else { Verdict::Accepted }
}

fn rejecting(verdict: &Verdict) -> Option<&str> {
    match verdict {
        Verdict::Accepted => None,
        Verdict::Rejected { rule, .. } => Some(rule),
    }
}

/// Each document with its verdict under the recipe, none where it has no text to judge. Uses all cores.
fn verdicts(documents: Vec<Document>, recipe: &Recipe) -> Vec<(Document, Option<Verdict>)> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let part = documents.len().div_ceil(cores).max(1);
    let judged: Vec<Option<Verdict>> = thread::scope(|scope| {
        let parts: Vec<_> = documents
            .chunks(part)
            .map(|part| scope.spawn(move || part.iter().map(|document| verdict(document, recipe)).collect::<Vec<_>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    documents.into_iter().zip(judged).collect()
}

/// What the recipe says of a finished document alone.
fn verdict(document: &Document, recipe: &Recipe) -> Option<Verdict> {
    let Progress::Finished { plan, sections, verdict, votes, .. } = &document.progress else { return None };
    // A text that ended before its plan did stays rejected, whatever the thresholds are.
    if sections.len() < plan.steps.len() && *verdict != Verdict::Accepted {
        return Some(verdict.clone());
    }
    let rules = filter::evaluate(&recipe.filters, &document.assembled()?);
    let least = recipe.judge.min;
    let score = judge::score_quality(votes);
    if rules != Verdict::Accepted || least <= 0.0 || score.is_some_and(|score| score >= least) {
        return Some(rules);
    }
    let detail = match score {
        Some(_) => format!("mean of {} votes", votes.len() - judge::unread(votes)),
        None => "no vote of the judge, and none is asked for now".to_owned(),
    };
    Some(Verdict::Rejected { rule: SCORE_QUALITY.into(), value: score.unwrap_or(0.0), threshold: least, detail })
}
