//! `longhand export`: writes the corpus of a run into a folder or an object store, in the format of a trainer.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use longhand_coordinator::corpus::{Corpus, Format, Options, Refiltered, Stats};
use longhand_coordinator::domain::recipe::Recipe;
use longhand_coordinator::store::{self, RedisOptions, Source};
use longhand_proto::RunId;
use serde_json::json;

use super::client::OperatorClient;
use super::refilter::Moves;
use super::remote_source::RemoteSource;
use super::target::{Target, claim};
use super::{refilter, runs, token_count};
use crate::args::connection::ConnectionArgs;
use crate::args::recipe;
use crate::run::folder::Folder;

const HELP: &str = "\
Examples:
  longhand export ships -o ships-corpus
  longhand export ships -o s3://bucket/ships
  longhand export --from corpus -o corpus-sharegpt --format sharegpt \\
    --validation 0.05
  longhand export --from corpus -o corpus-messages --format messages \\
    --tokenizer model.gguf
  longhand export ships -o ships-strict --recipe strict.toml

Formats:
  records   complete records, as JSON Lines and Parquet, like `longhand run`
  parquet   complete records in typed columns
  messages  `id` and `messages` with role and content: TRL
  openai    `messages` only: OpenAI fine-tuning
  sharegpt  `id` and `conversations` with from and value
  alpaca    `instruction`, `input`, `output`, `system`, `history`
  dpo       `prompt`, `chosen`, `rejected` of a run with --candidates: TRL
            preference pairs. The document with the best mean of S_l and S_q is
            chosen, and a random other one (by seed) rejected; dpo-length and
            dpo-quality use one score
  dpo-section
            the same columns for single sections: the text up to a section, and
            the same with a draft that a rule rejected in its place; of a run
            whose recipe has [section] keep_drafts = true

`datasets.load_dataset(DIR)` reads all of them; dataset_info.json describes the data set for LLaMA-Factory.

With --recipe, every document is judged anew with the filters of that recipe, rejected ones too, and the command prints what \
moves. No model writes again, and the run keeps its own verdicts. `longhand filter` does the same for a folder.

With --validation, some records go to data/validation-*. Near-duplicate instructions stay in the same split. \
With --tokenizer, stats.json and the card state the token counts and how well the records fill windows of 32,768 tokens.

An export may run while the run is in progress, and again later: the folder then holds the documents accepted so far, each \
once. A run may be exported into several folders.

An export to an object store (s3://, gs://, az://) uses a temporary folder (TMPDIR). Objects are written atomically; \
manifest.json is written last, lists all objects, and marks the export as complete. Rerun the same command to resume an \
interrupted export, or to upload changes. Credentials are read from the standard variables: AWS_* (with AWS_ENDPOINT_URL for \
other S3 servers), GOOGLE_*, AZURE_*.

Exit codes:
  0    exported
  1    the coordinator became unreachable; rerun the same command to resume
  2    nothing was exported: unknown run, folder of another run, or invalid
       tokenizer
  3    exported, but a document could not be read, or there are no pairs for
       a --format of pairs";

const NO_PAIRS: &str = "\
no pairs: no instruction has two accepted documents with different scores. Write several documents per instruction \
(--candidates 4), and let a judge score them ([judge] votes in the recipe) if S_l is equal. For dpo-section: no accepted \
document has a draft that was kept; set keep_drafts = true under [section] in the recipe before a run";

const NO_VALIDATION: &str = "\
no validation split: no group of similar instructions is as small as that fraction of the records; export more documents, or \
raise --validation";

/// The run, and the format to write.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ExportArgs {
    /// Name of a coordinator's run
    #[arg(required_unless_present = "from")]
    run: Option<RunId>,

    /// Output folder of `longhand run` to export from, instead of a coordinator's run
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    from: Option<PathBuf>,

    /// Store with the state of that folder's run, if it is not in the folder
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true, requires = "from")]
    store: Option<String>,

    /// Output folder, created if missing; or s3://BUCKET/PREFIX, gs:// or az://
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    output: String,

    /// Format of the data files: records, parquet, messages, openai, sharegpt, alpaca, dpo, dpo-length, dpo-quality or dpo-section
    #[arg(long, value_name = "FORMAT", default_value_t)]
    format: Format,

    /// Judge the documents with the filters of this recipe instead of the run's own
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,

    /// Fraction of the records for the validation split, from 0 to 0.5
    #[arg(long, value_name = "FRACTION", default_value_t = 0.0, value_parser = fraction)]
    validation: f64,

    /// Tokenizer for token counts: a tokenizer.json, a GGUF file, or the folder of a model
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if (0.0..=0.5).contains(&fraction) => Ok(fraction),
        _ => Err(format!("invalid fraction {text:?}: expected a number from 0 to 0.5, such as 0.05")),
    }
}

/// Exports a run into a folder or an object store.
pub(super) async fn export(args: &ExportArgs) -> Result<Code> {
    // First, so that an invalid tokenizer or recipe starts nothing.
    let tokens = args.tokenizer.as_deref().map(token_count::open).transpose()?;
    let recipe = args.recipe.as_deref().map(|path| recipe::load(Some(path))).transpose()?;
    let options = Options { format: args.format, validation: args.validation, tokens, ..Options::default() };
    let target = Target::open(&args.output)?;
    let exported = match (&args.from, &args.run) {
        (Some(from), _) => from_folder(args, from, &target, recipe.as_ref(), &options).await?,
        (None, Some(run)) => from_coordinator(args, run, &target, recipe.as_ref(), &options).await?,
        (None, None) => return Err(Failure::refused("no run given: name a run, or a folder with --from")),
    };
    let Exported { folder, stats, moves } = exported;
    target.publish(&folder.identity).await?;
    let run = &folder.identity.run;
    if args.json {
        output::json(&json!({ "run": run, "output": args.output, "stats": stats, "moves": moves }))?;
    } else {
        let moves = moves.map_or_else(String::new, |moves| format!("{}\n\n", moves.text()));
        output::line(&format!("{moves}{}", text(run, &stats, &args.output)))?;
    }
    if args.validation > 0.0 && !stats.splits.contains_key("validation") && !stats.splits.is_empty() {
        output::note(NO_VALIDATION);
    }
    let unreadable = stats.unreadable();
    if unreadable > 0 {
        output::note(&format!(
            "{unreadable} documents could not be read and are not in the corpus: failed.jsonl names them and the reason, class \
             unreadable"
        ));
    }
    if args.format.has_pairs() && stats.splits.values().sum::<u64>() == 0 {
        output::note(NO_PAIRS);
        return Ok(Code::Partial);
    }
    Ok(if unreadable == 0 { Code::Ok } else { Code::Partial })
}

/// What an export wrote.
struct Exported {
    folder: Folder,
    stats: Stats,
    /// What another recipe moved.
    moves: Option<Moves>,
}

async fn from_coordinator(
    args: &ExportArgs,
    run: &RunId,
    target: &Target,
    recipe: Option<&Recipe>,
    options: &Options,
) -> Result<Exported> {
    let client = OperatorClient::open(&args.connection)?;
    let known = runs::fetch(&client, run).await?;
    let source = RemoteSource::new(client);
    if let Some(recipe) = recipe {
        return refiltered(&source, run, recipe, target, options).await;
    }
    // Locked to the end: one process at a time writes into a folder.
    let folder = claim(target.path(), args.format, run, &known.recipe_hash, known.seed)?;
    let mut corpus = Corpus::open(folder.dir(), run, &source).await.map_err(Failure::stopped)?;
    let stats = corpus.export_to(&source, folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok(Exported { folder, stats, moves: None })
}

async fn from_folder(
    args: &ExportArgs,
    from: &Path,
    target: &Target,
    recipe: Option<&Recipe>,
    options: &Options,
) -> Result<Exported> {
    let home = Folder::reopen(from)?;
    target.refuse(from)?;
    let run = home.identity.run.clone();
    let url = home.store(args.store.as_deref())?;
    let store_options = RedisOptions { allow_volatile: true, ..RedisOptions::default() };
    if let Some(recipe) = recipe {
        let store = store::open(&url, store_options).await.map_err(Failure::refused)?;
        return refiltered(store.as_ref(), &run, recipe, target, options).await;
    }
    let folder = claim(target.path(), args.format, &run, &home.identity.recipe_hash, home.identity.seed)?;
    let store = store::open(&url, store_options).await.map_err(Failure::refused)?;
    let mut corpus = Corpus::open(home.dir(), &run, store.as_ref()).await.map_err(Failure::refused)?;
    let stats = corpus.export_to(store.as_ref(), folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok(Exported { folder, stats, moves: None })
}

async fn refiltered(
    source: &dyn Source,
    run: &RunId,
    recipe: &Recipe,
    target: &Target,
    options: &Options,
) -> Result<Exported> {
    let judged = Refiltered::judge(source, run, recipe).await.map_err(Failure::stopped)?;
    let (folder, stats) = refilter::write(&judged, target, options).await?;
    Ok(Exported { folder, stats, moves: Some(Moves::of(&judged)) })
}

/// The counts of an export.
pub(crate) fn text(run: &RunId, stats: &Stats, output: &str) -> String {
    let documents = &stats.documents;
    let mut text = format!(
        "run {run}: {} accepted, {} rejected, {} failed, {} unfinished, output {output}",
        grouped(documents.accepted),
        grouped(documents.rejected),
        grouped(documents.failed),
        grouped(documents.unfinished())
    );
    if stats.splits.len() > 1 {
        let splits = stats.splits.iter().map(|(split, rows)| format!("{split} {}", grouped(*rows)));
        text.push_str(&format!("\nsplits: {}", splits.collect::<Vec<_>>().join(", ")));
    }
    if let Some(packing) = &stats.packing {
        text.push_str(&format!(
            "\ntokens per record: mean {:.0}, max {}; {} windows of {}, {:.1} % full; {} longer than one window",
            packing.mean,
            grouped(packing.max.into()),
            grouped(packing.windows),
            grouped(packing.window.into()),
            packing.fill * 100.0,
            plural(packing.too_long, "record")
        ));
    }
    text
}
