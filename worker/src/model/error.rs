//! What can be wrong with a model on disk. Each says where, what, and what to do about it.

use std::io;
use std::path::PathBuf;

use super::arch::weight::WeightId;

/// A model that cannot be opened, or a weight or a prompt that it cannot give.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file system refused.
    #[error("{}: {source}; check the path given as the model and its permissions", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    /// The path holds nothing that looks like a model.
    #[error("{}: {what}; {remedy}", file.display())]
    NotAModel { file: PathBuf, what: String, remedy: String },
    /// The bytes break the rules of their own format.
    #[error("{}: {what}; the file is damaged or cut off: fetch it again", file.display())]
    Damaged { file: PathBuf, what: String },
    /// Well-formed, but something this engine does not know.
    #[error("{}: {key} is {value}, which is not supported; {remedy}", file.display())]
    Unsupported { file: PathBuf, key: String, value: String, remedy: String },
    /// A key or a weight that must be there is not.
    #[error("{}: {key} is missing; {remedy}", file.display())]
    Missing { file: PathBuf, key: String, remedy: String },
    /// The chat template does not compile, or refuses a conversation.
    #[error("{}: chat template: {what}; give another template with --chat-template FILE", file.display())]
    Template { file: PathBuf, what: String },
    /// A weight that the model does not have.
    #[error("the model has no weight {0:?}")]
    NoSuchWeight(WeightId),
}
