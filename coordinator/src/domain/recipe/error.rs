//! Why a recipe cannot be used.

use longhand_proto::task::Failure;

/// A recipe that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    #[error("recipe {file}: cannot be read: {problem}; check the path")]
    Read { file: String, problem: String },
    #[error("recipe {file}:{line}: {problem}")]
    Syntax { file: String, line: usize, problem: String },
    #[error("recipe {file}:{line}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey { file: String, line: usize, key: String, nearest: String },
    #[error("recipe {file}:{line}: `{key}` is {value}; expected {expected}")]
    OutOfRange { file: String, line: usize, key: String, value: String, expected: String },
    #[error(
        "recipe {file}:{line}: `{key}` names the template {path}, which cannot be read: {problem}; paths are relative to the recipe"
    )]
    Template { file: String, line: usize, key: String, path: String, problem: String },
    #[error(transparent)]
    Render(#[from] PromptError),
}

/// A template that cannot be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template {name}: {problem}; fix it in the recipe")]
pub struct PromptError {
    /// Key of the template in the recipe.
    pub name: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl From<PromptError> for Failure {
    fn from(error: PromptError) -> Self {
        Self { class: "template".into(), message: error.to_string(), permanent: true }
    }
}
