//! JSON inside protobuf messages, with a format version.
//!
//! Some fields carry JSON of types that the protocol does not describe: instructions, document bodies, attempts, history,
//! figures. The message states the format of its JSON in `format_version`. This module is the only writer and the only
//! reader: a reader rejects a version that it does not know instead of misreading it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::WireError;

/// Format of the JSON that this version writes. Raised when a type changes so that older readers would misread it;
/// added optional keys do not count.
pub const FORMAT_VERSION: u32 = 1;

/// `value` as JSON in format [`FORMAT_VERSION`], for the field named `field`.
///
/// # Errors
/// The value has no JSON form.
pub fn to_json(field: &'static str, value: &impl Serialize) -> Result<String, WireError> {
    serde_json::to_string(value).map_err(|source| WireError::Json { field, source })
}

/// Reads the JSON of the field named `field` of a message that states `format_version`.
///
/// # Errors
/// The version is unknown, or the JSON does not fit the type.
pub fn from_json<T: DeserializeOwned>(field: &'static str, format_version: u32, json: &str) -> Result<T, WireError> {
    check_version(field, format_version)?;
    serde_json::from_str(json).map_err(|source| WireError::Json { field, source })
}

/// Checks the version of JSON that is passed on unread. Peers that do not state a version (0) write version 1.
///
/// # Errors
/// The version is unknown.
pub fn check_version(field: &'static str, format_version: u32) -> Result<(), WireError> {
    match format_version {
        0 | FORMAT_VERSION => Ok(()),
        found => Err(WireError::Format { field, found, expected: FORMAT_VERSION }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_round_trips_and_an_unstated_version_is_the_first() {
        let json = to_json("row.instruction", &["one", "two"]).unwrap();
        for version in [0, FORMAT_VERSION] {
            assert_eq!(from_json::<Vec<String>>("row.instruction", version, &json).unwrap(), ["one", "two"]);
        }
    }

    #[test]
    fn an_unknown_version_is_rejected_by_name_before_the_json_is_read() {
        let error = from_json::<Vec<String>>("row.instruction", FORMAT_VERSION + 1, "{").unwrap_err().to_string();
        for part in ["`row.instruction`", "format version 2", "reads version 1", "same version of longhand"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn invalid_json_names_the_field() {
        let error = from_json::<Vec<String>>("document.attempts", 1, "{").unwrap_err().to_string();
        assert!(error.contains("field `document.attempts` cannot be parsed"), "{error}");
    }
}
