//! Models that cannot be run: the message names the file, the key, the value and the remedy, before any document is begun.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test that needs it")]

mod fixtures;

use std::path::{Path, PathBuf};

use longhand_worker::model::Model;
use tempfile::TempDir;

/// The message that opening `path` ends in; it must name the file.
fn refusal(path: &Path) -> String {
    match Model::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with(&*path.to_string_lossy()), "the file is not named first: {message}");
            message
        }
    }
}

/// Opens a copy of a tiny GGUF file in which each of `changes` replaces bytes by as many others.
fn refusal_of_gguf(name: &str, changes: &[(&[u8], &[u8])]) -> String {
    let mut bytes = std::fs::read(fixtures::tiny(name)).unwrap();
    for (from, to) in changes {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == *from).expect("the bytes to replace are there");
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    refusal_of_bytes(&bytes)
}

fn refusal_of_bytes(bytes: &[u8]) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    refusal(&path)
}

/// Opens a copy of a tiny folder after `change`.
fn refusal_of_folder(name: &str, change: impl FnOnce(&Path)) -> String {
    let copy = TempDir::new().unwrap();
    for entry in std::fs::read_dir(fixtures::tiny(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    change(copy.path());
    refusal(copy.path())
}

fn edit(file: PathBuf, from: &str, to: &str) {
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{} has no {from}", file.display());
    std::fs::write(file, text.replace(from, to)).unwrap();
}

#[track_caller]
fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn nothing_there() {
    says(&refusal(Path::new("/no/such/model.gguf")), &["No such file", "check the path"]);
    says(&refusal(Path::new("models/model.gguf")), &["No such file", "check the path"]);
    says(&refusal(Path::new("Qwen/Qwen3-8B")), &["no such file or folder", "`longhand model pull Qwen/Qwen3-8B`"]);
    let folder = TempDir::new().unwrap();
    says(&refusal(folder.path()), &["no config.json", "give a .gguf file"]);
}

#[test]
fn damaged_gguf_files() {
    says(&refusal_of_bytes(b""), &["does not begin with the four letters GGUF"]);
    says(&refusal_of_bytes(b"PK\x03\x04 something else"), &["GGUF", "give a .gguf file"]);
    let whole = std::fs::read(fixtures::tiny("q4_0.gguf")).unwrap();
    for len in [4, 20, 1000, 5000, whole.len() - 1] {
        says(&refusal_of_bytes(&whole[..len]), &["damaged or cut off", "fetch it again"]);
    }
    says(&refusal_of_gguf("q4_0.gguf", &[(b"GGUF\x03", b"GGUF\x01")]), &["GGUF version is 1", "convert"]);
    says(&refusal_of_gguf("q4_0.gguf", &[(b"GGUF\x03\0\0\0", b"GGUF\0\0\0\x03")]), &["3 (big-endian)"]);
    says(
        &refusal_of_gguf("q4_0.gguf", &[(b"blk.0.attn_v.weight", b"blk.0.attn_w.weight")]),
        &["weight blk.0.attn_v.weight is missing", "fetch it again"],
    );
    says(
        &refusal_of_gguf("f32.gguf", &[(b"llama.block_count\x04\0\0\0\x01", b"llama.block_count\x04\0\0\0\0")]),
        &["number of layers is 0"],
    );
}

#[test]
fn gguf_files_of_other_kinds() {
    says(
        &refusal_of_gguf("q4_0.gguf", &[(b"llama", b"mamba")]),
        &["general.architecture is mamba", "gemma3, llama, phi3, qwen2, qwen3 or qwen3moe"],
    );
    says(
        &refusal_of_gguf("q4_0.gguf", &[(b"smollm", b"tekken")]),
        &["tokenizer.ggml.pre is tekken", "gpt-2, smollm, llama-bpe or qwen2"],
    );
    says(&refusal_of_gguf("q4_0.gguf", &[(b"gpt2", b"bert")]), &["tokenizer.ggml.model is bert", "gpt2"]);
    // Two dimensions, 96 by 96, then the type: 2 is Q4_0, 16 is IQ2_XXS.
    let info = |kind: u8| [&b"blk.0.attn_q.weight\x02\0\0\0\x60\0\0\0\0\0\0\0\x60\0\0\0\0\0\0\0"[..], &[kind]].concat();
    says(
        &refusal_of_gguf("q4_0.gguf", &[(&info(2), &info(16))]),
        &["the type of tensor blk.0.attn_q.weight is IQ2_XXS", "Q4_K", "--engine openai"],
    );
    says(
        &refusal_of_gguf("qwen2-q4_1.gguf", &[(b"qwen2.feed_forward_length", b"qwen2.feed_forward_lengtX")]),
        &["qwen2.feed_forward_length is missing"],
    );
}

/// A tiny GGUF file with one more number among its metadata.
fn with_number(name: &str, key: &str, value: u32) -> Vec<u8> {
    let mut bytes = std::fs::read(fixtures::tiny(name)).unwrap();
    let keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap());
    bytes[16..24].copy_from_slice(&(keys + 2).to_le_bytes());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut entries = [text(key), 4_u32.to_le_bytes().to_vec(), value.to_le_bytes().to_vec()].concat();
    // A text beside it, as long as keeps the numbers behind the header where they are aligned.
    entries.extend([text("filler"), 8_u32.to_le_bytes().to_vec()].concat());
    let filler = (entries.len() + 8).next_multiple_of(32) - entries.len() - 8;
    entries.extend(text(&"x".repeat(filler)));
    bytes.splice(24..24, entries);
    bytes
}

#[test]
fn mixtures_of_experts_that_are_not_computed() {
    let way_out = "--engine openai";
    let more = |key, value| refusal_of_bytes(&with_number("qwen3-moe-k_mix.gguf", key, value));
    says(&more("qwen3moe.expert_shared_count", 1), &["qwen3moe.expert_shared_count is 1", "shared", way_out]);
    says(&more("qwen3moe.expert_gating_func", 2), &["qwen3moe.expert_gating_func is 2", "softmax", way_out]);
    // A family whose layers have no experts.
    says(
        &refusal_of_bytes(&with_number("qwen2-q4_1.gguf", "qwen2.expert_count", 4)),
        &["qwen2.expert_count is 4", way_out],
    );
    let number = |key: &str, value: u32| [key.as_bytes(), &4_u32.to_le_bytes()[..], &value.to_le_bytes()[..]].concat();
    let other = |key: &str, from: u32, to: u32| {
        refusal_of_gguf("qwen3-moe-k_mix.gguf", &[(&number(key, from), &number(key, to))])
    };
    says(&other("qwen3moe.expert_used_count", 2, 9), &["a token passes through 9 of 8 experts"]);
    says(&other("qwen3moe.expert_count", 8, 1 << 30), &["each of 1 layers has 1073741824 experts"]);
    says(
        &other("qwen3moe.expert_count", 8, 7),
        &["weight blk.0.ffn_gate_inp.weight has the shape [8, 256]: the configuration expects [7, 256]"],
    );
    says(
        &other("qwen3moe.expert_feed_forward_length", 64, 32),
        &["weight blk.0.ffn_gate_exps.weight has the shape [8, 64, 256]: the configuration expects [8, 32, 256]"],
    );
    let config = |entry: &str| {
        let entry = format!("{{{entry},");
        refusal_of_folder("qwen3-moe", move |folder| {
            let path = folder.join("config.json");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, text.replacen('{', &entry, 1)).unwrap();
        })
    };
    says(
        &config("\"shared_expert_intermediate_size\":512"),
        &["shared_expert_intermediate_size is 512", "shared", way_out],
    );
    says(&config("\"n_shared_experts\":1"), &["n_shared_experts is 1", way_out]);
    says(&config("\"scoring_func\":\"sigmoid\""), &["scoring_func is \"sigmoid\"", "softmax", way_out]);
    says(&config("\"quantization_config\":{\"quant_method\":\"mxfp4\"}"), &["is \"mxfp4\"", way_out]);
    says(
        &refusal_of_folder("qwen3-moe", |folder| {
            edit(folder.join("config.json"), "\"mlp_only_layers\": [\n    1\n  ]", "\"mlp_only_layers\": [0, 1]")
        }),
        &["mlp.gate_proj.weight is missing"],
    );
    // 39 is MXFP4.
    let info = |kind: u8| {
        [&b"blk.0.ffn_down_exps.weight\x03\0\0\0\x40\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x08\0\0\0\0\0\0\0"[..], &[kind]]
            .concat()
    };
    says(
        &refusal_of_gguf("qwen3-moe-k_mix.gguf", &[(&info(6), &info(39))]),
        &["the type of tensor blk.0.ffn_down_exps.weight is MXFP4", way_out],
    );
}

#[test]
fn gguf_files_in_parts() {
    let folder = TempDir::new().unwrap();
    let part = |number: u32| format!("split-0000{number}-of-00003.gguf");
    let copy = |number: u32, name: &str| {
        std::fs::copy(fixtures::tiny(&part(number)), folder.path().join(name)).unwrap();
    };
    let first = folder.path().join(part(1));
    copy(1, &part(1));
    copy(2, &part(2));
    let Err(missing) = Model::open(&first) else { panic!("a part is missing") };
    says(&missing.to_string(), &[&part(3), "No such file"]);
    copy(2, &part(3));
    let Err(twice) = Model::open(&first) else { panic!("a part is there twice") };
    says(&twice.to_string(), &[&part(3), "it is part 2 of 3, not 3 of 3"]);
    copy(1, "renamed.gguf");
    says(&refusal(&folder.path().join("renamed.gguf")), &["split.count is 3", "-00001-of-00003.gguf"]);
    says(&refusal(&folder.path().join(part(2))), &["split-00002"]);
}

#[test]
fn chat_templates_that_cannot_work() {
    says(
        &refusal_of_gguf("q4_0.gguf", &[(b"tokenizer.chat_template", b"tokenizer.chat_templatX")]),
        &["tokenizer.chat_template is missing", "instruction-tuned"],
    );
    says(&refusal_of_gguf("q4_0.gguf", &[(b"{% endfor %}", b"{% endfro %}")]), &["chat template: line", "endfro"]);
    let with = |text: &'static str| {
        refusal_of_folder("qwen3", |folder| std::fs::write(folder.join("chat_template.jinja"), text).unwrap())
    };
    says(&with("{{ raise_exception('only one turn') }}"), &["chat_template.jinja", "only one turn"]);
    says(&with("{% for i in range(10000) %}{% for j in range(10000) %}x{% endfor %}{% endfor %}"), &["fuel"]);
    says(&with("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"), &["recursion"]);
}

#[test]
fn folders_of_other_kinds() {
    let config = |from: &'static str, to: &'static str| move |folder: &Path| edit(folder.join("config.json"), from, to);
    let refuse = |change: Box<dyn FnOnce(&Path)>| refusal_of_folder("llama3", change);
    says(
        &refuse(Box::new(config("LlamaForCausalLM", "GemmaForCausalLM"))),
        &["architectures is \"GemmaForCausalLM\"", "Qwen3ForCausalLM"],
    );
    says(
        &refuse(Box::new(config("\"llama3\"", "\"spiral\""))),
        &["rope_scaling.rope_type is \"spiral\"", "yarn or longrope", "--engine openai"],
    );
    says(&refuse(Box::new(config("\"silu\"", "\"gelu\""))), &["hidden_act is \"gelu\""]);
    says(
        &refuse(Box::new(config("\"hidden_size\": 96", "\"hidden_size\": 64"))),
        &["weight model.embed_tokens.weight has the shape [288, 96]: the configuration expects [288, 64]"],
    );
    says(
        &refuse(Box::new(config("{", "{\"quantization_config\":{\"quant_method\":\"gptq\"},"))),
        &["is \"gptq\"", "GGUF"],
    );
    says(&refuse(Box::new(config("\"architectures\"", "architectures"))), &["config.json", "line"]);
    says(
        &refuse(Box::new(|folder| std::fs::remove_file(folder.join("tokenizer.json")).unwrap())),
        &["tokenizer.json is missing", "fetch the whole model folder"],
    );
    says(
        &refuse(Box::new(|folder| {
            edit(folder.join("tokenizer.json"), "\"ByteLevel\",\"add_prefix_space\":true", "\"Fuse\",\"x\":true")
        })),
        &["decoder is \"Fuse\""],
    );
    says(
        &refuse(Box::new(|folder| std::fs::remove_file(folder.join("model.safetensors")).unwrap())),
        &["neither model.safetensors nor", "safetensors form"],
    );
    says(
        &refuse(Box::new(|folder| {
            let path = folder.join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 2]).unwrap();
        })),
        &["model.safetensors", "fetch it again"],
    );
    says(
        &refusal_of_folder("mistral", |folder| {
            std::fs::remove_file(folder.join("model-00002-of-00002.safetensors")).unwrap()
        }),
        &["model-00002-of-00002.safetensors", "No such file"],
    );
}
