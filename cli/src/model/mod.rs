//! `longhand model`: downloads models, and says what one is.

mod families;
mod inspect;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use serde_json::json;

use inspect::InspectArgs;

use crate::hub::transfer::{Check, Transfer};
use crate::hub::{self, Hub, Repository};

const PULL_HELP: &str = "\
Examples:
  longhand model pull Qwen/Qwen3-8B
  longhand model pull HuggingFaceTB/SmolLM2-135M-Instruct \\
    --output models/smollm2
  longhand model pull org/name-GGUF --file name-Q4_K_M.gguf
  longhand model pull https://storage.example.com/model.gguf \\
    --output models/model.gguf --sha256 b179c952…
  longhand worker --model \"$(longhand model pull Qwen/Qwen3-8B)\"

The last line of the output is the path for --model. Interrupted downloads are resumed; every file is verified against the \
checksum of the hub. Without --output, a model goes to the shared cache of the Hugging Face programs. For a machine without a \
network, download on another one, copy the folder, and use it with --model.

Environment:
  HF_HOME         cache folder [default: ~/.cache/huggingface]
  HF_TOKEN        access token for gated models [default: content of the file
                  HF_HOME/token]
  HF_ENDPOINT     URL of the hub [default: https://huggingface.co]
  HF_HUB_OFFLINE  1: use the cache only, without a network

Exit codes:
  0    the model is complete
  1    the download failed; rerun the same command to resume
  2    nothing was started: invalid arguments, unknown model, or no access to it";

/// Subcommands on models.
#[derive(Debug, Subcommand)]
pub(crate) enum Model {
    /// Download a model from the Hugging Face hub, or one file from a URL
    Pull(PullArgs),
    /// Print what a model is, where it fits, or why it is refused
    Inspect(InspectArgs),
    /// List the model families that the engine runs, as a table in Markdown
    Families,
}

impl Model {
    /// True if stdout is for programs.
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Pull(args) => args.json,
            Self::Inspect(args) => args.json,
            Self::Families => false,
        }
    }

    /// Runs the subcommand.
    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::Pull(args) => pull(&args).await,
            Self::Inspect(args) => inspect::inspect(&args),
            Self::Families => output::line(&families::table()).map(|()| Code::Ok),
        }
    }
}

/// What to download, and where to.
#[derive(Debug, Args)]
#[command(after_help = PULL_HELP)]
pub(crate) struct PullArgs {
    /// Model on the hub, as ORGANISATION/NAME, or the URL of a file
    source: String,

    /// Output folder for a model of the hub; output file for a URL
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Branch, tag or commit on the hub
    #[arg(long, value_name = "NAME", default_value = "main")]
    revision: String,

    /// Download only this file, for repositories with GGUF files in several sizes
    #[arg(long, value_name = "NAME")]
    file: Option<String>,

    /// SHA-256 checksum of the file at the URL, 64 hex digits
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,

    /// Print events to stdout, one JSON object per line
    #[arg(long)]
    json: bool,
}

async fn pull(args: &PullArgs) -> Result<Code> {
    let path = if args.source.contains("://") { file(args).await? } else { repository(args).await? };
    if args.json {
        output::json(&json!({ "event": "pulled", "path": path }))?;
    } else {
        output::line(&path.display().to_string())?;
    }
    Ok(Code::Ok)
}

/// One file from a URL.
async fn file(args: &PullArgs) -> Result<PathBuf> {
    let Some(to) = &args.output else {
        return Err(Failure::refused("no output given: a URL needs --output FILE, such as models/model.gguf"));
    };
    let check = match &args.sha256 {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            Check::Sha256(hex.to_ascii_lowercase())
        }
        Some(hex) => return Err(Failure::refused(format!("invalid --sha256 {hex}: expected 64 hex digits"))),
        None => Check::None,
    };
    // If the output is a folder, as in the Helm chart, the file keeps its name.
    let name = args.source.split(['?', '#']).next().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
    let to = match to.is_dir() || to.extension().is_none() {
        true if hub::is_file_name(name) => to.join(name),
        true => return Err(Failure::refused("the URL ends with no file name: give --output a file, not a folder")),
        false => to.clone(),
    };
    Transfer::new(None, args.json)?.fetch(&args.source, &to, None, &check).await?;
    Ok(to)
}

/// A model of the hub.
async fn repository(args: &PullArgs) -> Result<PathBuf> {
    if args.sha256.is_some() {
        return Err(Failure::refused("--sha256 is for URLs only: the hub provides checksums"));
    }
    let name: Repository = args.source.parse().map_err(|e| Failure::refused(format!("{e}, or a URL")))?;
    if !hub::is_file_name(&args.revision) {
        return Err(Failure::refused(format!(
            "invalid --revision {:?}: expected a branch, tag or commit",
            args.revision
        )));
    }
    let hub = Hub::from_environment();
    hub.check()?;
    if hub.offline {
        let folder = args.output.clone().or_else(|| hub.cached(&name, &args.revision));
        let there = folder.map(|folder| match &args.file {
            Some(file) => folder.join(file),
            None => folder,
        });
        return there.filter(|path| path.exists()).ok_or_else(|| {
            Failure::refused(format!(
                "{name}: HF_HUB_OFFLINE is set and the model is not in {}; download it on a machine with a network and copy that folder",
                hub.home.display()
            ))
        });
    }
    let transfer = Transfer::new(hub.token.as_deref(), args.json)?;
    let snapshot = hub.snapshot(&transfer, "models", &name, &args.revision).await?;
    let files = snapshot.select(args.file.as_deref()).map_err(|why| Failure::refused(format!("{name}: {why}")))?;
    let folder = args.output.clone().unwrap_or_else(|| hub.folder(&name, &snapshot.commit));
    for file in &files {
        let url = hub.url(&name, &snapshot.commit, &file.name);
        transfer.fetch(&url, &folder.join(&file.name), Some(file.size), &file.check).await?;
    }
    if args.output.is_none() {
        hub.save_revision(&name, &args.revision, &snapshot.commit)?;
    }
    Ok(match &files[..] {
        [only] if only.name.ends_with(".gguf") => folder.join(&only.name),
        _ => folder,
    })
}
