//! `longhand cancel`, `pause`, `resume`.

use clap::Args;
use longhand_proto::{DocumentId, RunId, v1};
use serde_json::json;

use super::{RunArgs, client, runs};
use crate::exit::{Code, Failure, Result};
use crate::link::{LinkArgs, Office};
use crate::output::{self, grouped};

#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// Name of the run
    run: RunId,

    /// End this document only
    #[arg(long, value_name = "ID")]
    document: Option<DocumentId>,

    #[command(flatten)]
    link: LinkArgs,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

/// What was written stays, and `requeue` takes it up again.
pub(super) async fn cancel(args: &CancelArgs) -> Result<Code> {
    let office = Office::open(&args.link)?;
    let run = &args.run;
    if args.document.is_none() {
        let now = runs::look(&office, run).await?;
        if now.counts.is_none_or(|counts| runs::unfinished(&counts) == 0) {
            return Err(Failure::refused(format!("every document of run {run} has ended: there is nothing to cancel")));
        }
    }
    let document = args.document.map(|id| id.to_string()).unwrap_or_default();
    let request = v1::CancelRequest { run: run.to_string(), document };
    let mut documents = 0;
    loop {
        let cancel = |wire| {
            let request = request.clone();
            async move { client(wire).cancel(request).await }
        };
        let reply = office.call("cancel", cancel).await?;
        documents += reply.documents;
        if !reply.more {
            break;
        }
    }
    if args.json {
        output::json(&json!({ "run": run, "cancelled": documents }))?;
    } else {
        output::line(&format!(
            "run {run}: {} documents cancelled; what was written of them stays, see `longhand requeue`",
            grouped(documents)
        ))?;
    }
    Ok(Code::Ok)
}

pub(super) async fn pause(args: &RunArgs, paused: bool) -> Result<Code> {
    let office = Office::open(&args.link)?;
    let request = v1::PauseRequest { run: args.run.to_string(), paused };
    let pause = |wire| {
        let request = request.clone();
        async move { client(wire).pause(request).await }
    };
    let run = office.call("pause", pause).await?;
    if args.json {
        output::json(&runs::fields(&run))?;
    } else {
        let in_work = run.counts.map_or(0, |counts| counts.leased);
        output::line(&if paused {
            format!("run {} is paused; {} documents in work finish their section", run.id, grouped(in_work))
        } else {
            format!("run {} goes on", run.id)
        })?;
    }
    Ok(Code::Ok)
}
