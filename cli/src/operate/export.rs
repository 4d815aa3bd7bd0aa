//! `longhand export`: writes the corpus of a run into a folder or an object store, in the format of a trainer.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use longhand_coordinator::corpus::{self, Corpus, Format, Options, Stats, StorageLocation};
use longhand_coordinator::files::atomic;
use longhand_coordinator::store::{self, RedisOptions};
use longhand_proto::{LeaseId, RunId};
use serde_json::json;

use super::client::OperatorClient;
use super::remote_source::RemoteSource;
use super::{runs, token_count};
use crate::args::connection::ConnectionArgs;
use crate::run::folder::{Folder, Identity, RunClaim};

const HELP: &str = "\
Examples:
  longhand export ships -o ships-corpus
  longhand export ships -o s3://bucket/ships
  longhand export --from corpus -o corpus-sharegpt --format sharegpt --validation 0.05
  longhand export --from corpus -o corpus-messages --format messages --tokenizer model.gguf

Formats:
  records   complete records, as JSON Lines and Parquet (the format of `longhand run`)
  parquet   complete records in typed columns
  messages  `id` and `messages` with role and content: TRL
  openai    `messages` only: OpenAI fine-tuning
  sharegpt  `id` and `conversations` with from and value
  alpaca    `instruction`, `input`, `output`, `system`, `history`
  dpo       `prompt`, `chosen`, `rejected` of a run with --candidates: TRL preference pairs. The document with the best mean
            of S_l and S_q is chosen, and a random other one (by seed) rejected; dpo-length and dpo-quality use one score
`datasets.load_dataset(DIR)` reads all of them; dataset_info.json lists the files for LLaMA-Factory.

With --validation, some records go to data/validation-*. Near-duplicate instructions stay in the same split.
With --tokenizer, stats.json and the card state the token counts and how well the records fill windows of 32,768 tokens.

An export may run while the run is in progress, and again later: the folder then holds the documents accepted so far, each
once. A run may be exported into several folders.

An export to an object store (s3://, gs://, az://) uses a temporary folder (TMPDIR). Objects are written atomically;
manifest.json is written last, lists all objects, and marks the export as complete. Rerun the same command to resume an
interrupted export, or to upload changes. Credentials are read from the standard variables: AWS_* (with AWS_ENDPOINT_URL for
other S3 servers), GOOGLE_*, AZURE_*.

Exit codes:
  0    exported
  1    the coordinator became unreachable; rerun the same command to resume
  2    nothing was exported: unknown run, folder of another run, or invalid tokenizer
  3    exported, but there are no pairs for --format dpo";

const NO_PAIRS: &str = "\
no pairs: no instruction has two accepted documents with different scores. Write several documents per instruction \
(--candidates 4), and let a judge score them ([judge] votes in the recipe) if S_l is equal";

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

    /// Format of the data files: records, parquet, messages, openai, sharegpt, alpaca or dpo
    #[arg(long, value_name = "FORMAT", default_value_t)]
    format: Format,

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
    // First, so that an invalid tokenizer starts nothing.
    let tokens = args.tokenizer.as_deref().map(token_count::open).transpose()?;
    let options = Options { format: args.format, validation: args.validation, tokens, ..Options::default() };
    let location = StorageLocation::is_url(&args.output)
        .then(|| StorageLocation::open(&args.output))
        .transpose()
        .map_err(Failure::refused)?;
    let temporary = location.as_ref().map(|_| TemporaryFolder::new()).transpose()?;
    let output = temporary.as_ref().map_or(Path::new(&args.output), |temporary| &temporary.0);
    let (folder, stats) = match (&args.from, &args.run) {
        (Some(from), _) => from_folder(args, from, output, &options).await?,
        (None, Some(run)) => from_coordinator(args, run, output, &options).await?,
        (None, None) => return Err(Failure::refused("no run given: name a run, or a folder with --from")),
    };
    let Identity { run, recipe_hash, .. } = &folder.identity;
    if let Some(location) = &location {
        corpus::publish(output, run, recipe_hash, location).await.map_err(Failure::stopped)?;
    }
    if args.json {
        output::json(&json!({ "run": run, "output": args.output, "stats": stats }))?;
    } else {
        output::line(&text(run, &stats, &args.output))?;
    }
    if args.validation > 0.0 && !stats.splits.contains_key("validation") && !stats.splits.is_empty() {
        output::note(NO_VALIDATION);
    }
    if args.format.has_pairs() && stats.splits.values().sum::<u64>() == 0 {
        output::note(NO_PAIRS);
        return Ok(Code::Partial);
    }
    Ok(Code::Ok)
}

async fn from_coordinator(args: &ExportArgs, run: &RunId, output: &Path, options: &Options) -> Result<(Folder, Stats)> {
    let client = OperatorClient::open(&args.connection)?;
    let known = runs::fetch(&client, run).await?;
    // Locked to the end: one process at a time writes into a folder.
    let folder = claim(args, output, run, &known.recipe_hash, known.seed)?;
    let source = RemoteSource::new(client);
    let mut corpus = Corpus::open(folder.dir(), run, &source).await.map_err(Failure::stopped)?;
    let stats = corpus.export_to(&source, folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok((folder, stats))
}

async fn from_folder(args: &ExportArgs, from: &Path, output: &Path, options: &Options) -> Result<(Folder, Stats)> {
    let home = Folder::reopen(from)?;
    if output.canonicalize().is_ok_and(|output| from.canonicalize().is_ok_and(|from| from == output)) {
        return Err(Failure::refused(format!(
            "{} is the folder of the run itself; choose another output folder",
            from.display()
        )));
    }
    let run = home.identity.run.clone();
    let folder = claim(args, output, &run, &home.identity.recipe_hash, home.identity.seed)?;
    let url = home.store(args.store.as_deref())?;
    let store_options = RedisOptions { allow_volatile: true, ..RedisOptions::default() };
    let store = store::open(&url, store_options).await.map_err(Failure::refused)?;
    let mut corpus = Corpus::open(home.dir(), &run, store.as_ref()).await.map_err(Failure::refused)?;
    let stats = corpus.export_to(store.as_ref(), folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok((folder, stats))
}

fn claim(args: &ExportArgs, output: &Path, run: &RunId, recipe_hash: &str, seed: u64) -> Result<Folder> {
    let claim = RunClaim {
        input: None,
        format: &args.format.to_string(),
        run: Some(run.clone()),
        recipe_hash,
        seed,
        model: "",
        weights_hash: "",
        store: Some("coordinator"),
        new_run: false,
    };
    Folder::open(output, &claim)
}

fn text(run: &RunId, stats: &Stats, output: &str) -> String {
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

/// A folder for an export that is being uploaded; removed when it is dropped.
struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("longhand-export-{}", LeaseId::mint()));
        atomic::make_private_folder(&path)
            .map_err(|e| Failure::refused(format!("{e}; set TMPDIR to a writable folder")))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "temporary folder {} could not be removed", self.0.display());
        }
    }
}
