//! `longhand run --dry-run`: the first prompt and the number of documents. Nothing is written.

use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::dataset::input::{self, Summary};
use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::instruction::Instruction;
use longhand_coordinator::domain::recipe::Recipe;
use longhand_proto::RunId;
use longhand_proto::task::{Message, Task};
use longhand_worker::model::Model;
use serde::Serialize;

use super::args::RunArgs;

#[derive(Debug, Serialize)]
struct Event {
    event: &'static str,
    recipe: String,
    recipe_hash: String,
    documents: u64,
    input: Summary,
    prompt: Option<String>,
    prompt_tokens: Option<usize>,
}

/// Prints the first prompt and the counts.
pub(crate) fn dry_run(args: &RunArgs, recipe: &Recipe) -> Result<Code> {
    let input = input::validate(&args.input).map_err(Failure::refused)?;
    let model = args.engine.model.as_deref().map(Model::open).transpose().map_err(Failure::refused)?;
    let first = input::read(&args.input).map_err(Failure::refused)?.find_map(Result::ok);
    let task = first.map(|first| first_task(args, recipe, first)).transpose()?.flatten();
    let prompt = task.as_ref().map(|task| prompt(task, model.as_ref())).transpose()?;
    let documents = input.rows.min(args.limit.unwrap_or(u64::MAX)) * u64::from(args.candidates);
    let event = Event {
        event: "dry_run",
        recipe: recipe.name.clone(),
        recipe_hash: recipe.hash(),
        documents,
        prompt_tokens: prompt
            .as_deref()
            .zip(model.as_ref())
            .map(|(prompt, model)| model.tokenizer().encode(prompt, true).len()),
        prompt,
        input,
    };
    output::print(args.json, &event, || text(&event))?;
    Ok(if event.input.bad == 0 { Code::Ok } else { Code::Partial })
}

fn first_task(args: &RunArgs, recipe: &Recipe, first: Instruction) -> Result<Option<Task>> {
    let run: RunId = match &args.run_id {
        Some(run) => run.clone(),
        None => "dry-run".parse().map_err(Failure::refused)?,
    };
    Document::begin(&run, recipe.method, first, 0, args.seed, String::new()).next_task(recipe).map_err(Failure::refused)
}

/// Rendered by the model's chat template, or turn by turn if no model is given.
fn prompt(task: &Task, model: Option<&Model>) -> Result<String> {
    match model {
        Some(model) => model.chat_template().render(&task.messages).map_err(Failure::refused),
        None => Ok(task
            .messages
            .iter()
            .map(|Message { role, content }| format!("[{role}]\n{content}"))
            .collect::<Vec<_>>()
            .join("\n\n")),
    }
}

fn text(event: &Event) -> String {
    let mut text = String::new();
    for bad in &event.input.bad_rows {
        text.push_str(&format!("{bad}\n"));
    }
    if let Some(prompt) = &event.prompt {
        text.push_str(&format!("--- first prompt ---\n{prompt}\n--- end ---\n"));
    }
    if let Some(tokens) = event.prompt_tokens {
        text.push_str(&format!("{}\n", output::plural(tokens as u64, "token")));
    }
    text.push_str(&format!(
        "{} ({} English, {} Chinese), {}; {} would be written with recipe {} ({})",
        output::plural(event.input.rows, "valid row"),
        output::grouped(event.input.english),
        output::grouped(event.input.chinese),
        output::plural(event.input.bad, "bad row"),
        output::plural(event.documents, "document"),
        event.recipe,
        event.recipe_hash,
    ));
    text
}
