//! `longhand bench random-model`: models with random weights in the shape of real ones, to measure speed with.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use longhand_command::exit::{Code, Failure, Result};
use longhand_worker::model::gguf::{Gguf, Value};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

const HELP: &str = "\
The output is a GGUF file of 0.6 to 1.6 GB that llama.cpp can read too: Q4_0, with embeddings in Q8_0. Its texts are noise.

Example:
  longhand bench random-model --like llama-1b --vocabulary model.gguf \\
    --output random.gguf
  longhand bench engine --model random.gguf";

/// The model to make.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RandomModel {
    /// Shape of the model
    #[arg(long, value_enum)]
    like: ModelShape,

    /// GGUF file to copy the vocabulary and the chat template from
    #[arg(long, value_name = "FILE")]
    vocabulary: PathBuf,

    /// GGUF file to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ModelShape {
    /// Llama 3.2 1B: 32 heads of 64, 8 KV heads, 16 layers
    #[value(name = "llama-1b")]
    Llama1b,
    /// Qwen 2.5 1.5B with 22 of its 28 layers: 12 heads of 128, 2 KV heads, biases
    #[value(name = "qwen-1b")]
    Qwen1b,
    /// Qwen3 30B-A3B with 4 of its 48 layers: 32 heads of 128, 4 KV heads, 128 experts of which a token uses 8
    #[value(name = "qwen3-30b-a3b")]
    Qwen3Mixture,
}

#[derive(Debug)]
struct Shape {
    architecture: &'static str,
    layers: u32,
    dim: u32,
    ffn: u32,
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    rope_base: f32,
    biases: bool,
    /// Norms of each query and key.
    head_norms: bool,
    experts: Option<Experts>,
}

/// In place of one feed-forward layer.
#[derive(Debug, Clone, Copy)]
struct Experts {
    count: u32,
    used: u32,
    ffn: u32,
}

impl ModelShape {
    const fn shape(self) -> Shape {
        match self {
            Self::Llama1b => Shape {
                architecture: "llama",
                layers: 16,
                dim: 2048,
                ffn: 8192,
                heads: 32,
                kv_heads: 8,
                head_dim: 64,
                rope_base: 500_000.0,
                biases: false,
                head_norms: false,
                experts: None,
            },
            Self::Qwen1b => Shape {
                architecture: "qwen2",
                layers: 22,
                dim: 1536,
                ffn: 8960,
                heads: 12,
                kv_heads: 2,
                head_dim: 128,
                rope_base: 1_000_000.0,
                biases: true,
                head_norms: false,
                experts: None,
            },
            Self::Qwen3Mixture => Shape {
                architecture: "qwen3moe",
                layers: 4,
                dim: 2048,
                ffn: 6144,
                heads: 32,
                kv_heads: 4,
                head_dim: 128,
                rope_base: 1_000_000.0,
                biases: false,
                head_norms: true,
                experts: Some(Experts { count: 128, used: 8, ffn: 768 }),
            },
        }
    }
}

impl RandomModel {
    /// Writes the model.
    pub(crate) fn run(&self) -> Result<Code> {
        let refused = |e: String| Failure::refused(format!("{}: {e}", self.vocabulary.display()));
        let bytes = fs::read(&self.vocabulary).map_err(|e| refused(e.to_string()))?;
        let gguf = Gguf::parse(&bytes).map_err(|e| refused(e.to_string()))?;
        let tokens = gguf.array("tokenizer.ggml.tokens").and_then(|tokens| tokens.strings());
        let vocabulary = tokens.ok_or_else(|| refused("the file has no vocabulary".into()))?.len() as u32;
        // Under a temporary name until it is complete.
        let part = self.output.with_extension("part");
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(File::create(&part)?);
            write(&mut file, &self.like.shape(), vocabulary, &gguf)?;
            file.into_inner()?.sync_all()?;
            fs::rename(&part, &self.output)
        };
        write().map_err(|e| cannot_write(&self.output, &part, &e))?;
        Ok(Code::Ok)
    }
}

fn cannot_write(output: &Path, part: &Path, error: &io::Error) -> Failure {
    // The partial file is useless; a failure to remove it adds nothing.
    drop(fs::remove_file(part));
    Failure::stopped(format!("{}: {error}", output.display()))
}

#[derive(Debug, Clone, Copy)]
enum Type {
    F32 = 0,
    Q4_0 = 2,
    Q8_0 = 8,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    /// Columns first, as in the format.
    shape: Vec<u32>,
    kind: Type,
}

impl Tensor {
    fn bytes(&self) -> u64 {
        let numbers: u64 = self.shape.iter().map(|&n| u64::from(n)).product();
        match self.kind {
            Type::F32 => numbers * 4,
            Type::Q4_0 => numbers / 32 * 18,
            Type::Q8_0 => numbers / 32 * 34,
        }
    }

    /// Weights with a standard deviation of one over the root of the columns, so that activations keep their scale.
    fn write(&self, to: &mut impl Write, rng: &mut SmallRng) -> io::Result<()> {
        let deviation = 1.0 / (self.shape[0] as f32).sqrt();
        // Deviations of the whole numbers -8 to 7, and -128 to 127.
        let (width, scale) = match self.kind {
            Type::F32 => {
                let value: f32 = if self.name.ends_with("bias") { 0.1 } else { 1.0 };
                if let [_] = self.shape[..] {
                    return (0..self.shape[0]).try_for_each(|_| to.write_all(&value.to_le_bytes()));
                }
                // Even numbers of the deviation: routers.
                let mut number = || deviation * 12.0_f32.sqrt() * (rng.next_u32() as f32 / u32::MAX as f32 - 0.5);
                return (0..self.bytes() / 4).try_for_each(|_| to.write_all(&number().to_le_bytes()));
            }
            Type::Q4_0 => (18, deviation / 4.61),
            Type::Q8_0 => (34, deviation / 73.9),
        };
        let scale = half::f16::from_f32(scale).to_le_bytes();
        let mut block = [0; 34];
        for _ in 0..self.bytes() / width {
            let block = &mut block[..width as usize];
            rng.fill_bytes(&mut block[2..]);
            block[..2].copy_from_slice(&scale);
            to.write_all(block)?;
        }
        Ok(())
    }
}

fn tensors(shape: &Shape, vocabulary: u32) -> Vec<Tensor> {
    let &Shape { layers, dim, ffn, biases, head_norms, experts, .. } = shape;
    let (query, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[u32], kind| tensors.push(Tensor { name, shape: shape.to_vec(), kind });
    add("token_embd.weight".into(), &[dim, vocabulary], Type::Q8_0);
    add("output_norm.weight".into(), &[dim], Type::F32);
    for layer in 0..layers {
        let name = |part: &str| format!("blk.{layer}.{part}");
        for part in ["attn_norm.weight", "ffn_norm.weight"] {
            add(name(part), &[dim], Type::F32);
        }
        for (part, rows) in [("attn_q", query), ("attn_k", kv), ("attn_v", kv)] {
            add(name(&format!("{part}.weight")), &[dim, rows], Type::Q4_0);
            if biases {
                add(name(&format!("{part}.bias")), &[rows], Type::F32);
            }
        }
        if head_norms {
            for part in ["attn_q_norm.weight", "attn_k_norm.weight"] {
                add(name(part), &[shape.head_dim], Type::F32);
            }
        }
        add(name("attn_output.weight"), &[query, dim], Type::Q4_0);
        match experts {
            None => {
                for (part, columns, rows) in [("ffn_gate", dim, ffn), ("ffn_up", dim, ffn), ("ffn_down", ffn, dim)] {
                    add(name(&format!("{part}.weight")), &[columns, rows], Type::Q4_0);
                }
            }
            Some(Experts { count, ffn, .. }) => {
                add(name("ffn_gate_inp.weight"), &[dim, count], Type::F32);
                for (part, columns, rows) in [("ffn_gate", dim, ffn), ("ffn_up", dim, ffn), ("ffn_down", ffn, dim)] {
                    add(name(&format!("{part}_exps.weight")), &[columns, rows, count], Type::Q4_0);
                }
            }
        }
    }
    tensors
}

/// Header, metadata, descriptions and data, as `ggml/docs/gguf.md` lays them out.
fn write(to: &mut impl Write, shape: &Shape, vocabulary: u32, like: &Gguf<'_>) -> io::Result<()> {
    const ALIGNMENT: usize = 32;
    let tensors = tensors(shape, vocabulary);
    let mut head = Metadata::default();
    let arch = shape.architecture;
    head.add("general.architecture", Value::Str(arch));
    head.add("general.alignment", Value::Unsigned(ALIGNMENT as u64));
    let experts = shape.experts.map(|Experts { count, used, ffn }| {
        [("expert_count", count), ("expert_used_count", used), ("expert_feed_forward_length", ffn)]
    });
    let sizes = [
        ("block_count", shape.layers),
        ("context_length", 8192),
        ("embedding_length", shape.dim),
        ("feed_forward_length", shape.ffn),
        ("attention.head_count", shape.heads),
        ("attention.head_count_kv", shape.kv_heads),
        ("attention.key_length", shape.head_dim),
        ("attention.value_length", shape.head_dim),
        ("rope.dimension_count", shape.head_dim),
    ];
    for (key, value) in sizes.into_iter().chain(experts.into_iter().flatten()) {
        head.add(&format!("{arch}.{key}"), Value::Unsigned(value.into()));
    }
    head.add(&format!("{arch}.attention.layer_norm_rms_epsilon"), Value::Float(1e-5));
    head.add(&format!("{arch}.rope.freq_base"), Value::Float(shape.rope_base.into()));
    let mut keys: Vec<&str> = like.keys().filter(|key| key.starts_with("tokenizer.")).collect();
    keys.sort_unstable();
    for key in keys {
        if let Some(value) = like.get(key) {
            head.add(key, value);
        }
    }

    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(head.keys.to_le_bytes());
    bytes.extend(head.bytes);
    let mut offset = 0;
    for tensor in &tensors {
        string(&mut bytes, &tensor.name);
        bytes.extend((tensor.shape.len() as u32).to_le_bytes());
        bytes.extend(tensor.shape.iter().flat_map(|&n| u64::from(n).to_le_bytes()));
        bytes.extend((tensor.kind as u32).to_le_bytes());
        bytes.extend(u64::to_le_bytes(offset));
        offset += tensor.bytes().next_multiple_of(ALIGNMENT as u64);
    }
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    to.write_all(&bytes)?;
    let mut rng = SmallRng::seed_from_u64(0);
    for tensor in &tensors {
        tensor.write(to, &mut rng)?;
        let gap = tensor.bytes().next_multiple_of(ALIGNMENT as u64) - tensor.bytes();
        to.write_all(&[0; ALIGNMENT][..gap as usize])?;
    }
    Ok(())
}

#[derive(Debug, Default)]
struct Metadata {
    keys: u64,
    bytes: Vec<u8>,
}

impl Metadata {
    fn add(&mut self, key: &str, value: Value<'_>) {
        let start = self.bytes.len();
        string(&mut self.bytes, key);
        match self.value(value) {
            Some(()) => self.keys += 1,
            // Nested arrays, which tokenizers do not use.
            None => self.bytes.truncate(start),
        }
    }

    fn value(&mut self, value: Value<'_>) -> Option<()> {
        match value {
            Value::Unsigned(n) => self.put(4, &u32::try_from(n).ok()?.to_le_bytes()),
            Value::Signed(n) => self.put(5, &i32::try_from(n).ok()?.to_le_bytes()),
            Value::Float(n) => self.put(6, &(n as f32).to_le_bytes()),
            Value::Bool(yes) => self.put(7, &[yes.into()]),
            Value::Str(text) => {
                self.put(8, &[]);
                string(&mut self.bytes, text);
            }
            Value::Array(list) => {
                if let Some(texts) = list.strings() {
                    self.list(8, texts.len());
                    texts.iter().for_each(|text| string(&mut self.bytes, text));
                } else if let Some(numbers) = list.integers() {
                    self.list(5, numbers.len());
                    self.bytes.extend(numbers.iter().flat_map(|&n| (n as i32).to_le_bytes()));
                } else {
                    let numbers = list.floats()?;
                    self.list(6, numbers.len());
                    self.bytes.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
                }
            }
        }
        Some(())
    }

    fn put(&mut self, kind: u32, value: &[u8]) {
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend(value);
    }

    fn list(&mut self, kind: u32, len: usize) {
        self.put(9, &kind.to_le_bytes());
        self.bytes.extend((len as u64).to_le_bytes());
    }
}

fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}
