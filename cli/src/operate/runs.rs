//! `longhand status`, and the counts of a run for other commands.

use clap::Args;
use longhand_command::exit::{Code, Result};
use longhand_command::output::{self, grouped, table};
use longhand_proto::{RunId, v1};
use serde_json::{Value, json};

use super::client::{OperatorClient, grpc};
use super::figures;
use crate::args::connection::ConnectionArgs;

/// The run to show.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Name of the run [default: all]
    run: Option<RunId>,

    /// Print JSON, one object per run
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Prints the counts of one run or of all.
pub(super) async fn status(args: &StatusArgs) -> Result<Code> {
    let client = OperatorClient::open(&args.connection)?;
    let runs = match &args.run {
        Some(run) => vec![fetch(&client, run).await?],
        None => {
            let list = |wire| async move { grpc(wire).list_runs(v1::ListRunsRequest {}).await };
            client.call("list runs", list).await?.runs
        }
    };
    // The figures of all runs would take the coordinator long.
    let figures = match &args.run {
        Some(run) => Some(figures::figures(&client, run).await?),
        None => None,
    };
    if args.json {
        for run in &runs {
            let mut fields = fields(run);
            if let Some(figures) = &figures {
                for field in ["cost", "words", "tokens", "complete", "counted_ms"] {
                    fields[field] = figures[field].clone();
                }
            }
            output::json(&fields)?;
        }
        return Ok(Code::Ok);
    }
    let words =
        ["run", "total", "accepted", "rejected", "failed", "cancelled", "in progress", "waiting", "delayed", ""];
    let mut rows = vec![words.map(str::to_owned).to_vec()];
    for run in &runs {
        let c = run.counts.unwrap_or_default();
        let numbers = [total(&c), c.accepted, c.rejected, c.failed, c.cancelled, c.leased, c.ready, c.delayed];
        let mut row = vec![run.id.clone()];
        row.extend(numbers.map(grouped));
        row.push(mark(run).to_owned());
        rows.push(row);
    }
    let stalls = runs.iter().filter_map(|run| Some((run, stall(run)?)));
    let stalls: String = stalls.map(|(run, message)| format!("\n{}: no progress: {message}", run.id)).collect();
    let text = if runs.is_empty() { "no runs".to_owned() } else { table(&rows) };
    let mut more = String::new();
    if let (Some(figures), [run]) = (&figures, &runs[..]) {
        let words = figures["words"].as_u64().unwrap_or(0);
        more.push_str(&format!("\nwords: {} in accepted documents", grouped(words)));
        if let Some(cost) = figures::cost(figures) {
            more.push_str(&format!("\ncost: {cost}"));
        }
        if let Some(counting) = figures::counting(figures, total(&run.counts.unwrap_or_default())) {
            more.push_str(&format!("\n{counting}"));
        }
    }
    output::line(&format!("{}{stalls}{more}", text.trim_end()))?;
    Ok(Code::Ok)
}

/// The state of one run.
pub(super) async fn fetch(client: &OperatorClient, run: &RunId) -> Result<v1::Run> {
    let get = |wire| {
        let request = v1::GetRunRequest { run: run.to_string() };
        async move { grpc(wire).get_run(request).await }
    };
    client.call("status", get).await
}

/// Why the run makes no progress, as its coordinator says; none while it does.
pub(super) fn stall(run: &v1::Run) -> Option<&str> {
    run.stall.as_ref().map(|stall| stall.message.as_str())
}

/// What an operator did to the run; empty for most.
pub(super) const fn mark(run: &v1::Run) -> &'static str {
    match (run.cancelling, run.paused) {
        (true, _) => "cancelling",
        (false, true) => "paused",
        (false, false) => "",
    }
}

/// Documents that have not ended.
pub(super) const fn unfinished(counts: &v1::Counts) -> u64 {
    counts.ready + counts.leased + counts.delayed
}

/// All documents.
pub(super) const fn total(counts: &v1::Counts) -> u64 {
    unfinished(counts) + counts.accepted + counts.rejected + counts.failed + counts.cancelled
}

/// The counts on one line.
pub(super) fn line(run: &v1::Run) -> String {
    let counts = &run.counts.unwrap_or_default();
    let ended = total(counts) - unfinished(counts);
    let mark = mark(run);
    let comma = if mark.is_empty() { "" } else { ", " };
    format!(
        "{} of {} ended: {} accepted, {} rejected, {} failed, {} cancelled; {} in progress, {} waiting{comma}{mark}",
        grouped(ended),
        grouped(total(counts)),
        grouped(counts.accepted),
        grouped(counts.rejected),
        grouped(counts.failed),
        grouped(counts.cancelled),
        grouped(counts.leased),
        grouped(counts.ready + counts.delayed),
    )
}

/// The run as JSON.
pub(super) fn fields(run: &v1::Run) -> Value {
    let c = run.counts.unwrap_or_default();
    let terms = run.terms.clone().unwrap_or_default();
    json!({
        "run": run.id, "paused": run.paused, "cancelling": run.cancelling, "created_ms": run.created_ms, "recipe_hash": run.recipe_hash,
        "seed": run.seed, "priority": terms.priority, "model": terms.model, "judge": terms.judge, "max_open": terms.max_open,
        "counts": {
            "total": total(&c), "ready": c.ready, "leased": c.leased, "delayed": c.delayed, "accepted": c.accepted,
            "rejected": c.rejected, "failed": c.failed, "cancelled": c.cancelled,
        },
        "stall": run.stall.as_ref().map(|stall| json!({ "cause": stall.cause, "message": stall.message })),
    })
}
