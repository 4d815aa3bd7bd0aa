//! `longhand export`: a coordinator's run becomes a folder.

use std::path::PathBuf;

use clap::Args;
use longhand_coordinator::corpus::Corpus;
use longhand_proto::RunId;
use serde_json::json;

use super::runs;
use super::source::Remote;
use crate::exit::{Code, Failure, Result};
use crate::folder::{Claim, Folder};
use crate::link::{LinkArgs, Office};
use crate::output::{self, grouped};

const HELP: &str = "\
Examples:
  longhand export ships -o ships-corpus

It may be given while the run is at work, and again later: the folder then holds what was accepted by that time, each
document once. Several folders may hold the same run.

Exit codes:
  0    exported
  1    the coordinator went away; the same command goes on
  2    nothing was exported: unknown run, or a folder of another run";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct ExportArgs {
    /// Name of the run
    run: RunId,

    /// Output folder; made if missing
    #[arg(short, long, value_name = "DIR", env = "LONGHAND_OUTPUT")]
    output: PathBuf,

    #[command(flatten)]
    link: LinkArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn export(args: &ExportArgs) -> Result<Code> {
    let office = Office::open(&args.link)?;
    let run = runs::look(&office, &args.run).await?;
    let claim = Claim {
        run: Some(args.run.clone()),
        recipe_hash: &run.recipe_hash,
        seed: run.seed,
        model: "",
        weights_hash: "",
        store: Some("coordinator"),
        new_run: false,
    };
    // Held to the end: one process at a time writes into a folder.
    let folder = Folder::open(&args.output, &claim)?;
    let source = Remote::new(office);
    let mut corpus = Corpus::open(folder.dir(), &args.run, &source).await.map_err(Failure::stopped)?;
    let stats = corpus.export(&source).await.map_err(Failure::stopped)?;
    if args.json {
        output::json(&json!({ "run": args.run, "output": folder.dir(), "stats": stats }))?;
    } else {
        let documents = &stats.documents;
        output::line(&format!(
            "run {}: {} accepted, {} rejected, {} failed, {} unfinished, into {}",
            args.run,
            grouped(documents.accepted),
            grouped(documents.rejected),
            grouped(documents.failed),
            grouped(documents.unfinished()),
            folder.dir().display()
        ))?;
    }
    Ok(Code::Ok)
}
