//! The token of a port that was opened without `--token-file`: the commands of the same user find that of a coordinator by its
//! port, and its user reads that of a dashboard, which is in no output that goes to a file; other users of the machine find none.
//!
//! A token lives as long as its process. So a file that was left behind is worth nothing to somebody who takes the port.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use longhand_proto::LeaseId;
use tonic::codegen::http::Uri;

use super::loopback::is_this_machine;

/// A new random token.
pub(crate) fn mint() -> String {
    format!("{}{}", LeaseId::mint(), LeaseId::mint())
}

/// A published token; the file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Published {
    path: PathBuf,
    token: String,
}

/// What a token opens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Port {
    /// The gRPC port of a coordinator with this number.
    Coordinator(u16),
    /// An HTTP port with this number.
    Dashboard(u16),
}

impl Port {
    fn file_name(self) -> String {
        match self {
            Self::Coordinator(port) => format!("coordinator-{port}.token"),
            Self::Dashboard(port) => format!("dashboard-{port}.token"),
        }
    }
}

impl Published {
    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes the token where its user finds it. None if this user has no home.
pub(crate) fn publish(port: Port, token: &str) -> io::Result<Option<Published>> {
    let Some(folder) = folder() else { return Ok(None) };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(port.file_name());
    let temporary = folder.join(format!("{}-{}", port.file_name(), LeaseId::mint()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(token.as_bytes())?;
    fs::rename(&temporary, &path)?;
    Ok(Some(Published { path, token: token.to_owned() }))
}

impl Drop for Published {
    fn drop(&mut self) {
        // Unless the next process on this port has published its own.
        if fs::read_to_string(&self.path).is_ok_and(|token| token == self.token)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "{} was not removed", self.path.display());
        }
    }
}

/// The token of this user's coordinator at this address, if it is on this machine and has one.
pub(crate) fn find(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let path = folder()?.join(Port::Coordinator(uri.port_u16()?).file_name());
    is_this_machine(uri.host()?).then(|| fs::read_to_string(path).ok()).flatten()
}

fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local").join("state")))?;
    Some(state.join("longhand"))
}
