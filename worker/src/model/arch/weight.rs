//! A model's weights by what they do, and what the file formats call them.

/// A file format that models come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Gguf,
    HuggingFace,
}

/// A weight by what it does. Devices ask for weights by it, whatever the file calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WeightId {
    /// `[vocab, dim]`
    Embedding,
    /// Norm before the output head, `[dim]`.
    OutputNorm,
    /// Output head, `[vocab, dim]`; not there if the embedding takes its place.
    LmHead,
    /// A weight of the layer with this index.
    Layer(usize, LayerWeight),
}

/// What a weight is a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Embedding.
    Embedding,
    /// Projections of attention, and their biases.
    Attention,
    /// Projections of feed-forward layers, and their biases.
    FeedForward,
    /// Routers.
    Router,
    /// Projections of experts.
    Experts,
    /// All norms.
    Norms,
    /// Output head.
    Head,
}

impl WeightId {
    /// What it is a part of.
    pub fn part(self) -> Part {
        use LayerWeight::*;
        match self {
            Self::Embedding => Part::Embedding,
            Self::LmHead => Part::Head,
            Self::OutputNorm | Self::Layer(_, AttnNorm | PostAttnNorm | MlpNorm | PostMlpNorm | QNorm | KNorm) => {
                Part::Norms
            }
            Self::Layer(_, QProj | KProj | VProj | OProj | QBias | KBias | VBias | OBias) => Part::Attention,
            Self::Layer(_, GateProj | UpProj | DownProj | GateBias | UpBias | DownBias) => Part::FeedForward,
            Self::Layer(_, Router) => Part::Router,
            Self::Layer(_, ExpertGate(_) | ExpertUp(_) | ExpertDown(_)) => Part::Experts,
        }
    }
}

/// A weight of one layer. Projections are `[outputs, inputs]`; `q` is heads * head_dim, `kv` is kv_heads * head_dim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LayerWeight {
    /// Norm before attention, `[dim]`.
    AttnNorm,
    /// `[q, dim]`
    QProj,
    /// `[kv, dim]`
    KProj,
    /// `[kv, dim]`
    VProj,
    /// `[q]`, as [`crate::model::LayerSpec::qkv_bias`] says.
    QBias,
    /// `[kv]`, likewise.
    KBias,
    /// `[kv]`, likewise.
    VBias,
    /// `[dim]`, as [`crate::model::LayerSpec::o_bias`] says.
    OBias,
    /// `[ffn]`, as [`crate::model::LayerSpec::mlp_bias`] says.
    GateBias,
    /// `[ffn]`, likewise.
    UpBias,
    /// `[dim]`, likewise.
    DownBias,
    /// Of each query head, `[head_dim]`, as [`crate::model::LayerSpec::qk_norm`] says.
    QNorm,
    /// Of each key head, `[head_dim]`, likewise.
    KNorm,
    /// `[dim, q]`
    OProj,
    /// Norm of what attention gives, `[dim]`, as [`crate::model::LayerSpec::post_norms`] says.
    PostAttnNorm,
    /// Norm before the feed-forward layer, `[dim]`.
    MlpNorm,
    /// Norm of what the feed-forward layer gives, `[dim]`, as for attention.
    PostMlpNorm,
    /// `[ffn, dim]`
    GateProj,
    /// `[ffn, dim]`
    UpProj,
    /// `[dim, ffn]`
    DownProj,
    /// What chooses among a layer's experts, `[experts, dim]`; in place of the three above, as
    /// [`crate::model::ModelConfig::experts_of`] says.
    Router,
    /// Of the expert with this index, `[expert's ffn, dim]`, likewise.
    ExpertGate(usize),
    /// `[expert's ffn, dim]`, likewise.
    ExpertUp(usize),
    /// `[dim, expert's ffn]`, likewise.
    ExpertDown(usize),
}

/// A weight that a model must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WeightSpec {
    /// What it does.
    pub(crate) id: WeightId,
    /// Its name in GGUF files.
    pub(crate) gguf: String,
    /// Its name in safetensors files of the Hugging Face layout.
    pub(crate) hugging_face: String,
    /// Outermost first.
    pub(crate) shape: Vec<usize>,
}

impl WeightSpec {
    pub(super) fn name(&self, format: Format) -> &str {
        match format {
            Format::Gguf => &self.gguf,
            Format::HuggingFace => &self.hugging_face,
        }
    }
}
