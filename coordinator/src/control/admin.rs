//! What a person does to documents: takes them up again, or ends them. Each document is changed in one atomic step of the
//! store, and only as it was when it was looked at; a change that came first is looked at again.

use longhand_proto::{DocumentId, RunId};

use crate::control::trace::{self, Trail};
use crate::domain::document::Document;
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::{Applied, Refused};
use crate::store::cas::{Written, cas_loop, read};
use crate::store::{Filter, Record, Result, Store, StoreError};

/// Documents looked at in one page.
const PAGE: u32 = 64;

/// Which ended documents to take up again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All that failed. Rows that could not be read are passed over: there is nothing to write from.
    Failed,
    /// All that this rule rejected.
    Rejected {
        rule: String,
    },
    One(DocumentId),
    /// At most some hundred at a time.
    These {
        ids: Vec<DocumentId>,
        /// Which ones these are, for people.
        words: String,
    },
}

/// How much of a document to write anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What is missing of one that failed or was cancelled; all of any other, from a new plan on.
    AsNeeded,
    /// From the section with this index on.
    From(usize),
    /// The section with this index alone.
    Only(usize),
}

/// What was done to a page of documents, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requeued {
    pub documents: u64,
    /// Sections that stay.
    pub kept: u64,
    /// Sections that are written again; the old ones go into the history.
    pub redone: u64,
    pub skipped: Vec<(DocumentId, String)>,
    /// Where the next page begins; none after the last.
    pub next: Option<u64>,
}

/// Takes a page of documents up again.
///
/// # Errors
/// No such run or document, or the store failed; what was done before stays done. A document that cannot be requeued is
/// no error but [`Requeued::skipped`].
pub async fn requeue(
    store: &dyn Store,
    run: &RunId,
    which: &Which,
    extent: Extent,
    after: Option<u64>,
    dry_run: bool,
) -> Result<Requeued> {
    let (recipe, other_judge) = rules_of(store, run).await?;
    let filter = |state, reason: Option<&String>| Filter { state: Some(state), reason: reason.cloned() };
    let (records, next) = match which {
        Which::One(id) => (vec![find(store, run, *id).await?], None),
        Which::These { ids, .. } => {
            let mut records = Vec::with_capacity(ids.len());
            for id in ids {
                records.push(find(store, run, *id).await?);
            }
            (records, None)
        }
        Which::Failed => {
            let page = store.list(run, &filter(State::Failed, None), after, PAGE).await?;
            (page.records, page.next)
        }
        Which::Rejected { rule } => {
            let page = store.list(run, &filter(State::Rejected, Some(rule)), after, PAGE).await?;
            (page.records, page.next)
        }
    };
    let mut done = Requeued { next, ..Requeued::default() };
    for record in records {
        let id = record.id;
        match change(store, record, (dry_run, other_judge), |record| take_up(record, &recipe, extent)).await? {
            Ok((kept, redone)) => {
                done.documents += 1;
                done.kept += kept;
                done.redone += redone;
            }
            Err(reason) => done.skipped.push((id, reason)),
        }
    }
    Ok(done)
}

/// Ends one document.
///
/// # Errors
/// No such document, or the store failed.
pub async fn cancel(store: &dyn Store, run: &RunId, document: DocumentId) -> Result<Result<(), String>> {
    let record = find(store, run, document).await?;
    Ok(change(store, record, (false, false), cancelled).await?.map(drop))
}

/// Ends a page of a run's unfinished documents; returns their number, and whether some are left.
///
/// # Errors
/// No such run, or the store failed; what was done before stays done.
pub async fn cancel_page(store: &dyn Store, run: &RunId) -> Result<(u64, bool)> {
    let mut done = 0;
    // A document may move from one to the next while we look, so what is left is counted, not concluded.
    for state in [State::Ready, State::Delayed, State::Leased] {
        let page = store.list(run, &Filter { state: Some(state), reason: None }, None, PAGE).await?;
        for record in page.records {
            done += u64::from(change(store, record, (false, false), cancelled).await?.is_ok());
        }
    }
    Ok((done, store.counts(run).await?.unfinished() > 0))
}

/// The document of this run with this id.
///
/// # Errors
/// There is none: a document of another run is none of this one.
pub async fn find(store: &dyn Store, run: &RunId, id: DocumentId) -> Result<Record> {
    if store.run(run).await?.is_none() {
        return Err(StoreError::NotFound { kind: "run", name: run.to_string() });
    }
    let record = store.get(id).await?.filter(|record| record.run == *run);
    record.ok_or_else(|| StoreError::NotFound { kind: "document", name: format!("{id} in run {run}") })
}

/// The run's recipe, and whether votes are for another model than the texts.
async fn rules_of(store: &dyn Store, run: &RunId) -> Result<(Recipe, bool)> {
    let stored = store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
    let recipe = Recipe::from_toml(&stored.recipe);
    let recipe = recipe.map_err(|error| StoreError::Refused(format!("run {run}: {error}")))?;
    Ok((recipe, !stored.terms.judge.is_empty()))
}

/// Sections that stay, and sections that are written again.
type Amount = (u64, u64);

/// Decides on the document as it is and writes the decision, unless something else was written meanwhile.
async fn change(
    store: &dyn Store,
    record: Record,
    (dry_run, other_judge): (bool, bool),
    decide: impl Fn(&Record) -> Result<(Document, State, Amount), String>,
) -> Result<Result<Amount, String>> {
    if dry_run {
        return Ok(decide(&record).map(|(_, _, amount)| amount));
    }
    Ok(match cas_loop(store, record, other_judge, decide).await? {
        Ok(Written { before, document, state, value }) => {
            tell(store, &before, &document, state).await;
            Ok(value)
        }
        Err(reason) => Err(reason),
    })
}

/// Writes into the trace what was done. It is done: a store that fails now changes nothing of that.
async fn tell(store: &dyn Store, record: &Record, after: &Document, state: State) {
    let what = if state == State::Ready { "requeued" } else { "cancelled" };
    if let (Some(grant), Ok(before)) = (&record.lease, read(record)) {
        match Trail::of(store, record.counters, grant, &before).await {
            Ok(Some(trail)) => trail.released("taken back", state),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, document = %record.id, "an attempt is missing in its document's trace")
            }
        }
    }
    trace::by_hand(after, what);
}

fn take_up(record: &Record, recipe: &Recipe, extent: Extent) -> Result<(Document, State, Amount), String> {
    let mut document = read(record)?;
    let before = document.sections().len() as u64;
    let applied = match extent {
        Extent::AsNeeded => document.requeue(recipe, None),
        Extent::From(section) => document.requeue(recipe, Some(section)),
        Extent::Only(section) => document.rewrite(section),
    };
    let Applied::NextTask = applied.map_err(told)? else {
        return Err("it cannot be taken up again".into());
    };
    let kept = match extent {
        Extent::Only(_) => before - 1,
        Extent::AsNeeded | Extent::From(_) => document.sections().len() as u64,
    };
    Ok((document, State::Ready, (kept, before - kept)))
}

fn cancelled(record: &Record) -> Result<(Document, State, Amount), String> {
    let mut document = read(record)?;
    let Applied::Ended { state, .. } = document.cancel().map_err(told)? else {
        return Err("it cannot be cancelled".into());
    };
    let kept = document.sections().len() as u64;
    Ok((document, state, (kept, 0)))
}

fn told(refused: Refused) -> String {
    refused.to_string()
}
