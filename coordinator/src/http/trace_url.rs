//! The address of a trace viewer, with a placeholder for the trace's id.

use std::str::FromStr;

use serde::Serialize;

/// Placeholder of the id.
const PLACEHOLDER: &str = "{trace}";

/// An http(s) address that holds `{trace}`. Pages make links of it, so other schemes such as `javascript:` are rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TraceUrl(String);

/// Not a valid [`TraceUrl`].
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid trace viewer address: expected http:// or https:// and {PLACEHOLDER}, such as http://localhost:16686/trace/{PLACEHOLDER}"
)]
pub struct TraceUrlError;

impl FromStr for TraceUrl {
    type Err = TraceUrlError;

    fn from_str(text: &str) -> Result<Self, TraceUrlError> {
        let is_http = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        if is_http && text.contains(PLACEHOLDER) { Ok(Self(text.to_owned())) } else { Err(TraceUrlError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_http_address_with_a_placeholder_is_valid() {
        assert!("https://tempo.example/explore?trace={trace}&x=1".parse::<TraceUrl>().is_ok());
        for bad in ["", "http://localhost/trace", "javascript:alert('{trace}')", "//host/{trace}", "data:,{trace}"] {
            let error = bad.parse::<TraceUrl>().unwrap_err().to_string();
            assert!(error.contains("{trace}"), "{bad}: {error}");
        }
    }
}
