//! Passes the commit and the compiler to the program. Only in this crate, so that a commit does not rebuild the others.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LONGHAND_COMMIT");
    // Each commit, checkout and reset adds a line to this file.
    if let Some(log) = stdout_of("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let named = env::var("LONGHAND_COMMIT").ok().filter(|name| !name.is_empty());
    let commit = named.or_else(|| stdout_of("git", &["rev-parse", "--short=12", "HEAD"])).unwrap_or_default();
    let compiler = stdout_of(&env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["--version"]).unwrap_or_default();
    let compiler = compiler.split(" (").next().unwrap_or_default();
    let build = |name| env::var(name).unwrap_or_default();
    let version = match &*commit {
        "" => build("CARGO_PKG_VERSION"),
        commit => format!("{} ({commit})", build("CARGO_PKG_VERSION")),
    };
    println!("cargo:rustc-env=LONGHAND_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=LONGHAND_BUILD={version}, {} for {}, {compiler}", build("PROFILE"), build("TARGET"));
}

/// The output of a program, if it exists and succeeds.
fn stdout_of(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}
