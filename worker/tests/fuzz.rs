//! Models that somebody broke: whatever stands in their files, they are opened or refused, and neither panic nor hang.
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test that needs it")]

mod fixtures;

use std::path::Path;
use std::time::Duration;

use longhand_proto::task::Message;
use longhand_proto::{clock, rng};
use longhand_tests::spoil::{seeds, spoiled};
use longhand_worker::model::Model;

/// Cases of each kind, as the test suite replays them.
const CASES: u64 = 200;
/// Longest time for one case, by a build without optimisation.
const PATIENCE: Duration = Duration::from_secs(20);
/// Parts of JSON that readers get wrong.
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "0.5",
    "true",
    "\\ud83d",
    "\\u0000",
    "\u{feff}",
    "\"\"",
    "\"type\":\"BPE\"",
    "\"type\":\"Split\"",
    "\"Regex\":\"(?=a)+\"",
    "\"vocab\":{}",
    "\"merges\":[[\"a\",\"b\"]]",
    "\"added_tokens\":[]",
    "\"id\":4294967295",
    "\"max_length\":1",
    "\"content\":\"\"",
    "\"normalizer\":null",
    "\"decoder\":null",
];
/// Parts of templates.
const JINJA: &[&str] = &[
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if x %}",
    "{% endif %}",
    "{% set a = a + a %}",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}",
    "messages",
    "|tojson",
    "|format(1)",
    "'%s' % x",
    "*",
    "+",
    "-",
    "~",
    "[::2]",
    "(",
    ")",
    "'",
    "\"",
    "{% generation %}",
    "{% raw %}",
    "strftime_now('%-')",
    "range(99999999)",
    "namespace(a=1)",
    ".rsplit('')",
    "|replace('', 'x')",
    "港",
];

/// Copies a tiny model, spoils one of its files, and uses what opens.
fn check(model: &str, file: &str, pieces: &[&str], head: usize) {
    let good = std::fs::read(fixtures::tiny(model).join(file)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixtures::tiny(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    for seed in seeds(CASES) {
        rng::seed(seed);
        let (head, rest) = good.split_at(head.min(good.len()));
        let mut bytes = spoiled(head, pieces);
        bytes.extend_from_slice(rest);
        std::fs::write(folder.path().join(file), &bytes).unwrap();
        within(&format!("{file}, seed {seed}"), || open(folder.path(), None));
    }
}

fn within(case: &str, work: impl FnOnce()) {
    let begun = clock::now();
    work();
    assert!(begun.elapsed() < PATIENCE, "{case} took {:?}", begun.elapsed());
}

/// Opens a model, or is refused with a reason; what opens tokenizes and renders.
fn open(path: &Path, template: Option<&Path>) {
    let model = match Model::open_with(path, template) {
        Ok(model) => model,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let tokenizer = model.tokenizer();
    for text in ["", "Write about a harbour.\n", "港\u{f8f0}\u{0}<s>", &"a".repeat(2_000)] {
        let tokens = tokenizer.encode(text, true);
        tokenizer.decode(&tokens);
    }
    let turns =
        ["user", "assistant", "user"].map(|role| Message { role: role.into(), content: "x {{ 1 }} 港".into() });
    drop(model.chat_template().render(&turns));
    drop(model.chat_template().render(&[]));
}

#[test]
fn no_tokenizer_panics() {
    check("llama", "tokenizer.json", JSON, usize::MAX);
}

#[test]
fn no_configuration_panics() {
    check("llama", "config.json", JSON, usize::MAX);
    check("llama", "tokenizer_config.json", JSON, usize::MAX);
}

#[test]
fn no_safetensors_file_panics() {
    // The length of the header, and the header.
    check("llama", "model.safetensors", JSON, 4_000);
}

#[test]
fn no_gguf_file_panics() {
    let good = std::fs::read(fixtures::tiny("q8_0.gguf")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for seed in seeds(CASES) {
        rng::seed(seed);
        let (head, rest) = good.split_at(20_000.min(good.len()));
        let mut bytes = spoiled(
            head,
            &["\0\0\0\0\0\0\0\0", "\u{7f}\u{7f}\u{7f}\u{7f}", "GGUF", "general.", "tokenizer.ggml.tokens"],
        );
        bytes.extend_from_slice(rest);
        std::fs::write(&path, &bytes).unwrap();
        within(&format!("gguf, seed {seed}"), || open(&path, None));
    }
}

#[test]
fn no_chat_template_panics() {
    const GOOD: &str = "{%- set ns = namespace(system='') -%}\n{% for m in messages %}\n  {%- if m.role == 'system' -%}{% set ns.system = m['content'] %}\n\
        {%- elif m.role == 'user' %}{{ '<|user|>\n' + m.content|trim + eos_token }}{% else %}{% generation %}{{ m.content }}{% endgeneration %}\n\
        {%- endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' ~ ns.system[:3] ~ (messages|length + 1) }}{% endif %}";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chat.jinja");
    for seed in seeds(5 * CASES) {
        rng::seed(seed);
        std::fs::write(&path, spoiled(GOOD.as_bytes(), JINJA)).unwrap();
        within(&format!("template, seed {seed}"), || open(&fixtures::tiny("llama"), Some(&path)));
    }
}
