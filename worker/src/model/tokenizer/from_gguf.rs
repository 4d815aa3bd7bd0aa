//! A tokenizer from the metadata of a GGUF file.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::encoder::Encoder;
use super::table::{NamedTokens, TokenTable};
use super::{Tokenizer, bytes};
use crate::model::error::ModelError;
use crate::model::gguf::Gguf;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const SCORES: &str = "tokenizer.ggml.scores";

/// How Llama 3 cuts text into words.
const LLAMA3_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 and 3 do: the same with digits one by one.
const QWEN2_WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The roles that `tokenizer.ggml.token_type` gives to tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// The ways of cutting text into words that byte-level tokenizers are known to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pre {
    Gpt2,
    SmolLm,
    Llama3,
    Qwen2,
}

/// What the file says about its vocabulary, checked for length.
struct Vocabulary<'a> {
    file: &'a Path,
    gguf: &'a Gguf<'a>,
    tokens: Vec<&'a str>,
    roles: Vec<Role>,
}

impl Tokenizer {
    /// From a file's metadata. `vocab` is the number of rows of its embedding matrix.
    pub fn from_gguf(file: &Path, gguf: &Gguf<'_>, vocab: usize) -> Result<Self, ModelError> {
        let vocabulary = Vocabulary::read(file, gguf, vocab)?;
        let model = gguf.str(MODEL).ok_or_else(|| vocabulary.missing(MODEL))?;
        let (mut tokenizer, table) = match model {
            "gpt2" => vocabulary.byte_level(vocab)?,
            "llama" => vocabulary.sentence_piece(vocab)?,
            other => {
                let remedy = "use a model whose tokenizer is of the kind gpt2 (byte-level) or llama (SentencePiece)";
                return Err(vocabulary.unsupported(MODEL, other, remedy));
            }
        };
        let added = vocabulary.tokens.iter().zip(&vocabulary.roles).filter_map(|(&token, role)| match role {
            Role::Control => Some(AddedToken::from(token, true)),
            Role::UserDefined => Some(AddedToken::from(token, false).normalized(false)),
            Role::Normal | Role::Unknown | Role::Unused | Role::Byte => None,
        });
        tokenizer.add_tokens(added).map_err(|error| vocabulary.damaged(format!("{TOKENS}: {error}")))?;
        let eos = ["eos", "eot", "eom"]
            .iter()
            .filter_map(|name| gguf.unsigned(&format!("tokenizer.ggml.{name}_token_id")))
            .map(|token| u32::try_from(token).unwrap_or(u32::MAX))
            .collect();
        Self::new(file, Encoder::new(tokenizer), table, eos, vocabulary.named())
    }
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a Path, gguf: &'a Gguf<'a>, vocab: usize) -> Result<Self, ModelError> {
        let mut this = Self { file, gguf, tokens: Vec::new(), roles: Vec::new() };
        let tokens = gguf.array(TOKENS).ok_or_else(|| this.missing(TOKENS))?;
        this.tokens = tokens.strings().ok_or_else(|| this.damaged(format!("{TOKENS} must be a list of strings")))?;
        if this.tokens.len() > vocab {
            let what = format!("{TOKENS} has {} tokens, the embedding matrix only {vocab} rows", this.tokens.len());
            return Err(this.damaged(what));
        }
        let types = gguf.array(TYPES).ok_or_else(|| this.missing(TYPES))?;
        let types = types.integers().ok_or_else(|| this.damaged(format!("{TYPES} must be a list of integers")))?;
        if types.len() != this.tokens.len() {
            return Err(this.damaged(format!("{TYPES} and {TOKENS} have different lengths")));
        }
        this.roles = types
            .into_iter()
            .map(|code| {
                Ok(match code {
                    1 => Role::Normal,
                    2 => Role::Unknown,
                    3 => Role::Control,
                    4 => Role::UserDefined,
                    5 => Role::Unused,
                    6 => Role::Byte,
                    other => return Err(this.damaged(format!("{TYPES} holds the unknown type {other}"))),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(this)
    }

    /// Byte-level BPE, as GPT-2 began it.
    fn byte_level(&self, vocab: usize) -> Result<(tokenizers::Tokenizer, TokenTable), ModelError> {
        let pre = self.pre()?;
        let letters = bytes::byte_letters();
        let mut table = TokenTable::of_padding(vocab);
        for (id, (&token, role)) in self.tokens.iter().zip(&self.roles).enumerate() {
            match role {
                Role::Control => table.set_special(id, token),
                Role::UserDefined => table.set(id, token.as_bytes().to_vec()),
                Role::Unused => (),
                Role::Normal | Role::Unknown | Role::Byte => {
                    let bytes = bytes::of_byte_level(token, &letters).unwrap_or_else(|| token.as_bytes().to_vec());
                    table.set(id, bytes);
                }
            }
        }
        let merges = self.gguf.array(MERGES).ok_or_else(|| self.missing(MERGES))?;
        let merges = merges.strings().ok_or_else(|| self.damaged(format!("{MERGES} must be a list of strings")))?;
        let pairs: Option<Merges> = merges.iter().map(|merge| merge.split_once(' ')).map(owned).collect();
        let pairs = pairs.ok_or_else(|| self.damaged(format!("{MERGES} holds an item that is not a pair")))?;
        self.check_byte_level(&pairs, &letters)?;
        let bpe = BPE::builder().vocab_and_merges(self.ids(), pairs).ignore_merges(pre == Pre::Llama3);
        let bpe = bpe.build().map_err(|error| self.damaged(format!("{MERGES}: {error}")))?;
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        tokenizer.with_pre_tokenizer(Some(pre.tokenizer()));
        if pre == Pre::Qwen2 {
            self.normalize(&mut tokenizer, NFC.into())?;
        }
        Ok((tokenizer, table))
    }

    fn pre(&self) -> Result<Pre, ModelError> {
        Ok(match self.gguf.str(PRE).ok_or_else(|| self.missing(PRE))? {
            "gpt-2" => Pre::Gpt2,
            "smollm" => Pre::SmolLm,
            "llama-bpe" | "llama3" | "llama-v3" => Pre::Llama3,
            "qwen2" => Pre::Qwen2,
            other => {
                let remedy = "use a model whose pre-tokenizer is gpt-2, smollm, llama-bpe or qwen2, or convert this one \
                              again with a converter that knows it";
                return Err(self.unsupported(PRE, other, remedy));
            }
        })
    }

    /// Ordinary text must have tokens, and every merge must lead from tokens to a token.
    fn check_byte_level(&self, merges: &Merges, letters: &HashMap<char, u8>) -> Result<(), ModelError> {
        let tokens: HashSet<&str> = self.tokens.iter().copied().collect();
        let mut letter = [0; 4];
        let spelled = letters.iter().filter(|(c, _)| tokens.contains(&*c.encode_utf8(&mut letter)));
        if let Some(byte) = bytes::first_lost(&spelled.map(|(_, &byte)| byte).collect()) {
            return Err(self.damaged(format!("{TOKENS} has no token for the byte {byte:#04x}")));
        }
        let mut merged = String::new();
        for (left, right) in merges {
            merged.clear();
            merged.push_str(left);
            merged.push_str(right);
            if let Some(lost) = [left, right, &merged].into_iter().find(|token| !tokens.contains(&***token)) {
                return Err(self.damaged(format!("{MERGES} names {lost:?}, which is not in {TOKENS}")));
            }
        }
        Ok(())
    }

    /// SentencePiece BPE with byte fallback, as Llama 2 and the first Mistral models have it. The vocabulary's scores say
    /// which pieces merge first; every way to cut a piece in two pieces is a merge.
    fn sentence_piece(&self, vocab: usize) -> Result<(tokenizers::Tokenizer, TokenTable), ModelError> {
        let mut table = TokenTable::of_padding(vocab);
        let mut unknown = None;
        let mut byte_tokens = HashSet::new();
        for (id, (&token, role)) in self.tokens.iter().zip(&self.roles).enumerate() {
            match role {
                Role::Control => table.set_special(id, token),
                Role::Unknown => {
                    table.set_special(id, token);
                    unknown = Some(token);
                }
                Role::UserDefined => table.set(id, token.as_bytes().to_vec()),
                Role::Unused => (),
                Role::Byte => {
                    let byte = bytes::of_byte_token(token);
                    let byte = byte.ok_or_else(|| self.damaged(format!("{token:?} in {TOKENS} names no byte")))?;
                    byte_tokens.insert(byte);
                    table.set(id, vec![byte]);
                }
                Role::Normal => table.set(id, bytes::of_sentence_piece(token)),
            }
        }
        if byte_tokens.len() != 256 {
            return Err(self.damaged(format!("{TOKENS} has tokens for {} of 256 bytes", byte_tokens.len())));
        }
        // Some files give it no role of its own.
        let stated = self.gguf.unsigned("tokenizer.ggml.unknown_token_id");
        let stated = stated.and_then(|id| self.tokens.get(usize::try_from(id).ok()?).copied());
        let unknown = unknown.or(stated).ok_or_else(|| self.damaged(format!("{TOKENS} has no unknown token")))?;
        let bpe = BPE::builder()
            .vocab_and_merges(self.ids(), self.piece_merges()?)
            .byte_fallback(true)
            .fuse_unk(true)
            .unk_token(unknown.to_owned())
            .build()
            .map_err(|error| self.damaged(format!("{TOKENS}: {error}")))?;
        let mut tokenizer = tokenizers::Tokenizer::new(bpe);
        let spaces = Replace::new(" ", "\u{2581}").map_err(|error| self.damaged(error.to_string()))?;
        let mut steps: Vec<NormalizerWrapper> = vec![spaces.into()];
        if self.gguf.bool("tokenizer.ggml.add_space_prefix").unwrap_or(true) {
            steps.insert(0, Prepend::new("\u{2581}".into()).into());
        }
        self.normalize(&mut tokenizer, Normalizers::new(steps).into())?;
        Ok((tokenizer, table))
    }

    fn piece_merges(&self) -> Result<Merges, ModelError> {
        let scores = self.gguf.array(SCORES).ok_or_else(|| self.missing(SCORES))?;
        let scores = scores.floats().ok_or_else(|| self.damaged(format!("{SCORES} must be a list of floats")))?;
        if scores.len() != self.tokens.len() {
            return Err(self.damaged(format!("{SCORES} and {TOKENS} have different lengths")));
        }
        let ids: HashMap<&str, usize> = self
            .tokens
            .iter()
            .zip(&self.roles)
            .enumerate()
            .filter(|(_, (_, role))| **role == Role::Normal)
            .map(|(id, (&token, _))| (token, id))
            .collect();
        let mut merges = Vec::new();
        for (&piece, &id) in &ids {
            for (cut, _) in piece.char_indices().skip(1) {
                let (left, right) = piece.split_at(cut);
                if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                    merges.push((scores[id], left, right));
                }
            }
        }
        merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let token = |id: usize| self.tokens[id].to_owned();
        Ok(merges.into_iter().map(|(_, left, right)| (token(left), token(right))).collect())
    }

    fn ids(&self) -> Vocab {
        self.tokens.iter().enumerate().map(|(id, &token)| (token.to_owned(), id as u32)).collect()
    }

    fn normalize(&self, to: &mut tokenizers::Tokenizer, with: NormalizerWrapper) -> Result<(), ModelError> {
        to.with_normalizer(Some(with)).map(drop).map_err(|error| self.damaged(error.to_string()))
    }

    fn named(&self) -> NamedTokens {
        let text = |name: &str| {
            let id = self.gguf.unsigned(&format!("tokenizer.ggml.{name}_token_id"));
            let token = id.and_then(|id| self.tokens.get(usize::try_from(id).ok()?));
            token.map(|token| (*token).to_owned()).unwrap_or_default()
        };
        NamedTokens { bos: text("bos"), eos: text("eos"), pad: text("padding"), unk: text("unknown") }
    }

    fn missing(&self, key: &str) -> ModelError {
        ModelError::Missing {
            file: self.file.to_owned(),
            key: key.into(),
            remedy: "convert the model again with a current converter".into(),
        }
    }

    fn damaged(&self, what: String) -> ModelError {
        ModelError::Damaged { file: self.file.to_owned(), what }
    }

    fn unsupported(&self, key: &str, value: &str, remedy: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.file.to_owned(),
            key: key.into(),
            value: value.into(),
            remedy: remedy.into(),
        }
    }
}

fn owned(pair: Option<(&str, &str)>) -> Option<(String, String)> {
    pair.map(|(left, right)| (left.to_owned(), right.to_owned()))
}

impl Pre {
    fn tokenizer(self) -> PreTokenizerWrapper {
        let words = |pattern: &str| {
            let pattern = SplitPattern::Regex(pattern.to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            let split: PreTokenizerWrapper = match split {
                Ok(split) => split.into(),
                Err(error) => unreachable!("a constant pattern does not compile: {error}"),
            };
            Sequence::new(vec![split, ByteLevel::new(false, true, false).into()]).into()
        };
        match self {
            Self::Gpt2 => ByteLevel::new(false, true, true).into(),
            Self::SmolLm => {
                Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()]).into()
            }
            Self::Llama3 => words(LLAMA3_WORDS),
            Self::Qwen2 => words(QWEN2_WORDS),
        }
    }
}
