//! The commands of an operator, which call a coordinator.

mod archive;
mod client;
mod control;
mod documents;
pub(crate) mod export;
mod figures;
pub(crate) mod refilter;
mod remote_source;
mod requeue;
mod run_args;
mod run_source;
mod runs;
mod submit;
pub(crate) mod target;
mod timeline;
mod token_count;
mod watch;

use clap::Subcommand;
use longhand_command::exit::{Code, Result};

use run_args::OneRunArgs;

/// Subcommands that call a coordinator.
#[derive(Debug, Subcommand)]
pub(crate) enum Operate {
    /// Submit a file of instructions to a coordinator
    Submit(Box<submit::SubmitArgs>),
    /// Show the progress of all runs, or of one run
    Status(runs::StatusArgs),
    /// Follow a run until it ends
    Watch(OneRunArgs),
    /// List the documents of a run or a corpus folder
    Documents(documents::DocumentsArgs),
    /// Show one document: state, attempts, text and history
    Show(documents::ShowArgs),
    /// Queue failed or rejected documents again
    Requeue(requeue::RequeueArgs),
    /// Cancel the unfinished documents of a run, or one document
    Cancel(control::CancelArgs),
    /// Pause a run: nothing more is leased, tasks in progress finish
    Pause(OneRunArgs),
    /// Resume a paused run
    Resume(OneRunArgs),
    /// Write the corpus of a run into a folder or an object store
    Export(export::ExportArgs),
    /// Move an ended run out of the store, to a folder or object store
    Archive(archive::ArchiveArgs),
    /// Bring an archived run back into the store
    Restore(archive::RestoreArgs),
    /// Delete a run that has ended
    Delete(archive::DeleteArgs),
}

impl Operate {
    /// True if stdout is for programs.
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
            Self::Archive(args) => args.json,
            Self::Restore(args) => args.json,
            Self::Delete(args) => args.json,
        }
    }

    /// Runs the subcommand.
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
            Self::Archive(args) => archive::archive(&args).await,
            Self::Restore(args) => archive::restore(&args).await,
            Self::Delete(args) => archive::delete(&args).await,
        }
    }
}
