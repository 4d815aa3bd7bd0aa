//! Opening models: what their files say is what the engine gets.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test that needs it")]

mod fixtures;

use longhand_proto::task::Message;
use longhand_worker::model::{
    Activation, DType, Experts, LayerSpec, LayerWeight, Model, RopeScaling, RopeStyle, SlidingWindow, WeightId,
    dequantize,
};

fn user(text: &str) -> Message {
    Message { role: "user".into(), content: text.into() }
}

#[test]
fn the_small_model_opens_as_what_it_is() {
    let model = Model::open(&fixtures::small_model()).unwrap();
    let config = model.config();
    assert_eq!((config.family, config.layer.rope_style), ("llama", RopeStyle::Interleaved));
    assert_eq!((config.layers, config.dim, config.ffn), (30, 576, 1536));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.vocab, config.context, config.rope_base), (49152, 8192, 100_000.0));
    assert!(
        config.tied_embeddings
            && config.layer
                == LayerSpec {
                    qkv_bias: false,
                    o_bias: false,
                    mlp_bias: false,
                    post_norms: false,
                    activation: Activation::Silu,
                    qk_norm: false,
                    rope_style: RopeStyle::Interleaved
                }
            && config.rope_scaling.is_none()
    );

    let q = model.tensor(WeightId::Layer(29, LayerWeight::QProj)).unwrap();
    assert_eq!((q.dtype, &q.shape[..], q.data.len()), (DType::Q4_1, &[576, 576][..], 576 * 576 / 32 * 20));
    assert_eq!(model.tensor(WeightId::Embedding).unwrap().dtype, DType::Q8_0);
    let error = model.tensor(WeightId::LmHead).unwrap_err();
    assert_eq!(error.to_string(), "the model has no weight LmHead");

    let tokenizer = model.tokenizer();
    assert_eq!(tokenizer.eos(), [2, 0]);
    assert_eq!(tokenizer.tok_env().tok_trie().vocab_size(), 49152);
    let prompt = model.chat_template().render(&[user("Hi")]).unwrap();
    let want = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt, want);
    let tokens = tokenizer.encode(&prompt, true);
    assert_eq!((tokens[0], tokenizer.is_special(tokens[0])), (1, true));
    assert_eq!(tokens.iter().filter(|&&token| token == 1).count(), 3);
    assert!(!tokenizer.encode(&prompt, false).contains(&1), "without special tokens they are plain text");

    let info = model.info();
    assert_eq!((info.licence.as_str(), info.context), ("apache-2.0", 8192));
    assert_eq!(info.weights_hash, "5f4fa13bfc6dd4a91fd00e22974a9c4e9ed628fd7d7f307398ddf30260d6b2c3");
    assert_eq!(info.tokenizer_hash.len(), 64);
}

#[test]
fn every_tiny_model_opens_with_its_tokenizer_and_template() {
    for name in fixtures::TINY {
        let model = Model::open(&fixtures::tiny(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let prompt = model.chat_template().render(&[user("in the 时")]).unwrap();
        assert_eq!(prompt, "<|im_start|>user\nin the 时<|im_end|>\n<|im_start|>assistant\n", "{name}");
        let tokens = model.tokenizer().encode(&prompt, true);
        assert_eq!(tokens.iter().filter(|&&token| token == 1).count(), 2, "{name}");
        assert_eq!(model.tokenizer().decode(&tokens), "user\nin the 时\nassistant\n", "{name}");
        assert_eq!(model.tokenizer().eos(), [2, 0], "{name}");
        assert_eq!(model.tokenizer().vocab(), 288, "{name}");
        assert!(model.tokenizer().is_special(287), "{name}: padding is no text");
        assert_eq!(model.tokenizer().tok_env().tok_trie().vocab_size(), 288, "{name}");
        for reference in fixtures::tiny_reference(name) {
            assert!(reference.rows.iter().all(|row| row.len() == model.config().vocab), "{name}");
        }
    }
}

#[test]
fn one_vocabulary_has_one_hash_whatever_the_file() {
    let hash = |name| Model::open(&fixtures::tiny(name)).unwrap().info().tokenizer_hash;
    assert_eq!(hash("qwen2"), hash("qwen2-q4_1.gguf"));
    assert_eq!(hash("llama3"), hash("k_mix.gguf"));
}

#[test]
fn families_differ_where_they_must() {
    let open = |name| Model::open(&fixtures::tiny(name)).unwrap();
    let llama3 = open("llama3");
    let scaling =
        RopeScaling::Llama3 { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 };
    assert_eq!(llama3.config().rope_scaling, Some(scaling));
    assert_eq!((llama3.config().layers, llama3.config().tied_embeddings), (2, false));
    assert_eq!(llama3.tensor(WeightId::LmHead).unwrap().shape, [288, 96]);
    assert!(
        matches!(&open("llama3-q5_1.gguf").config().rope_scaling, Some(RopeScaling::Factors { divisors, .. }) if divisors.len() == 16)
    );
    assert_eq!(open("llama-linear").config().rope_scaling, Some(RopeScaling::Linear { factor: 2.0 }));
    assert_eq!(open("mistral").config().context, 256, "the sliding window caps the context");
    let yarn = open("qwen3-yarn");
    assert!(matches!(yarn.config().rope_scaling, Some(RopeScaling::Yarn { factor: 2.0, original_context: 64, .. })));
    assert_eq!(yarn.config().context, 128, "what it makes of 64");
    assert_eq!(
        (open("llama-dynamic").config().rope_scaling.as_ref(), open("llama-dynamic").config().context),
        (None, 128)
    );
    let phi3 = open("phi3");
    assert_eq!((phi3.config().head_dim, phi3.config().rotated), (32, 24));
    assert!(matches!(&phi3.config().rope_scaling, Some(RopeScaling::Factors { divisors, .. }) if divisors[1] == 1.25));
    let layer = open("llama-biases").config().layer;
    assert!(layer.qkv_bias && layer.o_bias && layer.mlp_bias);
    for name in ["gemma3", "gemma3-q8_0.gguf"] {
        let config = open(name).config().clone();
        assert_eq!(config.window, Some(SlidingWindow { width: 24, period: 6, rope_base: 10_000.0 }), "{name}");
        assert_eq!(
            (config.rope_base, &config.rope_scaling),
            (1e6, &Some(RopeScaling::Linear { factor: 2.0 })),
            "{name}"
        );
        assert!(config.layer.post_norms && config.layer.activation == Activation::GeluTanh, "{name}");
        assert_eq!((config.embedding_scale, config.context), (96_f32.sqrt(), 512), "{name}");
    }
    let experts = |name| open(name).config().experts.clone();
    let of_qwen = Experts { count: 8, used: 2, ffn: 24, renormalise: true, dense_layers: vec![1] };
    assert_eq!(experts("qwen3-moe"), Some(of_qwen.clone()));
    assert_eq!(experts("qwen3-moe-k_mix.gguf"), Some(Experts { ffn: 64, dense_layers: Vec::new(), ..of_qwen }));
    let of_mixtral = Experts { count: 4, ffn: 32, dense_layers: Vec::new(), ..of_qwen };
    assert_eq!(experts("mixtral"), Some(of_mixtral.clone()));
    assert_eq!(experts("mixtral-q8_0.gguf"), Some(of_mixtral));
    assert_eq!(experts("qwen3"), None);
    let model = open("qwen3-moe-k_mix.gguf");
    let tensor = |weight| model.tensor(WeightId::Layer(0, weight)).unwrap();
    let (gate, down) = (tensor(LayerWeight::ExpertGate(7)), tensor(LayerWeight::ExpertDown(3)));
    assert_eq!((gate.dtype, &gate.shape[..], gate.data.len()), (DType::Q4K, &[64, 256][..], 64 * 144));
    assert_eq!((down.dtype, &down.shape[..], down.data.len()), (DType::Q5_0, &[256, 64][..], 256 * 2 * 22));
    assert!(model.tensor(WeightId::Layer(0, LayerWeight::ExpertUp(8))).is_err());
    let dense = open("qwen3-moe");
    assert_eq!(dense.tensor(WeightId::Layer(1, LayerWeight::GateProj)).unwrap().shape, [64, 96]);
    assert!(dense.tensor(WeightId::Layer(1, LayerWeight::Router)).is_err());
    assert_eq!(open("mistral3").config().family, "llama", "the text part of a multimodal model");
    for name in ["qwen2", "qwen2-q4_1.gguf"] {
        let model = open(name);
        assert!(model.config().layer.qkv_bias && model.config().layer.rope_style == RopeStyle::Half, "{name}");
        assert_eq!(model.tensor(WeightId::Layer(0, LayerWeight::KBias)).unwrap().shape, [32], "{name}");
    }
    for name in ["qwen3", "qwen3-q8_0.gguf"] {
        let model = open(name);
        assert!(model.config().layer.qk_norm && model.config().head_dim == 64, "{name}");
        assert_eq!(model.tensor(WeightId::Layer(0, LayerWeight::QNorm)).unwrap().shape, [64], "{name}");
    }
}

#[test]
fn the_layers_with_experts_are_those_that_the_configuration_lists() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("config.json");
    let text = std::fs::read_to_string(fixtures::tiny("qwen3-moe").join("config.json")).unwrap();
    let shape = |changes: &[(&str, &str)]| {
        let mut text = text.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 6");
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        std::fs::write(&path, text).unwrap();
        Model::shape(&path).unwrap().experts.unwrap()
    };
    assert_eq!(shape(&[]).dense_layers, [1]);
    // As in older files.
    assert_eq!(shape(&[("num_local_experts", "num_experts")]).count, 8);
    assert_eq!(shape(&[("\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2")]).dense_layers, [0, 1, 2, 4]);
    assert!(!shape(&[("\"norm_topk_prob\": true", "\"norm_topk_prob\": false")]).renormalise);
}

#[test]
fn every_type_of_weight_is_unpacked_like_the_reference() {
    let bytes = std::fs::read(fixtures::path("dequantize.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for dtype in DType::ALL {
        let want = fixtures::floats(file.tensor(&format!("{}.numbers", dtype.name())).unwrap().data());
        let mut got = vec![0.0; want.len()];
        dequantize(dtype, file.tensor(&format!("{}.data", dtype.name())).unwrap().data(), &mut got).unwrap();
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            // The reference multiplies in another order for some types: one rounding apart.
            assert!((got - want).abs() <= want.abs() * 2e-7 + 1e-9, "{dtype:?} number {i}: {got} is not {want}");
        }
        assert!(dequantize(dtype, &[0], &mut got).is_err(), "{dtype:?}");
    }
}
