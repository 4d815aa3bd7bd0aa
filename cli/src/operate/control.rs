//! `longhand cancel`, `pause`, `resume`.

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped};
use longhand_proto::{DocumentId, RunId, v1};
use serde_json::json;

use super::client::{OperatorClient, grpc};
use super::run_args::OneRunArgs;
use super::runs;
use crate::args::connection::ConnectionArgs;

/// The run or document to cancel.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Name of the run
    run: RunId,

    /// Cancel only this document
    #[arg(long, value_name = "ID")]
    document: Option<DocumentId>,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Finished sections are kept, and `requeue` can resume the documents.
pub(super) async fn cancel(args: &CancelArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let run = &args.run;
    if args.document.is_none() {
        let now = runs::fetch(&client, run).await?;
        if now.counts.is_none_or(|counts| runs::unfinished(&counts) == 0) {
            return Err(Failure::refused(format!("every document of run {run} has ended; there is nothing to cancel")));
        }
    }
    let document = args.document.map(|id| id.to_string()).unwrap_or_default();
    let request = v1::CancelRequest { run: run.to_string(), document };
    let mut documents = 0;
    loop {
        let cancel = |wire| {
            let request = request.clone();
            async move { grpc(wire).cancel(request).await }
        };
        let reply = client.call("cancel", cancel).await?;
        documents += reply.documents;
        if !reply.more {
            break;
        }
    }
    if args.json {
        output::json(&json!({ "run": run, "cancelled": documents }))?;
    } else {
        output::line(&format!(
            "run {run}: {} documents cancelled; their finished sections are kept, and `longhand requeue` resumes them",
            grouped(documents)
        ))?;
    }
    Ok(Code::Ok)
}

/// Pauses a run, or resumes it.
pub(super) async fn pause(args: &OneRunArgs, paused: bool) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let request = v1::PauseRequest { run: args.run.to_string(), paused };
    let pause = |wire| {
        let request = request.clone();
        async move { grpc(wire).pause(request).await }
    };
    let run = client.call("pause", pause).await?;
    if args.json {
        output::json(&runs::fields(&run))?;
    } else {
        let in_progress = run.counts.map_or(0, |counts| counts.leased);
        output::line(&if paused {
            format!("run {} is paused; {} documents in progress finish their section", run.id, grouped(in_progress))
        } else {
            format!("run {} is resumed", run.id)
        })?;
    }
    Ok(Code::Ok)
}
