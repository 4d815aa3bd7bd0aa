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

    /// Width of a terminal in which help is read.
    const COLUMNS: usize = 80;

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
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
    }

    /// A paragraph is one line, which clap breaks where the terminal ends. Everything else is indented and fits.
    #[test]
    fn no_line_of_a_help_text_breaks_in_the_middle_of_a_sentence() {
        let mut wrong = Vec::new();
        check(&Cli::command(), &mut wrong);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    fn check(command: &Command, wrong: &mut Vec<String>) {
        let texts = [command.get_after_help(), command.get_after_long_help(), command.get_long_about()];
        for text in texts.into_iter().flatten().map(ToString::to_string) {
            let lines: Vec<&str> = text.lines().collect();
            for (number, line) in lines.iter().enumerate() {
                let prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
                let broken = prose(line) && lines.get(number + 1).is_some_and(|next| prose(next));
                if broken || (!prose(line) && line.chars().count() > COLUMNS) {
                    wrong.push(format!("{}: {line}", command.get_name()));
                }
            }
        }
        for below in command.get_subcommands() {
            check(below, wrong);
        }
    }

    #[test]
    fn options_of_engine_dashboard_and_access_are_under_their_headings() {
        let mut command = Cli::command();
        command.build();
        for (name, option, heading) in [
            ("run", "seed", None),
            ("run", "json", None),
            ("run", "device", Some("Engine")),
            ("run", "max-sequences", Some("Engine")),
            ("run", "trace-url", Some("Dashboard")),
            ("run", "store-tls-ca", Some("Store")),
            ("run", "token-file", Some("Access")),
            ("worker", "exit-idle", None),
            ("worker", "token-file", Some("Coordinator")),
            ("coordinator", "archive", None),
        ] {
            let command = command.find_subcommand(name).unwrap();
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(option)).unwrap();
            assert_eq!(arg.get_help_heading(), heading, "{name} --{option}");
        }
    }
}
