//! JSON files of a model folder.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::ModelError;
use super::files::{read_if_there, unreadable};

/// A JSON file and where it lies.
pub(crate) struct Json {
    pub(crate) file: PathBuf,
    pub(crate) value: Value,
}

impl Json {
    /// Reads the file; it must be there.
    pub(crate) fn read(file: &Path) -> Result<Self, ModelError> {
        let text = std::fs::read_to_string(file).map_err(|source| unreadable(file, source))?;
        Self::parse(file.to_owned(), &text)
    }

    /// The file of this name in `folder`; none if it does not exist.
    pub(crate) fn optional(folder: &Path, name: &str) -> Result<Option<Self>, ModelError> {
        read_if_there(folder.join(name))?.map(|(file, text)| Self::parse(file, &text)).transpose()
    }

    /// The file of this name in `folder`, which no model folder lacks.
    pub(crate) fn required(folder: &Path, name: &str) -> Result<Self, ModelError> {
        Self::optional(folder, name)?.ok_or_else(|| ModelError::Missing {
            file: folder.to_owned(),
            key: name.into(),
            remedy: "fetch the whole model folder".into(),
        })
    }

    fn parse(file: PathBuf, text: &str) -> Result<Self, ModelError> {
        match serde_json::from_str(text) {
            Ok(value) => Ok(Self { file, value }),
            Err(error) => Err(ModelError::Damaged { file, what: error.to_string() }),
        }
    }

    /// The value of a key; none if it is missing or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    pub(crate) fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| ModelError::Missing {
            file: self.file.clone(),
            key: key.into(),
            remedy: "the configuration is incomplete: fetch it again".into(),
        })
    }

    pub(crate) fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.get(key)
            .map(|value| size(value).ok_or_else(|| self.unsupported(key, value, "expected a whole number")))
            .transpose()
    }

    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let flag =
            |value: &Value| value.as_bool().ok_or_else(|| self.unsupported(key, value, "expected true or false"));
        self.get(key).map(flag).transpose()
    }

    pub(crate) fn unsupported(&self, key: &str, value: &Value, remedy: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.file.clone(),
            key: key.into(),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }
}
