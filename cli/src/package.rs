//! `longhand package-files`: shell completions and man pages, for those who package the program.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_complete::{Shell, generate_to};
use longhand_command::exit::{Code, Failure, Result};

/// Shells that completions are made for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Where to write.
#[derive(Debug, Args)]
pub(crate) struct PackageArgs {
    /// Folder for completions/ and man/, created if missing
    dir: PathBuf,
}

/// Writes `completions/` for bash, zsh and fish, and `man/` with a page for each command.
pub(crate) fn write(args: &PackageArgs, mut command: Command) -> Result<Code> {
    let (completions, man) = (args.dir.join("completions"), args.dir.join("man"));
    for dir in [&completions, &man] {
        std::fs::create_dir_all(dir).map_err(|error| Failure::refused(format!("{}: {error}", dir.display())))?;
    }
    let failed = |dir: &PathBuf| {
        let dir = dir.display().to_string();
        move |error: std::io::Error| Failure::stopped(format!("{dir}: {error}"))
    };
    for shell in SHELLS {
        generate_to(shell, &mut command, "longhand", &completions).map_err(failed(&completions))?;
    }
    // Without `help` and a page for each of its own commands.
    clap_mangen::generate_to(command.disable_help_subcommand(true), &man).map_err(failed(&man))?;
    Ok(Code::Ok)
}
