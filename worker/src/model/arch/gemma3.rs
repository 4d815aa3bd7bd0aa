//! Gemma 3, and the text part of its multimodal models: norms before and behind each branch, scaled embeddings, and windows in
//! five layers of six.

use serde_json::{Map, Value, json};

use super::dense;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::{Activation, LayerSpec, ModelConfig, SlidingWindow};
use crate::model::error::ModelError;
use crate::model::json::Json;
use crate::ops::rope::RopeStyle;

pub(super) static FAMILY: Family = Family {
    name: "gemma3",
    title: "Gemma 3",
    models: "Gemma 3 270M to 27B, text only; on the CPU",
    classes: &["Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"],
    from_gguf,
    from_hugging_face,
    weights: dense::weights,
};

const PERIOD: usize = 6;
/// Rope base of layers with a window.
const LOCAL_BASE: f32 = 10_000.0;
const LAYER: LayerSpec = LayerSpec {
    qk_norm: true,
    post_norms: true,
    activation: Activation::GeluTanh,
    ..LayerSpec::plain(RopeStyle::Half)
};

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    let width = file.window()?;
    let config = file.dense(LAYER)?;
    // Only the model of 27 billion divides by something else than the width of its heads, and no key says so.
    let of = if config.layers == 62 { config.dim / config.heads } else { config.head_dim };
    Ok(with_window(config, width, PERIOD, LOCAL_BASE, of as f32))
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    let json = with_defaults(file.json);
    refuse_variants(&json)?;
    let (width, period) = (json.size("sliding_window")?, period(&json)?);
    let base = json.get("rope_local_base_freq").and_then(Value::as_f64).map_or(LOCAL_BASE, |base| base as f32);
    let of = json.size("query_pre_attn_scalar")?;
    let config = HuggingFaceConfig { json: &json, ..*file }.dense(LAYER, None)?;
    let config = ModelConfig { norm_offset: 1.0, ..config };
    Ok(with_window(config, width, period, base, of as f32))
}

fn with_window(config: ModelConfig, width: usize, period: usize, rope_base: f32, of: f32) -> ModelConfig {
    ModelConfig {
        window: Some(SlidingWindow { width, period, rope_base }),
        embedding_scale: (config.dim as f32).sqrt(),
        query_scale: 1.0 / of.sqrt(),
        ..config
    }
}

/// The configuration with what transformers assumes where it states nothing: files of multimodal models leave it out. Rope
/// stands where all families have it, and the base of layers with a window beside it.
fn with_defaults(json: &Json) -> Json {
    let mut values = Map::new();
    for (key, value) in [
        ("num_attention_heads", json!(8)),
        ("num_key_value_heads", json!(4)),
        ("head_dim", json!(256)),
        ("max_position_embeddings", json!(131_072)),
        ("vocab_size", json!(262_208)),
        ("rms_norm_eps", json!(1e-6)),
        ("query_pre_attn_scalar", json!(256)),
        ("sliding_window", json!(4096)),
        ("rope_theta", json!(1_000_000.0)),
        ("tie_word_embeddings", json!(true)),
    ] {
        values.insert(key.into(), value);
    }
    let stated = json.value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    values.extend(stated.map(|(key, value)| (key.clone(), value.clone())));
    if let Some(Value::Object(mut both)) = values.remove("rope_parameters") {
        if let Some(base) = both.get("sliding_attention").and_then(|local| local.get("rope_theta")) {
            values.insert("rope_local_base_freq".into(), base.clone());
        }
        values.extend(both.remove("full_attention").map(|full| ("rope_parameters".to_owned(), full)));
    }
    Json { file: json.file.clone(), value: Value::Object(values) }
}

/// What configurations of this class may ask for that is not computed.
fn refuse_variants(json: &Json) -> Result<(), ModelError> {
    let remedy = "use a Gemma 3 that writes text, or serve this model with vLLM and use --engine openai";
    for (key, usual) in [
        ("hidden_activation", json!("gelu_pytorch_tanh")),
        ("final_logit_softcapping", Value::Null),
        ("attn_logit_softcapping", Value::Null),
        ("use_bidirectional_attention", json!(false)),
        ("attention_bias", json!(false)),
    ] {
        match json.get(key) {
            Some(value) if *value != usual => return Err(json.unsupported(key, value, remedy)),
            _ => (),
        }
    }
    Ok(())
}

/// Which layers see all, as one of so many: newer files list the layers.
fn period(json: &Json) -> Result<usize, ModelError> {
    let Some(list) = json.get("layer_types") else {
        return Ok(json.optional_size("sliding_window_pattern")?.unwrap_or(PERIOD));
    };
    let is_full = |kind: &Value| kind == "full_attention";
    let kinds = list.as_array().map_or(&[][..], Vec::as_slice);
    let period = kinds.iter().position(is_full).map_or(kinds.len() + 1, |first| first + 1);
    match kinds.iter().enumerate().all(|(layer, kind)| is_full(kind) == (layer + 1).is_multiple_of(period)) {
        true => Ok(period),
        false => Err(json.unsupported("layer_types", list, "expected one layer of full attention in every so many")),
    }
}
