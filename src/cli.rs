//! The command line: arguments to one call, and its outcome to an exit status.
//!
//! Each command is a file below `cli`; what several need to show something is beside them.

mod arguments;
mod check;
mod columns;
mod completions;
mod config;
mod data;
mod dlq;
mod exit;
mod healthcheck;
mod man;
mod runtime;
mod send;
mod serve;
mod table;
mod templates;
mod terminal;
mod topics;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum as _};
use postlane::config::{Config, ConfigError, from_variables, kafka_from_variables};

use self::{
    exit::Exit,
    terminal::{Color, complain},
};

/// Delivers the e-mail events of Kafka topics by SMTP.
///
/// Configured by environment variables; `postlane config` shows what is in force.
#[derive(Debug, Parser)]
#[command(name = "postlane", version, propagate_version = true, max_term_width = 100, after_help = Exit::help())]
struct Cli {
    /// When to show colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t, hide_possible_values = true)]
    #[arg(help = "When to show colours: auto, always or never", display_order = 900)]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fetch, send, and commit until SIGTERM or SIGINT
    #[command(after_help = serve::EXAMPLES)]
    Serve,
    /// Publish one mail, or a file of events; or send it straight to the relay
    Send(Box<send::Arguments>),
    /// Try brokers, topics, group, templates and relay, and say what is wrong; sends nothing
    Check(check::Arguments),
    /// Print the effective configuration, secrets masked
    #[command(after_help = config::EXAMPLES)]
    Config,
    #[command(about = "Ask the service at HTTP_ADDR whether it is ready, or lives; exit with 0 or 1")]
    Healthcheck(healthcheck::Arguments),
    /// List, show and export the dead letters, and send them back
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// List, check, render and preview templates; needs neither brokers nor a relay
    #[command(subcommand)]
    Templates(templates::Command),
    /// Look after the lanes and the dead letter topic
    #[command(subcommand)]
    Topics(topics::Command),
    /// Print what a shell needs to complete commands and options
    Completions(completions::Arguments),
    /// Print a manual page, or write those of all commands into a folder
    Man(man::Arguments),
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let exit = match parse().command {
        Command::Serve => configured(serve::run),
        Command::Check(arguments) => check::run(&arguments, &from_variables(variables())),
        Command::Config => configured(|config| config::run(&config)),
        Command::Healthcheck(arguments) => healthcheck::run(&arguments),
        Command::Dlq(command) => dlq::run(&command, kafka_from_variables(variables())),
        Command::Templates(command) => templates::run(&command),
        Command::Topics(command) => topics::run(&command, kafka_from_variables(variables())),
        Command::Send(arguments) => send::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments, Cli::command()),
        Command::Man(arguments) => man::run(&arguments, Cli::command()),
    };
    exit.into()
}

/// The arguments; ends the program where they are wrong or ask for help.
fn parse() -> Cli {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = Cli::command().color(wanted_color(&arguments).of_clap());
    let cli = Cli::from_arg_matches(&command.get_matches_from(arguments)).unwrap_or_else(|error| error.exit());
    cli.color.apply();
    cli
}

/// What `--color` says, for the texts that clap shows before all is parsed.
fn wanted_color(arguments: &[OsString]) -> Color {
    let mut words = arguments.iter().map_while(|word| word.to_str()).take_while(|word| *word != "--");
    let mut wanted = None;
    while let Some(word) = words.next() {
        wanted = match word.strip_prefix("--color") {
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => wanted,
        };
    }
    wanted.and_then(|word| Color::from_str(word, false).ok()).unwrap_or_default()
}

fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Runs a command that needs every setting.
fn configured(command: impl FnOnce(Config) -> Exit) -> Exit {
    match from_variables(variables()) {
        Ok(config) => command(config),
        Err(error) => misconfigured(&error),
    }
}

fn indented(error: &ConfigError) -> String {
    error.0.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

/// Names all that is wrong.
fn misconfigured(error: &ConfigError) -> Exit {
    complain(format_args!("the configuration is wrong; nothing was connected.\n{}", indented(error)));
    Exit::Config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    /// The commands that do something, with their names as they are called.
    fn leaves(command: &clap::Command, name: &str) -> Vec<(String, clap::Command)> {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() {
            return vec![(name.to_owned(), command.clone())];
        }
        below.into_iter().flat_map(|below| leaves(below, &format!("{name} {}", below.get_name()))).collect()
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        for (name, command) in leaves(&Cli::command(), "postlane") {
            assert!(command.get_about().is_some(), "{name} says nothing");
            let after = command.get_after_long_help().or_else(|| command.get_after_help());
            let after = after.map(ToString::to_string).unwrap_or_default();
            let examples = after.split("Examples:\n").nth(1).unwrap_or_else(|| panic!("{name} has no examples"));
            assert!(examples.lines().any(|line| line.contains(&name)), "{name} shows another command");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: nothing about {}", argument.get_id());
            }
        }
    }

    #[test]
    fn a_help_fits_into_eighty_columns() {
        for (name, mut command) in leaves(&Cli::command(), "postlane") {
            let help = command.render_long_help().to_string();
            let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 120).collect();
            assert!(long.is_empty(), "{name}: {long:#?}");
            for after in [command.get_after_help(), command.get_after_long_help()].into_iter().flatten() {
                let after = after.to_string();
                let long: Vec<_> = after.lines().filter(|line| line.chars().count() > 80).collect();
                assert!(long.is_empty(), "{name}: {long:#?}");
            }
        }
    }

    #[test]
    fn the_choice_of_colours_is_known_before_all_is_parsed() {
        let wanted = |words: &[&str]| wanted_color(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(wanted(&["postlane", "check", "--color", "never", "--json"]), Color::Never);
        assert_eq!(wanted(&["postlane", "--color=always"]), Color::Always);
        assert_eq!(wanted(&["postlane", "--color=always", "check", "--color=never"]), Color::Never);
        for words in
            [&["postlane"][..], &["postlane", "--color"], &["postlane", "--color=blue"], &["--", "--color=always"]]
        {
            assert_eq!(wanted(words), Color::Auto, "{words:?}");
        }
    }
}
