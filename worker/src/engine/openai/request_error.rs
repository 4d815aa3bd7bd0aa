//! Why a request gave no text, as a server says it.

use std::time::Duration;

use longhand_proto::task::Failure;
use serde_json::Value;

/// Characters kept of a server's error message.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why one request gave no text.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The server rejected this request; a retry cannot help.
    Rejected(Failure),
    /// The server rejects every request of this worker.
    Denied(String),
    /// The server is at capacity.
    Overloaded { retry_after: Option<Duration>, message: String },
    /// The server failed, or the connection to it.
    Interrupted(String),
}

/// The failure of a request that the server rejected.
pub(super) fn rejected(message: String) -> Failure {
    let lower = message.to_lowercase();
    let class = if lower.contains("context") && (lower.contains("length") || lower.contains("size")) {
        "context_too_small"
    } else {
        "server_refused"
    };
    Failure { class: class.into(), message, permanent: true }
}

/// The message in a server's error response, shortened.
pub(super) fn error_message(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let message = [&value["error"]["message"], &value["message"], &value["detail"], &value["error"]];
    let message = message.iter().find_map(|value| value.as_str()).unwrap_or(text).trim();
    if message.is_empty() { "no reason given".to_owned() } else { message.chars().take(MAX_MESSAGE_CHARS).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_server_error_is_found() {
        for (text, message) in [
            (r#"{"error":{"message":"no","type":"x"}}"#, "no"),
            (r#"{"object":"error","message":"no"}"#, "no"),
            (r#"{"detail":"no"}"#, "no"),
            (r#"{"error":"no"}"#, "no"),
            ("bad gateway", "bad gateway"),
            ("", "no reason given"),
        ] {
            assert_eq!(error_message(text), message);
        }
        let long = "This model's maximum context length is 8192 tokens.".to_owned();
        assert_eq!(rejected(long).class, "context_too_small");
    }
}
