//! `longhand push`: a finished corpus becomes a data set of the hub.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use serde_json::json;

use crate::hub::upload::{LocalFile, Upload};
use crate::hub::{self, Hub, Repository};

const HELP: &str = "\
Examples:
  longhand push corpus my-org/long-texts
  longhand push corpus my-org/long-texts --public \\
    --message 'Second version: stricter filters'

The folder is the output of `longhand run` or `longhand export`. Its data files, card, recipe and figures are uploaded in one \
commit; what is in the repository already is not sent again, so rerun the command if it was interrupted. Data files of an earlier \
push that the corpus does not have any more are removed from the repository. Rejected and failed documents and the run's own state \
stay on this machine. A repository that does not exist is created, private.

Environment:
  HF_TOKEN     access token that may write [default: content of the file
               HF_HOME/token]
  HF_HOME      folder of the token [default: ~/.cache/huggingface]
  HF_ENDPOINT  URL of the hub [default: https://huggingface.co]

Exit codes:
  0    the repository holds the corpus
  1    the upload failed; rerun the same command to go on
  2    refused: no corpus in the folder, no token, no right to write, or a
       request that the hub does not take";

/// Folder of the data files, in the corpus and in the repository.
const DATA: &str = "data/";
/// What else is uploaded, if it is there.
const BESIDE: [&str; 4] = ["README.md", "dataset_info.json", "recipe.toml", "stats.json"];

/// The corpus, and where it goes.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct PushArgs {
    /// Output folder of `longhand run` or `longhand export`
    dir: PathBuf,

    /// Data set on the hub, as ORGANISATION/NAME
    repository: String,

    /// Let everybody read a repository that is created
    #[arg(long)]
    public: bool,

    /// Branch to commit to
    #[arg(long, value_name = "NAME", default_value = "main")]
    revision: String,

    /// Title of the commit
    #[arg(long, value_name = "TEXT", default_value = "Upload a corpus with Longhand")]
    message: String,

    /// Print one JSON object, and no progress
    #[arg(long)]
    pub(crate) json: bool,
}

/// Uploads the corpus.
pub(crate) async fn push(args: &PushArgs) -> Result<Code> {
    let name: Repository = args.repository.parse().map_err(Failure::refused)?;
    if !hub::is_file_name(&args.revision) {
        return Err(Failure::refused(format!("invalid --revision {:?}: expected a branch", args.revision)));
    }
    let hub = Hub::from_environment();
    if hub.token.is_none() {
        return Err(Failure::refused(
            "no token: set HF_TOKEN to an access token that may write, from the hub's settings",
        ));
    }
    hub.check()?;
    let files = files(&args.dir)?;
    let upload = Upload {
        hub: &hub,
        name: &name,
        branch: &args.revision,
        private: !args.public,
        replaces: DATA,
        quiet: args.json,
    };
    let done = upload.run(&files, &args.message).await?;
    let url = format!("{}/datasets/{name}", hub.endpoint());
    if args.json {
        output::json(&json!({
            "event": "pushed", "url": url, "commit": done.commit, "files": files.len(), "changed": done.changed,
            "removed": done.removed, "sent_bytes": done.sent_bytes,
        }))?;
        return Ok(Code::Ok);
    }
    let text = match &done.commit {
        None => format!("{url} holds this corpus already: nothing was changed"),
        Some(commit) => format!(
            "{url}\ncommit {commit}: {} changed, {} removed, {} sent to storage",
            plural(done.changed as u64, "file"),
            grouped(done.removed as u64),
            plural(done.sent_bytes, "byte"),
        ),
    };
    output::line(&text)?;
    Ok(Code::Ok)
}

/// What is uploaded, in the order of the names.
fn files(dir: &Path) -> Result<Vec<LocalFile>> {
    let data = dir.join(DATA);
    let at = |error: std::io::Error| {
        Failure::refused(format!(
            "{}: {error}; give the output folder of `longhand run` or `longhand export`",
            data.display()
        ))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&data).map_err(at)? {
        let entry = entry.map_err(at)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().map_err(at)?.is_file() && hub::is_file_name(&name) {
            names.push(format!("{DATA}{name}"));
        }
    }
    if names.is_empty() {
        return Err(Failure::refused(format!("{}: no data files; was anything accepted?", data.display())));
    }
    names.extend(BESIDE.iter().filter(|name| dir.join(name).is_file()).map(|name| (*name).to_owned()));
    names.sort();
    names.into_iter().map(|name| LocalFile::read(dir.join(&name), name)).collect()
}
