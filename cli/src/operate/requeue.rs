//! `longhand requeue`: queues ended documents again.

use clap::Args;
use longhand_command::exit::{Code, Result};
use longhand_command::output::{self, plural};
use longhand_proto::v1::requeue_request::Which;
use longhand_proto::{DocumentId, RunId, v1};
use serde_json::json;

use super::client::{OperatorClient, grpc};
use crate::args::connection::ConnectionArgs;

const HELP: &str = "\
Examples:
  longhand requeue ships --failed --dry-run
  longhand requeue ships --cancelled
  longhand requeue ships --rejected too_short
  longhand requeue ships --document 0af7651916cd43dd8448eb211c80319c \\
    --from-section 3

A document that failed or was cancelled resumes with its missing sections; any other one starts over with a new plan. With \
--from-section K, the plan and the sections before K are kept; with --only, the sections after K are kept too. Attempts and \
old texts remain in the history, see `longhand show`.";

/// The documents to requeue.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["failed", "cancelled", "rejected", "document"]))]
pub(crate) struct RequeueArgs {
    /// Name of the run
    run: RunId,

    /// All failed documents, except rows that could not be read
    #[arg(long)]
    failed: bool,

    /// All cancelled documents
    #[arg(long)]
    cancelled: bool,

    /// All documents rejected by this rule
    #[arg(long, value_name = "RULE")]
    rejected: Option<String>,

    /// One document
    #[arg(long, value_name = "ID")]
    document: Option<DocumentId>,

    /// Rewrite from this section on, counted from 1
    #[arg(long, value_name = "K", requires = "document", value_parser = clap::value_parser!(u32).range(1..))]
    from_section: Option<u32>,

    /// Rewrite only that section
    #[arg(long, requires = "from_section")]
    only: bool,

    /// Print what would be done; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Requeues the selected documents, page by page.
pub(super) async fn requeue(args: &RequeueArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let which = match (&args.rejected, args.document) {
        (Some(rule), _) => Which::Rejected(rule.clone()),
        (None, Some(id)) => Which::Document(id.to_string()),
        (None, None) if args.cancelled => Which::Cancelled(true),
        (None, None) => Which::Failed(true),
    };
    let mut request = v1::RequeueRequest {
        run: args.run.to_string(),
        which: Some(which),
        from_section: args.from_section,
        only: args.only,
        dry_run: args.dry_run,
        after: None,
    };
    let mut sum = v1::RequeueReply::default();
    loop {
        let requeue = |wire| {
            let request = request.clone();
            async move { grpc(wire).requeue(request).await }
        };
        let reply = client.call("requeue", requeue).await?;
        sum.documents += reply.documents;
        sum.kept += reply.kept;
        sum.redone += reply.redone;
        sum.skipped.extend(reply.skipped);
        if reply.next.is_none() {
            break;
        }
        request.after = reply.next;
    }
    if args.json {
        let skipped = sum.skipped.iter().map(|it| json!({ "document": it.document, "reason": it.reason }));
        output::json(&json!({
            "run": args.run, "dry_run": args.dry_run, "documents": sum.documents, "sections_kept": sum.kept,
            "sections_redone": sum.redone, "skipped": skipped.collect::<Vec<_>>(),
        }))?;
    } else {
        for it in &sum.skipped {
            output::line(&format!("skipped document {}: {}", it.document, it.reason))?;
        }
        let done = if args.dry_run { "would be requeued" } else { "requeued" };
        output::line(&format!(
            "run {}: {} {done}; {} kept, {} to rewrite (their texts remain in the history)",
            args.run,
            plural(sum.documents, "document"),
            plural(sum.kept, "section"),
            plural(sum.redone, "section")
        ))?;
    }
    Ok(Code::Ok)
}
