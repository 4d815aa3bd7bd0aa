//! A recipe is right, or it is refused with the key, the line and the remedy.

use longhand_proto::task::{Sampling, SamplingKey};

use super::*;
use crate::domain::rule::{Rule, Threshold};

fn error(text: &str) -> String {
    Recipe::from_toml(text).unwrap_err().to_string()
}

#[test]
fn the_builtin_recipe_is_valid_and_an_empty_file_is_the_same() {
    assert_eq!(Recipe::from_toml("").unwrap(), Recipe::builtin());
}

#[test]
fn a_written_recipe_loads_as_the_same_wherever_it_lies() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.j2"), "Write {{ main_point }} ''' \"\"\" \\ 'x'\n{{ text }}").unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(
        &path,
        "name = \"mine\"\n[templates]\nsection_en = \"mine.j2\"\n[plan.sampling]\ntemperature = 0.3\n",
    )
    .unwrap();
    let recipe = Recipe::load(&path).unwrap();
    assert!(recipe.templates.section_en.starts_with("Write {{ main_point }}"));
    assert_eq!(recipe.plan.sampling.temperature, 0.3);
    let again = Recipe::from_toml(&recipe.to_toml()).unwrap();
    assert_eq!(again, recipe);
    assert_eq!(again.hash(), recipe.hash());
    assert_eq!(again.template_hash(), recipe.template_hash());
}

#[test]
fn what_a_sampling_table_leaves_out_keeps_the_builtin_value() {
    let parse = |text: &str, folder| Recipe::parse(text, "recipe.toml", folder).unwrap().section.sampling;
    let text = "[section.sampling]\ntemperature = 0.5\nfrom_model = [\"top_p\"]\n";
    let own = Recipe::builtin().section.sampling;
    let from_model = vec![SamplingKey::TopP].into();
    assert_eq!(parse(text, Some(Path::new(""))), Sampling { temperature: 0.5, from_model, ..own });
    assert_eq!(parse(text, None), Sampling { temperature: 0.5, from_model, ..Sampling::default() }, "as it was stored");
    let mut off = Recipe::builtin();
    off.section.sampling.dry_multiplier = 0.0;
    assert_eq!(parse(&off.to_toml(), Some(Path::new(""))), off.section.sampling, "written by the program");
}

#[test]
fn the_hash_follows_values_and_template_texts_but_not_the_layout_of_the_file() {
    let hash = |text: &str| Recipe::from_toml(text).unwrap().hash();
    assert_eq!(hash("# note\n[plan]\nmax_steps = 50\n"), Recipe::builtin().hash());
    assert_ne!(hash("[plan]\nmax_steps = 49\n"), Recipe::builtin().hash());
    let other = "[templates]\nplan_en = \"{{ instruction }}\\n\"\n";
    assert_ne!(hash(other), Recipe::builtin().hash());
    assert_ne!(Recipe::from_toml(other).unwrap().template_hash(), Recipe::builtin().template_hash());
    assert_eq!(hash("").len(), 64);
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_one() {
    assert_eq!(
        error("name = \"x\"\n\n[plan]\nmax_step = 3\n"),
        "recipe (stored):4: unknown key `plan.max_step`; did you mean `plan.max_steps`?"
    );
    assert_eq!(
        error("[section.sampling]\ntemprature = 1.0\n"),
        "recipe (stored):2: unknown key `section.sampling.temprature`; did you mean `section.sampling.temperature`?"
    );
    assert_eq!(
        error("[judge]\nvote = 3\n"),
        "recipe (stored):2: unknown key `judge.vote`; did you mean `judge.votes`?"
    );
    assert_eq!(error("[filter]\nx = 1\n"), "recipe (stored):1: unknown key `filter`; did you mean `filters`?");
}

#[test]
fn a_value_out_of_range_is_named_with_its_range() {
    for (text, want) in [
        ("[plan]\nmin_words = 5\n", "recipe (stored):2: `plan.min_words` is 5; expected 10 to 1000"),
        ("[plan]\n\nmin_steps = 60\n", "recipe (stored):3: `plan.min_steps` is 60; expected 1 to 50"),
        ("[section]\nceiling = 0.5\n", "recipe (stored):2: `section.ceiling` is 0.5; expected 1 to 10"),
        ("[section]\nhard = 1.1\n", "recipe (stored):2: `section.hard` is 1.1; expected 1.5 to 20"),
        (
            "[filters]\nmin_score_length = 101.0\n",
            "recipe (stored):2: `filters.min_score_length` is 101; expected 0 to 100",
        ),
        ("[retry]\nmax_errors = 0\n", "recipe (stored):2: `retry.max_errors` is 0; expected 1 to 100"),
        ("[plan.sampling]\ntop_p = 1.5\n", "recipe (stored):2: `plan.sampling.top_p` is 1.5; expected 0.01 to 1"),
        (
            "[plan.sampling]\ntemperature = nan\n",
            "recipe (stored):2: `plan.sampling.temperature` is NaN; expected 0 to 5",
        ),
        ("[judge]\nmin = 60.0\n", "recipe (stored):2: `judge.min` is 60; expected 0 while `judge.votes` is 0"),
        ("[judge]\nvotes = 1\nmin = 101.0\n", "recipe (stored):3: `judge.min` is 101; expected 0 to 100"),
        ("[judge]\nvotes = 33\n", "recipe (stored):2: `judge.votes` is 33; expected 0 to 32"),
        ("[rolling]\nmax_words = 20\n", "recipe (stored):2: `rolling.max_words` is 20; expected 100 to 1000000"),
        (
            "[rolling]\nmax_words = 500\nkeep_words = 500\n",
            "recipe (stored):3: `rolling.keep_words` is 500; expected 0 to 499",
        ),
        ("name = \"\"\n", "recipe (stored):1: `name` is \"\"; expected a text that is not empty"),
    ] {
        assert_eq!(error(text), want);
    }
}

/// Out of range, a threshold would keep or drop everything without a word.
#[test]
fn every_threshold_has_a_range_and_a_kind() {
    for rule in filter::all() {
        let key = rule.key;
        let bad = match rule.default {
            Threshold::Switch(_) => ["1", "\"yes\"", "0.5"],
            Threshold::Count(_) => ["4000000000", "4294967295", "0.5"],
            Threshold::Number(_) => ["-0.5", "1e9", "true"],
        };
        for value in bad {
            let message = error(&format!("[filters]\n{key} = {value}\n"));
            let (_, expected) = message.split_once("expected ").unwrap_or_else(|| panic!("{message}"));
            assert!(message.starts_with("recipe (stored):2: ") && !expected.is_empty(), "{message}");
        }
        assert!(rule.is_switch() || rule.range.contains(&rule.threshold(&Filters::default()).unwrap()), "{key}");
        let off = rule.threshold(&Filters::default().with(key, rule.off));
        assert!(off.is_none_or(|off| rule.range.contains(&off)), "{key}: a recipe can turn it off");
    }
    let says = |text: &str| error(&format!("[filters]\n{text}\n"));
    assert_eq!(
        says("max_unfinished = 0.5"),
        "recipe (stored):2: `filters.max_unfinished` is 0.5; expected a whole number, 0 to 1000000"
    );
    assert_eq!(says("refusal = 1"), "recipe (stored):2: `filters.refusal` is 1; expected true or false");
    assert_eq!(
        says("min_words = \"many\""),
        "recipe (stored):2: invalid type: string \"many\", expected a number, true or false"
    );
}

/// Stored recipes and finished corpora are known by these hashes.
#[test]
fn the_recipes_that_come_with_longhand_have_the_hashes_that_they_always_had() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recipes");
    let text_hash = |recipe: &Recipe| blake3::hash(recipe.to_toml().as_bytes()).to_hex().to_string();
    for (recipe, hash, text) in [
        (
            Recipe::builtin(),
            "9385068a71ef6707306b3e750b5352d2e454f60759fb2cdd1a100d7b4ae934f1",
            "9fe95144abba3903a8243a3323087ac2ea8790ce29a16390a9fa8db58cda85b6",
        ),
        (
            Recipe::load(folder.join("longwriter.toml")).unwrap(),
            "9385068a71ef6707306b3e750b5352d2e454f60759fb2cdd1a100d7b4ae934f1",
            "9fe95144abba3903a8243a3323087ac2ea8790ce29a16390a9fa8db58cda85b6",
        ),
        (
            Recipe::load(folder.join("demo.toml")).unwrap(),
            "62424a9c3c1ef0e5cca8d8ce4c5f251b68ece9a49f07cd9762b57dd1b8d5ed3a",
            "0b0fbb3597220b7e96b6f36805813c38ad468993b6e90a3ea6ee8a8a8437ada6",
        ),
        (
            Recipe::load(folder.join("demo-long.toml")).unwrap(),
            "a92dbdacb30d6360602f79a71b9a39f60d43c317599903897e4cdbfd0e15a5e3",
            "3056ccb6f2e0494e8787d3708202d5d7acb68a252a0b8045f3cc2aeae25f4b85",
        ),
    ] {
        assert_eq!((recipe.hash().as_str(), text_hash(&recipe).as_str()), (hash, text), "{}", recipe.name);
    }
}

/// The example is what people copy: it states every key, each with its default.
#[test]
fn the_example_recipe_is_the_builtin_one_spelled_out() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recipes/longwriter.toml");
    assert_eq!(Recipe::load(&path).unwrap(), Recipe::builtin());
    let text = std::fs::read_to_string(&path).unwrap();
    let stated: toml::Table = text.parse().unwrap();
    let known = toml::Table::try_from(Recipe::builtin()).unwrap();
    for (table, keys) in known.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        for key in keys.keys().filter(|_| table != "templates") {
            assert!(stated[table].get(key).is_some(), "{table}.{key} is not in longwriter.toml");
        }
    }
}

#[test]
fn a_recipe_or_template_in_another_encoding_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, b"name = \"x\"\n# caf\xe9\n").unwrap();
    let message = Recipe::load(&path).unwrap_err().to_string();
    assert!(message.contains("recipe.toml") && message.contains("line 2 is not in UTF-8"), "{message}");
    std::fs::write(folder.path().join("plan.j2"), &"计划\n".as_bytes()[..5]).unwrap();
    std::fs::write(&path, "[templates]\nplan_zh = \"plan.j2\"\n").unwrap();
    let message = Recipe::load(&path).unwrap_err().to_string();
    assert!(
        message.contains("recipe.toml:2: `templates.plan_zh`") && message.contains("line 1 is not in UTF-8"),
        "{message}"
    );
    assert!(message.contains("iconv -t UTF-8"), "{message}");
}

#[test]
fn a_value_of_the_wrong_kind_and_broken_toml_name_the_line() {
    for text in ["\n[plan]\nmax_steps = \"many\"\n", "\n[plan]\nmax_steps = -1\n", "\n\nname = \n"] {
        assert!(error(text).starts_with("recipe (stored):3: "), "{}", error(text));
    }
}

#[test]
fn templates_are_read_beside_the_recipe_and_tried_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, "[templates]\nplan_zh = \"none.j2\"\n").unwrap();
    let message = Recipe::load(&path).unwrap_err().to_string();
    assert!(message.contains("recipe.toml:2: `templates.plan_zh` names the template") && message.contains("none.j2"));
    for (template, want) in [
        ("one\n{{ instructoin }}", "template templates.section_zh: line 2: "),
        ("{% if %}", "template templates.section_zh: line 1: "),
        (
            "{% for a in range(100000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
            "template templates.section_zh: ",
        ),
    ] {
        std::fs::write(folder.path().join("bad.j2"), template).unwrap();
        std::fs::write(&path, "[templates]\nsection_zh = \"bad.j2\"\n").unwrap();
        let message = Recipe::load(&path).unwrap_err().to_string();
        assert!(message.starts_with(want), "{message}");
    }
    assert!(Recipe::load(folder.path().join("none.toml")).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn back_off_doubles_up_to_its_bound_and_jitter_spreads_it() {
    let retry = Retry { backoff_ms: 1_000, max_backoff_ms: 6_000, ..Retry::default() };
    let bounds: Vec<u64> = (1..=5).map(|errors| retry.delay_ms(errors, 1.0)).collect();
    assert_eq!(bounds, [1_000, 2_000, 4_000, 6_000, 6_000]);
    assert_eq!(retry.delay_ms(3, 0.5), 2_000);
    assert_eq!(retry.delay_ms(u32::MAX, 0.0), 0);
}

/// A run that was submitted before there was a rule is not judged by it half-way.
#[test]
fn a_stored_recipe_that_does_not_name_a_rule_has_it_off() {
    let whole = Recipe::builtin().to_toml();
    let old: String =
        whole.lines().filter(|line| !line.starts_with("max_unfinished")).map(|l| format!("{l}\n")).collect();
    let stored = Recipe::from_toml(&old).unwrap().filters;
    assert_eq!(stored, Filters::default().with("max_unfinished", Rule::MAX_PLACES));
    assert_eq!(Recipe::from_toml(&whole).unwrap(), Recipe::builtin());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.toml");
    std::fs::write(&path, "[filters]\nmin_words = 10\n").unwrap();
    let file = Recipe::load(&path).unwrap().filters;
    assert_eq!(file, Filters::default().with("min_words", 10), "what a person leaves out is the default");
}

/// An operator on another machine must not be shown this machine's files.
#[test]
fn a_recipe_that_was_sent_reads_no_file() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let says = error(&format!("[templates]\nplan_en = \"{file}\"\n"));
    assert!(says.contains("holds the texts themselves"), "{says}");
}
