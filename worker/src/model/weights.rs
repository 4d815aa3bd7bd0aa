//! Which weights a configuration promises, and in which shape. A weight too many is as wrong as one too few: the forward
//! pass would leave it out.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::Weight;
use super::config::ModelConfig;
use super::error::ModelError;

const EMBEDDING: &str = "token_embd.weight";

/// Checks names, shapes and types of all weights against the configuration.
pub(super) fn check(file: &Path, config: &ModelConfig, weights: &HashMap<String, Weight>) -> Result<(), ModelError> {
    let expected = expected(config);
    for (name, shape) in &expected {
        let weight = weights.get(name).ok_or_else(|| missing(file, name))?;
        if weight.shape != *shape {
            return Err(ModelError::Damaged {
                file: file.to_owned(),
                what: format!("weight {name} has the shape {:?}, its configuration asks for {shape:?}", weight.shape),
            });
        }
        // Norms and biases are added or multiplied element by element; no known file quantises them.
        if shape.len() == 1 && weight.dtype.block() > 1 {
            return Err(ModelError::Unsupported {
                file: file.to_owned(),
                key: format!("the type of weight {name}"),
                value: weight.dtype.name().into(),
                remedy: "convert the model anew and leave its vectors as F32".into(),
            });
        }
    }
    if let Some(extra) = weights.keys().filter(|name| !expected.contains_key(*name)).min() {
        return Err(ModelError::Unsupported {
            file: file.to_owned(),
            key: "a weight".into(),
            value: extra.clone(),
            remedy: format!("the {:?} family has no such weight: use a model of a supported family", config.family),
        });
    }
    Ok(())
}

fn missing(file: &Path, name: &str) -> ModelError {
    ModelError::Missing {
        file: file.to_owned(),
        key: format!("weight {name}"),
        remedy: "the file is not whole, or of another architecture than it says: fetch it again".into(),
    }
}

/// Rows and columns of the embedding matrix: the vocabulary, padding included, and the model's width.
pub(super) fn embedding(file: &Path, weights: &HashMap<String, Weight>) -> Result<(usize, usize), ModelError> {
    let weight = weights.get(EMBEDDING).ok_or_else(|| missing(file, EMBEDDING))?;
    match weight.shape[..] {
        [vocab, dim] => Ok((vocab, dim)),
        _ => Err(ModelError::Damaged {
            file: file.to_owned(),
            what: format!("weight {EMBEDDING} has the shape {:?}, which is no matrix", weight.shape),
        }),
    }
}

fn expected(config: &ModelConfig) -> BTreeMap<String, Vec<usize>> {
    let ModelConfig { dim, ffn, head_dim, vocab, .. } = *config;
    let (q, kv) = (config.heads * head_dim, config.kv_heads * head_dim);
    let mut weights =
        BTreeMap::from([(EMBEDDING.to_owned(), vec![vocab, dim]), ("output_norm.weight".to_owned(), vec![dim])]);
    if !config.tied {
        weights.insert("output.weight".to_owned(), vec![vocab, dim]);
    }
    for layer in 0..config.layers {
        let mut add = |name: &str, shape: &[usize]| weights.insert(format!("blk.{layer}.{name}"), shape.to_vec());
        add("attn_norm.weight", &[dim]);
        for (name, rows) in [("attn_q", q), ("attn_k", kv), ("attn_v", kv)] {
            add(&format!("{name}.weight"), &[rows, dim]);
            if config.qkv_bias {
                add(&format!("{name}.bias"), &[rows]);
            }
        }
        if config.qk_norm {
            add("attn_q_norm.weight", &[head_dim]);
            add("attn_k_norm.weight", &[head_dim]);
        }
        add("attn_output.weight", &[dim, q]);
        add("ffn_norm.weight", &[dim]);
        add("ffn_gate.weight", &[ffn, dim]);
        add("ffn_up.weight", &[ffn, dim]);
        add("ffn_down.weight", &[dim, ffn]);
    }
    weights
}
