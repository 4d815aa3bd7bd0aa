//! The token of a coordinator that was started without `--token-file`: commands of the same user find it by its port, those
//! of other users of the machine do not.
//!
//! A token lives as long as its process. So a file that was left behind is worth nothing to somebody who takes the port.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

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

/// Writes the token where [`find`] looks for it. None if this user has no home.
pub(crate) fn publish(port: u16, token: &str) -> io::Result<Option<Published>> {
    let Some(folder) = folder() else { return Ok(None) };
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let path = folder.join(name(port));
    let temporary = folder.join(format!("{}-{}", name(port), LeaseId::mint()));
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
    let path = folder()?.join(name(uri.port_u16()?));
    is_this_machine(uri.host()?).then(|| fs::read_to_string(path).ok()).flatten()
}

fn folder() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local").join("state")))?;
    Some(state.join("longhand"))
}

fn name(port: u16) -> String {
    format!("coordinator-{port}.token")
}
