//! Turns of a conversation: `role` and `content`, or `from` and `value` as ShareGPT names them.

use longhand_proto::task::Message;
use serde_json::{Map, Value};

use super::field::{RowError, present, row_error, text_of, wrong_type};

/// One turn as it stands in a row.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    /// Where it stands: `messages[3]`.
    at: String,
    turn: &'a Map<String, Value>,
    keys: (&'static str, &'static str),
}

/// The turns that `value` lists.
pub(crate) fn of<'a>(key: &str, value: &'a Value) -> Result<Vec<Turn<'a>>, RowError> {
    let Value::Array(turns) = value else { return Err(wrong_type(key, value, "a list of turns")) };
    let turn = |(index, turn): (usize, &'a Value)| {
        let at = format!("{key}[{index}]");
        let Value::Object(turn) = turn else { return Err(wrong_type(&at, turn, "an object with role and content")) };
        let sharegpt = present(turn, "role").is_none() && present(turn, "from").is_some();
        let keys = if sharegpt { ("from", "value") } else { ("role", "content") };
        Ok(Turn { at, turn, keys })
    };
    turns.iter().enumerate().map(turn).collect()
}

/// Whether `value` is a list of turns, and not one of parts of a text.
pub(crate) fn are(value: &Value) -> bool {
    let turn = |turn: &Value| turn.get("role").is_some() || turn.get("from").is_some();
    value.as_array().and_then(|turns| turns.first()).is_some_and(turn)
}

/// Which of `turns` are the user's. A role that is unknown is an error: taken for nobody's, it would move the count.
pub(crate) fn of_user(turns: &[Turn<'_>]) -> Result<Vec<usize>, RowError> {
    let mut of_user = Vec::new();
    for (at, turn) in turns.iter().enumerate() {
        if turn.role()? == "user" {
            of_user.push(at);
        }
    }
    Ok(of_user)
}

impl Turn<'_> {
    /// `system`, `user` or `assistant`; case and blanks around do not matter.
    pub(crate) fn role(&self) -> Result<&'static str, RowError> {
        let key = format!("{}.{}", self.at, self.keys.0);
        match present(self.turn, self.keys.0) {
            Some(Value::String(role)) => match role.trim().to_ascii_lowercase().as_str() {
                "user" | "human" | "prompter" => Ok("user"),
                "assistant" | "gpt" | "chatgpt" | "model" => Ok("assistant"),
                "system" | "developer" => Ok("system"),
                _ => Err(row_error(&key, format!("unknown role {role:?}"), "use system, user or assistant")),
            },
            Some(other) => Err(wrong_type(&key, other, "a string")),
            None => Err(row_error(&key, "is missing", "use system, user or assistant")),
        }
    }

    /// The text of the turn.
    pub(crate) fn content(&self) -> Result<String, RowError> {
        let key = format!("{}.{}", self.at, self.keys.1);
        match present(self.turn, self.keys.1) {
            Some(content) => text_of(&key, content),
            None => Err(row_error(&key, "is missing", "give each turn its text")),
        }
    }

    /// Role and text.
    pub(crate) fn message(&self) -> Result<Message, RowError> {
        Ok(Message { role: self.role()?.into(), content: self.content()? })
    }
}

/// What is said of a conversation in which nobody asks anything.
pub(crate) fn no_user(key: &str) -> RowError {
    row_error(key, "no turn has the role `user`", "add the instruction as a turn with role `user`")
}
