//! `longhand preview`: documents written before one's eyes. Nothing is stored.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use longhand_coordinator::dataset::input;
use longhand_coordinator::domain::document::{Document, Progress, Verdict};
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::plan;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::lifecycle::{Outcome, Transition};
use longhand_coordinator::text::filter;
use longhand_proto::task::{Task, TaskKind};
use longhand_proto::{RunId, WorkerId};
use longhand_worker::engine::{Engine, generate};

use crate::args::engine::EngineArgs;
use crate::args::recipe;
use crate::engine;

const HELP: &str = "\
Examples:
  longhand preview \"Write a travel guide to Lisbon of about 2,000 words.\" \\
    --model model.gguf
  longhand preview instructions.jsonl --n 2 --model model.gguf \\
    --recipe recipe.toml

Shows the plan, each section when it is written, what each rule measured, and the verdict. A section that a rule rejects is \
shown with the rule, and written again. Nothing is stored: the same seed writes the same text again.

Exit codes:
  0    every document was accepted
  1    the engine failed
  2    nothing was started: invalid arguments, input, recipe or model
  3    a document was rejected or failed";

/// What to write, and with what.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct PreviewArgs {
    /// The instruction itself, or a file of instructions
    instruction: String,

    /// Number of rows of a file to write
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    n: u64,

    /// Recipe (TOML) [default: the built-in recipe]
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: Option<PathBuf>,

    /// Random seed
    #[arg(long, value_name = "N", default_value_t = 0, env = "LONGHAND_SEED")]
    seed: u64,

    #[command(flatten)]
    engine: EngineArgs,
}

/// Writes the documents, one after the other.
pub(crate) async fn preview(args: &PreviewArgs) -> Result<Code> {
    let recipe = recipe::load(args.recipe.as_deref())?;
    let instructions = instructions(&args.instruction, args.n)?;
    let engine = engine::open(&args.engine).await?;
    let mut code = Code::Ok;
    for instruction in instructions {
        if !write(&engine, &recipe, instruction, args.seed).await? {
            code = Code::Partial;
        }
    }
    Ok(code)
}

/// The rows of a file that exists; anything else is an instruction.
fn instructions(text: &str, rows: u64) -> Result<Vec<Instruction>> {
    let path = PathBuf::from(text);
    if !path.is_file() {
        let file_name = text.ends_with(".jsonl") || text.ends_with(".parquet");
        if file_name {
            return Err(Failure::refused(format!("{}: no such file; check the path", text)));
        }
        return Ok(vec![input::of_text(text).map_err(Failure::refused)?]);
    }
    let found = input::read(&path).map_err(Failure::refused)?;
    let found: Vec<Instruction> = found.take(rows as usize).collect::<Result<_, _>>().map_err(Failure::refused)?;
    if found.is_empty() {
        return Err(Failure::refused(format!("{}: no instructions", text)));
    }
    Ok(found)
}

/// Writes one document; true if it was accepted.
async fn write(engine: &Arc<dyn Engine>, recipe: &Recipe, instruction: Instruction, seed: u64) -> Result<bool> {
    let run: RunId = "preview".parse().map_err(Failure::refused)?;
    let mut document = Document::begin(&run, recipe.method, instruction, 0, seed, String::new());
    output::line(&format!("=== {}\n", document.instruction.text()))?;
    while let Some(task) = document.next_task(recipe).map_err(Failure::refused)? {
        step(engine, recipe, &mut document, task).await?;
    }
    let Progress::Finished { verdict, .. } = &document.progress else {
        let (state, reason) =
            document.ended().map_or(("unfinished", String::new()), |(s, reason)| (s.as_str(), reason));
        output::line(&format!("=== {state}: {reason}"))?;
        return Ok(false);
    };
    output::line(&measures(recipe, &document))?;
    match verdict {
        Verdict::Accepted => output::line("=== accepted\n")?,
        Verdict::Rejected { rule, value, threshold, detail } => {
            output::line(&format!("=== rejected by {rule}: {value:.2} (threshold {threshold}); {detail}\n"))?;
        }
    }
    Ok(*verdict == Verdict::Accepted)
}

/// Runs one task and shows what became of it.
async fn step(engine: &Arc<dyn Engine>, recipe: &Recipe, document: &mut Document, task: Task) -> Result<()> {
    let (kind, section, attempt) = (task.kind, task.section as usize, task.attempt);
    let outcome = match generate(engine.as_ref(), task).await.map_err(Failure::stopped)? {
        Ok(output) => {
            let worker: WorkerId = "preview".parse().map_err(Failure::refused)?;
            Outcome::Written { output, worker, model: engine.model().clone() }
        }
        Err(failure) => Outcome::Error(failure),
    };
    let text = match &outcome {
        Outcome::Written { output, .. } => output.text.clone(),
        Outcome::Error(failure) => failure.message.clone(),
    };
    match document.apply(recipe, outcome) {
        Transition::SectionRejected(rejection) => output::line(&format!(
            "--- section {}, try {attempt}: rejected by {} ({:.2}, threshold {}): {}\n{text}\n",
            section + 1,
            rejection.rule,
            rejection.value,
            rejection.threshold,
            rejection.detail
        )),
        Transition::Retry { failure, .. } => {
            output::line(&format!("--- {}, try {attempt}: {}: {}\n", kind.as_str(), failure.class, failure.message))
        }
        Transition::NextTask | Transition::Ended { .. } => show(document, kind, section, &text),
    }
}

/// A task's text as the document took it.
fn show(document: &Document, kind: TaskKind, section: usize, text: &str) -> Result<()> {
    match (kind, document.plan(), document.sections().get(section)) {
        (TaskKind::Plan, Some(plan), _) => {
            output::line(&format!("--- plan\n{}\n", plan::render(plan, document.instruction.language)))
        }
        (TaskKind::Section, Some(plan), Some(written)) => output::line(&format!(
            "--- section {} of {}: {} words of {}, {}\n{}\n",
            section + 1,
            plan.steps.len(),
            written.words,
            written.target_words,
            written.finish_reason.as_str(),
            written.text
        )),
        _ => output::line(&format!("--- {}\n{text}\n", kind.as_str())),
    }
}

/// What each rule measured, and what the document cost.
fn measures(recipe: &Recipe, document: &Document) -> String {
    let Some(assembled) = document.assembled() else { return String::new() };
    let mut rows = vec![["rule", "value", "threshold", ""].map(str::to_owned).to_vec()];
    for measured in filter::measure_all(&recipe.filters, &assembled) {
        let mark = if measured.fired { "rejected" } else { "" };
        let (value, threshold) = (format!("{:.2}", measured.value), measured.threshold.to_string());
        rows.push(vec![measured.rule.to_owned(), value, threshold, mark.to_owned()]);
    }
    let words: u32 = document.sections().iter().map(|section| section.words).sum();
    let asked =
        document.instruction.required_words.map_or(String::new(), |asked| format!(" of {}", grouped(asked.into())));
    let generated = document.usage.generated;
    let each = f64::from(generated) / f64::from(words.max(1));
    let cost = format!(
        "{}{asked} words, {} tokens generated, {each:.2} for each word",
        grouped(words.into()),
        grouped(generated.into())
    );
    format!("{}\n{cost}", output::table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_no_instruction() {
        let found = instructions("Write about harbours in 500 words.", 1).unwrap();
        assert_eq!((found.len(), found[0].required_words), (1, Some(500)));
        assert!(instructions("no/such.jsonl", 1).unwrap_err().to_string().contains("no such file"));
    }
}
