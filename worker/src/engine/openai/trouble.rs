//! Why a request gave no text, and who is charged with it: the server, the request or the document.

use std::ops::RangeInclusive;
use std::time::Duration;

use longhand_proto::task::Failure;
use serde_json::Value;

/// Characters kept of a server's error message.
const MAX_MESSAGE_CHARS: usize = 300;

/// Why one request gave no text.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The document's own: this text, or what it asks for.
    Document(Failure),
    /// Refused. Whether the server answers another prompt tells whose fault it is.
    Refused(Failure),
    /// The request asks for more tokens than fit behind its prompt.
    TooLong(String),
    /// The server is at capacity.
    Overloaded { retry_after: Option<Duration>, message: String },
    /// The server failed, or the connection to it.
    Interrupted(String),
    /// The server can serve no request of this worker.
    Denied(String),
}

/// What a status says about the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The same request succeeds later.
    Full,
    /// The server or what stands before it failed.
    Broken,
    /// All requests are refused, or this one; it may pass on another day.
    Refused,
    /// All requests are refused, or this one, as it is malformed or too long.
    Malformed,
    /// The address is another one.
    Moved,
}

/// The first row that holds a status decides.
const STATUSES: &[(RangeInclusive<u16>, Verdict, &str)] = &[
    (300..=399, Verdict::Moved, "no redirect is left here that could be followed as it was sent"),
    (402..=405, Verdict::Refused, "credit, permission, moderation of a prompt, a route of a gateway"),
    (407..=407, Verdict::Refused, "a proxy wants credentials"),
    (401..=401, Verdict::Refused, "the key: for all requests, or for the backend that a gateway chose for one"),
    (410..=410, Verdict::Refused, "the model was removed"),
    (451..=451, Verdict::Refused, "the prompt was refused for legal reasons"),
    (408..=408, Verdict::Full, "the request waited too long in the server's queue"),
    (425..=425, Verdict::Full, "sent before the connection was ready"),
    (429..=429, Verdict::Full, "rate limit"),
    (400..=499, Verdict::Malformed, "the server cannot take what was sent"),
    (503..=503, Verdict::Full, "the server sheds load, or restarts"),
    (529..=529, Verdict::Full, "overloaded, as some services say it"),
    (500..=599, Verdict::Broken, "a crash, or a gateway without a server behind it"),
];

/// The error that a status with this message stands for.
pub(super) fn of_status(status: u16, retry_after: Option<Duration>, message: String) -> RequestError {
    let verdict = STATUSES.iter().find(|(statuses, ..)| statuses.contains(&status)).map(|(_, verdict, _)| *verdict);
    match verdict {
        Some(Verdict::Full) => RequestError::Overloaded { retry_after, message },
        // Who names a time expects the same request again.
        Some(Verdict::Broken) if retry_after.is_some() => RequestError::Overloaded { retry_after, message },
        Some(Verdict::Malformed) if is_about_context(&message) => RequestError::TooLong(message),
        Some(Verdict::Malformed) => RequestError::Refused(refused(message, true)),
        Some(Verdict::Refused) => RequestError::Refused(refused(message, false)),
        Some(Verdict::Moved) => RequestError::Denied(message),
        Some(Verdict::Broken) | None => RequestError::Interrupted(message),
    }
}

/// The error in a response or event, as far as it tells what kind it is.
pub(super) fn of_error(value: &Value) -> RequestError {
    let message = error_message(&value.to_string());
    match error_status(value) {
        Some(status) => of_status(status, None, message),
        None if is_about_context(&message) => RequestError::TooLong(message),
        None => RequestError::Interrupted(message),
    }
}

/// True if a server's event or response is an error.
pub(super) fn is_error(value: &Value) -> bool {
    let says = |key: &str| value[key].as_str() == Some("error");
    let error = match &value["error"] {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::Array(_) => true,
    };
    let bare = value.get("choices").is_none() && (value["message"].is_string() || value["detail"].is_string());
    error || says("object") || says("type") || bare
}

/// The HTTP status that an error in a body stands for, by number or by name.
fn error_status(value: &Value) -> Option<u16> {
    let number = |value: &Value| -> Option<u16> {
        let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
        u16::try_from(number).ok().filter(|status| (400..600).contains(status))
    };
    let error = &value["error"];
    let numbers = [&error["code"], &error["status"], &error["status_code"], &value["code"], &value["status"]];
    if let Some(status) = numbers.into_iter().find_map(number) {
        return Some(status);
    }
    let names = [&error["type"], &error["code"], &value["error_type"], &value["type"]];
    names.into_iter().filter_map(Value::as_str).find_map(|name| {
        let name = name.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&["overload", "rate_limit", "ratelimit", "unavailable"]) {
            Some(429)
        } else if has(&["invalid_request", "badrequest", "bad_request", "validation", "exceed_context"]) {
            Some(400)
        } else if has(&["authentication", "permission"]) {
            Some(403)
        } else {
            None
        }
    })
}

/// The failure of a document that the server refused.
fn refused(message: String, permanent: bool) -> Failure {
    Failure { class: "server_refused".into(), message, permanent }
}

/// The failure of a document whose prompt leaves no room for its text.
pub(super) fn context_too_small(message: String) -> Failure {
    Failure { class: "context_too_small".into(), message, permanent: true }
}

fn is_about_context(message: &str) -> bool {
    let message = message.to_lowercase();
    let context =
        message.contains("context") && ["length", "size", "window", "exceed"].iter().any(|word| message.contains(word));
    context
        || ["max_model_len", "maximum model length", "too many tokens", "input is too long", "max_new_tokens"]
            .iter()
            .any(|words| message.contains(words))
}

/// The message in a server's error response, shortened.
pub(super) fn error_message(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    // What FastAPI says of a field: a list of objects.
    let listed = &value["detail"][0]["msg"];
    let error = &value["error"];
    let message = [&error["message"], &value["message"], &value["detail"], listed, &error["detail"], error];
    let message = message.iter().find_map(|value| value.as_str()).unwrap_or(text).trim();
    if message.is_empty() { "no reason given".to_owned() } else { message.chars().take(MAX_MESSAGE_CHARS).collect() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_message_of_a_server_error_is_found() {
        for (text, message) in [
            (r#"{"error":{"message":"no","type":"x"}}"#, "no"),
            (r#"{"object":"error","message":"no"}"#, "no"),
            (r#"{"detail":"no"}"#, "no"),
            (r#"{"detail":[{"loc":["body","seed"],"msg":"no"}]}"#, "no"),
            (r#"{"error":"no"}"#, "no"),
            ("bad gateway", "bad gateway"),
            ("", "no reason given"),
        ] {
            assert_eq!(error_message(text), message);
        }
    }

    #[test]
    fn every_status_is_charged_to_somebody() {
        let charged = |status, message: &str| match of_status(status, None, message.into()) {
            RequestError::Document(_) => "document",
            RequestError::Refused(failure) if failure.permanent => "malformed",
            RequestError::Refused(_) => "refused",
            RequestError::TooLong(_) => "too long",
            RequestError::Overloaded { .. } => "full",
            RequestError::Interrupted(_) => "broken",
            RequestError::Denied(_) => "moved",
        };
        for (status, expected) in [
            (301, "moved"),
            (400, "malformed"),
            (401, "refused"),
            (402, "refused"),
            (403, "refused"),
            (404, "refused"),
            (408, "full"),
            (413, "malformed"),
            (422, "malformed"),
            (429, "full"),
            (500, "broken"),
            (502, "broken"),
            (503, "full"),
            (504, "broken"),
            (524, "broken"),
            (529, "full"),
        ] {
            assert_eq!(charged(status, "no"), expected, "{status}");
        }
        for message in [
            "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens",
            "the request exceeds the available context size, try increasing it",
            "`inputs` tokens + `max_new_tokens` must be <= 4096",
        ] {
            assert_eq!(charged(400, message), "too long", "{message}");
        }
        let later = Some(Duration::from_secs(3));
        assert!(matches!(of_status(502, later, String::new()), RequestError::Overloaded { .. }));
    }

    #[test]
    fn errors_in_bodies_are_told_by_number_and_by_name() {
        let kind = |value: Value| match of_error(&value) {
            RequestError::Refused(failure) => format!("refused {}", failure.message),
            RequestError::Overloaded { message, .. } => format!("full {message}"),
            RequestError::Interrupted(message) => format!("broken {message}"),
            other @ (RequestError::Document(_) | RequestError::TooLong(_) | RequestError::Denied(_)) => {
                format!("{other:?}")
            }
        };
        for (value, expected) in [
            (json!({"object":"error","message":"no","type":"BadRequestError","code":400}), "refused no"),
            (json!({"error":{"message":"no","code":"429"}}), "full no"),
            (json!({"error":"no","error_type":"overloaded"}), "full no"),
            (json!({"error":{"message":"no","type":"server_error","code":null}}), "broken no"),
            (json!({"error":"out of memory"}), "broken out of memory"),
        ] {
            assert!(is_error(&value), "{value}");
            assert_eq!(kind(value), expected);
        }
        for value in [json!({"error":null}), json!({"error":{}}), json!({"error":""}), json!({"choices":[]})] {
            assert!(!is_error(&value), "{value}");
        }
    }
}
