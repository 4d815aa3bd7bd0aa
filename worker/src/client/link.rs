//! The way to the coordinators: one or several replicas over one store, any of which may be gone for a while.
//!
//! Every call of the protocol may be repeated, so every call is, until it is answered: a lost reply, a time-out and a
//! coordinator that restarts all look the same, and none of them is an outcome. Each try goes to the replica that
//! answered last; one that does not answer is left for the next.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use longhand_proto::{PROTOCOL, PROTOCOL_HEADER, RETRY_HEADER, rng};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// A coordinator that is back is noticed within this time.
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// Whoever asks for more patience than this is not waited for longer.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A channel that says who calls.
pub type Wire = InterceptedService<Channel, Credentials>;

/// What a client shows and trusts. PEM texts.
#[derive(Clone, Default)]
pub struct Tls {
    /// Signs the coordinator's certificate.
    pub ca: Option<String>,
    /// Own certificate and key, where the coordinator asks for one.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

/// Goes along with every call: the protocol's number, and the token if there is one.
#[derive(Clone, Default)]
pub struct Credentials {
    token: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// # Errors
    /// The token holds what no header may.
    pub fn with_token(token: &str) -> Result<Self, LinkError> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| LinkError::Token)?;
        value.set_sensitive(true);
        Ok(Self { token: Some(value) })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("token", &self.token.is_some()).finish()
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(PROTOCOL_HEADER, MetadataValue::from(PROTOCOL));
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A link that cannot be made from what was given.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("{url:?} is no address of a coordinator: want http://HOST:PORT or https://HOST:PORT")]
    Address { url: String },
    #[error("{url}: a certificate cannot be used: {reason}; want PEM files")]
    Tls { url: String, reason: String },
    #[error("{url} is not encrypted, but a CA or certificate was given: want https://")]
    Plain { url: String },
    #[error("no coordinator is named: want http://HOST:PORT, several of them with commas between")]
    Nobody,
    #[error("the token holds characters that no token has: want one line of letters and digits")]
    Token,
}

/// A call that ended without an answer that can be used.
#[derive(Debug)]
pub enum CallError {
    /// The coordinator will not do it, however often it is asked.
    Refused(Status),
    /// Nobody answered for as long as was allowed.
    Unanswered(Status),
}

impl CallError {
    pub fn status(&self) -> &Status {
        match self {
            Self::Refused(status) | Self::Unanswered(status) => status,
        }
    }
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one try. One that runs out of it is repeated: its outcome is unknown.
    pub call: Duration,
    /// For all tries.
    pub give_up: Duration,
}

/// The replicas of a coordinator. Clones share what they learn of who answers.
#[derive(Debug, Clone)]
pub struct Link {
    replicas: Arc<[Channel]>,
    /// Number of the replica that calls go to.
    current: Arc<AtomicUsize>,
    credentials: Credentials,
}

impl Link {
    /// Over channels that were made elsewhere; each should come from an [`endpoint`], which sets keepalive.
    pub fn over(replicas: Vec<Channel>, credentials: Credentials) -> Result<Self, LinkError> {
        if replicas.is_empty() {
            return Err(LinkError::Nobody);
        }
        // Clients that start together do not all go to the first one.
        let first = rng::below(replicas.len() as u64) as usize;
        Ok(Self { replicas: replicas.into(), current: Arc::new(AtomicUsize::new(first)), credentials })
    }

    /// # Errors
    /// An address or a certificate is none. No connection is made before the first call.
    pub fn open(urls: &[String], tls: &Tls, credentials: Credentials) -> Result<Self, LinkError> {
        let replicas = urls.iter().map(|url| channel(url, tls)).collect::<Result<_, _>>()?;
        Self::over(replicas, credentials)
    }

    /// Makes the call until it is answered, with full jitter between tries.
    pub async fn repeat<T, F>(&self, name: &str, patience: Patience, call: impl Fn(Wire) -> F) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        // The runtime's clock, not the machine's: a simulation can own it.
        let begin = Instant::now();
        let mut backoff = FIRST_BACKOFF;
        let mut unanswered = false;
        loop {
            let replica = self.current.load(Ordering::Relaxed) % self.replicas.len();
            let wire = InterceptedService::new(self.replicas[replica].clone(), self.credentials.clone());
            let status = match tokio::time::timeout(patience.call, call(wire)).await {
                Ok(Ok(reply)) => return Ok(reply.into_inner()),
                Ok(Err(status)) => match distrusts(&status) {
                    Some(refusal) => return Err(CallError::Refused(refusal)),
                    None if refuses(status.code()) => return Err(CallError::Refused(perhaps_done(status, unanswered))),
                    None => status,
                },
                Err(_) => Status::deadline_exceeded(format!("no answer within {} ms", patience.call.as_millis())),
            };
            if begin.elapsed() >= patience.give_up {
                return Err(CallError::Unanswered(status));
            }
            unanswered = true;
            tracing::debug!(call = name, replica, code = ?status.code(), error = status.message(), "will be repeated");
            // Unless another call has moved on already.
            let next = (replica + 1) % self.replicas.len();
            self.current.compare_exchange(replica, next, Ordering::Relaxed, Ordering::Relaxed).ok();
            tokio::time::sleep(asked_to_wait(&status) + rng::up_to(backoff)).await;
            backoff = (backoff * 2).min(LAST_BACKOFF);
        }
    }
}

/// How long the coordinator says to wait, where it has no room.
fn asked_to_wait(status: &Status) -> Duration {
    let told = status.metadata().get(RETRY_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    told.map_or(Duration::ZERO, Duration::from_millis).min(LONGEST_WAIT)
}

/// A coordinator's address with the settings that every link needs: without keepalive on both ends a half-open link
/// would hang for ever.
///
/// # Errors
/// `uri` is not an `http://` or `https://` address.
pub fn endpoint(uri: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(Endpoint::from_shared(uri.to_owned())?
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true))
}

fn channel(url: &str, tls: &Tls) -> Result<Channel, LinkError> {
    let address = || LinkError::Address { url: url.to_owned() };
    let mut endpoint = endpoint(url).map_err(|_| address())?;
    match endpoint.uri().scheme_str() {
        Some("https") => {
            let config = client_tls(tls);
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| LinkError::Tls { url: url.to_owned(), reason: chain(&error) })?;
        }
        Some("http") if tls.ca.is_some() || tls.identity.is_some() => {
            return Err(LinkError::Plain { url: url.to_owned() });
        }
        Some("http") if endpoint.uri().authority().is_some() => {}
        _ => return Err(address()),
    }
    Ok(endpoint.connect_lazy())
}

fn client_tls(tls: &Tls) -> ClientTlsConfig {
    let mut config = match &tls.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    config
}

/// A handshake that failed on a certificate will fail again: what to do about it, or none if it was something else.
fn distrusts(status: &Status) -> Option<Status> {
    let text = status.source().map(chain).unwrap_or_default();
    let remedy = if text.contains("invalid peer certificate") {
        "the coordinator's certificate is not trusted: give the CA that signed it with --tls-ca, and see that the \
         address is one that the certificate names"
    } else if text.contains("CertificateRequired") {
        "the coordinator asks for a certificate of yours: give --tls-cert and --tls-key"
    } else if text.contains("received fatal alert") {
        "the coordinator does not accept this certificate: give one that its --tls-client-ca has signed"
    } else {
        return None;
    };
    Some(Status::unauthenticated(format!("{remedy} ({text})")))
}

/// An error and all that led to it.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What a person asked for may be refused because it is done: by a try whose answer was lost.
fn perhaps_done(status: Status, unanswered: bool) -> Status {
    if !unanswered || status.code() != Code::FailedPrecondition {
        return status;
    }
    let told = format!("{} (an earlier try of this call got no answer and may have done it)", status.message());
    Status::new(status.code(), told)
}

/// True if asking again cannot help. Everything else may be a link or a server that will be back.
fn refuses(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable => false,
    }
}
