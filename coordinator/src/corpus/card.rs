//! `README.md` of an exported corpus: a dataset card with the YAML header that dataset hubs read.

use std::fmt::Write;

use longhand_proto::task::ModelInfo;

use super::{Format, Stats};
use crate::domain::recipe::{JudgeRules, Recipe};
use crate::domain::rule::Bound;
use crate::lifecycle::SCORE_QUALITY;
use crate::text::filter;

/// The card. `model` is what wrote the accepted documents, if there are any.
pub(super) fn text(stats: &Stats, recipe: &Recipe, format: Format, model: Option<&ModelInfo>) -> String {
    let mut out = String::new();
    write(&mut out, stats, recipe, format, model).expect("a String takes all that is written");
    out
}

fn write(
    out: &mut String,
    stats: &Stats,
    recipe: &Recipe,
    format: Format,
    model: Option<&ModelInfo>,
) -> std::fmt::Result {
    let accepted = stats.documents.accepted;
    header(out, stats, format, accepted)?;
    writeln!(out, "# Run {}\n", stats.run)?;
    writeln!(
        out,
        "{accepted} long documents for supervised fine-tuning, written by [AgentWrite](https://arxiv.org/abs/2408.07055) \
         with Longhand {}: a model made a plan for each instruction, then wrote the plan's steps one after the other, \
         each with all the text before it in view. Rules then chose what is kept.\n",
        longhand_proto::build()
    )?;

    writeln!(out, "## What is in it\n")?;
    writeln!(out, "| documents | |\n| --- | ---: |")?;
    let counts = &stats.documents;
    for (name, count) in [
        ("accepted", counts.accepted),
        ("rejected", counts.rejected),
        ("failed", counts.failed),
        ("cancelled", counts.cancelled),
        ("unfinished", counts.unfinished()),
    ] {
        writeln!(out, "| {name} | {count} |")?;
    }
    let languages: Vec<String> =
        stats.languages.iter().map(|(language, count)| format!("{count} {language}")).collect();
    if !languages.is_empty() {
        writeln!(out, "\nBy language: {}.", languages.join(", "))?;
    }
    writeln!(
        out,
        "\nWords of a document: mean {:.0}, least {}, most {}.",
        stats.words.mean, stats.words.min, stats.words.max
    )?;
    if let Some(score) = stats.score_length {
        writeln!(out, "Length score S_l of those that state a length: mean {score:.1} of 100.")?;
    }
    if let Some(score) = stats.score_quality {
        writeln!(
            out,
            "Quality score S_q, by {} votes of a judge ({} of them could not be read): mean {score:.1} of 100.",
            stats.votes, stats.votes_unread
        )?;
    }
    writeln!(out, "\n| words | documents |\n| --- | ---: |")?;
    for bin in &stats.words.bins {
        match bin.to {
            Some(to) => writeln!(out, "| {} to {} | {} |", bin.from, to - 1, bin.count)?,
            None => writeln!(out, "| {} and more | {} |", bin.from, bin.count)?,
        }
    }

    packing(out, stats)?;
    filters(out, stats, recipe)?;
    provenance(out, stats, recipe, model)?;
    files(out, stats, format)
}

fn files(out: &mut String, stats: &Stats, format: Format) -> std::fmt::Result {
    let splits: Vec<String> = stats.splits.iter().map(|(split, rows)| format!("{rows} rows for {split}")).collect();
    let rows = match format {
        Format::Records => "whole records, as Parquet and as JSON lines",
        Format::Parquet => "whole records, as Parquet",
        Format::Messages => "`id` and `messages` of each record",
        Format::OpenAi => "`messages` of each record",
        Format::ShareGpt => "`id` and `conversations` (from, value) of each record",
        Format::Alpaca => "`id`, `instruction`, `input`, `output`, `system` and `history` of each record",
        Format::Dpo(_) => {
            "pairs of the best candidate of an instruction and one that scored less: `prompt`, `chosen`, `rejected`"
        }
    };
    writeln!(
        out,
        "\n## Files\n\n`data/` holds {rows}: {}. `rejected.jsonl` has every document that a rule dropped, with rule, value \
         and threshold; `failed.jsonl` every one that could not be written, with its error and attempts; `stats.json` all \
         figures; `recipe.toml` the recipe as used, templates included; `dataset_info.json` names the data files for \
         LLaMA-Factory.",
        splits.join(", ")
    )?;
    if stats.splits.contains_key("validation") {
        writeln!(out, "\nInstructions that say nearly the same stand all in `train` or all in `validation`.")?;
    }
    if matches!(format, Format::Records | Format::Parquet) {
        writeln!(
            out,
            "\nA record has `messages` (its last turn is the document), `plan`, `sections` with words, tokens, seed and \
             worker of each, `length` (words asked for), `response_length` (words written), `score_length`, \
             `score_quality` with the votes in `judge`, and `provenance`."
        )?;
    }
    Ok(())
}

fn packing(out: &mut String, stats: &Stats) -> std::fmt::Result {
    let Some(packing) = &stats.packing else { return Ok(()) };
    writeln!(
        out,
        "\nTokens of a record by {}: mean {:.0}, median {}, 95 % up to {}, most {}. Packed into windows of {} tokens, the \
         records need {} windows, which are {:.1} % full; {} records are longer than a window.",
        packing.tokenizer,
        packing.mean,
        packing.median,
        packing.p95,
        packing.max,
        packing.window,
        packing.windows,
        packing.fill * 100.0,
        packing.too_long
    )
}

fn header(out: &mut String, stats: &Stats, format: Format, accepted: u64) -> std::fmt::Result {
    writeln!(out, "---")?;
    // Whoever publishes the corpus chooses: it depends on the model's licence and the instructions'.
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
    writeln!(out, "configs:\n- config_name: default\n  data_files:")?;
    let ending = format.endings().last().copied().unwrap_or_default();
    for split in stats.splits.keys() {
        writeln!(out, "  - split: {split}\n    path: data/{split}-*.{ending}")?;
    }
    writeln!(out, "---\n")
}

fn filters(out: &mut String, stats: &Stats, recipe: &Recipe) -> std::fmt::Result {
    writeln!(out, "\n## How it was chosen\n\n| rule | of | threshold | dropped |\n| --- | --- | --- | ---: |")?;
    for rule in filter::all() {
        let threshold = rule.threshold(&recipe.filters).map_or_else(
            || "off".to_owned(),
            |threshold| match rule.bound {
                Bound::AtLeast => format!("at least {threshold}"),
                Bound::AtMost => format!("at most {threshold}"),
            },
        );
        let dropped = stats.rejected.get(rule.name).unwrap_or(&0);
        writeln!(out, "| {} | {} | {threshold} | {dropped} |", rule.name, rule.measures)?;
    }
    let dropped = stats.rejected.get(SCORE_QUALITY).unwrap_or(&0);
    writeln!(out, "| {SCORE_QUALITY} | S_q of the judge's votes | {} | {dropped} |", judged(&recipe.judge))?;
    for (rule, dropped) in
        stats.rejected.iter().filter(|(name, _)| filter::all().all(|rule| rule.name != *name) && *name != SCORE_QUALITY)
    {
        writeln!(out, "| {rule} | | see recipe.toml | {dropped} |")?;
    }
    writeln!(out, "\nRules are asked in this order; a document counts under the first that drops it.")
}

fn judged(rules: &JudgeRules) -> String {
    match rules {
        JudgeRules { votes: 0, .. } => "off".into(),
        JudgeRules { votes, min, .. } if *min > 0.0 => format!("at least {min} ({votes} votes)"),
        JudgeRules { votes, .. } => format!("noted ({votes} votes)"),
    }
}

fn provenance(out: &mut String, stats: &Stats, recipe: &Recipe, model: Option<&ModelInfo>) -> std::fmt::Result {
    writeln!(out, "\n## How it was made\n")?;
    if let Some(model) = model {
        writeln!(out, "- Model: {} (licence: {})", model.name, known(&model.licence))?;
        writeln!(out, "- Weights: `{}`", known(&model.weights_hash))?;
        writeln!(out, "- Engine: {} on {}", known(&model.engine), known(&model.device))?;
    }
    writeln!(out, "- Recipe: {} (`{}`)", recipe.name, stats.recipe_hash)?;
    writeln!(out, "- Seed: {}", stats.seed)?;
    for (source, count) in &stats.sources {
        writeln!(out, "- Instructions: {count} from {source}")?;
    }
    writeln!(
        out,
        "- Tokens: {} generated, {} of prompts, {} of those from the prefix cache",
        stats.tokens.generated, stats.tokens.prompt, stats.tokens.cached
    )
}

fn known(text: &str) -> &str {
    if text.is_empty() { "not stated" } else { text }
}
