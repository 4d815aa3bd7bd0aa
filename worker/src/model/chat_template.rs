//! The model's chat template: a conversation becomes the text that the model was trained to continue.
//!
//! Templates are programs from strangers, so they run with bounded fuel and recursion, and without any access to the
//! machine.

use std::fmt;
use std::path::{Path, PathBuf};

use longhand_proto::task::Message;
use longhand_proto::template::check_template;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, context};

use super::error::ModelError;
use super::jinja;
use super::tokenizer::{NamedTokens, Tokenizer};

/// Instructions of one rendering. The largest published templates use a few thousand for a conversation of two turns, and
/// a few dozen for each message more.
const FUEL: u64 = 1_000_000;
/// Depth of nested loops and macros, in the units of minijinja: 1 a loop, 10 and more a macro. Published templates stay
/// below 60.
const RECURSION: usize = 200;
const NAME: &str = "chat";

/// Whether a model thinks aloud before it answers, as far as its template says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// The template knows nothing of it.
    Unknown,
    /// It can be asked not to, and is.
    Off,
    /// It always does.
    Always,
}

/// A compiled chat template.
pub struct ChatTemplate {
    file: PathBuf,
    source: String,
    environment: Environment<'static>,
    tokens: NamedTokens,
}

impl ChatTemplate {
    /// Compiles `source`, found in `file`, and renders a conversation of two turns with it, so that a template that cannot
    /// work is found before the first document.
    pub(super) fn new(file: &Path, source: &str, tokenizer: &Tokenizer) -> Result<Self, ModelError> {
        check_template(source)
            .map_err(|bound| ModelError::Template { file: file.to_owned(), what: bound.to_string() })?;
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        // What the Python library that templates are written for sets.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| refuse(file, &error))?);
        jinja::add_to(&mut environment);
        let template = environment.add_template_owned(NAME, jinja::translate(source));
        template.map_err(|error| refuse(file, &error))?;
        let this =
            Self { file: file.to_owned(), source: source.to_owned(), environment, tokens: tokenizer.named().clone() };
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        this.render(&[message("user", "one"), message("assistant", "two"), message("user", "three")])?;
        Ok(this)
    }

    /// The template as the model has it.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for `messages`, up to where the model's answer begins. Encode it with special tokens.
    pub fn render(&self, messages: &[Message]) -> Result<String, ModelError> {
        // A section is text for a reader: models that can think aloud are asked not to.
        self.render_with(messages, false)
    }

    /// Whether the model thinks aloud; an error if the template refuses a conversation.
    pub fn thinking(&self) -> Result<Thinking, ModelError> {
        let question = [Message { role: "user".into(), content: "one".into() }];
        let (off, on) = (self.render_with(&question, false)?, self.render_with(&question, true)?);
        Ok(match off.trim_end().ends_with("<think>") {
            true => Thinking::Always,
            false if off != on => Thinking::Off,
            false => Thinking::Unknown,
        })
    }

    fn render_with(&self, messages: &[Message], thinking: bool) -> Result<String, ModelError> {
        let messages: Vec<Value> =
            messages.iter().map(|Message { role, content }| context! { role, content }).collect();
        let context = context! {
            messages,
            add_generation_prompt => true,
            enable_thinking => thinking,
            tools => (),
            documents => (),
            bos_token => &self.tokens.bos,
            eos_token => &self.tokens.eos,
            pad_token => &self.tokens.pad,
            unk_token => &self.tokens.unk,
        };
        let template = self.environment.get_template(NAME).map_err(|error| refuse(&self.file, &error))?;
        template.render(context).map_err(|error| refuse(&self.file, &error))
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("file", &self.file).finish_non_exhaustive()
    }
}

fn refuse(file: &Path, error: &minijinja::Error) -> ModelError {
    let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let remedy = if error.kind() == ErrorKind::OutOfFuel { "; it runs for ever, or is made to" } else { "" };
    ModelError::Template { file: file.to_owned(), what: format!("{line}{error:#}{remedy}") }
}
