//! How the tokens of a text are chosen.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Sampling parameters, from the recipe. The defaults leave the model's distribution unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 is greedy decoding.
    pub temperature: f32,
    /// 0 keeps all tokens.
    pub top_k: u32,
    /// 1 keeps all tokens.
    pub top_p: f32,
    /// Drops tokens with less than this fraction of the highest probability; 0 keeps all.
    pub min_p: f32,
    /// 1 is off. Positive logits of tokens in the penalty window are divided by it, negative ones multiplied.
    pub repetition_penalty: f32,
    /// Number of latest tokens of prompt and text that the penalty applies to.
    pub penalty_window: u32,
    /// Forbids an n-gram of this many tokens that prompt or text already contain; 0 is off.
    pub no_repeat_ngram: u32,
    /// DRY ("don't repeat yourself"): the strength of the penalty on a token that would continue a sequence of tokens that
    /// occurred before; 0 is off. A sequence of n tokens costs its continuation
    /// `dry_multiplier * dry_base ^ (n - dry_allowed_length)` of its logit. Sequences end at line ends, `:`, `"` and `*`.
    // Fields at their defaults are left out: recipes are hashed as they are serialised.
    #[serde(skip_serializing_if = "is_default::dry_multiplier")]
    pub dry_multiplier: f32,
    /// Growth of the penalty for each token of the sequence.
    #[serde(skip_serializing_if = "is_default::dry_base")]
    pub dry_base: f32,
    /// Tokens of the shortest sequence that costs something.
    #[serde(skip_serializing_if = "is_default::dry_allowed_length")]
    pub dry_allowed_length: u32,
    /// Number of latest tokens of prompt and text that are looked at; 0 is all of them (llama.cpp's -1).
    #[serde(skip_serializing_if = "is_default::dry_penalty_last_n")]
    pub dry_penalty_last_n: u32,
    /// What the model's makers recommend is taken for these, where they state it; the values above where they do not.
    #[serde(skip_serializing_if = "SamplingKeys::is_empty")]
    pub from_model: SamplingKeys,
}

/// Whether fields of [`Sampling`] that came later are at their defaults.
#[allow(clippy::trivially_copy_pass_by_ref, clippy::float_cmp, reason = "serde passes a reference; a default is exact")]
mod is_default {
    use super::Sampling;

    macro_rules! fields {
        ($($field:ident: $type:ty),+) => {
            $(pub(super) fn $field(value: &$type) -> bool { *value == Sampling::default().$field })+
        };
    }

    fields!(dry_multiplier: f32, dry_base: f32, dry_allowed_length: u32, dry_penalty_last_n: u32);
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            penalty_window: 256,
            no_repeat_ngram: 0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 0,
            from_model: SamplingKeys::default(),
        }
    }
}

impl Sampling {
    /// With the values that `recommended` states for the keys of [`Sampling::from_model`].
    pub fn with_recommended(self, recommended: &RecommendedSampling) -> Self {
        let wanted = recommended.only(self.from_model);
        Self {
            temperature: wanted.temperature.unwrap_or(self.temperature),
            top_k: wanted.top_k.unwrap_or(self.top_k),
            top_p: wanted.top_p.unwrap_or(self.top_p),
            min_p: wanted.min_p.unwrap_or(self.min_p),
            repetition_penalty: wanted.repetition_penalty.unwrap_or(self.repetition_penalty),
            ..self
        }
    }
}

/// A value of [`Sampling`] that the makers of a model may recommend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplingKey {
    /// [`Sampling::temperature`]
    Temperature,
    /// [`Sampling::top_k`]
    TopK,
    /// [`Sampling::top_p`]
    TopP,
    /// [`Sampling::min_p`]
    MinP,
    /// [`Sampling::repetition_penalty`]
    RepetitionPenalty,
}

impl SamplingKey {
    /// All keys.
    pub const ALL: [Self; 5] = [Self::Temperature, Self::TopK, Self::TopP, Self::MinP, Self::RepetitionPenalty];

    /// The least and the largest value that a sampler can use.
    pub const fn range(self) -> (f64, f64) {
        match self {
            Self::Temperature => (0.0, 5.0),
            Self::TopK => (0.0, 1_000_000.0),
            Self::TopP => (0.01, 1.0),
            Self::MinP => (0.0, 1.0),
            Self::RepetitionPenalty => (0.5, 5.0),
        }
    }
}

/// A set of keys; a list in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<SamplingKey>", into = "Vec<SamplingKey>")]
pub struct SamplingKeys(u32);

impl SamplingKeys {
    /// True if `key` is one of them.
    pub fn contains(self, key: SamplingKey) -> bool {
        self.0 & (1 << key as u32) != 0
    }

    /// True if there is none.
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

/// The form of messages: bit i stands for the key at i of [`SamplingKey::ALL`].
impl From<SamplingKeys> for u32 {
    fn from(keys: SamplingKeys) -> Self {
        keys.0
    }
}

/// Bits without a key count for nothing.
impl From<u32> for SamplingKeys {
    fn from(bits: u32) -> Self {
        Self(bits)
    }
}

impl From<Vec<SamplingKey>> for SamplingKeys {
    fn from(keys: Vec<SamplingKey>) -> Self {
        Self(keys.into_iter().fold(0, |bits, key| bits | 1 << key as u32))
    }
}

impl From<SamplingKeys> for Vec<SamplingKey> {
    fn from(keys: SamplingKeys) -> Self {
        SamplingKey::ALL.into_iter().filter(|key| keys.contains(*key)).collect()
    }
}

/// What the makers of a model recommend, as its files state it: `generation_config.json`, or `general.sampling.*` of a GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RecommendedSampling {
    /// [`Sampling::temperature`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// [`Sampling::top_k`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// [`Sampling::top_p`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// [`Sampling::min_p`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// [`Sampling::repetition_penalty`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repetition_penalty: Option<f32>,
}

impl RecommendedSampling {
    /// With values that a sampler cannot use left out.
    pub fn usable(self) -> Self {
        let within = |key: SamplingKey, value: Option<f32>| {
            let (least, most) = key.range();
            value.filter(|value| (least as f32..=most as f32).contains(value))
        };
        Self {
            temperature: within(SamplingKey::Temperature, self.temperature),
            top_k: self.top_k.filter(|value| f64::from(*value) <= SamplingKey::TopK.range().1),
            top_p: within(SamplingKey::TopP, self.top_p),
            min_p: within(SamplingKey::MinP, self.min_p),
            repetition_penalty: within(SamplingKey::RepetitionPenalty, self.repetition_penalty),
        }
    }

    /// With the values of these keys alone.
    pub fn only(self, keys: SamplingKeys) -> Self {
        use SamplingKey::{MinP, RepetitionPenalty, Temperature, TopK, TopP};
        let float = |key, value: Option<f32>| value.filter(|_| keys.contains(key));
        Self {
            temperature: float(Temperature, self.temperature),
            top_k: self.top_k.filter(|_| keys.contains(TopK)),
            top_p: float(TopP, self.top_p),
            min_p: float(MinP, self.min_p),
            repetition_penalty: float(RepetitionPenalty, self.repetition_penalty),
        }
    }

    /// True if nothing is recommended.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `temperature 0.7, top_p 0.8`; `none stated` if there is none.
impl fmt::Display for RecommendedSampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { temperature, top_k, top_p, min_p, repetition_penalty } = self;
        let float = |name, value: &Option<f32>| value.map(|value| format!("{name} {value}"));
        let stated = [
            float("temperature", temperature),
            top_k.map(|value| format!("top_k {value}")),
            float("top_p", top_p),
            float("min_p", min_p),
            float("repetition_penalty", repetition_penalty),
        ];
        let stated: Vec<String> = stated.into_iter().flatten().collect();
        f.write_str(if stated.is_empty() { "none stated" } else { "" })?;
        f.write_str(&stated.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_from_the_model_where_the_recipe_wants_it_and_the_model_states_it() {
        let from_model = SamplingKeys::from(vec![SamplingKey::Temperature, SamplingKey::MinP]);
        let sampling = Sampling { temperature: 0.9, top_p: 0.5, min_p: 0.1, from_model, ..Sampling::default() };
        let recommended = RecommendedSampling { temperature: Some(0.7), top_p: Some(0.8), ..Default::default() };
        assert_eq!(sampling.with_recommended(&recommended), Sampling { temperature: 0.7, ..sampling });
        assert_eq!(recommended.to_string(), "temperature 0.7, top_p 0.8");
        assert_eq!(recommended.only(from_model).to_string(), "temperature 0.7");
        let written = serde_json::to_string(&from_model).unwrap();
        assert_eq!(written, r#"["temperature","min_p"]"#);
        assert_eq!(serde_json::from_str::<SamplingKeys>(&written).unwrap(), from_model);
    }

    #[test]
    fn what_no_sampler_can_use_is_not_recommended() {
        let odd = RecommendedSampling { temperature: Some(f32::NAN), top_p: Some(0.0), ..Default::default() };
        assert!(odd.usable().is_empty());
        assert_eq!(RecommendedSampling::default().to_string(), "none stated");
    }
}
