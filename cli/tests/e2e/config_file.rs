//! Options from `longhand.toml`, and variables of the environment.

use std::fs;

use crate::program::{Ended, longhand};

fn run_in(dir: &std::path::Path, args: &[&str], variables: &[(&str, &str)]) -> Ended {
    longhand().args(args).envs(variables.iter().copied()).current_dir(dir).output().unwrap().into()
}

#[test]
fn a_flag_comes_before_a_variable_a_variable_before_the_file() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in.jsonl"), r#"{"prompt": "Write about the tides of the sea."}"#).unwrap();
    fs::write(dir.path().join("longhand.toml"), "engine = 'mock'\nhttp = 'off'\n[run]\noutput = 'file'\nseed = 1\n")
        .unwrap();
    let seed_of = |args: &[&str], variables: &[(&str, &str)], folder: &str| {
        let ended = run_in(dir.path(), &[&["run", "in.jsonl", "--quiet"], args].concat(), variables);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let stats = fs::read(dir.path().join(folder).join("stats.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&stats).unwrap()["seed"].clone()
    };
    assert_eq!(seed_of(&[], &[], "file"), 1);
    assert_eq!(seed_of(&[], &[("LONGHAND_SEED", "2"), ("LONGHAND_OUTPUT", "variable")], "variable"), 2);
    assert_eq!(seed_of(&["--seed", "3", "-o", "flag"], &[("LONGHAND_SEED", "2")], "flag"), 3);
    fs::write(dir.path().join("other.toml"), "engine = 'mock'\nhttp = 'off'\noutput = 'other'\nseed = 4\n").unwrap();
    assert_eq!(seed_of(&["--config", "other.toml"], &[], "other"), 4);
}

#[test]
fn what_no_option_has_is_refused_in_the_file_and_warned_of_in_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("longhand.toml"), "engine = 'mock'\n\nmodle = 'x'\n").unwrap();
    let refused = run_in(dir.path(), &["model", "families"], &[]);
    assert_eq!(refused.code, Some(2));
    assert_eq!(refused.stderr, "error: longhand.toml:3: unknown key `modle`; did you mean `model`?\n");
    fs::remove_file(dir.path().join("longhand.toml")).unwrap();
    let warned = run_in(dir.path(), &["model", "families"], &[("LONGHAND_MODLE", "x"), ("LONGHAND_MODEL", "y")]);
    assert_eq!(warned.code, Some(0));
    assert_eq!(warned.stderr, "warning: LONGHAND_MODLE is not a variable of longhand; did you mean LONGHAND_MODEL?\n");
    let missing = run_in(dir.path(), &["model", "families", "--config", "no.toml"], &[]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("no.toml: No such file"), "{}", missing.stderr);
}
