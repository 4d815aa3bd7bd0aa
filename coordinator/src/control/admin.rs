//! Requeues documents for an operator. Each document is changed by compare-and-swap; after a concurrent change
//! it is read and decided on again.

use std::fmt;

use longhand_proto::{DocumentId, RunId};

use crate::control::trace::{self, AttemptSpan};
use crate::domain::document::Document;
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::{NotAllowed, Transition};
use crate::store::cas::{Written, cas_loop, read};
use crate::store::{Filter, Record, Result, Store, StoreError};
use crate::text::filter::RULES;

/// Documents of one page.
const PAGE: u32 = 64;

/// Which ended documents to requeue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All that failed. Bad rows are skipped: they have no instruction.
    Failed,
    /// All that were cancelled.
    Cancelled,
    /// All that this rule rejected.
    Rejected {
        /// Name of the rule.
        rule: String,
    },
    /// This one.
    Document(DocumentId),
    /// These, at most some hundred per call.
    Documents {
        /// Their ids.
        ids: Vec<DocumentId>,
        /// How they were selected, for the audit log.
        description: String,
    },
}

/// For the audit log.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed => f.write_str("all failed"),
            Self::Cancelled => f.write_str("all cancelled"),
            Self::Rejected { rule } => write!(f, "all rejected by {rule}"),
            Self::Document(id) => id.fmt(f),
            Self::Documents { description, .. } => f.write_str(description),
        }
    }
}

/// How much of a document to rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewriteScope {
    /// Failed and cancelled documents continue where they ended; others start over with a new plan.
    AsNeeded,
    /// From the section with this index (from 0) on.
    From(usize),
    /// Only the section with this index (from 0).
    Only(usize),
}

/// What was done to a page of documents, or would be in a dry run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Requeued {
    /// Requeued documents.
    pub documents: u64,
    /// Sections that stay.
    pub kept: u64,
    /// Sections that are rewritten; the old ones move to the history.
    pub redone: u64,
    /// Documents that cannot be requeued, with the reason.
    pub skipped: Vec<(DocumentId, String)>,
    /// Cursor of the next page; none after the last.
    pub next: Option<u64>,
}

/// Requeues a page of documents.
///
/// # Errors
/// There is no such run or document, or the store failed; what was done before stays done. A document that cannot be
/// requeued is not an error: see [`Requeued::skipped`].
pub async fn requeue(
    store: &dyn Store,
    run: &RunId,
    selector: &Selector,
    scope: RewriteScope,
    after: Option<u64>,
    dry_run: bool,
) -> Result<Requeued> {
    let (recipe, other_judge) = run_rules(store, run).await?;
    let filter = |state, reason: Option<&String>| Filter { state: Some(state), reason: reason.cloned() };
    let (records, next) = match selector {
        Selector::Document(id) => (vec![find(store, run, *id).await?], None),
        Selector::Documents { ids, .. } => {
            let mut records = Vec::with_capacity(ids.len());
            for id in ids {
                records.push(find(store, run, *id).await?);
            }
            (records, None)
        }
        Selector::Failed => {
            let page = store.list(run, &filter(State::Failed, None), after, PAGE).await?;
            (page.records, page.next)
        }
        Selector::Cancelled => {
            let page = store.list(run, &filter(State::Cancelled, None), after, PAGE).await?;
            (page.records, page.next)
        }
        Selector::Rejected { rule } => {
            let page = store.list(run, &filter(State::Rejected, Some(rule)), after, PAGE).await?;
            // A rule of an older version may have rejected some.
            if page.records.is_empty() && after.is_none() {
                expect_rule(rule)?;
            }
            (page.records, page.next)
        }
    };
    let mut done = Requeued { next, ..Requeued::default() };
    for record in records {
        let id = record.id;
        match change(store, record, (dry_run, other_judge), |record| reopen(record, &recipe, scope)).await? {
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

/// The document of this run with this id.
///
/// # Errors
/// There is none in this run, or the store failed.
pub async fn find(store: &dyn Store, run: &RunId, id: DocumentId) -> Result<Record> {
    if store.run(run).await?.is_none() {
        return Err(StoreError::NotFound { kind: "run", name: run.to_string() });
    }
    let record = store.get(id).await?.filter(|record| record.run == *run);
    record.ok_or_else(|| StoreError::NotFound { kind: "document", name: format!("{id} in run {run}") })
}

/// The run's recipe, and whether it requires another model for votes than for texts.
async fn run_rules(store: &dyn Store, run: &RunId) -> Result<(Recipe, bool)> {
    let stored = store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
    let recipe = Recipe::from_toml(&stored.recipe);
    let recipe = recipe.map_err(|error| StoreError::Refused(format!("run {run}: {error}")))?;
    // A requeued document would be cancelled again.
    if stored.cancelling && !store.finish_cancel(run).await? {
        return Err(StoreError::Refused(format!(
            "run {run} is being cancelled; wait until all its documents have ended (`longhand watch {run}`)"
        )));
    }
    Ok((recipe, !stored.policy.judge.is_empty()))
}

/// Refuses a rule that there is not, with the one that was probably meant.
fn expect_rule(name: &str) -> Result<()> {
    let rules: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    if rules.contains(&name) {
        return Ok(());
    }
    let nearest = rules.iter().max_by(|a, b| strsim::jaro_winkler(name, a).total_cmp(&strsim::jaro_winkler(name, b)));
    let meant = nearest.filter(|rule| strsim::jaro_winkler(name, rule) > 0.8);
    let meant =
        meant.map_or_else(|| format!("the rules are {}", rules.join(", ")), |rule| format!("did you mean {rule}?"));
    Err(StoreError::Refused(format!("there is no rule {name}: {meant}")))
}

/// Sections that stay, and sections that are rewritten.
type Amount = (u64, u64);

/// Decides on the document as it is now and writes the decision, with its trace; in a dry run only decides.
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
            emit_trace(store, &before, &document, state).await;
            Ok(value)
        }
        Err(reason) => Err(reason),
    })
}

/// Emits the spans of a change that is done. A failing store costs a span, not the change.
pub(super) async fn emit_trace(store: &dyn Store, record: &Record, after: &Document, state: State) {
    let what = if state == State::Ready { "requeued" } else { "cancelled" };
    if let (Some(grant), Ok(before)) = (&record.lease, read(record)) {
        match AttemptSpan::of(store, record.counters, grant, &before).await {
            Ok(Some(span)) => span.released("taken back", state),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, document = %record.id, "an attempt is missing in its document's trace")
            }
        }
    }
    trace::operator_action(after, what);
}

fn reopen(record: &Record, recipe: &Recipe, scope: RewriteScope) -> Result<(Document, State, Amount), String> {
    let mut document = read(record)?;
    let before = document.sections().len() as u64;
    let applied = match scope {
        RewriteScope::AsNeeded => document.requeue(recipe, None),
        RewriteScope::From(section) => document.requeue(recipe, Some(section)),
        RewriteScope::Only(section) => document.rewrite(section),
    };
    let Transition::NextTask = applied.map_err(message)? else {
        return Err("the document cannot be requeued".into());
    };
    let kept = match scope {
        RewriteScope::Only(_) => before - 1,
        RewriteScope::AsNeeded | RewriteScope::From(_) => document.sections().len() as u64,
    };
    Ok((document, State::Ready, (kept, before - kept)))
}

fn message(refused: NotAllowed) -> String {
    refused.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rule_is_refused_with_the_nearest_one() {
        expect_rule("too_short").unwrap();
        let refused = |name| expect_rule(name).unwrap_err().to_string();
        assert!(
            refused("too_shor").contains("there is no rule too_shor: did you mean too_short?"),
            "{}",
            refused("too_shor")
        );
        assert!(refused("xyz").contains("the rules are ") && refused("xyz").contains("truncated"));
    }
}
