//! What a reader of a file format makes of a model's files.

use std::collections::HashMap;
use std::sync::Arc;

use longhand_proto::task::RecommendedSampling;
use memmap2::Mmap;

use super::arch::WeightId;
use super::chat_template::ChatTemplate;
use super::config::ModelConfig;
use super::tensor::StoredTensor;
use super::tokenizer::Tokenizer;

/// The parts of a model, read and checked against one another.
pub(super) struct Loaded {
    pub(super) config: ModelConfig,
    /// The files that hold weights.
    pub(super) files: Vec<Mmap>,
    pub(super) weights: HashMap<WeightId, StoredTensor>,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) chat_template: ChatTemplate,
    pub(super) name: String,
    /// Empty where the files state none.
    pub(super) licence: String,
    pub(super) sampling: RecommendedSampling,
}
