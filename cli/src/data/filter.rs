//! `longhand filter`: another recipe's filters over texts that are written already.

use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_coordinator::corpus::{Format, Options, Refiltered};
use serde_json::json;

use crate::args::recipe;
use crate::operate::export;
use crate::operate::refilter::{self, Moves};
use crate::operate::target::Target;
use crate::run::stored_corpus::StoredCorpus;

const HELP: &str = "\
Examples:
  longhand filter corpus --recipe stricter.toml
  longhand filter corpus --recipe stricter.toml -o corpus-strict

Every document of the folder is judged anew, accepted and rejected ones, with the table [filters] of the recipe (keys that it \
does not name have their defaults) and with its least score of the judge. All else of the recipe is ignored: no model writes or \
votes again. The command prints by rule how many documents are newly accepted and newly rejected. With -o it writes the corpus \
as `longhand export` does; without, nothing is written. The folder that is read does not change.

The folder is the output of `longhand run` or `longhand export` (format records), on this machine or downloaded. For a \
coordinator's run use `longhand export RUN --recipe FILE -o DIR`.

Exit codes:
  0    judged, and written if -o was given
  1    the corpus could not be written completely; rerun the same command
  2    nothing was written: the folder has no whole records, or the recipe
       cannot be read";

/// The corpus, and the recipe to judge it with.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct FilterArgs {
    /// Output folder of `longhand run` or `longhand export`
    dir: PathBuf,

    /// Recipe with the filters to apply
    #[arg(long, value_name = "FILE", env = "LONGHAND_RECIPE")]
    recipe: PathBuf,

    /// Folder to write the corpus into, created if missing; or s3://BUCKET/PREFIX, gs:// or az://
    #[arg(short, long, value_name = "DIR")]
    output: Option<String>,

    /// Format of the data files: records, parquet, messages, openai, sharegpt, alpaca, dpo, dpo-length, dpo-quality or dpo-section
    #[arg(long, value_name = "FORMAT", default_value_t, requires = "output")]
    format: Format,

    /// Store with the state of that folder's run, if it is not in the folder
    #[arg(long, value_name = "URL", env = "LONGHAND_STORE", hide_env_values = true)]
    store: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Judges the documents, prints what moves, and writes the corpus if asked to.
pub(crate) async fn filter(args: &FilterArgs) -> Result<Code> {
    let recipe = recipe::load(Some(&args.recipe))?;
    let target = args.output.as_deref().map(Target::open).transpose()?;
    if let Some(target) = &target {
        target.refuse(&args.dir)?;
    }
    let corpus = StoredCorpus::open(&args.dir, args.store.as_deref()).await?;
    let judged = Refiltered::judge(corpus.store.as_ref(), &corpus.run, &recipe).await.map_err(Failure::refused)?;
    let moves = Moves::of(&judged);
    let stats = match &target {
        None => None,
        Some(target) => {
            let options = Options { format: args.format, ..Options::default() };
            let (folder, stats) = refilter::write(&judged, target, &options).await?;
            target.publish(&folder.identity).await?;
            Some(stats)
        }
    };
    if args.json {
        output::json(&json!({ "run": corpus.run, "moves": moves, "output": args.output, "stats": stats }))?;
        return Ok(Code::Ok);
    }
    output::line(&moves.text())?;
    match (&stats, &args.output) {
        (Some(stats), Some(output)) => output::line(&export::text(&corpus.run, stats, output))?,
        (Some(_) | None, _) => output::note("nothing was written: add -o DIR to write this corpus"),
    }
    Ok(Code::Ok)
}
