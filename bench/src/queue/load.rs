//! The documents that are leased and completed, and the results of the workers.

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::lifecycle::{Outcome, Transition};
use longhand_coordinator::store::{RunPolicy, Store};
use longhand_coordinator::text::filter;
use longhand_proto::task::{Message, ModelInfo, Output, Task};
use longhand_proto::{RunId, WorkerId};
use longhand_worker::engine::generate;
use longhand_worker::engine::mock::{MockEngine, MockOptions};

/// Words of a document: one section.
const WORDS: u32 = 300;

/// The instructions of a run, and the result for each plan and section.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) run: RunId,
    pub(super) documents: u32,
    pub(super) plan: Output,
    pub(super) section: Output,
    /// Document bodies after plan and section, for the raw scripts.
    pub(super) planned: String,
    pub(super) finished: String,
    recipe: Recipe,
}

fn instruction(number: u32) -> Instruction {
    Instruction {
        id: Some(format!("row-{number}")),
        messages: vec![Message {
            role: "user".into(),
            content: format!(
                "Write about harbour number {number}: who built it, what it cost, which ships call there, and how the town \
                 behind it lives with the noise, the money and the fog that it brings."
            ),
        }],
        language: Language::En,
        required_words: Some(WORDS),
        context: Vec::new(),
        metadata: serde_json::Map::new(),
        line: u64::from(number) + 1,
    }
}

impl Load {
    /// Prepares the documents and their results.
    pub(super) async fn new(documents: u32) -> Result<Self> {
        let run: RunId = "bench".parse().map_err(Failure::refused)?;
        let mut recipe = Recipe::builtin();
        // An early filter rejects each text: the time of the others is not part of the queue.
        recipe.filters.set(&filter::TOO_SHORT, 2 * WORDS);
        let mut document = Document::new(&run, instruction(0), 0, 7, String::new());
        let plan = step(&mut document, &recipe).await?;
        let planned = body(&document)?;
        let section = step(&mut document, &recipe).await?;
        let finished = body(&document)?;
        if document.ended().is_none() {
            return Err(Failure::stopped("a document of one section did not end after it"));
        }
        Ok(Self { run, documents, plan, section, planned, finished, recipe })
    }

    /// Submits all documents as one run.
    pub(super) async fn submit(&self, store: &dyn Store) -> Result<()> {
        let (run, recipe) = (self.run.clone(), self.recipe.clone());
        let spec = RunSpec { id: run, recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
        let rows = (0..self.documents).map(instruction).map(Ok);
        submit(store, &spec, rows).await.map_err(Failure::stopped)?;
        Ok(())
    }

    /// Size of a waiting document, in bytes.
    pub(super) fn body_bytes(&self) -> Result<f64> {
        Ok(body(&Document::new(&self.run, instruction(self.documents / 2), 0, 7, String::new()))?.len() as f64)
    }
}

/// Lets the mock engine run the next task of a document.
async fn step(document: &mut Document, recipe: &Recipe) -> Result<Output> {
    let task = document.next_task(recipe).map_err(|e| Failure::stopped(format!("{e:?}")))?;
    let task = task.ok_or_else(|| Failure::stopped("a document ended early"))?;
    let output = write(task).await?;
    let (worker, model): (WorkerId, _) = ("bench".parse().map_err(Failure::refused)?, ModelInfo::default());
    match document.apply(recipe, Outcome::Written { output: output.clone(), worker, model }) {
        Transition::NextTask | Transition::Ended { .. } => Ok(output),
        Transition::Retry { failure, .. } => Err(Failure::stopped(failure.message)),
        Transition::SectionRejected(rejection) => Err(Failure::stopped(rejection.detail)),
    }
}

async fn write(task: Task) -> Result<Output> {
    let ended = generate(&MockEngine::new(MockOptions::default()), task).await.map_err(Failure::stopped)?;
    ended.map_err(|failure| Failure::stopped(failure.message))
}

fn body(document: &Document) -> Result<String> {
    serde_json::to_string(document).map_err(Failure::stopped)
}
