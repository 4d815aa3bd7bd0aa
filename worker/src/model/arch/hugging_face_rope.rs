//! What a `config.json` says of rope: base, scaling, and how much of a head rotates.

use serde_json::Value;

use crate::model::error::ModelError;
use crate::model::json::Json;
use crate::ops::rope::RopeScaling;

/// Rope as a configuration states it.
pub(super) struct Rope {
    pub(super) base: f32,
    pub(super) scaling: Option<RopeScaling>,
    /// Share of a head that rotates.
    pub(super) share: f64,
}

/// Where a configuration states rope. Older files have `rope_theta` and `rope_scaling`, newer ones both in `rope_parameters`.
struct Table<'a> {
    json: &'a Json,
    key: &'static str,
    values: &'a Value,
}

/// Rope of a model whose context is `context`.
pub(super) fn read(json: &Json, context: usize) -> Result<Rope, ModelError> {
    let key = if json.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
    let table = Table { json, key, values: json.get(key).unwrap_or(&Value::Null) };
    Ok(Rope {
        base: table.anywhere("rope_theta")?.unwrap_or(10_000.0) as f32,
        scaling: table.scaling(context)?,
        share: table.anywhere("partial_rotary_factor")?.unwrap_or(1.0),
    })
}

impl Table<'_> {
    fn scaling(&self, context: usize) -> Result<Option<RopeScaling>, ModelError> {
        let kind = self.get("rope_type").or_else(|| self.get("type")).unwrap_or(&Value::Null);
        Ok(match kind.as_str() {
            None | Some("default") => None,
            // It stretches what is longer than the context that the file states; up to there it is plain rope.
            Some("dynamic") => None,
            Some("linear") => Some(RopeScaling::Linear { factor: self.number("factor")? }),
            Some("llama3") => Some(RopeScaling::Llama3 {
                factor: self.number("factor")?,
                low_freq_factor: self.number("low_freq_factor")?,
                high_freq_factor: self.number("high_freq_factor")?,
                original_context: self.number("original_max_position_embeddings")? as usize,
            }),
            Some("yarn") => Some(self.yarn(context)?),
            Some("longrope" | "su") => Some(self.longrope(context)?),
            Some(_) => {
                let remedy = "use a model with rope scaling of the kind default, linear, dynamic, llama3, yarn or longrope, \
                              or serve this one with vLLM and use --engine openai";
                return Err(self.json.unsupported(&format!("{}.rope_type", self.key), kind, remedy));
            }
        })
    }

    fn yarn(&self, context: usize) -> Result<RopeScaling, ModelError> {
        let original = self.original_context(context)?;
        let factor = self.optional("factor")?.unwrap_or(context as f64 / original);
        let magnitude_of = |weight: f64| if factor > 1.0 { 0.1 * weight * factor.ln() + 1.0 } else { 1.0 };
        let weights = (self.optional("mscale")?, self.optional("mscale_all_dim")?);
        let magnitude = match (self.optional("attention_factor")?, weights) {
            (Some(stated), _) => stated,
            (None, (Some(of), Some(all))) if of != 0.0 && all != 0.0 => magnitude_of(of) / magnitude_of(all),
            (None, _) => magnitude_of(1.0),
        };
        Ok(RopeScaling::Yarn {
            factor: factor as f32,
            beta_fast: self.optional("beta_fast")?.unwrap_or(32.0) as f32,
            beta_slow: self.optional("beta_slow")?.unwrap_or(1.0) as f32,
            truncate: self.get("truncate").and_then(Value::as_bool).unwrap_or(true),
            original_context: original as usize,
            magnitude: magnitude as f32,
        })
    }

    /// Which of its two lists holds must not depend on a text's length, which is not known before it ends: the long one, where
    /// the model's context is longer than the original one.
    fn longrope(&self, context: usize) -> Result<RopeScaling, ModelError> {
        let original = self.original_context(context)?;
        let list = if context as f64 > original { "long_factor" } else { "short_factor" };
        let numbers = self.get(list).and_then(Value::as_array).map(|list| list.iter().map(Value::as_f64));
        let divisors: Option<Vec<f32>> = numbers.and_then(|all| all.map(|x| x.map(|x| x as f32)).collect());
        let factor = self.optional("factor")?.unwrap_or(context as f64 / original);
        let magnitude = match self.optional("attention_factor")? {
            Some(stated) => stated,
            None if factor > 1.0 => (1.0 + factor.ln() / original.ln()).sqrt(),
            None => 1.0,
        };
        Ok(RopeScaling::Factors { divisors: divisors.ok_or_else(|| self.missing(list))?, magnitude: magnitude as f32 })
    }

    /// The context that the model was trained on before it was stretched.
    fn original_context(&self, context: usize) -> Result<f64, ModelError> {
        let key = "original_max_position_embeddings";
        // Phi 3 states it beside the table, and that is what counts.
        let of_file = self.json.get(key).map(|value| self.as_number(key, value)).transpose()?;
        Ok(match of_file {
            Some(number) => number,
            None => self.optional(key)?.unwrap_or(context as f64),
        })
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name).filter(|value| !value.is_null())
    }

    fn number(&self, name: &str) -> Result<f32, ModelError> {
        self.optional(name)?.map(|number| number as f32).ok_or_else(|| self.missing(name))
    }

    fn optional(&self, name: &str) -> Result<Option<f64>, ModelError> {
        self.get(name).map(|value| self.as_number(&format!("{}.{name}", self.key), value)).transpose()
    }

    /// Of the table, or else of the file.
    fn anywhere(&self, name: &str) -> Result<Option<f64>, ModelError> {
        match self.optional(name)? {
            Some(number) => Ok(Some(number)),
            None => self.json.get(name).map(|value| self.as_number(name, value)).transpose(),
        }
    }

    fn as_number(&self, key: &str, value: &Value) -> Result<f64, ModelError> {
        value.as_f64().ok_or_else(|| self.json.unsupported(key, value, "expected a number"))
    }

    fn missing(&self, name: &str) -> ModelError {
        ModelError::Missing {
            file: self.json.file.clone(),
            key: format!("{}.{name}", self.key),
            remedy: "the configuration is incomplete: fetch it again".into(),
        }
    }
}
