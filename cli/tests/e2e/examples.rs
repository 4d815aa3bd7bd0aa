//! The files in `examples/` are what a new user tries first.

use std::path::PathBuf;

use longhand_coordinator::dataset::input;
use longhand_coordinator::domain::language::Language;
use longhand_coordinator::domain::recipe::Recipe;

fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join("examples")
}

#[test]
fn the_recipe_with_all_defaults_is_the_built_in_one() {
    let spelled = Recipe::load(examples().join("recipes/longwriter.toml")).unwrap();
    assert_eq!(spelled, Recipe::builtin());
}

#[test]
fn the_recipe_of_the_demo_can_be_used() {
    assert_eq!(Recipe::load(examples().join("recipes/demo.toml")).unwrap().name, "demo");
    assert_eq!(Recipe::load(examples().join("recipes/demo-long.toml")).unwrap().name, "demo-long");
}

#[test]
fn every_example_row_is_valid_and_its_text_requests_the_stated_length() {
    for (file, language, rows) in [
        ("instructions.jsonl", Language::En, 8),
        ("instructions.zh.jsonl", Language::Zh, 3),
        ("long.jsonl", Language::En, 1),
    ] {
        let instructions: Vec<_> = input::read(examples().join(file)).unwrap().map(Result::unwrap).collect();
        assert_eq!(instructions.len(), rows, "{file}");
        for instruction in instructions {
            assert_eq!(instruction.language, language, "{:?}", instruction.id);
            let stated = longhand_coordinator::text::length::required(&instruction.text());
            assert!(stated.is_some() && stated == instruction.required_words, "{:?}: {stated:?}", instruction.id);
        }
    }
}
