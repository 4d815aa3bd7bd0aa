//! The house rules of imports: a layer uses those before it only, and no two files use each other.
//!
//! Reads the `use` lines and the paths of every crate as text. A re-export counts as the file that defines the item, so
//! a `mod.rs` may collect what its folder offers. Tests may use what they like.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Top-level modules of each crate, each of which may use those before it. Empty: the crate is one layer.
const LAYERS: &[(&str, &[&str])] = &[
    ("proto", &[]),
    (
        "coordinator",
        &[
            "files",
            "domain",
            "text",
            "lifecycle",
            "dataset",
            "store",
            "run_stats",
            "corpus",
            "report",
            "net",
            "control",
            "http",
        ],
    ),
    (
        "worker",
        &[
            "http_body",
            "device",
            "ops",
            "throughput",
            "model",
            "reference",
            "cpu",
            "cuda",
            "engine",
            "selftest",
            "client",
        ],
    ),
    ("command", &[]),
    ("bench", &[]),
    (
        "cli",
        &[
            "args",
            "version",
            "signals",
            "display",
            "telemetry",
            "engine",
            "gpus",
            "hub",
            "model",
            "plan_capacity",
            "preview",
            "selftest",
            "doctor",
            "serve",
            "run",
            "operate",
            "data",
            "eval",
            "package",
            "cli",
            "config",
            "help_groups",
        ],
    ),
];

#[test]
fn imports_go_down_and_never_round() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut faults = Vec::new();
    for (name, layers) in LAYERS {
        let sources = Sources::read(&root.join(name).join("src"));
        let edges = sources.edges();
        faults.extend(upward(name, layers, &edges));
        faults.extend(cycles(name, &edges));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Files by the files that they use, as paths below `src`.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Imports from a later layer, and files in no layer.
fn upward(name: &str, layers: &[&str], edges: &Edges) -> Vec<String> {
    let layer = |file: &str| {
        let top = file.split(['/', '.']).next().unwrap_or_default();
        layers.iter().position(|layer| *layer == top)
    };
    let is_root = |file: &str| file == "lib.rs" || file == "main.rs";
    let mut faults = Vec::new();
    if layers.is_empty() {
        return faults;
    }
    for (from, all) in edges.iter().filter(|(from, _)| !is_root(from)) {
        let Some(own) = layer(from) else {
            faults.push(format!("{name}/src/{from} is in no layer: add its folder to LAYERS"));
            continue;
        };
        for to in all.iter().filter(|to| !is_root(to)) {
            if layer(to).is_some_and(|other| other > own) {
                faults.push(format!("{name}/src/{from} uses {name}/src/{to}, which is of a later layer"));
            }
        }
    }
    faults
}

/// Groups of files that use each other: what can reach itself.
fn cycles(name: &str, edges: &Edges) -> Vec<String> {
    let reach = |from: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(file) = open.pop() {
            for next in edges.get(&file).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    open.push(next.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> = edges.keys().map(|file| (file, reach(file))).collect();
    let mut faults = Vec::new();
    for (from, all) in edges {
        for to in all {
            // Each pair of a cycle that points at one another's group, named once in each direction that is written.
            if from != to && reached.get(to).is_some_and(|back| back.contains(from)) {
                faults.push(format!("{name}/src/{from} uses {name}/src/{to}, which leads back to it"));
            }
        }
    }
    faults
}

/// A crate's files.
struct Sources {
    /// What each file imports, by its path below `src`.
    files: BTreeMap<String, Vec<Import>>,
    /// Files by their module path: `[]` is the crate's root.
    modules: BTreeMap<Vec<String>, String>,
}

impl Sources {
    fn read(src: &Path) -> Self {
        let (mut files, mut modules) = (BTreeMap::new(), BTreeMap::new());
        for path in rust_files(src) {
            let file = path.strip_prefix(src).expect("below src").to_string_lossy().into_owned();
            if file.split('/').any(|part| part == "tests" || part == "tests.rs") {
                continue;
            }
            let mut module: Vec<String> = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
            if module.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
                module.pop();
            }
            let text = std::fs::read_to_string(&path).expect("a source file");
            files.insert(file.clone(), imports(&bare(&text)));
            modules.insert(module, file);
        }
        Self { files, modules }
    }

    fn edges(&self) -> Edges {
        let mut edges = Edges::new();
        for (module, file) in &self.modules {
            let mut used = BTreeSet::new();
            for import in &self.files[file] {
                // What a folder offers to others is no use of its own.
                let target = self.resolve(module, &import.path, 0);
                let own = |target: &String| target != file;
                let collected = |target: &String| import.public && self.is_below(target, module);
                used.extend(target.filter(own).filter(|target| !collected(target)));
            }
            edges.insert(file.clone(), used);
        }
        edges
    }

    fn is_below(&self, file: &str, module: &[String]) -> bool {
        self.modules.iter().any(|(path, name)| name == file && path.len() > module.len() && path.starts_with(module))
    }

    /// The file that defines what `path` names, seen from `module`; none outside this crate.
    fn resolve(&self, module: &[String], path: &[String], depth: usize) -> Option<String> {
        let mut at: Vec<String> = module.to_vec();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                // A child module, or something of another crate.
                at.push(first.to_owned());
                if !self.modules.contains_key(&at) {
                    return None;
                }
                rest = &rest[1..];
            }
        }
        while let Some(next) = rest.first() {
            at.push(next.clone());
            if !self.modules.contains_key(&at) {
                at.pop();
                break;
            }
            rest = &rest[1..];
        }
        let file = self.modules.get(&at)?;
        if let (Some(item), true) = (rest.first(), depth < 8) {
            let offered = self.files[file].iter().find(|import| import.public && import.name == *item);
            if let Some(offered) = offered {
                return self.resolve(&at, &offered.path, depth + 1).or(Some(file.clone()));
            }
        }
        Some(file.clone())
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry of a folder").path());
    paths
        .flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// One name that a file imports, or uses by its path.
#[derive(Debug, PartialEq)]
struct Import {
    path: Vec<String>,
    /// As it is known here.
    name: String,
    public: bool,
}

/// All of `use` and all paths from `crate` or `super` elsewhere.
fn imports(text: &str) -> Vec<Import> {
    let mut found = Vec::new();
    let words: Vec<&str> = words(text);
    let mut at = 0;
    while at < words.len() {
        match words[at] {
            "use" => {
                let public = at > 0 && (words[at - 1] == "pub" || words[at - 1] == ")");
                at = tree(&words, at + 1, &[], public, &mut found);
            }
            // The scope of a visibility is no use.
            "in" if at >= 2 && words[at - 2] == "pub" => at += 2,
            word if is_name(word) && words.get(at + 1) == Some(&"::") && (at == 0 || words[at - 1] != "::") => {
                let mut path = vec![words[at].to_owned()];
                while words.get(at + 1) == Some(&"::") && words.get(at + 2).is_some_and(|word| is_name(word)) {
                    path.push(words[at + 2].to_owned());
                    at += 2;
                }
                let name = path.last().cloned().unwrap_or_default();
                found.push(Import { path, name, public: false });
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// Reads a tree of `use` from `at`; returns where it ends.
fn tree(words: &[&str], mut at: usize, prefix: &[String], public: bool, found: &mut Vec<Import>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match words.get(at) {
            Some(&"{") => {
                at += 1;
                while words.get(at).is_some_and(|word| *word != "}") {
                    at = tree(words, at, &path, public, found);
                    if words.get(at) == Some(&",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some(&"self") if !path.is_empty() => at += 1,
            Some(word) if is_name(word) || *word == "*" => {
                path.push((*word).to_owned());
                at += 1;
            }
            _ => return at + 1,
        }
        match words.get(at) {
            Some(&"::") => at += 1,
            Some(&"as") => {
                found.push(Import { path, name: words.get(at + 1).copied().unwrap_or_default().to_owned(), public });
                return at + 2;
            }
            _ => {
                let name = path.last().cloned().unwrap_or_default();
                found.push(Import { path, name, public });
                return at;
            }
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and every other character by itself.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let end = if name > 0 {
            name
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

/// The code alone: no comments, no text in quotation marks, nothing that is compiled for tests only.
fn bare(text: &str) -> String {
    let tests = text.match_indices("#[cfg(test)]\n").find(|(at, found)| {
        let line = text[at + found.len()..].lines().next().unwrap_or_default();
        line.contains("mod ") && line.ends_with('{')
    });
    let text = tests.map_or(text, |(at, _)| &text[..at]);
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut rest = line;
        while let Some(at) = rest.find(['"', '/']) {
            code.push_str(&rest[..at]);
            rest = &rest[at..];
            if rest.starts_with("//") {
                rest = "";
            } else if let Some(inside) = rest.strip_prefix('"') {
                let end = inside.char_indices().scan(false, |escaped, (at, c)| {
                    let ends = c == '"' && !*escaped;
                    *escaped = c == '\\' && !*escaped;
                    Some((at, ends))
                });
                let end = end.into_iter().find(|(_, ends)| *ends).map_or(inside.len(), |(at, _)| at + 1);
                rest = &inside[end..];
            } else {
                rest = &rest[1..];
            }
        }
        code.push_str(rest);
        code.push('\n');
    }
    code
}

#[test]
fn a_tree_of_imports_is_read_whole() {
    let found = imports("pub(crate) use crate::a::{B, c::{self, D as E}};\nfn f() { super::g::h() }");
    let found: Vec<(String, &str, bool)> =
        found.iter().map(|import| (import.path.join("::"), import.name.as_str(), import.public)).collect();
    let want = [
        ("crate::a::B", "B", true),
        ("crate::a::c", "c", true),
        ("crate::a::c::D", "E", true),
        ("super::g::h", "h", false),
    ];
    assert_eq!(found, want.map(|(path, name, public)| (path.to_owned(), name, public)));
}

#[test]
fn an_import_that_goes_up_or_round_is_named_with_both_files() {
    let edges: Edges = [("a/x.rs", vec!["b/y.rs"]), ("b/y.rs", vec!["a/x.rs"])]
        .map(|(from, to)| (from.to_owned(), to.into_iter().map(str::to_owned).collect()))
        .into();
    assert_eq!(upward("k", &["a", "b"], &edges), ["k/src/a/x.rs uses k/src/b/y.rs, which is of a later layer"]);
    assert_eq!(cycles("k", &edges).len(), 2);
}
