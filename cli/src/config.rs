//! The configuration file: values of options, which hold where neither a flag nor an environment variable is given.
//!
//! A value of the file becomes the default of its option, so that the rest of the command line is what it is without a file.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Command};
use longhand_command::exit::{Failure, Result};
use toml::de::{DeTable, DeValue};

/// The file that is read if it is there and no other one is named.
const FILE: &str = "longhand.toml";
/// Names another file.
const VARIABLE: &str = "LONGHAND_CONFIG";
/// How the variables of options begin.
const PREFIX: &str = "LONGHAND_";
/// The option that names another file.
const OPTION: &str = "config";

/// Variables that are none of an option: of a pod of Kubernetes, of the Makefile, and of the files in `deploy/`.
const OTHER_VARIABLES: [&str; 7] = [
    "LONGHAND_POD",
    "LONGHAND_POD_ACCOUNT",
    "LONGHAND_CACHE",
    "LONGHAND_SHARED",
    "LONGHAND_SLURM",
    "LONGHAND_MODELS",
    "LONGHAND_MODEL_FILE",
];
/// Parts of the names that Kubernetes makes of the services of a namespace.
const SERVICE_PARTS: [&str; 2] = ["_PORT", "_SERVICE_"];

/// A command line with the values of the configuration file.
///
/// # Errors
/// The file cannot be read, or has a key or a value that no option takes; the message names file and line.
pub(crate) fn configured(command: Command, args: &[OsString]) -> Result<Command> {
    let Some(path) = file(args) else { return Ok(command) };
    let text = std::fs::read_to_string(&path).map_err(|e| Failure::refused(format!("{}: {e}", path.display())))?;
    with_values(command, &path, &text)
}

/// Variables that look like ones of this program and are not, each with the sentence that says so.
pub(crate) fn unknown_variables(command: &Command, args: &[OsString]) -> Vec<String> {
    let mut known = BTreeSet::from(OTHER_VARIABLES.map(str::to_owned));
    collect(command, &mut |arg| known.extend(arg.get_env().map(|name| name.to_string_lossy().into_owned())));
    // `--api-key-env` names a variable of the user's own.
    let named = |name: &str| args.iter().any(|arg| arg.to_string_lossy().ends_with(name));
    let of_service = |name: &str| SERVICE_PARTS.iter().any(|part| name.contains(part));
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let mut unknown: Vec<String> = set
        .filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !named(name) && !of_service(name))
        .map(|name| {
            let meant = nearest(&name[PREFIX.len()..], known.iter().filter_map(|name| name.strip_prefix(PREFIX)));
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {PREFIX}{meant}?"));
            format!("{name} is not a variable of longhand{meant}")
        })
        .collect();
    unknown.sort_unstable();
    unknown
}

/// The file to read. It is needed before the command line can be parsed, as it may state what is required there.
fn file(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter().take_while(|arg| *arg != "--");
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match text.strip_prefix("--config") {
            Some("") => return args.next().map(PathBuf::from),
            Some(value) if value.starts_with('=') => return Some(PathBuf::from(&value[1..])),
            Some(_) | None => {}
        }
    }
    let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(FILE)).filter(|path| path.exists()))
}

/// A value of the file for an option of some commands.
struct Setting<'a> {
    /// The table: the command for which it holds. None at the top: every command that has the option.
    table: Option<&'a str>,
    key: &'a str,
    values: Vec<String>,
}

fn with_values(mut command: Command, path: &Path, text: &str) -> Result<Command> {
    let at = |start: usize| format!("{}:{}", path.display(), text[..start].matches('\n').count() + 1);
    let parsed = DeTable::parse(text).map_err(|e| {
        Failure::refused(format!("{}: {}", at(e.span().map_or(0, |span| span.start)), e.message().trim()))
    })?;
    let mut settings = Vec::new();
    for (name, value) in parsed.get_ref() {
        let DeValue::Table(table) = value.get_ref() else {
            let known = options(&command);
            settings.push(setting(None, name.get_ref(), value.get_ref(), &known, &at(name.span().start))?);
            continue;
        };
        let names = command.get_subcommands().map(Command::get_name);
        let Some(of) = command.find_subcommand(name.get_ref().as_ref()) else {
            let meant = meant(name.get_ref(), names);
            let place = at(name.span().start);
            return Err(Failure::refused(format!("{place}: there is no command `{}`{meant}", name.get_ref())));
        };
        let known = options(of);
        for (key, value) in table {
            settings.push(setting(
                Some(name.get_ref()),
                key.get_ref(),
                value.get_ref(),
                &known,
                &at(key.span().start),
            )?);
        }
    }
    // A table's value replaces one at the top.
    settings.sort_by_key(|setting| setting.table.is_some());
    for setting in &settings {
        command = match setting.table {
            Some(name) => command.mut_subcommand(name, |command| set(command, setting)),
            None => set(command, setting),
        };
    }
    Ok(command)
}

/// Reads a value as its option would.
fn setting<'a>(
    table: Option<&'a str>,
    key: &'a str,
    value: &DeValue<'_>,
    known: &[&Arg],
    place: &str,
) -> Result<Setting<'a>> {
    let refused = |what: String| Failure::refused(format!("{place}: {what}"));
    let Some(arg) = known.iter().find(|arg| arg.get_long() == Some(key)) else {
        let meant = meant(key, known.iter().filter_map(|arg| arg.get_long()));
        let of = table.map_or_else(String::new, |table| format!(" of `{table}`"));
        return Err(refused(format!("unknown key `{key}`{of}{meant}")));
    };
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Float(number) => Ok(number.to_string()),
        DeValue::Boolean(value) => Ok(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(refused(format!("`{key}` is {}; expected a text, a number, true or false", value.type_str())))
        }
    };
    let values = match value {
        DeValue::Array(items) if arg.get_value_delimiter().is_some() => {
            items.iter().map(|item| scalar(item.get_ref())).collect::<Result<Vec<_>>>()?
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => vec![scalar(value)?],
    };
    for value in &values {
        check(arg, value).map_err(refused)?;
    }
    Ok(Setting { table, key, values })
}

/// Whether the option takes the value.
fn check(arg: &Arg, value: &str) -> Result<(), String> {
    let name =
        arg.get_value_names().and_then(|names| names.first()).map_or_else(|| "VALUE".to_owned(), ToString::to_string);
    let alone = Arg::new("value")
        .long(arg.get_long().unwrap_or_default().to_owned().leak() as &str)
        .value_name(&*name.leak())
        .value_parser(arg.get_value_parser().clone())
        .action(ArgAction::Set)
        .num_args(1);
    let args = [OsString::new(), format!("--{}={value}", arg.get_long().unwrap_or_default()).into()];
    let parsed = Command::new("").disable_help_flag(true).arg(alone).try_get_matches_from(args);
    parsed.map(drop).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        line.trim_start_matches("error: ").to_owned()
    })
}

/// Makes the value the default of its option, in the command and in those below it.
fn set(command: Command, setting: &Setting<'_>) -> Command {
    let with_value = |arg: Arg| {
        if !is_setting(&arg) || arg.get_long() != Some(setting.key) {
            return arg;
        }
        // Clap keeps defaults for as long as the program runs.
        let values = setting.values.iter().map(|value| &*value.clone().leak());
        arg.required(false).default_values(values.collect::<Vec<_>>())
    };
    command.mut_args(with_value).mut_subcommands(|command| set(command, setting))
}

/// The options that a file may set, of the command and of those below it.
fn options(command: &Command) -> Vec<&Arg> {
    let mut found = Vec::new();
    collect(command, &mut |arg| found.extend(is_setting(arg).then_some(arg)));
    found
}

/// What has an environment variable describes a place or a way of working; what has none is of one call.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some() && arg.get_long().is_some() && arg.get_long() != Some(OPTION)
}

fn collect<'a>(command: &'a Command, take: &mut impl FnMut(&'a Arg)) {
    command.get_arguments().for_each(&mut *take);
    for below in command.get_subcommands() {
        collect(below, take);
    }
}

/// What was probably meant, as the end of a sentence.
fn meant<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    nearest(name, known).map_or_else(String::new, |known| format!("; did you mean `{known}`?"))
}

/// The known name that is spelled like this one.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.map(|known| (strsim::jaro_winkler(name, known), known)).filter(|(likeness, _)| *likeness > 0.85);
    alike.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use crate::cli::{self, Cli};

    fn parsed(text: &str, args: &[&str]) -> Result<Cli, String> {
        let command = with_values(Cli::command(), Path::new("longhand.toml"), text).map_err(|e| e.message)?;
        let matches = command.try_get_matches_from(args).map_err(|e| e.to_string())?;
        Cli::from_arg_matches(&matches).map_err(|e| e.to_string())
    }

    #[test]
    fn a_flag_comes_before_the_file_and_a_table_before_the_top() {
        let file = "seed = 7\noutput = 'corpus'\ninsecure = true\n[run]\nengine = 'mock'\nseed = 8\n";
        let run = |args: &[&str]| {
            let cli::Command::Run(args) = parsed(file, &[&["longhand", "run", "in"], args].concat()).unwrap().command
            else {
                panic!("another command")
            };
            (args.seed, args.output, format!("{:?}", args.engine.engine), args.access.insecure())
        };
        assert_eq!(run(&[]), (8, "corpus".into(), "Mock".into(), true));
        assert_eq!(run(&["--seed", "9", "-o", "other"]), (9, "other".into(), "Mock".into(), true));
        let cli::Command::Preview(args) = parsed(file, &["longhand", "preview", "text"]).unwrap().command else {
            panic!("another command")
        };
        let shown = format!("{args:?}");
        assert!(shown.contains("seed: 7") && shown.contains("engine: Local"), "{shown}");
    }

    #[test]
    fn a_list_is_for_options_that_take_several_values() {
        let file = "coordinator = ['http://a:7070', 'http://b:7070']\n";
        let cli::Command::Worker(args) = parsed(file, &["longhand", "worker"]).unwrap().command else {
            panic!("another command")
        };
        assert_eq!(args.connection.coordinator, ["http://a:7070", "http://b:7070"]);
    }

    #[test]
    fn an_error_names_file_line_and_key() {
        let error = |text: &str| parsed(text, &["longhand", "run", "in", "-o", "out"]).unwrap_err();
        assert_eq!(error("seed = 1\nmodle = 'x'\n"), "longhand.toml:2: unknown key `modle`; did you mean `model`?");
        assert_eq!(error("[run]\nlimit = 3\n"), "longhand.toml:2: unknown key `limit` of `run`");
        assert_eq!(error("[runs]\nseed = 3\n"), "longhand.toml:1: there is no command `runs`; did you mean `run`?");
        assert_eq!(
            error("\nseed = 'many'\n"),
            "longhand.toml:2: invalid value 'many' for '--seed <N>': invalid digit found in string"
        );
        assert!(
            error("insecure = 'perhaps'\n").starts_with("longhand.toml:1: invalid value 'perhaps' for '--insecure")
        );
        assert!(error("model = []\n").starts_with("longhand.toml:1: `model` is array; expected a text"));
        assert!(error("seed = \n").starts_with("longhand.toml:1: "));
    }

    #[test]
    fn the_file_is_found_before_the_command_line_is_parsed() {
        let file = |args: &[&str]| file(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(file(&["longhand", "run", "--config", "a.toml"]), Some("a.toml".into()));
        assert_eq!(file(&["longhand", "--config=a.toml", "run"]), Some("a.toml".into()));
        assert_eq!(file(&["longhand", "run", "--configuration", "a.toml"]), None);
        assert_eq!(file(&["longhand", "preview", "--", "--config"]), None);
    }
}
