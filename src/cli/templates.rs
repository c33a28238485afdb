//! `postlane templates`: lists, checks, renders and shows templates, for those who write them.
//!
//! Needs neither brokers nor a relay: of the environment only `TEMPLATES_DIR` and `MAIL_*` are read.

mod check;
mod findings;
mod list;
mod mail;
mod preview;
mod render;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use postlane::{config::mail_from_variables, template::Survey};

use super::{exit::Exit, indented, terminal::complain, variables};

/// What to do with the templates.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show which templates there are, their parts, and where each comes from
    List(list::Arguments),
    /// Find what is wrong with templates and their sample data, all of it at once; exit with 0 or 1
    Check(check::Arguments),
    /// Render one template, with its sample data or your own
    Render(Box<render::Arguments>),
    /// Show the templates in the browser, as they change
    Preview(preview::Arguments),
}

/// Runs one of them.
pub(super) fn run(command: &Command) -> Exit {
    match command {
        Command::List(arguments) => list::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Render(arguments) => render::run(arguments),
        Command::Preview(arguments) => preview::run(arguments),
    }
}

/// Where templates come from.
#[derive(Debug, Args)]
struct Source {
    /// Folder that lies over the built-in templates, in the place of the one that `TEMPLATES_DIR` names
    #[arg(long, value_name = "DIR", value_parser = folder)]
    dir: Option<PathBuf>,
}

fn folder(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if path.is_dir() { Ok(path) } else { Err("there is no such folder") }
}

impl Source {
    /// The settings of mails, with the folder that counts.
    fn settings(&self) -> Result<postlane::config::Mail, Exit> {
        let hidden = |name: &str| self.dir.is_some() && name == "TEMPLATES_DIR";
        let mut settings = mail_from_variables(variables().filter(|(name, _)| !hidden(name))).map_err(|error| {
            complain(format_args!("the configuration is wrong.\n{}", indented(&error)));
            Exit::Config
        })?;
        // these commands are about the mail itself, wherever a staging system sends it
        settings.redirect_to = None;
        if let Some(dir) = &self.dir {
            settings.templates_dir = Some(dir.clone());
        }
        Ok(settings)
    }
}

/// A file of a template as one can open it from here; what comes with the program says so.
fn shown(survey: &Survey, dir: Option<&Path>, file: &str) -> String {
    match dir {
        // a folder has no entry among the files, nor has a link that leads nowhere
        Some(dir) if survey.is_own(file) || dir.join(file).symlink_metadata().is_ok() => {
            dir.join(file).display().to_string()
        }
        Some(_) if Path::new(file).is_absolute() => file.to_owned(),
        _ => format!("{file} (built in)"),
    }
}

/// Says that there is no template of a name, and which there are.
fn unknown(survey: &Survey, name: &str) -> Exit {
    let names = survey.names().collect::<Vec<_>>().join(", ");
    complain(format_args!("there is no template {name:?}; here are {names}"));
    Exit::Usage
}
