//! Where a trace is looked at: the address of a viewer, with a place for the trace's id.

use std::str::FromStr;

use serde::Serialize;

/// What stands for the id.
const PLACE: &str = "{trace}";

/// An http(s) address that holds `{trace}`: pages make links of it, and a link can do much else than lead somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TraceUrl(String);

/// A text that is no such address.
#[derive(Debug, thiserror::Error)]
#[error(
    "want an address that begins with http:// or https:// and holds {PLACE}, such as http://localhost:16686/trace/{PLACE}"
)]
pub struct TraceUrlError;

impl FromStr for TraceUrl {
    type Err = TraceUrlError;

    fn from_str(text: &str) -> Result<Self, TraceUrlError> {
        let leads = ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme));
        if leads && text.contains(PLACE) { Ok(Self(text.to_owned())) } else { Err(TraceUrlError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_address_with_a_place_for_the_trace_is_taken() {
        assert!("https://tempo.example/explore?trace={trace}&x=1".parse::<TraceUrl>().is_ok());
        for bad in ["", "http://localhost/trace", "javascript:alert('{trace}')", "//host/{trace}", "data:,{trace}"] {
            let error = bad.parse::<TraceUrl>().unwrap_err().to_string();
            assert!(error.contains("{trace}"), "{bad}: {error}");
        }
    }
}
