//! Submits an instruction set as a run: every row becomes one document per candidate; a bad row becomes a failed one.

use futures::future::try_join_all;
use longhand_proto::{DocumentId, RunId};

use crate::control::trace;
use crate::corpus::{Archive, CorpusError};
use crate::domain::document::{BAD_ROW, Document};
use crate::domain::instruction::{BadRow, Instruction};
use crate::domain::recipe::{Method, Recipe};
use crate::store::{NewDocument, Run, RunPolicy, Store, StoreError, Submitted};

/// Documents inserted in one step.
const BATCH: usize = 256;
/// Bytes after which a step is written even with fewer documents: instructions may have megabytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Documents that are read at a time, to compare them with their rows.
const READS: usize = 16;

/// A run to create.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpec {
    /// Its name.
    pub id: RunId,
    /// How documents are written and filtered.
    pub recipe: Recipe,
    /// Seed of all sampling.
    pub seed: u64,
    /// Documents per instruction.
    pub candidates: u32,
    /// Priority and required models.
    pub policy: RunPolicy,
}

/// Result of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubmitReport {
    /// Documents that were added to the store, including those of bad rows.
    pub inserted: u64,
    /// Documents that existed already; they are unchanged.
    pub existing: u64,
    /// Of these, the ones whose row has another instruction now.
    pub changed: u64,
    /// Invalid rows: each is a failed document.
    pub bad_rows: u64,
}

/// Why a submission failed.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The run exists with another recipe, seed or policy.
    #[error(
        "run {run} exists with {what} {stored}, not {given}; submit under another run id, or with the {what} of the run"
    )]
    Differs {
        /// The run.
        run: RunId,
        /// `recipe`, `seed`, or a field of the policy.
        what: &'static str,
        /// The run's value: for a recipe its hash.
        stored: String,
        /// The submitted value.
        given: String,
    },
    /// The run is paused.
    #[error("run {0} is paused; run `longhand resume {0}` first, or submit under another run id")]
    Paused(RunId),
    /// The run is being cancelled.
    #[error("run {0} is being cancelled; wait until all its documents have ended, or submit under another run id")]
    Cancelling(RunId),
    /// A document has no JSON form.
    #[error("the document of line {line} cannot be stored: {source}")]
    Document {
        /// Line of the input file, from 1.
        line: u64,
        /// Why not.
        source: serde_json::Error,
    },
    /// The archive cannot be read.
    #[error("the archive of accepted documents cannot be read: {0}")]
    Archive(#[from] CorpusError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates the run unless it exists, and adds the documents that do not exist yet. Idempotent: the same rows have the same
/// document ids, so an interrupted submission is completed by repeating it.
///
/// # Errors
/// The run exists with another recipe or seed, is paused or being cancelled (nothing was changed), or the store failed (what was added
/// stays).
pub async fn submit(
    store: &dyn Store,
    spec: &RunSpec,
    rows: impl IntoIterator<Item = Result<Instruction, BadRow>>,
) -> Result<SubmitReport, SubmitError> {
    create(store, spec).await?;
    let mut report = SubmitReport::default();
    let mut batch = Vec::new();
    let mut bytes = 0;
    for row in rows {
        report.bad_rows += u64::from(row.is_err());
        for document in documents(&spec.id, spec.recipe.method, spec.seed, spec.candidates, row)? {
            bytes += document.body.len();
            batch.push(document);
        }
        if batch.len() >= BATCH || bytes >= BATCH_BYTES {
            add(store, spec, &mut batch, &mut report).await?;
            bytes = 0;
        }
    }
    add(store, spec, &mut batch, &mut report).await?;
    Ok(report)
}

/// Creates the run unless it exists; returns it as it is stored.
///
/// # Errors
/// The run exists with another recipe or seed, is paused or being cancelled (nothing was changed), or the store failed.
pub async fn create(store: &dyn Store, spec: &RunSpec) -> Result<Run, SubmitError> {
    let run = Run {
        id: spec.id.clone(),
        recipe: spec.recipe.to_toml(),
        recipe_hash: spec.recipe.hash(),
        seed: spec.seed,
        created_ms: store.now_ms().await?,
        policy: spec.policy.clone(),
        paused: false,
        cancelling: false,
    };
    let stored = store.create_run(&run).await?;
    let differs = |what, stored: String, given: String| {
        if stored == given {
            return Ok(());
        }
        Err(SubmitError::Differs { run: spec.id.clone(), what, stored, given })
    };
    differs("recipe", stored.recipe_hash.clone(), run.recipe_hash)?;
    differs("seed", stored.seed.to_string(), run.seed.to_string())?;
    expect_open(store, &stored).await?;
    Ok(stored)
}

async fn expect_open(store: &dyn Store, run: &Run) -> Result<(), SubmitError> {
    if run.cancelling && !store.finish_cancel(&run.id).await? {
        return Err(SubmitError::Cancelling(run.id.clone()));
    }
    if run.paused {
        return Err(SubmitError::Paused(run.id.clone()));
    }
    Ok(())
}

/// Refuses a policy that a run does not have: it is fixed when the run is created.
///
/// # Errors
/// [`SubmitError::Differs`], with the first field that differs.
pub fn expect_policy(run: &Run, given: &RunPolicy) -> Result<(), SubmitError> {
    let of = |policy: &RunPolicy| {
        let name = |model: &str| if model.is_empty() { "(any)".to_owned() } else { model.to_owned() };
        [
            ("priority", policy.priority.to_string()),
            ("required model", name(&policy.model)),
            ("judge model", name(&policy.judge)),
            ("maximum of open documents", policy.max_open.to_string()),
        ]
    };
    for ((what, stored), (_, given)) in of(&run.policy).into_iter().zip(of(given)) {
        if stored != given {
            return Err(SubmitError::Differs { run: run.id.clone(), what, stored, given });
        }
    }
    Ok(())
}

/// Adds the documents of some rows to an existing run. New documents that are in the archive are restored from it: they
/// were accepted before the store lost them.
///
/// # Errors
/// There is no such run, it is paused or being cancelled, or store or archive failed. What was added stays; the call may be repeated.
pub async fn add_rows(
    store: &dyn Store,
    run: &RunId,
    candidates: u32,
    rows: impl IntoIterator<Item = Result<Instruction, BadRow>>,
    archive: Option<&Archive>,
) -> Result<SubmitReport, SubmitError> {
    let run = store.run(run).await?.ok_or_else(|| StoreError::NotFound { kind: "run", name: run.to_string() })?;
    expect_open(store, &run).await?;
    let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
    let mut new = Vec::new();
    for row in rows {
        new.extend(documents(&run.id, recipe.method, run.seed, candidates, row)?);
    }
    let submitted = insert(store, &run.id, &new).await?;
    if let Some(archive) = archive
        && submitted.inserted > 0
    {
        let ids: Vec<DocumentId> = new.iter().map(|document| document.id).collect();
        let restored = archive.restore(store, &run.id, &ids).await?;
        if restored > 0 {
            tracing::info!(run = %run.id, restored, "documents restored from the archive");
        }
    }
    Ok(submitted)
}

async fn add(
    store: &dyn Store,
    spec: &RunSpec,
    batch: &mut Vec<NewDocument>,
    report: &mut SubmitReport,
) -> Result<(), StoreError> {
    if batch.is_empty() {
        return Ok(());
    }
    let submitted = insert(store, &spec.id, batch).await?;
    report.inserted += submitted.inserted;
    report.existing += submitted.existing;
    report.changed += submitted.changed;
    batch.clear();
    Ok(())
}

/// Adds documents, starts the traces of those that did not exist yet, and counts those that existed with another
/// instruction.
async fn insert(store: &dyn Store, run: &RunId, documents: &[NewDocument]) -> Result<SubmitReport, StoreError> {
    let Submitted { inserted, existing } = store.submit(run, documents).await?;
    let mut report = SubmitReport { inserted, existing, ..SubmitReport::default() };
    if existing == 0 && !longhand_proto::trace::is_enabled() {
        return Ok(report);
    }
    for batch in documents.chunks(READS) {
        let reads =
            batch.iter().map(|new| async move { if existing == 0 { Ok(None) } else { store.get(new.id).await } });
        for (new, stored) in batch.iter().zip(try_join_all(reads).await?) {
            match stored {
                Some(stored) if stored.body != new.body => {
                    report.changed += u64::from(differs(&stored.body, &new.body));
                }
                // Inserted now; one that existed keeps its trace.
                Some(_) | None => {
                    if let Ok(document) = serde_json::from_str(&new.body) {
                        trace::document_submitted(&document);
                    }
                }
            }
        }
    }
    Ok(report)
}

/// True if the row of a stored document asks for something else now. Its place in the file may change.
fn differs(stored: &str, new: &str) -> bool {
    let instruction = |body: &str| {
        let document = serde_json::from_str::<Document>(body).ok()?;
        Some(Instruction { line: 0, ..document.instruction })
    };
    // A stored document that cannot be read is reported where it is used.
    instruction(stored).is_some_and(|stored| instruction(new).is_some_and(|new| new != stored))
}

/// The documents of one row: one per candidate, or the failed one of a bad row.
fn documents(
    run: &RunId,
    method: Method,
    seed: u64,
    candidates: u32,
    row: Result<Instruction, BadRow>,
) -> Result<Vec<NewDocument>, SubmitError> {
    let new = |document: &Document, failed| {
        let body = serde_json::to_string(document)
            .map_err(|source| SubmitError::Document { line: document.instruction.line, source })?;
        Ok(NewDocument { id: document.id, body, failed })
    };
    match row {
        Err(bad) => {
            let document = Document { traceparent: trace::new_trace(), ..Document::bad_row(run, &bad) };
            Ok(vec![new(&document, Some(BAD_ROW.to_owned()))?])
        }
        Ok(instruction) => (0..candidates)
            .map(|candidate| {
                let document = Document::begin(run, method, instruction.clone(), candidate, seed, trace::new_trace());
                new(&document, None)
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use longhand_proto::task::Message;

    use super::*;
    use crate::domain::language::Language;
    use crate::store::SqliteStore;

    fn row(id: &str, prompt: &str, line: u64) -> Instruction {
        Instruction {
            id: Some(id.into()),
            messages: vec![Message { role: "user".into(), content: prompt.into() }],
            language: Language::En,
            required_words: None,
            context: Vec::new(),
            metadata: serde_json::Map::new(),
            line,
        }
    }

    #[tokio::test]
    async fn a_row_that_asks_for_something_else_under_a_known_id_is_counted() {
        let store = SqliteStore::in_memory(|| 1).unwrap();
        let policy = RunPolicy { priority: 5, ..RunPolicy::default() };
        let spec = RunSpec { id: "r".parse().unwrap(), recipe: Recipe::default(), seed: 1, candidates: 2, policy };
        let first =
            submit(&store, &spec, [row("a", "Write of tea.", 1), row("b", "Write of salt.", 2)].map(Ok)).await.unwrap();
        assert_eq!((first.inserted, first.existing, first.changed), (4, 0, 0));
        // The same rows in another order, and one of them with another prompt.
        let again =
            [row("b", "Write of salt.", 1), row("a", "Write of coffee.", 2), row("c", "Write of ink.", 3)].map(Ok);
        let again = submit(&store, &spec, again).await.unwrap();
        assert_eq!((again.inserted, again.existing, again.changed), (2, 4, 2));
        let again = add_rows(&store, &spec.id, 2, [Ok(row("a", "Write of coffee.", 1))], None).await.unwrap();
        assert_eq!((again.inserted, again.existing, again.changed), (0, 2, 2));
    }

    #[tokio::test]
    async fn another_priority_or_model_than_the_run_has_is_refused() {
        let store = SqliteStore::in_memory(|| 1).unwrap();
        let policy = RunPolicy { priority: 5, model: "writer".into(), ..RunPolicy::default() };
        let spec = RunSpec { id: "r".parse().unwrap(), recipe: Recipe::default(), seed: 1, candidates: 1, policy };
        let run = create(&store, &spec).await.unwrap();
        expect_policy(&run, &spec.policy).unwrap();
        let refusal = |given: &RunPolicy| expect_policy(&run, given).unwrap_err().to_string();
        let error = refusal(&RunPolicy { priority: 0, ..spec.policy.clone() });
        assert!(error.contains("exists with priority 5, not 0"), "{error}");
        let error = refusal(&RunPolicy { model: String::new(), ..spec.policy.clone() });
        assert!(error.contains("exists with required model writer, not (any)"), "{error}");
    }
}
