//! What a person asks of a coordinator, from anywhere.

mod control;
mod documents;
mod export;
mod requeue;
mod runs;
mod source;
mod submit;
mod timeline;
mod watch;

use clap::{Args, Subcommand};
use longhand_proto::v1::operator_client::OperatorClient;
use longhand_proto::{MAX_MESSAGE_BYTES, RunId};
use longhand_worker::client::failover_channel::AuthenticatedChannel;

use crate::exit::{Code, Result};
use crate::link::LinkArgs;

#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Hand a file of instructions to a coordinator
    Submit(Box<submit::SubmitArgs>),
    /// Show the runs of a coordinator, or one of them
    Status(runs::StatusArgs),
    /// Follow a run to its end
    Watch(RunArgs),
    /// List the documents of a run
    Documents(documents::DocumentsArgs),
    /// Show one document: state, attempts, text, and what it was before it was requeued
    Show(documents::ShowArgs),
    /// Take failed or rejected documents up again
    Requeue(requeue::RequeueArgs),
    /// End a run's unfinished documents, or one of them
    Cancel(control::CancelArgs),
    /// Lease nothing more of a run; what is in work is finished
    Pause(RunArgs),
    /// Let a paused run go on
    Resume(RunArgs),
    /// Write a run's corpus into a folder
    Export(export::ExportArgs),
}

/// A command on one run that needs nothing else.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Name of the run
    run: RunId,

    #[command(flatten)]
    link: LinkArgs,

    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Operate {
    pub(crate) const fn json(&self) -> bool {
        match self {
            Self::Submit(args) => args.json,
            Self::Status(args) => args.json,
            Self::Watch(args) | Self::Pause(args) | Self::Resume(args) => args.json,
            Self::Documents(args) => args.json,
            Self::Show(args) => args.json,
            Self::Requeue(args) => args.json,
            Self::Cancel(args) => args.json,
            Self::Export(args) => args.json,
        }
    }

    pub(crate) async fn run(self) -> Result<Code> {
        match self {
            Self::Submit(args) => submit::submit(&args).await,
            Self::Status(args) => runs::status(&args).await,
            Self::Watch(args) => watch::watch(&args).await,
            Self::Documents(args) => documents::documents(&args).await,
            Self::Show(args) => documents::show(&args).await,
            Self::Requeue(args) => requeue::requeue(&args).await,
            Self::Cancel(args) => control::cancel(&args).await,
            Self::Pause(args) => control::pause(&args, true).await,
            Self::Resume(args) => control::pause(&args, false).await,
            Self::Export(args) => export::export(&args).await,
        }
    }
}

fn client(wire: AuthenticatedChannel) -> OperatorClient<AuthenticatedChannel> {
    OperatorClient::new(wire).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(MAX_MESSAGE_BYTES)
}
