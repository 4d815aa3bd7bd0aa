//! What a family of models says of itself.

use std::collections::HashMap;
use std::path::Path;

use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use super::manifest;
use super::weight::{Format, WeightId, WeightSpec};
use crate::model::config::ModelConfig;
use crate::model::error::ModelError;
use crate::model::tensor::StoredTensor;

/// How a family's files state a configuration, and which weights that configuration promises.
pub(crate) struct Family {
    /// `general.architecture` of its GGUF files; also its name in messages.
    pub(crate) name: &'static str,
    /// Its name in documentation.
    pub(super) title: &'static str,
    /// The models of it that people know.
    pub(super) models: &'static str,
    /// What `architectures` of its `config.json` names.
    pub(super) classes: &'static [&'static str],
    pub(crate) from_gguf: fn(&GgufConfig<'_>) -> Result<ModelConfig, ModelError>,
    pub(crate) from_hugging_face: fn(&HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError>,
    /// All weights of a model, with names and shapes.
    pub(super) weights: fn(&ModelConfig) -> Vec<WeightSpec>,
}

impl Family {
    /// The tensors of `file` by what they do; an error if they are not exactly those that the configuration promises.
    pub(crate) fn bind(
        &self,
        file: &Path,
        format: Format,
        config: &ModelConfig,
        tensors: HashMap<String, StoredTensor>,
    ) -> Result<HashMap<WeightId, StoredTensor>, ModelError> {
        manifest::bind(file, format, self.name, &(self.weights)(config), tensors)
    }
}
