//! The list of commands in `longhand --help`, in groups.

use clap::Command;

/// Every command that is shown, in the group where a user looks for it.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Write", &["run", "preview", "model", "doctor"]),
    ("Data", &["compose", "validate", "import", "select", "report", "filter", "serve", "push"]),
    ("Fleet", &["coordinator", "worker", "submit", "health", "plan-capacity"]),
    (
        "Operate",
        &[
            "status",
            "watch",
            "documents",
            "show",
            "requeue",
            "cancel",
            "pause",
            "resume",
            "export",
            "archive",
            "restore",
            "delete",
        ],
    ),
    ("Measure", &["eval", "bench", "selftest"]),
];

/// The command whose help lists its subcommands in groups.
pub(crate) fn grouped(mut command: Command) -> Command {
    command.build();
    let lists: Vec<String> = GROUPS.iter().map(|(title, names)| list(&command, title, names)).collect();
    command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\n\nOptions:\n{{options}}{{after-help}}",
        lists.join("\n\n")
    ))
}

/// One group: the names of its commands, and the first line of what they are about.
fn list(command: &Command, title: &str, names: &[&str]) -> String {
    let lines = names.iter().filter_map(|name| {
        let about = command.find_subcommand(name)?.get_about()?;
        Some(format!("  {name:<14} {about}"))
    });
    format!("{title}:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_command_is_in_one_group_and_has_one_line() {
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name);
        let listed: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        assert_eq!(listed.iter().copied().collect::<BTreeSet<_>>(), shown.collect::<BTreeSet<_>>());
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len());
        let help = grouped(Cli::command()).render_help().to_string();
        for name in listed {
            let line = help.lines().find(|line| line.trim_start().starts_with(&format!("{name} "))).unwrap();
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
