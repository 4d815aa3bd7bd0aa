//! What every request passes: who may look, who may change, and what a browser may do with the answer.
//!
//! With tokens, a program shows one as `Authorization: Bearer`, a person logs in once and has a cookie. Without tokens the
//! port is for this machine (or `--insecure`), and then other web pages that the same browser has open must be kept out: a
//! change needs our own header, which no foreign page can send, and a name that leads here by a foreign DNS entry is refused.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Form, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, HeaderName, LOCATION, ORIGIN, REFERRER_POLICY,
    SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use longhand_proto::clock;
use serde::Deserialize;

use super::listener::Peer;
use super::session::{COOKIE as NAME, Sessions};
use crate::control::rpc::{Role, Tokens, Who};

/// Our pages send it with every change.
const OURS: &str = "x-longhand";
const TIMING: HeaderName = HeaderName::from_static("server-timing");
/// Scripts and styles from here only: a text that a model wrote can neither run nor fetch anything.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

#[derive(Debug)]
pub(super) struct Guard {
    tokens: Option<Tokens>,
    sessions: Sessions,
    secure: bool,
}

impl Guard {
    pub(super) fn new(tokens: Option<Tokens>, secure: bool) -> Self {
        Self { tokens, sessions: Sessions::new(), secure }
    }

    /// The name of who asks, empty if nobody was named; none for somebody who is not let in. `roles` are those whose tokens
    /// a program may show.
    fn knows(&self, headers: &HeaderMap, roles: &[Role]) -> Option<String> {
        let Some(tokens) = &self.tokens else { return Some(String::new()) };
        let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let logged_in = cookie(headers).and_then(|value| self.sessions.holder(value));
        logged_in.or_else(|| roles.iter().find_map(|&role| tokens.admit(header, role)).map(|holder| holder.name))
    }
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).find_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
}

/// Stands before all that shows something of a run.
pub(super) async fn admit(State(guard): State<Arc<Guard>>, mut request: Request, next: Next) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let roles: &[Role] = if path == "/metrics" { &[Role::Operator, Role::Worker] } else { &[Role::Operator] };
    if guard.tokens.is_none() && !local_name(headers) {
        return told(StatusCode::FORBIDDEN, "this port answers to addresses and to localhost, not to other names");
    }
    let Some(name) = guard.knows(headers, roles) else {
        let page = request.method() == Method::GET && !path.starts_with("/api/") && path != "/metrics";
        if page {
            return (StatusCode::SEE_OTHER, [(LOCATION, "/login")]).into_response();
        }
        let mut answer = told(
            StatusCode::UNAUTHORIZED,
            "this coordinator asks for a token: send `Authorization: Bearer TOKEN`, or log in at /login",
        );
        answer.headers_mut().insert("www-authenticate", HeaderValue::from_static("Bearer"));
        return answer;
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    if changes && !ours(headers) {
        return told(
            StatusCode::FORBIDDEN,
            "a change must come from our own pages: send the header `x-longhand: 1` and no foreign Origin",
        );
    }
    let address = request.extensions().get::<ConnectInfo<Peer>>().map(|peer| peer.0.0.ip());
    request.extensions_mut().insert(Who { name, address });
    next.run(request).await
}

/// The same for every answer, refusals and the log-in included.
pub(super) async fn dress(request: Request, next: Next) -> Response {
    let began = clock::now();
    let mut answer = next.run(request).await;
    let took = clock::now().duration_since(began).as_secs_f64() * 1000.0;
    let headers = answer.headers_mut();
    // Browsers show it beside the time of the network.
    if let Ok(timing) = HeaderValue::from_str(&format!("all;dur={took:.1}")) {
        headers.insert(TIMING, timing);
    }
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    // Not `no-referrer`: with it a browser would not say either that a form comes from our own page.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

fn told(status: StatusCode, message: &'static str) -> Response {
    (status, message).into_response()
}

/// No foreign page can send this header without our consent, which we never give.
fn ours(headers: &HeaderMap) -> bool {
    headers.contains_key(OURS) && same_origin(headers)
}

/// A program names no origin; a browser does with every form and every change.
fn same_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok());
    match (headers.get(ORIGIN).map(HeaderValue::to_str), host) {
        (None, _) => true,
        (Some(Ok(origin)), Some(host)) => origin.split_once("://").is_some_and(|(_, rest)| rest == host),
        (Some(_), _) => false,
    }
}

/// True for an address or localhost: a foreign name that was made to lead here names neither.
fn local_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|value| value.to_str().ok()) else { return true };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[derive(Debug, Deserialize)]
pub(super) struct LogIn {
    token: String,
}

/// Takes a token and gives a cookie.
pub(super) async fn log_in(State(guard): State<Arc<Guard>>, headers: HeaderMap, Form(form): Form<LogIn>) -> Response {
    if !same_origin(&headers) {
        return told(StatusCode::FORBIDDEN, "log in on our own page");
    }
    let header = format!("Bearer {}", form.token.trim());
    let session = match &guard.tokens {
        None => None,
        Some(tokens) => match tokens.admit(Some(&header), Role::Operator) {
            Some(holder) => Some(guard.sessions.begin(&holder)),
            None => return (StatusCode::SEE_OTHER, [(LOCATION, "/login?error")]).into_response(),
        },
    };
    let mut answer = (StatusCode::SEE_OTHER, [(LOCATION, "/")]).into_response();
    answer.headers_mut().extend(session.and_then(|(value, seconds)| guard.cookie(&value, seconds)));
    answer
}

/// Forgets the cookie.
pub(super) async fn log_out(State(guard): State<Arc<Guard>>) -> Response {
    let mut answer = StatusCode::NO_CONTENT.into_response();
    answer.headers_mut().extend(guard.cookie("", 0));
    answer
}

impl Guard {
    fn cookie(&self, value: &str, seconds: u64) -> Option<(HeaderName, HeaderValue)> {
        let secure = if self.secure { "; Secure" } else { "" };
        let cookie = format!("{NAME}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
        HeaderValue::from_str(&cookie).ok().map(|value| (SET_COOKIE, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_foreign_name_that_leads_here_is_refused() {
        for here in ["localhost:7080", "127.0.0.1:7080", "[::1]:7080", "10.0.0.7", "LOCALHOST"] {
            assert!(local_name(&headers(&[("host", here)])), "{here}");
        }
        for foreign in ["evil.example:7080", "localhost.evil.example", "127.0.0.1.evil.example:7080"] {
            assert!(!local_name(&headers(&[("host", foreign)])), "{foreign}");
        }
    }

    #[test]
    fn a_change_comes_from_our_own_pages() {
        let host = ("host", "localhost:7080");
        assert!(ours(&headers(&[host, ("x-longhand", "1")])), "a program");
        assert!(ours(&headers(&[host, ("x-longhand", "1"), ("origin", "http://localhost:7080")])));
        assert!(!ours(&headers(&[host, ("origin", "http://localhost:7080")])), "a form");
        assert!(!ours(&headers(&[host, ("x-longhand", "1"), ("origin", "http://localhost:9999")])));
        assert!(!ours(&headers(&[host, ("x-longhand", "1"), ("origin", "null")])));
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = headers(&[("cookie", "a=b; longhand_session=1.ff; c=d")]);
        assert_eq!(cookie(&found), Some("1.ff"));
        assert_eq!(cookie(&headers(&[("cookie", "longhand_session_2=1.ff")])), None);
    }
}
