//! `longhand cancel`, `pause`, `resume`.

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, plural};
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

    /// Do not ask
    #[arg(long)]
    yes: bool,

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
        let now = runs::fetch(&client, run).await?.counts.unwrap_or_default();
        let open = runs::unfinished(&now);
        if open == 0 {
            return Err(Failure::refused(format!("every document of run {run} has ended; there is nothing to cancel")));
        }
        let question = format!(
            "Cancel {} of run {run}? {} in progress; unfinished sections are discarded",
            plural(open, "document"),
            grouped(now.leased)
        );
        if !args.yes && !output::confirm(&question)? {
            return Err(Failure::refused("nothing was cancelled"));
        }
    }
    let document = args.document.map(|id| id.to_string()).unwrap_or_default();
    let request = v1::CancelRequest { run: run.to_string(), document };
    let mut documents = 0;
    let remaining = loop {
        let cancel = |wire| {
            let request = request.clone();
            async move { grpc(wire).cancel(request).await }
        };
        let reply = client.call("cancel", cancel).await?;
        documents += reply.documents;
        // An older coordinator ends one page per call.
        if !reply.more || reply.remaining > 0 {
            break reply.remaining;
        }
    };
    if args.json {
        output::json(&json!({ "run": run, "cancelled": documents + remaining, "remaining": remaining }))?;
        return Ok(Code::Ok);
    }
    let mut text = format!("run {run}: {} cancelled", plural(documents + remaining, "document"));
    if remaining > 0 {
        text.push_str(&format!(
            "; nothing more of it is leased or accepted, and {} of them are being ended: `longhand watch {run}` shows how many \
             are left",
            grouped(remaining)
        ));
    }
    output::line(&text)?;
    let which = args.document.map_or_else(|| "--cancelled".to_owned(), |id| format!("--document {id}"));
    output::line(&format!("finished sections are kept; `longhand requeue {run} {which}` resumes them"))?;
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
            format!("run {} is paused; {} in progress finish their section", run.id, plural(in_progress, "document"))
        } else {
            format!("run {} is resumed", run.id)
        })?;
    }
    Ok(Code::Ok)
}
