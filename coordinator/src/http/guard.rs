//! Authentication, protection against cross-site requests, and security headers.
//!
//! With tokens, a program sends one as `Authorization: Bearer`; a person logs in once and gets a cookie. Without tokens the
//! port is local (or `--insecure`), and other sites open in the same browser must be kept out: a change needs a header that
//! no other site can send, and a host name that is neither an address nor localhost is rejected (DNS rebinding).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Extension, Form, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, COOKIE, HOST, HeaderName, LOCATION, ORIGIN,
    REFERRER_POLICY, SET_COOKIE, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use longhand_proto::clock;
use serde::Deserialize;

use super::session::Sessions;
use crate::control::rpc::{Denied, Identity, Principal, Role, Tokens};
use crate::net::Peer;

/// The pages send it with every change.
const CSRF_HEADER: &str = "x-longhand";
/// The roles of those who use the pages, the most wanted first.
const PEOPLE: [Role; 2] = [Role::Operator, Role::Reader];
/// The only change that a reader may make.
pub(super) const LOG_OUT: &str = "/logout";
/// Most bytes of a request: forms and small JSON.
pub(super) const MAX_BODY: usize = 64 << 10;
/// Longest time for a request's body and for the answer; a report takes the longest.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Scripts and styles from this origin only: text that a model wrote can neither run nor fetch anything.
const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Debug)]
pub(super) struct Guard {
    tokens: Option<Tokens>,
    sessions: Sessions,
    secure: bool,
    /// Cookies go to all ports of a host: each port has one of its own.
    cookie_name: String,
}

/// Who sent a request, for as long as that is true.
#[derive(Debug, Clone)]
pub(super) struct Access {
    guard: Arc<Guard>,
    /// None where no token is required.
    identity: Option<Identity>,
    /// The cookie of the session, if it is one.
    session: Option<String>,
    peer: Option<Peer>,
}

impl Access {
    /// True if it may look only.
    pub(super) fn is_read_only(&self) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.role == Role::Reader)
    }

    /// False once the token has expired or was withdrawn, or the user logged out.
    pub(super) fn is_valid(&self) -> bool {
        let is_open = self.session.as_ref().is_none_or(|cookie| self.guard.sessions.identity(cookie).is_some());
        let mut tokens = self.identity.iter().zip(&self.guard.tokens);
        is_open && tokens.all(|(identity, tokens)| tokens.check_again(identity, self.peer.as_ref()).is_ok())
    }
}

impl Guard {
    /// For the port that is reached by this number.
    pub(super) fn new(tokens: Option<Tokens>, secure: bool, port: u16) -> Self {
        Self { tokens, sessions: Sessions::default(), secure, cookie_name: format!("longhand_session_{port}") }
    }

    /// Who sent these headers. `roles` are those whose tokens are accepted as a header.
    fn authenticate(
        self: &Arc<Self>,
        headers: &HeaderMap,
        roles: &[Role],
        peer: Option<&Peer>,
    ) -> Result<Access, Denied> {
        let access = |identity, session| Access { guard: Arc::clone(self), identity, session, peer: peer.cloned() };
        let Some(tokens) = &self.tokens else { return Ok(access(None, None)) };
        if let Some(cookie) = cookie(headers, &self.cookie_name)
            && let Some(identity) = self.sessions.identity(cookie)
            // Without the certificate that the token needs, the cookie of a session is worth nothing either.
            && tokens.check_again(&identity, peer).is_ok()
        {
            return Ok(access(Some(identity), Some(cookie.to_owned())));
        }
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        tokens.check(header, roles, peer).map(|identity| access(Some(identity), None))
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Rejects requests that are not authenticated, and changes that another site may have caused.
pub(super) async fn authorize(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let roles: &[Role] = match path {
        "/metrics" => &[Role::Operator, Role::Reader, Role::Metrics, Role::Worker],
        _ => &PEOPLE,
    };
    if guard.tokens.is_none() && !local_name(headers) {
        return text_response(StatusCode::FORBIDDEN, "invalid Host header: use an IP address or localhost");
    }
    let peer = request.extensions().get::<Peer>().cloned();
    let peer = peer.as_ref();
    let is_page = request.method() == Method::GET && !path.starts_with("/api/") && path != "/metrics";
    if is_page && let Some(token) = token_in_query(request.uri()) {
        // The address that the program prints. It is replaced at once by one that can be shown.
        // `//host/` and `/\host/` would lead to another site.
        let path = if path.get(1..).is_some_and(|rest| rest.starts_with(['/', '\\'])) { "/" } else { path };
        return guard.log_in(&token, path, peer);
    }
    let access = match guard.authenticate(headers, roles, peer) {
        Ok(access) => Some(access),
        Err(Denied::TooMany) => return too_many(),
        Err(Denied::Missing | Denied::Unknown | Denied::Expired | Denied::WrongRole(..) | Denied::Certificate) => None,
    };
    let Some(access) = access else {
        if is_page {
            return (StatusCode::SEE_OTHER, [(LOCATION, "/login")]).into_response();
        }
        return unauthorized();
    };
    let is_change = !matches!(*request.method(), Method::GET | Method::HEAD);
    if is_change && !has_csrf_header(headers) {
        return text_response(
            StatusCode::FORBIDDEN,
            "cross-site request rejected: send the header `x-longhand: 1`, and no Origin of another site",
        );
    }
    if is_change && path != LOG_OUT && access.is_read_only() {
        return text_response(
            StatusCode::FORBIDDEN,
            "a reader's token changes nothing; log in with an operator's token",
        );
    }
    if let Some(peer) = peer {
        peer.mark_known();
    }
    if is_change {
        request = match receive(request).await {
            Ok(request) if access.is_valid() => request,
            Ok(_) => return unauthorized(),
            Err(refused) => return refused,
        };
    }
    let address = peer.and_then(Peer::address).map(|address| address.ip());
    let name = access.identity.as_ref().map(|identity| identity.name.clone()).unwrap_or_default();
    request.extensions_mut().insert(Principal { name, address });
    request.extensions_mut().insert(access);
    next.run(request).await
}

/// Bounds the time until the response begins, and adds the headers that every response has, errors and the login page
/// included.
pub(super) async fn respond(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let began = clock::now();
    let mut response = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| {
        let mut late = text_response(StatusCode::REQUEST_TIMEOUT, "the request took too long");
        // What is left of the request is not read.
        late.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        late
    });
    let took = clock::now().duration_since(began).as_secs_f64() * 1000.0;
    let headers = response.headers_mut();
    // Browsers show it in their network view.
    if let Ok(timing) = HeaderValue::from_str(&format!("all;dur={took:.1}")) {
        headers.insert(SERVER_TIMING, timing);
    }
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Not `no-referrer`: with it a browser would send the Origin of a form as `null`.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    // No other site may embed what is here, or keep a handle of its window.
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
    if guard.secure {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Reads all of a change. It may come slowly, and counts only if its token still does when it is here.
async fn receive(request: Request) -> Result<Request, Response> {
    let (head, body) = request.into_parts();
    match to_bytes(body, MAX_BODY).await {
        Ok(body) => Ok(Request::from_parts(head, body.into())),
        Err(_) => Err(text_response(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or ended early")),
    }
}

fn unauthorized() -> Response {
    let mut response = text_response(
        StatusCode::UNAUTHORIZED,
        "token required: send `Authorization: Bearer TOKEN` or log in at /login",
    );
    response.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
    response
}

fn too_many() -> Response {
    text_response(StatusCode::TOO_MANY_REQUESTS, "unknown token, after too many rejected tokens from this address")
}

fn text_response(status: StatusCode, message: &'static str) -> Response {
    (status, message).into_response()
}

/// A page of another origin can send this header only with consent by CORS, which is never given.
fn has_csrf_header(headers: &HeaderMap) -> bool {
    headers.contains_key(CSRF_HEADER) && same_origin(headers) && same_site(headers)
}

/// Newer browsers say where a request comes from; programs do not.
fn same_site(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin" || site == "none")
}

/// A program sends no Origin; a browser does with every form and every change.
fn same_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    match (headers.get(ORIGIN).map(HeaderValue::to_str), host) {
        (None, _) => true,
        (Some(Ok(origin)), Some(host)) => origin.split_once("://").is_some_and(|(_, rest)| rest == host),
        (Some(_), _) => false,
    }
}

/// True for an address or localhost. A DNS name of an attacker that resolves to this machine is neither.
fn local_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// The login form.
#[derive(Debug, Deserialize)]
pub(super) struct LoginForm {
    token: String,
}

/// Exchanges a token for a session cookie.
pub(super) async fn log_in(
    State(guard): State<Arc<Guard>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Response {
    if !same_origin(&headers) {
        return text_response(StatusCode::FORBIDDEN, "cross-site login rejected");
    }
    guard.log_in(&form.token, "/", peer.as_deref())
}

/// The token of an address such as `/?token=TOKEN`.
fn token_in_query(uri: &Uri) -> Option<String> {
    let pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
    pairs.into_iter().find_map(|(name, value)| (name == "token").then(|| value.into_owned()))
}

/// Ends the session.
pub(super) async fn log_out(State(guard): State<Arc<Guard>>, headers: HeaderMap) -> Response {
    if let Some(cookie) = cookie(&headers, &guard.cookie_name) {
        guard.sessions.end(cookie);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(guard.cookie("", 0));
    response
}

impl Guard {
    /// Goes on to `path` with a session, if the token is an operator's or a reader's.
    fn log_in(&self, token: &str, path: &str, peer: Option<&Peer>) -> Response {
        let header = format!("Bearer {}", token.trim());
        let session = match &self.tokens {
            None => None,
            Some(tokens) => match tokens.check(Some(&header), &PEOPLE, peer) {
                Ok(identity) => Some(self.sessions.create(identity)),
                Err(Denied::TooMany) => return too_many(),
                Err(
                    Denied::Missing | Denied::Unknown | Denied::Expired | Denied::WrongRole(..) | Denied::Certificate,
                ) => {
                    return (StatusCode::SEE_OTHER, [(LOCATION, "/login?error")]).into_response();
                }
            },
        };
        let mut response = (StatusCode::SEE_OTHER, [(LOCATION, path)]).into_response();
        response.headers_mut().extend(session.and_then(|(value, seconds)| self.cookie(&value, seconds)));
        response
    }

    fn cookie(&self, value: &str, seconds: u64) -> Option<(HeaderName, HeaderValue)> {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = &self.cookie_name;
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&cookie).ok().map(|value| (SET_COOKIE, value))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::net::{Connections, Limits};

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_foreign_host_name_is_rejected() {
        for local in ["localhost:7080", "127.0.0.1:7080", "[::1]:7080", "10.0.0.7", "LOCALHOST"] {
            assert!(local_name(&headers(&[("host", local)])), "{local}");
        }
        for foreign in ["evil.example:7080", "localhost.evil.example", "127.0.0.1.evil.example:7080"] {
            assert!(!local_name(&headers(&[("host", foreign)])), "{foreign}");
        }
    }

    #[test]
    fn a_change_needs_the_header_and_no_foreign_origin() {
        let host = ("host", "localhost:7080");
        assert!(has_csrf_header(&headers(&[host, ("x-longhand", "1")])), "a program");
        assert!(has_csrf_header(&headers(&[host, ("x-longhand", "1"), ("origin", "http://localhost:7080")])));
        assert!(!has_csrf_header(&headers(&[host, ("origin", "http://localhost:7080")])), "a form");
        assert!(!has_csrf_header(&headers(&[host, ("x-longhand", "1"), ("origin", "http://localhost:9999")])));
        assert!(!has_csrf_header(&headers(&[host, ("x-longhand", "1"), ("origin", "null")])));
        assert!(!has_csrf_header(&headers(&[host, ("x-longhand", "1"), ("sec-fetch-site", "cross-site")])));
        assert!(has_csrf_header(&headers(&[host, ("x-longhand", "1"), ("sec-fetch-site", "same-origin")])));
    }

    #[test]
    fn a_session_counts_only_with_the_certificate_that_its_token_needs() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokens");
        let lines = "worker a-worker-of-some-length\noperator a-token-of-anna-0123 anna cert=anna.example.org\n";
        fs::write(&file, lines).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let guard = Arc::new(Guard::new(Some(Tokens::read(&file).unwrap()), true, 7080));
        let connections = Connections::new(Limits::default());
        let [anna, bert, nobody] = [Some("anna"), Some("bert"), None].map(|name| {
            let peer = connections.admit(None).unwrap();
            if let Some(name) = name {
                let certificate = rcgen::generate_simple_self_signed(vec![format!("{name}.example.org")]).unwrap();
                peer.set_certificate(certificate.cert.der().clone());
            }
            peer
        });
        let opened = guard.log_in("a-token-of-anna-0123", "/", Some(&anna));
        let cookie = opened.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&cookie).unwrap())]);
        let ask = |peer| guard.authenticate(&headers, &PEOPLE, peer);
        assert!(ask(Some(&anna)).unwrap().is_valid());
        for thief in [Some(&bert), Some(&nobody), None] {
            assert_eq!(ask(thief).unwrap_err(), Denied::Missing);
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = headers(&[("cookie", "a=b; longhand_session_7080=ff; c=d")]);
        assert_eq!(cookie(&found, "longhand_session_7080"), Some("ff"));
        assert_eq!(cookie(&found, "longhand_session_70"), None);
    }
}
