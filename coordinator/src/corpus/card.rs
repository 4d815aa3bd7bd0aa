//! `README.md` of an exported corpus: a dataset card with the YAML header that dataset hubs read.

use std::fmt::Write;

use longhand_proto::task::ModelInfo;

use super::Stats;
use crate::recipe::Recipe;

/// The card. `model` is what wrote the accepted documents, if there are any.
pub(super) fn text(stats: &Stats, recipe: &Recipe, model: Option<&ModelInfo>) -> String {
    let mut out = String::new();
    write(&mut out, stats, recipe, model).expect("a String takes all that is written");
    out
}

fn write(out: &mut String, stats: &Stats, recipe: &Recipe, model: Option<&ModelInfo>) -> std::fmt::Result {
    let accepted = stats.documents.accepted;
    header(out, stats, accepted)?;
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
    writeln!(out, "\n| words | documents |\n| --- | ---: |")?;
    for bin in &stats.words.bins {
        match bin.to {
            Some(to) => writeln!(out, "| {} to {} | {} |", bin.from, to - 1, bin.count)?,
            None => writeln!(out, "| {} and more | {} |", bin.from, bin.count)?,
        }
    }

    filters(out, stats, recipe)?;
    provenance(out, stats, recipe, model)?;
    writeln!(
        out,
        "\n## Files\n\n`data/` holds the same records as Parquet and as JSON lines. `rejected.jsonl` has every document that a \
         rule dropped, with rule, value and threshold; `failed.jsonl` every one that could not be written, with its error \
         and attempts; `stats.json` all figures; `recipe.toml` the recipe as used, templates included.\n\n\
         A record has `messages` (its last turn is the document), `plan`, `sections` with words, tokens, seed and worker of \
         each, `length` (words asked for), `response_length` (words written), `score_length`, and `provenance`."
    )
}

fn header(out: &mut String, stats: &Stats, accepted: u64) -> std::fmt::Result {
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
    writeln!(out, "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/*.parquet")?;
    writeln!(out, "---\n")
}

fn filters(out: &mut String, stats: &Stats, recipe: &Recipe) -> std::fmt::Result {
    let rules = &recipe.filters;
    writeln!(out, "\n## How it was chosen\n\n| rule | threshold | dropped |\n| --- | --- | ---: |")?;
    let rows = [
        ("truncated", format!("at most {} cut sections", rules.max_truncated)),
        ("refusal", switched(rules.refusal)),
        ("too_short", format!("at least {} words", rules.min_words)),
        ("score_length", format!("S_l at least {}", rules.min_score_length)),
        ("repetition_within", format!("at most {} of a section", rules.max_repetition_within)),
        ("repetition_between", format!("at most {} of a section", rules.max_repetition_between)),
        ("leftover_identifiers", switched(rules.leftover_identifiers)),
        ("too_many_tokens", format!("at most {} tokens", rules.max_tokens)),
    ];
    for (rule, threshold) in &rows {
        writeln!(out, "| {rule} | {threshold} | {} |", stats.rejected.get(*rule).unwrap_or(&0))?;
    }
    for (rule, dropped) in stats.rejected.iter().filter(|(rule, _)| rows.iter().all(|(known, _)| known != rule)) {
        writeln!(out, "| {rule} | see recipe.toml | {dropped} |")?;
    }
    writeln!(out, "\nRules are asked in this order; a document counts under the first that drops it.")
}

fn switched(on: bool) -> String {
    if on { "none allowed".into() } else { "off".into() }
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
    writeln!(
        out,
        "- Tokens: {} generated, {} of prompts, {} of those from the prefix cache",
        stats.tokens.generated, stats.tokens.prompt, stats.tokens.cached
    )
}

fn known(text: &str) -> &str {
    if text.is_empty() { "not stated" } else { text }
}
