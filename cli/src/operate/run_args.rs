//! Arguments of the commands that need the name of a run and nothing else.

use clap::Args;
use longhand_proto::RunId;

use crate::args::connection::ConnectionArgs;

/// One run of a coordinator.
#[derive(Debug, Args)]
pub(crate) struct OneRunArgs {
    /// Name of the run
    pub(super) run: RunId,

    /// Print JSON, one object per line
    #[arg(long)]
    pub(super) json: bool,

    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
}
