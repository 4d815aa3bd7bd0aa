//! How a command finds its coordinator: addresses, certificates, token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use longhand_coordinator::control::rpc::{Role, Tokens};
use longhand_coordinator::http::Pem;
use longhand_worker::client::link::{CallError, Credentials, Link, Patience, Tls, Wire};
use tonic::{Response, Status};

use crate::exit::{Failure, Result};

#[derive(Debug, Args)]
#[command(next_help_heading = "Coordinator")]
pub(crate) struct LinkArgs {
    /// Address of the coordinator; several replicas with commas between
    #[arg(
        long,
        value_name = "URL",
        env = "LONGHAND_COORDINATOR",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7070"
    )]
    pub(crate) coordinator: Vec<String>,

    /// File that holds the token to show, readable by you alone
    #[arg(long, value_name = "FILE", env = "LONGHAND_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// CA that signed the coordinator's certificate (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CA")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// Own certificate (PEM), where the coordinator asks for one
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_CERT", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// Key of the own certificate (PEM)
    #[arg(long, value_name = "FILE", env = "LONGHAND_TLS_KEY", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
}

impl LinkArgs {
    /// The link. Nothing is sent before the first call.
    pub(crate) fn open(&self) -> Result<Link> {
        let read = |path: &PathBuf| read(path);
        let ca = self.tls_ca.as_ref().map(read).transpose()?;
        let identity = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        let credentials = match &self.token_file {
            Some(path) => Credentials::with_token(&token(path)?).map_err(Failure::refused)?,
            None => Credentials::default(),
        };
        Link::open(&self.coordinator, &Tls { ca, identity }, credentials).map_err(Failure::refused)
    }
}

impl LinkArgs {
    /// The token that is shown to coordinators, as what a caller of this process must show.
    pub(crate) fn own_token(&self) -> Result<Option<Tokens>> {
        let token = self.token_file.as_deref().map(token).transpose()?;
        Ok(token.map(|token| Tokens::single(Role::Worker, &token)))
    }

    /// The certificate that is shown to coordinators, for a port of this process.
    pub(crate) fn own_pem(&self) -> Result<Option<Pem>> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Pem { certificate: read(certificate)?, key: read(key)?, client_ca: None }))
            }
            _ => Ok(None),
        }
    }
}

pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Failure::refused(format!("{}: {e}; check the path and its permissions", path.display())))
}

/// One word. What is wrong is told without showing it.
fn token(path: &Path) -> Result<String> {
    let text = read(path)?;
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some(token), None) => Ok(token.to_owned()),
        _ => Err(Failure::refused(format!(
            "{}: want one token and nothing else; the coordinator's own file, with its roles, is not for clients",
            path.display()
        ))),
    }
}

/// A person waits: a coordinator that is gone is reported, not waited for.
const PATIENCE: Patience = Patience { call: Duration::from_secs(60), give_up: Duration::from_secs(15) };

/// A coordinator as an operator sees it.
#[derive(Debug, Clone)]
pub(crate) struct Office {
    link: Link,
    address: String,
}

impl Office {
    pub(crate) fn open(args: &LinkArgs) -> Result<Self> {
        Ok(Self { link: args.open()?, address: args.coordinator.join(", ") })
    }

    /// Makes a call, repeated while nobody answers.
    pub(crate) async fn call<T, F>(&self, name: &str, call: impl Fn(Wire) -> F) -> Result<T>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        self.link.repeat(name, PATIENCE, call).await.map_err(|error| match error {
            CallError::Refused(status) => Failure::refused(status.message()),
            CallError::Unanswered(status) => Failure::stopped(format!(
                "no answer from the coordinator at {} for {} s: {}; check the address, that it runs, and https:// if it \
                 uses TLS",
                self.address,
                PATIENCE.give_up.as_secs(),
                status.message()
            )),
        })
    }
}
