//! How a command reaches its coordinator: addresses, certificates, token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use longhand_command::exit::{Failure, Result};
use longhand_coordinator::control::rpc::{MIN_TOKEN_BYTES, Role, Tokens};
use longhand_coordinator::net::{Certificates, Pem};
use longhand_worker::client::failover_channel::{CredentialSource, Credentials, FailoverChannel, Tls};
use tonic::codegen::http::Uri;

use super::file::{pair, read, secret};
use super::local_token;
use super::loopback::is_this_machine;

/// The coordinator, and how to authenticate.
#[derive(Debug, Args)]
#[command(next_help_heading = "Coordinator")]
pub(crate) struct ConnectionArgs {
    /// URL of the coordinator; several replicas separated by commas
    #[arg(
        long,
        value_name = "URL",
        env = "LONGHAND_COORDINATOR",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7070"
    )]
    pub(crate) coordinator: Vec<String>,

    /// File with the token to authenticate with; only its owner may have access to it [default: the token of your own
    /// coordinator on this machine]
    #[arg(long, value_name = "FILE", env = "LONGHAND_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Send the token beyond this machine without TLS; a worker also serves --http beyond it without TLS or a token
    #[arg(long, env = "LONGHAND_INSECURE")]
    pub(crate) insecure: bool,

    /// CA certificate (PEM) to verify the coordinator with [default: the system's]
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Client certificate (PEM), if the coordinator requires one
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Private key of the client certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl ConnectionArgs {
    /// A channel to the coordinators. Nothing is sent before the first call.
    pub(crate) fn open(&self) -> Result<FailoverChannel> {
        let ca = self.tls_ca.as_deref().map(read).transpose()?;
        let given = self.token_file.as_deref().map(token).transpose()?;
        if given.is_some()
            && !self.insecure
            && let Some(url) = self.coordinator.iter().find(|url| is_open(url))
        {
            return Err(Failure::refused(format!(
                "the token would be sent to {url} in the clear: use https://, or add --insecure if the network is trusted"
            )));
        }
        let given = given.as_deref().map(Credentials::with_token).transpose().map_err(Failure::refused)?;
        let credentials = |url: &str| -> CredentialSource {
            let (given, url) = (given.clone(), url.to_owned());
            Arc::new(move || given.clone().or_else(|| local_credentials(&url)).unwrap_or_default())
        };
        FailoverChannel::open_with(&self.coordinator, &Tls { ca, identity: self.identity()? }, credentials)
            .map_err(Failure::refused)
    }

    /// The worker's own token, which callers of its HTTP port must present.
    pub(crate) fn tokens(&self) -> Result<Option<Tokens>> {
        let token = self.token_file.as_deref().map(token).transpose()?;
        Ok(token.map(|token| Tokens::single(Role::Worker, &token)))
    }

    /// The client certificate, as server certificate of the worker's HTTP port.
    pub(crate) fn certificates(&self) -> Result<Option<Certificates>> {
        let pem = self.identity()?.map(|(certificate, key)| Pem { certificate, key, client_ca: None });
        pem.as_ref().map(Certificates::new).transpose().map_err(Failure::refused)
    }

    /// Certificate and key, as PEM texts.
    fn identity(&self) -> Result<Option<(String, String)>> {
        pair(self.tls_cert.as_deref(), self.tls_key.as_deref())
    }
}

/// The credentials for this user's own coordinator: its token changes when it is restarted.
fn local_credentials(url: &str) -> Option<Credentials> {
    Credentials::with_token(&local_token::find(url)?).ok()
}

/// Whether others can listen on the way to this address.
fn is_open(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    uri.scheme_str() == Some("http") && !uri.host().is_some_and(is_this_machine)
}

/// The token in a file. The error does not show the content.
fn token(path: &Path) -> Result<String> {
    let text = secret(path)?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(token), None) if token.len() < MIN_TOKEN_BYTES => Err(Failure::refused(format!(
            "{}: the token is shorter than {MIN_TOKEN_BYTES} characters, which no coordinator takes; make one with `openssl rand -hex 32`",
            path.display()
        ))),
        (Some(token), None) => Ok(token.to_owned()),
        _ => Err(Failure::refused(format!(
            "{}: expected one token and nothing else; the coordinator's token file, which lists roles, is not for clients",
            path.display()
        ))),
    }
}
