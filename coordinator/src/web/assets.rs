//! The files of the pages, part of the program: it works offline and on any machine.

use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

/// Looked at again with each page, as another version of the program may stand behind the same address.
const FRESH: (axum::http::HeaderName, &str) = (CACHE_CONTROL, "no-cache");

const LOGIN: &str = include_str!("assets/login.html");
const WRONG: &str =
    r#"<p class="wrong" role="alert">This is no operator token of this coordinator, or it has expired.</p>"#;

fn html(text: String) -> Response {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

/// One page for all places of the dashboard: its script looks where it is.
pub(super) async fn page() -> Response {
    html(include_str!("assets/index.html").to_owned())
}

pub(super) async fn login(RawQuery(query): RawQuery) -> Response {
    let wrong = if query.as_deref() == Some("wrong") { WRONG } else { "" };
    html(LOGIN.replace("<!--WRONG-->", wrong))
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    let (kind, bytes): (_, &'static str) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", include_str!("assets/style.css")),
        "app.js" => ("text/javascript; charset=utf-8", include_str!("assets/app.js")),
        "icon.svg" => ("image/svg+xml", include_str!("assets/icon.svg")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(CONTENT_TYPE, kind)], [FRESH], bytes).into_response()
}
