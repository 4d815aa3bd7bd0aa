//! `README.md` of an exported corpus: a dataset card with the YAML header that dataset hubs read.

use std::fmt::Write;

use arrow_schema::{DataType, Field};
use longhand_proto::task::ModelInfo;

use super::markdown::{code, inline};
use super::{Format, Stats, grouped, plural};
use crate::domain::document::{Document, Progress};
use crate::domain::recipe::{JudgeRules, Recipe};
use crate::domain::rule::Bound;
use crate::lifecycle::SCORE_QUALITY;
use crate::text::filter;

/// Characters of the sample's instruction and text.
const SAMPLE_INSTRUCTION: usize = 300;
const SAMPLE_TEXT: usize = 600;

/// The card. `first` is the first accepted document, if there is one.
pub(super) fn text(stats: &Stats, recipe: &Recipe, format: Format, first: Option<&Document>) -> String {
    let mut out = String::new();
    write(&mut out, stats, recipe, format, first).expect("a String takes all that is written");
    out
}

fn write(
    out: &mut String,
    stats: &Stats,
    recipe: &Recipe,
    format: Format,
    first: Option<&Document>,
) -> std::fmt::Result {
    let accepted = stats.documents.accepted;
    let model = first.and_then(|document| document.model.as_ref());
    header(out, stats, format, accepted)?;
    writeln!(out, "# Run {}\n", stats.run)?;
    if model.is_some_and(ModelInfo::is_double) {
        writeln!(
            out,
            "> **Not for training.** No model wrote these texts: they are made by Longhand's test double (`--engine mock`).\n"
        )?;
    }
    writeln!(
        out,
        "{} for supervised fine-tuning, generated with [AgentWrite](https://arxiv.org/abs/2408.07055) by Longhand {}. For each \
         instruction, a model made a plan and then wrote the sections of the plan in order, with the text so far in the prompt. \
         Filters then selected the documents.\n",
        plural(accepted, "long document"),
        longhand_proto::build()
    )?;

    if accepted > 0 {
        writeln!(
            out,
            "```python\nfrom datasets import load_dataset\n\n\
             # The name of the data set on a hub, or the path of its folder.\n\
             data = load_dataset(\"ORGANISATION/NAME\")\n```\n"
        )?;
    }
    contents(out, stats)?;
    sample(out, first)?;
    packing(out, stats)?;
    filters(out, stats, recipe)?;
    provenance(out, stats, recipe, model)?;
    files(out, stats, format)
}

fn contents(out: &mut String, stats: &Stats) -> std::fmt::Result {
    writeln!(out, "## Contents\n")?;
    writeln!(out, "| documents | |\n| --- | ---: |")?;
    let counts = &stats.documents;
    for (name, count) in [
        ("accepted", counts.accepted),
        ("rejected", counts.rejected),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("unfinished", counts.unfinished()),
    ] {
        writeln!(out, "| {name} | {} |", grouped(count))?;
    }
    let languages: Vec<String> =
        stats.languages.iter().map(|(language, count)| format!("{} {language}", grouped(*count))).collect();
    if !languages.is_empty() {
        writeln!(out, "\nLanguages: {}.", languages.join(", "))?;
    }
    writeln!(
        out,
        "\nWords per document: mean {}, minimum {}, maximum {}.",
        grouped(stats.words.mean.round() as u64),
        grouped(stats.words.min.into()),
        grouped(stats.words.max.into())
    )?;
    if let Some(score) = stats.score_length {
        writeln!(out, "Mean length score S_l of documents with a requested length: {score:.1} of 100.")?;
    }
    if let Some(score) = stats.score_quality {
        writeln!(
            out,
            "Mean quality score S_q: {score:.1} of 100 ({} of a judge model, {} invalid).",
            plural(stats.votes, "vote"),
            grouped(stats.votes_unread)
        )?;
    }
    writeln!(out, "\n| words | documents |\n| --- | ---: |")?;
    for bin in &stats.words.bins {
        let (from, count) = (grouped(bin.from.into()), grouped(bin.count));
        match bin.to {
            Some(to) => writeln!(out, "| {from} to {} | {count} |", grouped(u64::from(to) - 1))?,
            None => writeln!(out, "| {from} or more | {count} |")?,
        }
    }
    Ok(())
}

fn files(out: &mut String, stats: &Stats, format: Format) -> std::fmt::Result {
    let splits: Vec<String> =
        stats.splits.iter().map(|(split, rows)| format!("{} in `{split}`", plural(*rows, "row"))).collect();
    writeln!(
        out,
        "\n## Files\n\n\
         - `data/`: {}{}\n\
         - `rejected.jsonl`: documents that a rule rejected, with rule, value and threshold\n\
         - `failed.jsonl`: documents that could not be finished, with error and attempts\n\
         - `stats.json`: all figures of the run\n\
         - `recipe.toml`: the recipe as used, prompt templates included\n\
         - `dataset_info.json`: the data set for LLaMA-Factory",
        format.contents(),
        if splits.is_empty() { "; no rows, so no files".into() } else { format!(" ({})", splits.join(", ")) }
    )?;
    if stats.splits.contains_key("validation") {
        writeln!(out, "\nSimilar instructions are all in `train` or all in `validation`.")?;
    }
    if format.has_whole_records() {
        writeln!(
            out,
            "\nA record has `messages` (the last message is the document), `plan`, `sections` with words, tokens, seed and worker \
             of each, `length` (words requested), `response_length` (words written), `score_length`, `score_quality` with the \
             votes in `judge`, and `provenance`."
        )?;
    }
    Ok(())
}

/// The beginning of the first document: an instruction, and what was written.
fn sample(out: &mut String, first: Option<&Document>) -> std::fmt::Result {
    let Some(document) = first else { return Ok(()) };
    let Progress::Finished { text, .. } = &document.progress else { return Ok(()) };
    let beginning = |text: &str, most: usize| match text.char_indices().nth(most) {
        Some((end, _)) => format!("{} …", inline(text[..end].trim_end())),
        None => inline(text),
    };
    writeln!(
        out,
        "\n## Sample\n\n> {}\n\n{}",
        beginning(&document.instruction.text(), SAMPLE_INSTRUCTION),
        beginning(text, SAMPLE_TEXT)
    )
}

fn packing(out: &mut String, stats: &Stats) -> std::fmt::Result {
    let Some(packing) = &stats.packing else { return Ok(()) };
    writeln!(
        out,
        "\nTokens per record ({}): mean {}, median {}, 95th percentile {}, maximum {}. Packed into windows of {} tokens, the \
         records fill {} to {:.1} %; {} longer than a window.",
        packing.tokenizer,
        grouped(packing.mean.round() as u64),
        grouped(packing.median.into()),
        grouped(packing.p95.into()),
        grouped(packing.max.into()),
        grouped(packing.window.into()),
        plural(packing.windows, "window"),
        packing.fill * 100.0,
        if packing.too_long == 1 {
            "1 record is".into()
        } else {
            format!("{} are", plural(packing.too_long, "record"))
        }
    )
}

fn header(out: &mut String, stats: &Stats, format: Format, accepted: u64) -> std::fmt::Result {
    writeln!(out, "---")?;
    // To be chosen by the publisher: it depends on the licences of the model and of the instructions.
    writeln!(out, "license: other")?;
    writeln!(out, "license_name: see-provenance")?;
    if !stats.languages.is_empty() {
        writeln!(out, "language:")?;
        for language in stats.languages.keys() {
            writeln!(out, "- {language}")?;
        }
    }
    writeln!(out, "task_categories:\n- text-generation")?;
    let size = match accepted {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        _ => "1M<n<10M",
    };
    writeln!(out, "size_categories:\n- {size}")?;
    writeln!(out, "tags:\n- long-form\n- synthetic\n- sft")?;
    if stats.splits.is_empty() {
        // Stated, because readers would otherwise take the other files of the folder for its data.
        writeln!(out, "configs:\n- config_name: default\n  data_files: []")?;
        return writeln!(out, "---\n");
    }
    writeln!(out, "dataset_info:\n  config_name: default\n  features:")?;
    for column in format.columns().fields() {
        feature(out, column, "  ")?;
    }
    writeln!(out, "configs:\n- config_name: default\n  data_files:")?;
    let extension = format.extensions().last().copied().unwrap_or_default();
    for split in stats.splits.keys() {
        writeln!(out, "  - split: {split}\n    path: data/{split}-*.{extension}")?;
    }
    writeln!(out, "---\n")
}

/// One column as an item of the YAML list `features`.
fn feature(out: &mut String, column: &Field, indent: &str) -> std::fmt::Result {
    writeln!(out, "{indent}- name: {}", column.name())?;
    data_type(out, column.data_type(), &format!("{indent}  "))
}

/// The type of a column: `dtype`, `list` or `struct`, as `datasets` names them.
fn data_type(out: &mut String, of: &DataType, indent: &str) -> std::fmt::Result {
    if let DataType::Struct(fields) = of {
        writeln!(out, "{indent}struct:")?;
        return fields.iter().try_for_each(|field| feature(out, field, indent));
    }
    if let DataType::List(item) = of {
        writeln!(out, "{indent}list:")?;
        if let DataType::Struct(fields) = item.data_type() {
            return fields.iter().try_for_each(|field| feature(out, field, indent));
        }
        return data_type(out, item.data_type(), &format!("{indent}  "));
    }
    let name = if *of == DataType::Utf8 { "string".to_owned() } else { of.to_string().to_lowercase() };
    writeln!(out, "{indent}dtype: {name}")
}

fn filters(out: &mut String, stats: &Stats, recipe: &Recipe) -> std::fmt::Result {
    writeln!(out, "\n## Filters\n\n| rule | measures | threshold | rejected |\n| --- | --- | --- | ---: |")?;
    let rules = filter::all;
    for rule in rules() {
        let threshold = rule.threshold(&recipe.filters).map_or_else(
            || "off".to_owned(),
            |threshold| match rule.bound {
                Bound::AtLeast => format!("at least {threshold}"),
                Bound::AtMost => format!("at most {threshold}"),
            },
        );
        let rejected = grouped(*stats.rejected.get(rule.name).unwrap_or(&0));
        writeln!(out, "| {} | {} | {threshold} | {rejected} |", rule.name, rule.measures)?;
    }
    let rejected = grouped(*stats.rejected.get(SCORE_QUALITY).unwrap_or(&0));
    writeln!(out, "| {SCORE_QUALITY} | S_q of the judge's votes | {} | {rejected} |", judge_threshold(&recipe.judge))?;
    for (rule, rejected) in
        stats.rejected.iter().filter(|(name, _)| rules().all(|rule| rule.name != *name) && *name != SCORE_QUALITY)
    {
        writeln!(out, "| {rule} | | see recipe.toml | {} |", grouped(*rejected))?;
    }
    writeln!(out, "\nRules are applied in this order; a document counts for the first rule that rejects it.")
}

fn judge_threshold(rules: &JudgeRules) -> String {
    match rules {
        JudgeRules { votes: 0, .. } => "off".into(),
        JudgeRules { votes, min, .. } if *min > 0.0 => {
            format!("at least {min} ({})", plural(u64::from(*votes), "vote"))
        }
        JudgeRules { votes, .. } => format!("recorded only ({})", plural(u64::from(*votes), "vote")),
    }
}

fn provenance(out: &mut String, stats: &Stats, recipe: &Recipe, model: Option<&ModelInfo>) -> std::fmt::Result {
    writeln!(out, "\n## Provenance\n")?;
    if let Some(model) = model {
        writeln!(out, "- Model: {} (licence: {})", inline(&model.name), inline(or_not_stated(&model.licence)))?;
        writeln!(out, "- Weights: `{}`", code(or_not_stated(&model.weights_hash)))?;
        writeln!(
            out,
            "- Engine: {} on {}",
            inline(or_not_stated(&model.engine)),
            inline(or_not_stated(&model.device))
        )?;
    }
    writeln!(out, "- Recipe: {} (`{}`)", inline(&recipe.name), stats.recipe_hash)?;
    writeln!(out, "- Seed: {}", stats.seed)?;
    for (source, count) in &stats.sources {
        writeln!(out, "- Instructions: {} from {source}", grouped(*count))?;
    }
    writeln!(
        out,
        "- Tokens: {} generated, {} in prompts, of which {} from the prefix cache",
        grouped(stats.tokens.generated),
        grouped(stats.tokens.prompt),
        grouped(stats.tokens.cached)
    )?;
    if let Some(cost) = &stats.cost {
        writeln!(
            out,
            "- Cost: {:.2}, of which {:.2} for documents that were dropped; {:.4} per document and {:.2} per million words",
            cost.total,
            cost.dropped,
            cost.per_document.unwrap_or(0.0),
            cost.per_million_words.unwrap_or(0.0)
        )?;
    }
    Ok(())
}

fn or_not_stated(text: &str) -> &str {
    if text.is_empty() { "not stated" } else { text }
}
