//! The ports that this program opens, and who may come in.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use longhand_coordinator::control::rpc::{Access, Tokens};
use longhand_coordinator::http::{self, HttpConfig, Pem, TraceUrl};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::exit::{Failure, Result};
use crate::link::read;

/// Where the dashboard is unless somebody says otherwise. Taken by another run, a free port serves.
const HTTP: &str = "127.0.0.1:7080";

/// What is served to people.
#[derive(Debug, Args)]
pub(crate) struct HttpArgs {
    /// Address of the dashboard and of /metrics; `off` for none [default: 127.0.0.1:7080, or a free port if it is taken]
    #[arg(long = "http", value_name = "HOST:PORT", env = "LONGHAND_HTTP")]
    pub(crate) address: Option<String>,

    /// Where the dashboard's links to traces lead, such as http://localhost:16686/trace/{trace}
    #[arg(long, value_name = "URL", env = "LONGHAND_TRACE_URL")]
    pub(crate) trace_url: Option<TraceUrl>,
}

/// Who may come in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// Certificate (PEM): listen with TLS
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// CA (PEM) that must have signed the certificates of all callers
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CLIENT_CA", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// File of tokens, one a line: `worker TOKEN` or `operator TOKEN`, then if wanted a time of expiry and the holder's name
    #[arg(long, value_name = "FILE", env = "LONGHAND_TOKEN_FILE")]
    token_file: Option<PathBuf>,

    /// Listen beyond this machine without TLS or without tokens
    #[arg(long, env = "LONGHAND_INSECURE")]
    insecure: bool,
}

/// What the files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct Door {
    pub(crate) tokens: Option<Tokens>,
    pub(crate) pem: Option<Pem>,
    pub(crate) insecure: bool,
}

impl AccessArgs {
    pub(crate) fn door(&self) -> Result<Door> {
        let tokens = self.token_file.as_deref().map(Tokens::read).transpose().map_err(Failure::refused)?;
        let pem = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some(Pem {
                certificate: read(certificate)?,
                key: read(key)?,
                client_ca: self.tls_client_ca.as_deref().map(read).transpose()?,
            }),
            _ => None,
        };
        Ok(Door { tokens, pem, insecure: self.insecure })
    }
}

impl Door {
    pub(crate) fn scheme(&self) -> &'static str {
        if self.pem.is_some() { "https" } else { "http" }
    }

    /// The same for gRPC.
    pub(crate) fn access(&self) -> Access {
        let tls = self.pem.as_ref().map(|pem| {
            let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pem.certificate, &pem.key));
            match &pem.client_ca {
                Some(ca) => tls.client_ca_root(Certificate::from_pem(ca)),
                None => tls,
            }
        });
        Access { tokens: self.tokens.clone(), tls }
    }

    /// Opens a port, unless that would let strangers in. `flag` is what a person wrote the address behind.
    pub(crate) async fn open(&self, flag: &str, address: &str) -> Result<TcpListener> {
        let wrong = |e| Failure::refused(format!("{flag} {address}: {e}; want HOST:PORT, such as 127.0.0.1:7070"));
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(wrong)?.collect();
        let beyond = addresses.iter().any(|address| !address.ip().is_loopback());
        if beyond && !self.insecure {
            let missing = match (self.pem.is_some(), self.tokens.is_some()) {
                (true, true) => None,
                (true, false) => Some("--token-file"),
                (false, true) => Some("--tls-cert and --tls-key"),
                (false, false) => Some("--tls-cert, --tls-key and --token-file"),
            };
            if let Some(missing) = missing {
                return Err(Failure::refused(format!(
                    "{flag} {address} can be reached from other machines: give {missing} too, listen on 127.0.0.1, or \
                     say --insecure if the network keeps strangers out"
                )));
            }
        }
        TcpListener::bind(addresses.as_slice()).await.map_err(wrong)
    }

    /// Opens the HTTP port: the one asked for, the usual one or a free one if nothing was said, none for `off`.
    pub(crate) async fn open_http(&self, asked: Option<&str>) -> Result<Option<TcpListener>> {
        match asked {
            Some("off") => Ok(None),
            Some(address) => self.open("--http", address).await.map(Some),
            None => match TcpListener::bind(HTTP).await {
                Ok(listener) => Ok(Some(listener)),
                Err(_) => self.open("--http", "127.0.0.1:0").await.map(Some),
            },
        }
    }
}

/// A running HTTP server.
#[derive(Debug)]
pub(crate) struct Http {
    pub(crate) url: String,
    server: JoinHandle<()>,
    stop: CancellationToken,
}

impl Http {
    /// Serves `site` behind the door. The process's own numbers stand beside the site's.
    pub(crate) fn start(listener: TcpListener, door: Door, mut site: HttpConfig) -> Result<Self> {
        let address = listener.local_addr().map_err(|e| Failure::refused(format!("--http: {e}")))?;
        let url = format!("{}://{address}", door.scheme());
        site.tokens = door.tokens;
        site.metric_sources.push(Arc::new(|| crate::spans::LOSSES.gather()));
        let stop = CancellationToken::new();
        let served = http::serve(listener, site, door.pem, stop.clone());
        let server = tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "no HTTP");
            }
        });
        Ok(Self { url, server, stop })
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the HTTP server crashed");
        }
    }
}
