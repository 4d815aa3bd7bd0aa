//! What the engine needs of a model besides its logits: how messages become tokens, and tokens text.

use std::fmt::Debug;

use llguidance::toktrie::TokEnv;
use longhand_proto::task::{Message, ModelInfo};

use crate::model::{GuardMarks, Model};

/// Messages to tokens, tokens to text.
pub trait TokenizerAdapter: Send + Sync + Debug {
    /// The model for records; `device` and `engine` are left to the engine.
    fn info(&self) -> ModelInfo;
    /// The prompt of `messages`, up to where the model's answer begins.
    ///
    /// # Errors
    /// Says what the chat template rejected.
    fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, String>;
    /// What the token adds to the text; nothing for special tokens.
    fn token_bytes(&self, token: u32) -> &[u8];
    /// Tokens that end a text.
    fn eos(&self) -> &[u32];
    /// True for tokens without text; they are never sampled, unless they end a text.
    fn is_special(&self, token: u32) -> bool;
    /// The vocabulary for grammars.
    fn tok_env(&self) -> TokEnv;
}

impl TokenizerAdapter for Model {
    fn info(&self) -> ModelInfo {
        self.info()
    }

    fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, String> {
        let texts = messages.iter().map(|message| message.content.as_str());
        let marks = GuardMarks::unused_in(texts.chain([self.chat_template().source()]))
            .ok_or("the messages hold every private-use character of Unicode: remove some")?;
        let guarded = |message: &Message| Message {
            role: message.role.clone(),
            content: self.tokenizer().guard(&message.content, marks).into_owned(),
        };
        let messages: Vec<Message> = messages.iter().map(guarded).collect();
        let text = self.chat_template().render(&messages).map_err(|error| error.to_string())?;
        Ok(self.tokenizer().encode_prompt(&text, marks))
    }

    fn token_bytes(&self, token: u32) -> &[u8] {
        self.tokenizer().token_bytes(token)
    }

    fn eos(&self) -> &[u32] {
        self.tokenizer().eos()
    }

    fn is_special(&self, token: u32) -> bool {
        self.tokenizer().is_special(token)
    }

    fn tok_env(&self) -> TokEnv {
        self.tokenizer().tok_env()
    }
}
