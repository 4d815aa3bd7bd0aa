//! `longhand export`: a run becomes a folder, or objects of a store, in the shape that a trainer wants.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use longhand_coordinator::corpus::{self, Corpus, Format, Options, Stats, StorageLocation};
use longhand_coordinator::store::{self, RedisOptions};
use longhand_proto::{LeaseId, RunId};
use serde_json::json;

use super::runs;
use super::source::Remote;
use crate::exit::{Code, Failure, Result};
use crate::folder::{Claim, Folder, Identity};
use crate::link::{LinkArgs, Office};
use crate::output::{self, grouped};
use crate::tokens;

const HELP: &str = "\
Examples:
  longhand export ships -o ships-corpus
  longhand export ships -o s3://bucket/ships
  longhand export --from corpus -o corpus-sharegpt --format sharegpt --validation 0.05
  longhand export --from corpus -o corpus-messages --format messages --tokenizer model.gguf

Formats:
  records   whole records, as JSON Lines and as Parquet (what `longhand run` writes)
  parquet   whole records in typed columns
  messages  `id` and `messages` with role and content: TRL
  openai    `messages` alone: OpenAI's fine-tuning
  sharegpt  `id` and `conversations` with from and value
  alpaca    `instruction`, `input`, `output`, `system`, `history`
  dpo       `prompt`, `chosen`, `rejected` of a run with --candidates: TRL's preferences. The best by the mean of S_l and S_q
            is chosen, one of the others at random (by seed) rejected; dpo-length and dpo-quality go by one score
`datasets.load_dataset(DIR)` finds all of them; dataset_info.json names the files for LLaMA-Factory.

With --validation some records are put aside in data/validation-*. Instructions that say nearly the same are never parted.
With --tokenizer, stats.json and the card say how many tokens the records have and how they fill windows of 32,768.

It may be given while a coordinator's run is at work, and again later: the folder then holds what was accepted by that time,
each document once. Several folders may hold the same run.

To an object store (s3://, gs://, az://) the corpus goes by way of a temporary folder (TMPDIR). Each object is whole or
not there; manifest.json, written last, says what belongs together and that it is complete. The same command goes on
where one was cut short, and sends what has changed. The way in is read as the clouds' own tools read it: AWS_* (with
AWS_ENDPOINT_URL for other S3 servers), GOOGLE_*, AZURE_*.

Exit codes:
  0    exported
  1    the coordinator went away; the same command goes on
  2    nothing was exported: unknown run, a folder of another run, or a tokenizer that cannot be read
  3    exported, but there is no pair for --format dpo";

const NO_PAIRS: &str = "\
no pairs: no instruction has two accepted documents of different score. Write several for each (--candidates 4), and have \
them judged ([judge] votes in the recipe) where S_l does not tell them apart";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ExportArgs {
    /// Name of a coordinator's run
    #[arg(required_unless_present = "from")]
    run: Option<RunId>,

    /// Folder of `longhand run` to export from, in place of a coordinator's run
    #[arg(long, value_name = "DIR", conflicts_with = "run")]
    from: Option<PathBuf>,

    /// Where that folder's state lives, if not in the folder itself
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true, requires = "from")]
    store: Option<String>,

    /// Output folder, made if missing; or s3://BUCKET/PREFIX, gs:// or az://
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    output: String,

    /// What stands in the data files: records, parquet, messages, openai, sharegpt, alpaca or dpo
    #[arg(long, value_name = "FORMAT", default_value_t)]
    format: Format,

    /// Share of the records to put aside for validation, from 0 to 0.5
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    validation: f64,

    /// Count tokens with this: a tokenizer.json, a GGUF file, or a model's folder
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,

    #[command(flatten)]
    link: LinkArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=0.5).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is out of range: want a share from 0 to 0.5, such as 0.05")),
    }
}

pub(super) async fn export(args: &ExportArgs) -> Result<Code> {
    // First of all: without it nothing is begun.
    let tokens = args.tokenizer.as_deref().map(tokens::open).transpose()?;
    let options = Options { format: args.format, validation: args.validation, tokens, ..Options::default() };
    let place = StorageLocation::is_url(&args.output)
        .then(|| StorageLocation::open(&args.output))
        .transpose()
        .map_err(Failure::refused)?;
    let scratch = place.as_ref().map(|_| Scratch::new()).transpose()?;
    let output = scratch.as_ref().map_or(Path::new(&args.output), |scratch| &scratch.0);
    let (folder, stats) = match (&args.from, &args.run) {
        (Some(from), _) => from_folder(args, from, output, &options).await?,
        (None, Some(run)) => from_coordinator(args, run, output, &options).await?,
        (None, None) => return Err(Failure::refused("name a run, or a folder with --from")),
    };
    let Identity { run, recipe_hash, .. } = &folder.identity;
    if let Some(place) = &place {
        corpus::publish(output, run, recipe_hash, place).await.map_err(Failure::stopped)?;
    }
    if args.json {
        output::json(&json!({ "run": run, "output": args.output, "stats": stats }))?;
    } else {
        output::line(&text(run, &stats, &args.output))?;
    }
    if args.format.has_pairs() && stats.splits.values().sum::<u64>() == 0 {
        eprintln!("{NO_PAIRS}");
        return Ok(Code::Flawed);
    }
    Ok(Code::Ok)
}

async fn from_coordinator(args: &ExportArgs, run: &RunId, output: &Path, options: &Options) -> Result<(Folder, Stats)> {
    let office = Office::open(&args.link)?;
    let known = runs::look(&office, run).await?;
    // Held to the end: one process at a time writes into a folder.
    let folder = claim(output, run, &known.recipe_hash, known.seed)?;
    let source = Remote::new(office);
    let mut corpus = Corpus::open(folder.dir(), run, &source).await.map_err(Failure::stopped)?;
    let stats = corpus.export_to(&source, folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok((folder, stats))
}

async fn from_folder(args: &ExportArgs, from: &Path, output: &Path, options: &Options) -> Result<(Folder, Stats)> {
    let home = Folder::reopen(from)?;
    if output.canonicalize().is_ok_and(|output| from.canonicalize().is_ok_and(|from| from == output)) {
        return Err(Failure::refused(format!("{} holds the run itself; choose another output folder", from.display())));
    }
    let run = home.identity.run.clone();
    let folder = claim(output, &run, &home.identity.recipe_hash, home.identity.seed)?;
    let url = home.store(args.store.as_deref())?;
    let options_of_store = RedisOptions { allow_volatile: true, ..RedisOptions::default() };
    let store = store::open(&url, options_of_store).await.map_err(Failure::refused)?;
    let mut corpus = Corpus::open(home.dir(), &run, store.as_ref()).await.map_err(Failure::refused)?;
    let stats = corpus.export_to(store.as_ref(), folder.dir(), options).await.map_err(Failure::stopped)?;
    Ok((folder, stats))
}

fn claim(output: &Path, run: &RunId, recipe_hash: &str, seed: u64) -> Result<Folder> {
    let claim = Claim {
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
        "run {run}: {} accepted, {} rejected, {} failed, {} unfinished, into {output}",
        grouped(documents.accepted),
        grouped(documents.rejected),
        grouped(documents.failed),
        grouped(documents.unfinished())
    );
    if stats.splits.len() > 1 {
        let splits = stats.splits.iter().map(|(split, rows)| format!("{} for {split}", grouped(*rows)));
        text.push_str(&format!("\n{}", splits.collect::<Vec<_>>().join(", ")));
    }
    if let Some(packing) = &stats.packing {
        text.push_str(&format!(
            "\ntokens of a record: mean {:.0}, most {}; {} windows of {}, {:.1} % full; {} records too long for one",
            packing.mean,
            grouped(packing.max.into()),
            grouped(packing.windows),
            grouped(packing.window.into()),
            packing.fill * 100.0,
            grouped(packing.too_long)
        ));
    }
    text
}

/// A folder for an export on its way, gone when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("longhand-export-{}", LeaseId::mint()));
        fs::create_dir_all(&path).map_err(|e| Failure::refused(format!("{}: {e}; set TMPDIR", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "{} was left behind", self.0.display());
        }
    }
}
