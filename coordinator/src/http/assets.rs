//! The files of the pages, compiled into the program.

use axum::extract::{Path, RawQuery};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::report;

/// Browsers revalidate on each page load: another version of the program may serve the same address.
const NO_CACHE: (axum::http::HeaderName, &str) = (CACHE_CONTROL, "no-cache");

const LOGIN: &str = include_str!("assets/login.html");
const LOGIN_ERROR: &str = r#"<p class="error" role="alert">Invalid or expired operator token.</p>"#;

fn html(text: String) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

/// One page for all paths of the dashboard: its script does the routing.
pub(super) async fn page() -> Response {
    html(include_str!("assets/index.html").to_owned())
}

/// An address that no page has: the same page, which says so.
pub(super) async fn missing(uri: Uri) -> Response {
    if uri.path().starts_with("/api/") || uri.path().starts_with("/assets/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    (StatusCode::NOT_FOUND, page().await).into_response()
}

pub(super) async fn login(RawQuery(query): RawQuery) -> Response {
    let error = if query.as_deref() == Some("error") { LOGIN_ERROR } else { "" };
    html(LOGIN.replace("<!--ERROR-->", error))
}

macro_rules! embedded {
    ($name:expr, $($file:literal as $kind:literal),+ $(,)?) => {
        match $name {
            $($file => Some(($kind, include_str!(concat!("assets/", $file)))),)+
            _ => None,
        }
    };
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    let found = embedded!(
        name.as_str(),
        "style.css" as "text/css; charset=utf-8",
        "icon.svg" as "image/svg+xml",
        "app.js" as "text/javascript; charset=utf-8",
        "api.js" as "text/javascript; charset=utf-8",
        "charts.js" as "text/javascript; charset=utf-8",
        "document.js" as "text/javascript; charset=utf-8",
        "documents.js" as "text/javascript; charset=utf-8",
        "dom.js" as "text/javascript; charset=utf-8",
        "format.js" as "text/javascript; charset=utf-8",
        "parts.js" as "text/javascript; charset=utf-8",
        "run.js" as "text/javascript; charset=utf-8",
        "runs.js" as "text/javascript; charset=utf-8",
        "workers.js" as "text/javascript; charset=utf-8",
    )
    .or(match name.as_str() {
        "report.css" => Some(("text/css; charset=utf-8", report::CSS)),
        "report.js" => Some(("text/javascript; charset=utf-8", report::JS)),
        _ => None,
    });
    let Some((kind, text)) = found else { return StatusCode::NOT_FOUND.into_response() };
    ([(CONTENT_TYPE, kind)], [NO_CACHE], text).into_response()
}
