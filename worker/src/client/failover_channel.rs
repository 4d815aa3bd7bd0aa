//! The channel to the coordinators: one or several replicas over one store, any of which may be down for a while.
//!
//! Every call of the protocol is idempotent, so every call is retried until there is a reply: a lost reply, a timeout and
//! a coordinator that restarts all look the same, and none of them is an outcome. Each attempt goes to the replica that
//! replied last; one that does not reply is left for the next.

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhand_proto::{PROTOCOL, PROTOCOL_HEADER, RETRY_HEADER, rng};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Response, Status};

const MIN_BACKOFF: Duration = Duration::from_millis(50);
/// A coordinator that is back is noticed within this time.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// A longer retry-after is shortened to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);

/// A channel that sends [`Credentials`] with every call.
pub type AuthenticatedChannel = InterceptedService<Channel, Credentials>;

/// Certificates of a client, as PEM texts.
#[derive(Clone, Default)]
pub struct Tls {
    /// The CA that signed the coordinator's certificate; none trusts the system's.
    pub ca: Option<String>,
    /// Client certificate and key, where the coordinator requires one.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

/// Sent with every call: the protocol's number, and the token if there is one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    token: Option<MetadataValue<Ascii>>,
}

impl Credentials {
    /// Sends `token` as a bearer token.
    ///
    /// # Errors
    /// The token holds characters that a header cannot hold.
    pub fn with_token(token: &str) -> Result<Self, ChannelError> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| ChannelError::Token)?;
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

/// Invalid addresses, certificates or token.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Not an `http://` or `https://` address with a host.
    #[error("invalid coordinator address {url:?}: expected http://HOST:PORT or https://HOST:PORT")]
    Address { url: String },
    /// A CA, certificate or key cannot be parsed.
    #[error("invalid TLS certificate or key for {url}: {reason}; expected PEM files")]
    Tls { url: String, reason: String },
    /// TLS files were given for an `http://` address.
    #[error("a CA or certificate was given for the unencrypted address {url}: use https://")]
    Unencrypted { url: String },
    /// No replica was given.
    #[error("no coordinator address given: expected http://HOST:PORT, or several separated by commas")]
    NoAddress,
    /// The token cannot be sent in a header.
    #[error("invalid token: expected one line of letters and digits")]
    Token,
}

/// A call that failed.
#[derive(Debug)]
pub enum CallError {
    /// The coordinator rejected it; a retry cannot help.
    Refused(Status),
    /// No replica replied within [`RetryPolicy::total_timeout`]; holds the last attempt's status.
    Unanswered(Status),
}

impl CallError {
    /// The status of the last attempt.
    pub fn status(&self) -> &Status {
        match self {
            Self::Refused(status) | Self::Unanswered(status) => status,
        }
    }
}

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// For one attempt. One that times out is retried: its outcome is unknown.
    pub attempt_timeout: Duration,
    /// For all attempts.
    pub total_timeout: Duration,
    /// For all attempts while every replica's address refuses connections: nothing listens there.
    pub refused_timeout: Duration,
}

/// The credentials for a replica, asked for before each attempt: a token may be replaced.
pub type CredentialSource = Arc<dyn Fn() -> Credentials + Send + Sync>;

/// The replicas of a coordinator. Clones share which replica replied last.
#[derive(Clone)]
pub struct FailoverChannel {
    replicas: Arc<[(Channel, CredentialSource)]>,
    /// Number of the replica that calls go to.
    current: Arc<AtomicUsize>,
    /// Since when no call has been answered, and why. Locked to read or to write it.
    silence: Arc<Mutex<Option<(Instant, String)>>>,
}

impl fmt::Debug for FailoverChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverChannel").field("replicas", &self.replicas.len()).finish_non_exhaustive()
    }
}

impl FailoverChannel {
    /// Over existing channels; each should come from an [`endpoint`], which sets keepalive.
    ///
    /// # Errors
    /// `replicas` is empty.
    pub fn from_channels(replicas: Vec<Channel>, credentials: Credentials) -> Result<Self, ChannelError> {
        let source: CredentialSource = Arc::new(move || credentials.clone());
        Self::new(replicas.into_iter().map(|channel| (channel, Arc::clone(&source))).collect())
    }

    fn new(replicas: Vec<(Channel, CredentialSource)>) -> Result<Self, ChannelError> {
        if replicas.is_empty() {
            return Err(ChannelError::NoAddress);
        }
        // Clients that start together do not all go to the first one.
        let first = rng::below(replicas.len() as u64) as usize;
        Ok(Self { replicas: replicas.into(), current: Arc::new(AtomicUsize::new(first)), silence: Arc::default() })
    }

    /// For how long calls have had no answer, and what the last one met; none while they are answered.
    pub fn silence(&self) -> Option<(Duration, String)> {
        let silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        silence.as_ref().map(|(since, reason)| (since.elapsed(), reason.clone()))
    }

    fn note_answer(&self) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn note_silence(&self, status: &Status) {
        let mut silence = self.silence.lock().unwrap_or_else(PoisonError::into_inner);
        let since = silence.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *silence = Some((since, described(status)));
    }

    /// Over the addresses `urls`. No connection is made before the first call.
    ///
    /// # Errors
    /// An address, certificate or key is invalid.
    pub fn open(urls: &[String], tls: &Tls, credentials: Credentials) -> Result<Self, ChannelError> {
        let source: CredentialSource = Arc::new(move || credentials.clone());
        Self::open_with(urls, tls, |_| Arc::clone(&source))
    }

    /// As [`Self::open`], with the credentials for each address.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(
        urls: &[String],
        tls: &Tls,
        credentials: impl Fn(&str) -> CredentialSource,
    ) -> Result<Self, ChannelError> {
        let open = |url: &String| Ok((channel(url, tls)?, credentials(url)));
        Self::new(urls.iter().map(open).collect::<Result<_, ChannelError>>()?)
    }

    /// Retries the call until there is a reply, with full jitter between attempts. `name` is for logs.
    ///
    /// # Errors
    /// The call was rejected, or there was no reply in time.
    pub async fn call_with_retry<T, F>(
        &self,
        name: &str,
        policy: RetryPolicy,
        call: impl Fn(AuthenticatedChannel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        // The runtime's clock, not the machine's: a simulation can own it.
        let begin = Instant::now();
        let mut backoff = MIN_BACKOFF;
        let (mut unanswered, mut refused) = (false, 0);
        loop {
            let replica = self.current.load(Ordering::Relaxed) % self.replicas.len();
            let (channel, source) = &self.replicas[replica];
            let credentials = source();
            let channel = InterceptedService::new(channel.clone(), credentials.clone());
            let status = match tokio::time::timeout(policy.attempt_timeout, call(channel)).await {
                Ok(Ok(reply)) => {
                    self.note_answer();
                    return Ok(reply.into_inner());
                }
                Ok(Err(status)) => match tls_remedy(&status) {
                    Some(refusal) => return Err(CallError::Refused(refusal)),
                    // The coordinator was restarted just now, and has another token.
                    None if status.code() == Code::Unauthenticated && source() != credentials => status,
                    None if is_permanent(status.code()) => {
                        self.note_answer();
                        return Err(CallError::Refused(note_uncertain(status, unanswered)));
                    }
                    None => status,
                },
                Err(_) => {
                    Status::deadline_exceeded(format!("no reply within {} ms", policy.attempt_timeout.as_millis()))
                }
            };
            self.note_silence(&status);
            refused = if is_connection_refused(&status) { refused + 1 } else { 0 };
            let nobody = refused >= self.replicas.len();
            if begin.elapsed() >= if nobody { policy.refused_timeout } else { policy.total_timeout } {
                return Err(CallError::Unanswered(Status::new(status.code(), described(&status))));
            }
            unanswered = true;
            tracing::debug!(call = name, replica, code = ?status.code(), error = status.message(), "call failed; retrying");
            // Unless another call has already failed over.
            let next = (replica + 1) % self.replicas.len();
            self.current.compare_exchange(replica, next, Ordering::Relaxed, Ordering::Relaxed).ok();
            tokio::time::sleep(retry_after(&status) + rng::up_to(backoff)).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }
}

/// How long the coordinator says to wait, where it rejected the call with retry-after.
fn retry_after(status: &Status) -> Duration {
    let millis = status.metadata().get(RETRY_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    millis.map_or(Duration::ZERO, Duration::from_millis).min(MAX_RETRY_AFTER)
}

/// A coordinator's address with the settings that every channel needs: without keepalive on both ends a half-open
/// connection would hang for ever.
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

fn channel(url: &str, tls: &Tls) -> Result<Channel, ChannelError> {
    let address = || ChannelError::Address { url: url.to_owned() };
    let mut endpoint = endpoint(url).map_err(|_| address())?;
    match endpoint.uri().scheme_str() {
        Some("https") => {
            let config = client_tls(tls);
            endpoint = endpoint
                .tls_config(config)
                .map_err(|error| ChannelError::Tls { url: url.to_owned(), reason: error_chain(&error) })?;
        }
        Some("http") if tls.ca.is_some() || tls.identity.is_some() => {
            return Err(ChannelError::Unencrypted { url: url.to_owned() });
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

/// A handshake that failed on a certificate will fail again: says what to do about it; none for other failures.
fn tls_remedy(status: &Status) -> Option<Status> {
    let text = status.source().map(error_chain).unwrap_or_default();
    let remedy = if text.contains("invalid peer certificate") {
        "the coordinator's certificate is not trusted: give the CA that signed it with --tls-ca, and check that the \
         certificate names this address"
    } else if text.contains("CertificateRequired") {
        "the coordinator requires a client certificate: give --tls-cert and --tls-key"
    } else if text.contains("received fatal alert") {
        "the coordinator rejected the client certificate: give one that its --tls-client-ca has signed"
    } else {
        return None;
    };
    Some(Status::unauthenticated(format!("{remedy} ({text})")))
}

/// The status with its causes, which name the address.
fn described(status: &Status) -> String {
    let Some(source) = status.source() else { return status.message().to_owned() };
    let causes = error_chain(source);
    // The transport repeats the message among its causes.
    if causes.contains(status.message()) {
        causes.trim_start_matches("transport error: ").to_owned()
    } else {
        format!("{}: {causes}", status.message())
    }
}

/// True if nothing listens at the address.
fn is_connection_refused(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        let io = cause.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// An error with its causes.
fn error_chain(error: &(dyn Error + 'static)) -> String {
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

/// A call may be rejected because an earlier attempt, whose reply was lost, has done it already.
fn note_uncertain(status: Status, unanswered: bool) -> Status {
    if !unanswered || status.code() != Code::FailedPrecondition {
        return status;
    }
    let message = format!("{} (an earlier attempt of this call got no reply and may have succeeded)", status.message());
    Status::new(status.code(), message)
}

/// True if a retry cannot help. Everything else may be a connection or a server that will be back.
fn is_permanent(code: Code) -> bool {
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
