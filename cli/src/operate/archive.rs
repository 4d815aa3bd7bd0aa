//! `longhand archive`, `restore`, `delete`: what becomes of a run that has ended.

use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
use longhand_coordinator::control::wire;
use longhand_coordinator::corpus::{Corpus, RunArchive, StorageLocation};
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Counts, EndedDocument, Filter, Source};
use longhand_proto::wire::FORMAT_VERSION;
use longhand_proto::{RunId, v1};
use serde_json::json;

use super::client::{OperatorClient, grpc};
use super::remote_source::{RemoteSource, record};
use super::runs;
use crate::args::connection::ConnectionArgs;
use crate::run::folder::Folder;

const ARCHIVE_HELP: &str = "\
Moves the state of a run that has ended out of the store: every document with its attempts and earlier revisions. The run is \
deleted from the store when all files are written and were read again. `longhand restore` brings it back as it was.

Examples:
  longhand archive ships --to runs
  longhand archive ships --to s3://bucket/runs
  longhand restore ships --from s3://bucket/runs

Credentials for object stores are read from the standard variables: AWS_*, GOOGLE_*, AZURE_*.";

const DELETE_HELP: &str = "\
Deletes the state of a run that has ended: documents, attempts, revisions and its activity log. Exports and archives stay.

Refused while documents have not ended (`longhand cancel` ends them), and while accepted documents are neither in the \
coordinator's --archive nor in the folder named with --exported.

Examples:
  longhand delete ships --exported ships-corpus --yes
  longhand delete trial --discard --yes";

/// Documents of one page.
const PAGE: u32 = 256;
/// Bytes of the documents in one call.
const CALL_BYTES: usize = 4 << 20;

/// The run, and where to.
#[derive(Debug, Args)]
#[command(after_help = ARCHIVE_HELP)]
pub(crate) struct ArchiveArgs {
    /// Name of the run
    run: RunId,

    /// Folder, or s3://BUCKET/PREFIX, gs:// or az://, that receives RUN/run.json and its documents
    #[arg(long, value_name = "DIR")]
    to: String,

    /// Leave the run in the store
    #[arg(long)]
    keep: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The run, and where from.
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Name of the run
    run: RunId,

    /// Folder or object store that it was archived to
    #[arg(long, value_name = "DIR")]
    from: String,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The run to delete.
#[derive(Debug, Args)]
#[command(after_help = DELETE_HELP)]
pub(crate) struct DeleteArgs {
    /// Name of the run
    run: RunId,

    /// Export folder that must hold every accepted document
    #[arg(long, value_name = "DIR")]
    exported: Option<PathBuf>,

    /// Delete accepted documents that were not exported, too
    #[arg(long, conflicts_with = "exported")]
    discard: bool,

    /// Delete; without it the command only says what it would delete
    #[arg(long)]
    yes: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Writes the run to the location, then deletes it from the store.
pub(super) async fn archive(args: &ArchiveArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let location = StorageLocation::open(&args.to).map_err(Failure::refused)?;
    let (run, counts) = ended_run(&client, &args.run, "archived").await?;
    let stored = wire::run_from_wire(run).map_err(Failure::refused)?;
    let mut archive = RunArchive::create(location, stored).await.map_err(Failure::refused)?;
    let mut after = None;
    loop {
        let request = v1::ListDocumentsRequest { run: args.run.to_string(), after, limit: PAGE, ..Default::default() };
        let list = |wire| {
            let request = request.clone();
            async move { grpc(wire).list_documents(request).await }
        };
        let page = client.call("documents", list).await?;
        for listed in page.documents {
            archive.add(&whole(&client, &args.run, listed.id).await?).await.map_err(Failure::refused)?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let counts = Counts {
        accepted: counts.accepted,
        rejected: counts.rejected,
        failed: counts.failed,
        cancelled: counts.cancelled,
        ..Counts::default()
    };
    let manifest = archive.finish(counts).await.map_err(Failure::refused)?;
    let documents: u64 = manifest.files.iter().map(|file| file.documents).sum();
    if documents != counts.total() {
        return Err(Failure::refused(format!(
            "run {} changed while it was archived: give the command again",
            args.run
        )));
    }
    if !args.keep {
        delete_all(&client, &args.run, true).await?;
    }
    if args.json {
        output::json(&json!({ "run": args.run, "archived": documents, "to": args.to, "deleted": !args.keep }))?;
    } else {
        let deleted = if args.keep { "" } else { " and deleted from the store" };
        output::line(&format!("run {}: {} archived to {}{deleted}", args.run, plural(documents, "document"), args.to))?;
    }
    Ok(Code::Ok)
}

/// A document with its attempts and revisions.
async fn whole(client: &OperatorClient, run: &RunId, document: String) -> Result<EndedDocument> {
    let request = v1::GetDocumentRequest { run: run.to_string(), document: document.clone() };
    let get = |wire| {
        let request = request.clone();
        async move { grpc(wire).get_document(request).await }
    };
    let found = client.call("document", get).await?;
    if found.left_out > 0 {
        return Err(Failure::refused(format!(
            "document {document} has more attempts and revisions than one message holds; its run cannot be archived"
        )));
    }
    let history = wire::history_from_wire(&found).map_err(Failure::refused)?;
    let (record, attempts) = record(found).map_err(Failure::refused)?;
    EndedDocument::of(&record, attempts, history)
        .ok_or_else(|| Failure::refused(format!("document {document} was requeued: the run is not archived")))
}

/// Brings an archived run back into the store.
pub(super) async fn restore(args: &RestoreArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let location = StorageLocation::open(&args.from).map_err(Failure::refused)?;
    let manifest = RunArchive::manifest(&location, &args.run).await.map_err(Failure::refused)?;
    let manifest = manifest.ok_or_else(|| {
        Failure::refused(format!("no run {} at {}: expected {}/run.json there", args.run, args.from, args.run))
    })?;
    let run = wire::run_to_wire(manifest.run, manifest.counts, None);
    let (mut loaded, mut documents) = (0, 0);
    let mut batch = Vec::new();
    for file in &manifest.files {
        for document in RunArchive::read_file(&location, &args.run, file).await.map_err(Failure::refused)? {
            batch.push(wire::ended_to_wire(&document).map_err(Failure::refused)?);
            documents += 1;
            if batch.iter().map(String::len).sum::<usize>() >= CALL_BYTES {
                loaded += load(&client, &run, std::mem::take(&mut batch)).await?;
            }
        }
    }
    loaded += load(&client, &run, batch).await?;
    if args.json {
        output::json(&json!({ "run": args.run, "documents": documents, "restored": loaded }))?;
    } else {
        let present = documents - loaded;
        let known = if present > 0 { format!("; already there: {}", grouped(present)) } else { String::new() };
        output::line(&format!("run {}: {} restored{known}", args.run, plural(loaded, "document")))?;
    }
    Ok(Code::Ok)
}

async fn load(client: &OperatorClient, run: &v1::Run, documents: Vec<String>) -> Result<u64> {
    let request = v1::LoadRunRequest { run: Some(run.clone()), documents, format_version: FORMAT_VERSION };
    let load = |wire| {
        let request = request.clone();
        async move { grpc(wire).load_run(request).await }
    };
    Ok(client.call("restore", load).await?.loaded)
}

/// Deletes a run from the store.
pub(super) async fn delete(args: &DeleteArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let (run, counts) = ended_run(&client, &args.run, "deleted").await?;
    if let Some(dir) = &args.exported {
        expect_exported(&client, &args.run, dir).await?;
    }
    let documents = runs::total(&counts);
    if !args.yes {
        return Err(Failure::refused(format!(
            "run {} has {}, {} of them accepted; add --yes to delete it",
            run.id,
            plural(documents, "document"),
            grouped(counts.accepted)
        )));
    }
    delete_all(&client, &args.run, args.discard || args.exported.is_some()).await?;
    if args.json {
        output::json(&json!({ "run": args.run, "deleted": documents }))?;
    } else {
        output::line(&format!("run {}: deleted with {}", args.run, plural(documents, "document")))?;
    }
    Ok(Code::Ok)
}

async fn delete_all(client: &OperatorClient, run: &RunId, discard: bool) -> Result<()> {
    let request = v1::DeleteRunRequest { run: run.to_string(), discard };
    loop {
        let delete = |wire| {
            let request = request.clone();
            async move { grpc(wire).delete_run(request).await }
        };
        if !client.call("delete", delete).await?.more {
            return Ok(());
        }
    }
}

/// The run, if all its documents have ended.
async fn ended_run(client: &OperatorClient, id: &RunId, done: &str) -> Result<(v1::Run, v1::Counts)> {
    let run = runs::fetch(client, id).await?;
    let counts = run.counts.unwrap_or_default();
    let unfinished = runs::unfinished(&counts);
    if unfinished > 0 {
        return Err(Failure::refused(format!(
            "run {id} is not {done}: {} not ended yet; wait, or run `longhand cancel {id}`",
            plural(unfinished, "document")
        )));
    }
    Ok((run, counts))
}

/// Refuses unless the export holds every accepted document of the run as it is now.
async fn expect_exported(client: &OperatorClient, run: &RunId, dir: &std::path::Path) -> Result<()> {
    let folder = Folder::reopen(dir)?;
    if folder.identity.run != *run {
        return Err(Failure::refused(format!("{} holds run {}, not {run}", dir.display(), folder.identity.run)));
    }
    let source = RemoteSource::new(client.clone());
    let corpus = Corpus::open(dir, run, &source).await.map_err(Failure::refused)?;
    let (filter, mut after) = (Filter { state: Some(State::Accepted), reason: None }, None);
    loop {
        let page = source.list(run, &filter, after, PAGE).await.map_err(Failure::refused)?;
        for stored in &page.records {
            let document = stored.document().map_err(Failure::refused)?;
            if !corpus.holds(document.id, document.round) {
                return Err(Failure::refused(format!(
                    "{} does not hold document {}: run `longhand export {run} -o {}` first",
                    dir.display(),
                    document.id,
                    dir.display()
                )));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
