//! `longhand documents` and `longhand show`.

use clap::Args;
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output::{self, grouped, table};
use longhand_command::terminal;
use longhand_coordinator::control::wire;
use longhand_coordinator::domain::document::{Document, Progress, Verdict, assemble};
use longhand_coordinator::store::{Attempt, Revision};
use longhand_proto::{WireError, v1};
use serde_json::{Value, json};

use super::client::grpc;
use super::run_source::{PAGE, RunSource};
use super::timeline::timeline;
use crate::args::connection::ConnectionArgs;

/// Columns of the table that a row's id and a reason leave to the others.
const OTHER_COLUMNS: usize = 74;
/// Fewest columns of an id or a reason, however narrow the terminal.
const MIN_COLUMNS: usize = 12;

/// The documents to list.
#[derive(Debug, Args)]
pub(crate) struct DocumentsArgs {
    /// Name of the run, or the folder of a corpus
    run: String,

    /// List only documents in this state: ready, leased, delayed, accepted, rejected, failed or cancelled
    #[arg(long, value_name = "STATE")]
    state: Option<String>,

    /// List only documents with this rule or error class; needs --state
    #[arg(long, value_name = "REASON", requires = "state")]
    reason: Option<String>,

    /// Maximum number of documents to list
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u32,

    /// Print JSON, one object per document
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// The document to show.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Name of the run, or the folder of a corpus
    run: String,

    /// Id of the document or of its row, as listed by `longhand documents`
    document: String,

    /// Print only the text
    #[arg(long, conflicts_with = "json")]
    text: bool,

    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Lists the documents of a run.
pub(super) async fn documents(args: &DocumentsArgs) -> Result<Code> {
    let source = RunSource::open(&args.run, &args.connection).await?;
    let room = (terminal::width().saturating_sub(OTHER_COLUMNS) / 2).max(MIN_COLUMNS);
    let mut rows = vec![["document", "row", "state", "reason", "sections", "words"].map(str::to_owned).to_vec()];
    let (mut left, mut after) = (args.limit, None);
    while left > 0 {
        let request = v1::ListDocumentsRequest {
            state: args.state.clone().unwrap_or_default(),
            reason: args.reason.clone().unwrap_or_default(),
            after,
            limit: left.min(PAGE),
            ..source.request()
        };
        let reply = source.page(request).await?;
        left -= (reply.documents.len() as u32).min(left);
        for document in &reply.documents {
            if args.json {
                output::json(&summary(document))?;
            } else {
                rows.push(row(document, room));
            }
        }
        after = reply.next;
        if after.is_none() {
            break;
        }
    }
    if !args.json {
        output::line(if rows.len() == 1 { "no documents".to_owned() } else { table(&rows) }.trim_end())?;
        if after.is_some() {
            output::note("more documents exist: raise --limit, or filter with --state");
        }
    }
    Ok(Code::Ok)
}

/// `room`: columns for the id of the row, and for the reason.
fn row(document: &v1::Document, room: usize) -> Vec<String> {
    vec![
        document.id.clone(),
        terminal::cell(&document.instruction_id, room),
        document.state.clone(),
        terminal::cell(&document.reason, room),
        format!("{} of {}", document.sections, document.steps),
        grouped(document.words),
    ]
}

fn summary(document: &v1::Document) -> Value {
    json!({
        "document": document.id, "run": document.run, "instruction_id": document.instruction_id,
        "state": document.state, "reason": document.reason, "sections": document.sections, "steps": document.steps,
        "words": document.words, "errors": document.errors, "losses": document.losses,
        "releases": document.releases, "worker": document.worker, "checkpoint_tokens": document.checkpoint_tokens,
    })
}

/// Shows one document.
pub(super) async fn show(args: &ShowArgs) -> Result<Code> {
    let source = RunSource::open(&args.run, &args.connection).await?;
    let document = source.document(&args.document).await?.to_string();
    let request = v1::GetDocumentRequest { run: source.run.to_string(), document };
    let get = |wire| {
        let request = request.clone();
        async move { grpc(wire).get_document(request).await }
    };
    let reply = source.client.call("show", get).await?;
    let attempts = wire::attempts_from_wire(&reply).map_err(unreadable)?;
    let history = wire::history_from_wire(&reply).map_err(unreadable)?;
    if args.json {
        let mut fields = summary(&reply);
        fields["body"] = wire::raw_body_from_wire(&reply).map_err(unreadable)?;
        fields["attempts"] = json!(attempts);
        fields["history"] = json!(history);
        fields["left_out"] = json!(reply.left_out);
        output::json(&fields)?;
        return Ok(Code::Ok);
    }
    let document = wire::body_from_wire(&reply).map_err(unreadable)?;
    if args.text {
        output::text(&assemble(document.sections()))?;
        return Ok(Code::Ok);
    }
    output::line(&text(&reply, &document, &attempts, &history))?;
    Ok(Code::Ok)
}

fn unreadable(error: WireError) -> Failure {
    Failure::refused(format!(
        "cannot parse the coordinator's response: {error}; use the same version of longhand as the coordinator"
    ))
}

fn text(wire: &v1::Document, document: &Document, attempts: &[Attempt], history: &[Revision]) -> String {
    let reason = if wire.reason.is_empty() { String::new() } else { format!(" ({})", wire.reason) };
    let mut text = format!(
        "document {} of run {}: {}{reason}, {} of {} sections, {} words\n",
        wire.id,
        wire.run,
        wire.state,
        wire.sections,
        wire.steps,
        grouped(wire.words)
    );
    if !wire.worker.is_empty() {
        text.push_str(&format!("in progress on {}, {} tokens checkpointed\n", wire.worker, wire.checkpoint_tokens));
    }
    if let Progress::Failed { message, .. } = &document.progress {
        text.push_str(&format!("{message}\n"));
    }
    if let Progress::Finished { verdict: Verdict::Rejected { rule, value, threshold, detail }, .. } = &document.progress
    {
        text.push_str(&format!("{rule}: value {value:.3}, threshold {threshold:.3}: {detail}\n"));
    }
    text.push_str(&format!("\n--- instruction ---\n{}\n", document.instruction.text()));
    if let Some(plan) = document.plan() {
        text.push_str("\n--- plan ---\n");
        for (step, number) in plan.steps.iter().zip(1..) {
            text.push_str(&format!("{number}. {} ({} words)\n", step.main_point, step.words));
        }
    }
    let trace = document.trace_id();
    let trace = if trace.is_empty() { String::new() } else { format!(", trace {trace}") };
    text.push_str(&format!("\n--- attempts{trace} ---\n"));
    if wire.left_out > 0 {
        text.push_str(&format!(
            "{} older attempts and revisions are omitted: the response would be too large\n",
            wire.left_out
        ));
    }
    text.push_str(&timeline(attempts));
    for revision in history {
        let sections = serde_json::from_str::<Document>(&revision.body).map_or(0, |document| document.sections().len());
        text.push_str(&format!(
            "\n--- before requeueing (version {}) ---\n{} {}, {sections} sections; use --json to see them\n",
            revision.version,
            revision.state.as_str(),
            revision.reason
        ));
    }
    text.push_str(&format!("\n--- text ---\n{}", assemble(document.sections())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_kind_stays_in_its_cell() {
        let document = v1::Document {
            id: "0af7651916cd43dd8448eb211c80319c".into(),
            instruction_id: format!("\u{1b}[2J\n\u{202e}{}", "x".repeat(5_000)),
            state: "rejected".into(),
            reason: "too_short".into(),
            ..v1::Document::default()
        };
        let text = table(&[row(&document, 20)]);
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("  \\u{1b}[2J\\n\\u{202e}…  rejected  too_short  "), "{text}");
        assert!(terminal::columns(text.trim_end()) < 120, "{text}");
    }
}
