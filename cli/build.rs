//! Notes what this build was made of. In the program's crate alone: a commit does not rebuild the others.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=LONGHAND_COMMIT");
    // Each commit, check-out and reset adds a line to this.
    if let Some(log) = said("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    let named = env::var("LONGHAND_COMMIT").ok().filter(|name| !name.is_empty());
    let commit = named.or_else(|| said("git", &["rev-parse", "--short=12", "HEAD"])).unwrap_or_default();
    let compiler = said(&env::var("RUSTC").unwrap_or_else(|_| "rustc".into()), &["--version"]).unwrap_or_default();
    let compiler = compiler.split(" (").next().unwrap_or_default();
    let build = |name| env::var(name).unwrap_or_default();
    let version = match &*commit {
        "" => build("CARGO_PKG_VERSION"),
        commit => format!("{} ({commit})", build("CARGO_PKG_VERSION")),
    };
    println!("cargo:rustc-env=LONGHAND_BUILD_COMMIT={commit}");
    println!("cargo:rustc-env=LONGHAND_BUILD={version}, {} for {}, {compiler}", build("PROFILE"), build("TARGET"));
}

/// What a program prints, if there is such a program and it succeeds.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|text| !text.is_empty())
}
