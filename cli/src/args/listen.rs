//! The ports that this program opens, and who may connect.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use longhand_command::exit::{Failure, Result};
use longhand_coordinator::control::rpc::{Access, Tokens};
use longhand_coordinator::http::TraceUrl;
use longhand_coordinator::net::{Certificates, Pem};
use tokio::net::TcpListener;

use super::file::{pair, read};
use super::local_token;

/// Default address of the dashboard; if it is in use, a free port is taken.
const HTTP: &str = "127.0.0.1:7080";

/// The dashboard's port.
#[derive(Debug, Args)]
#[command(next_help_heading = "Dashboard")]
pub(crate) struct HttpArgs {
    /// Address of the dashboard and of /metrics; `off` for none [default: 127.0.0.1:7080, or a free port if it is in use]
    #[arg(long = "http", value_name = "HOST:PORT", env = "LONGHAND_HTTP")]
    pub(crate) address: Option<String>,

    /// URL that the dashboard links traces to, such as http://localhost:16686/trace/{trace}
    #[arg(long, value_name = "URL", env = "LONGHAND_TRACE_URL")]
    pub(crate) trace_url: Option<TraceUrl>,
}

/// Certificates and tokens of the ports.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// Server certificate (PEM): listen with TLS
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the server certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// CA certificate (PEM) that all client certificates must be signed by
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// File of tokens, one per line: a role (worker, operator, reader, metrics) and the token, optionally followed by an expiry
    /// time, the holder's name, and `cert=NAME` of the client certificate that it needs
    #[arg(long, value_name = "FILE", env = "LONGHAND_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Listen on addresses beyond this machine without TLS or without tokens; on this machine, let all its users in
    #[arg(long, env = "LONGHAND_INSECURE")]
    insecure: bool,
}

/// Certificates and tokens, as read from their files.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListenConfig {
    pub(crate) tokens: Option<Tokens>,
    pub(crate) tls: Option<Certificates>,
    pub(crate) insecure: bool,
    /// The only token, made at the start, where no file was given.
    pub(crate) local_token: Option<String>,
}

impl AccessArgs {
    /// Reads the files.
    pub(crate) fn config(&self) -> Result<ListenConfig> {
        let tokens = self.token_file.as_deref().map(Tokens::read).transpose().map_err(Failure::refused)?;
        let tls = self.pem()?.as_ref().map(Certificates::new).transpose().map_err(Failure::refused)?;
        let local_token = (tokens.is_none() && !self.insecure).then(local_token::mint);
        let tokens = tokens.or_else(|| local_token.as_deref().map(Tokens::local));
        Ok(ListenConfig { tokens, tls, insecure: self.insecure, local_token })
    }

    /// Whether everything may be open.
    pub(crate) const fn insecure(&self) -> bool {
        self.insecure
    }

    fn pem(&self) -> Result<Option<Pem>> {
        let Some((certificate, key)) = pair(self.tls_cert.as_deref(), self.tls_key.as_deref())? else {
            return Ok(None);
        };
        Ok(Some(Pem { certificate, key, client_ca: self.tls_client_ca.as_deref().map(read).transpose()? }))
    }

    /// Reads the files again, for ports that are open: new connections and requests get what is in them now.
    pub(crate) fn reload(&self, config: &ListenConfig) -> Result<()> {
        if let (Some(path), Some(tokens)) = (&self.token_file, &config.tokens) {
            tokens.reload(path).map_err(Failure::refused)?;
        }
        if let (Some(pem), Some(tls)) = (self.pem()?, &config.tls) {
            tls.replace(&pem).map_err(Failure::refused)?;
        }
        Ok(())
    }
}

impl ListenConfig {
    /// `https` with a certificate, otherwise `http`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Certificates and tokens for the gRPC port.
    pub(crate) fn access(&self) -> Access {
        Access { tokens: self.tokens.clone(), tls: self.tls.clone() }
    }

    /// Opens a port; one that is reachable from other machines needs TLS and tokens, or `insecure`. `flag` is the argument
    /// that gave the address.
    pub(crate) async fn open(&self, flag: &str, address: &str) -> Result<TcpListener> {
        let example = if flag == "--http" { HTTP } else { "127.0.0.1:7070" };
        let invalid =
            |e| Failure::refused(format!("invalid {flag} {address}: {e}; expected HOST:PORT, such as {example}"));
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(invalid)?.collect();
        let reachable = addresses.iter().any(|address| !address.ip().is_loopback());
        if reachable && !self.insecure {
            let missing = match (self.tls.is_some(), self.tokens.is_some() && self.local_token.is_none()) {
                (true, true) => None,
                (true, false) => Some("--token-file"),
                (false, true) => Some("--tls-cert and --tls-key"),
                (false, false) => Some("--tls-cert, --tls-key and --token-file"),
            };
            if let Some(missing) = missing {
                return Err(Failure::refused(format!(
                    "{flag} {address} is reachable from other machines: add {missing}, listen on 127.0.0.1, or add \
                     --insecure if the network is trusted"
                )));
            }
        }
        TcpListener::bind(addresses.as_slice()).await.map_err(|e| {
            let known = [
                (ErrorKind::AddrInUse, "stop what listens there, or choose another port"),
                (ErrorKind::AddrNotAvailable, "choose an address of this machine"),
                (ErrorKind::PermissionDenied, "choose a port from 1024 on"),
            ];
            let remedy = known.iter().find(|(kind, _)| *kind == e.kind());
            let remedy = remedy.map_or("choose another address", |(_, remedy)| *remedy);
            Failure::refused(format!("{flag} {address} cannot be opened: {e}; {remedy}"))
        })
    }

    /// Opens the HTTP port: the given one; without one, the default or else a free port; none for `off`.
    pub(crate) async fn open_http(&self, address: Option<&str>) -> Result<Option<TcpListener>> {
        match address {
            Some("off") => Ok(None),
            Some(address) => self.open("--http", address).await.map(Some),
            None => match TcpListener::bind(HTTP).await {
                Ok(listener) => Ok(Some(listener)),
                Err(_) => self.open("--http", "127.0.0.1:0").await.map(Some),
            },
        }
    }
}
