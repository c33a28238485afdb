//! `postlane man`: manual pages, made of what `--help` says.
//!
//! Title, synopsis and options are laid out by `clap_mangen`. What stands behind the options in a help (examples, exit status)
//! becomes a section each here, line by line as it is.

use std::{fmt::Write as _, fs, io, path::PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::{
    exit::Exit,
    terminal::{complain, print},
};

const EXAMPLES: &str = "\
Examples:
  postlane man send | man -l -       # read the page of a command
  postlane man --output-dir /usr/local/share/man/man1";

/// Which pages, and where to.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The command whose page is printed, such as `send` or `topics create`; none for that of postlane itself
    #[arg(conflicts_with = "output_dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, and print their names
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, program: Command) -> Exit {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    if let Some(folder) = &arguments.output_dir {
        return match write_all(&program, folder) {
            Ok(names) => print(&names, Exit::Done),
            Err(error) => {
                complain(format_args!("{}: {error}", folder.display()));
                Exit::Failed
            }
        };
    }
    let mut command = &program;
    for name in &arguments.command {
        let Some(found) = command.find_subcommand(name) else {
            complain(format_args!("there is no command {name:?}; `postlane --help` names them"));
            return Exit::Usage;
        };
        command = found;
    }
    print(&page(command), Exit::Done)
}

/// Writes the page of a command and those below it; their paths, one a line.
fn write_all(command: &Command, folder: &std::path::Path) -> io::Result<String> {
    let path = folder.join(Man::new(command.clone()).get_filename());
    fs::write(&path, page(command))?;
    let mut names = format!("{}\n", path.display());
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        names.push_str(&write_all(below, folder)?);
    }
    Ok(names)
}

/// The page of one command, which was built with those above it.
fn page(command: &Command) -> String {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .source(format!("postlane {}", env!("CARGO_PKG_VERSION")))
        .manual("postlane");
    let mut roff = Vec::new();
    let parts =
        [Man::render_title, Man::render_name_section, Man::render_synopsis_section, Man::render_description_section];
    for part in parts {
        part(&man, &mut roff).expect("memory takes every byte");
    }
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut roff).expect("memory takes every byte");
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut roff).expect("memory takes every byte");
    }
    let mut text = String::from_utf8_lossy(&roff).into_owned();
    let after = command.get_after_long_help().or_else(|| command.get_after_help());
    text.push_str(&sections(&after.map(ToString::to_string).unwrap_or_default()));
    if let Some((above, _)) = name.rsplit_once('-') {
        let _ = write!(text, ".SH \"SEE ALSO\"\n.BR {} (1)\n", escaped(above));
    }
    text
}

/// Texts that start with a line such as `Examples:` as sections, kept line by line.
fn sections(text: &str) -> String {
    let mut out = String::new();
    let mut open = false;
    let close = |out: &mut String, open: &mut bool| {
        if std::mem::take(open) {
            out.truncate(out.trim_end().len());
            out.push_str("\n.EE\n");
        }
    };
    for line in text.lines() {
        match line.strip_suffix(':').filter(|title| !title.starts_with(' ') && !title.is_empty()) {
            Some(title) => {
                close(&mut out, &mut open);
                let _ = write!(out, ".SH \"{}\"\n.EX\n", escaped(&title.to_uppercase()));
                open = true;
            }
            None if !open && line.is_empty() => {}
            None if !open => {
                let _ = writeln!(out, ".PP\n{}", escaped(line));
            }
            None => {
                let _ = writeln!(out, "{}", escaped(line.strip_prefix("  ").unwrap_or(line)));
            }
        }
    }
    close(&mut out, &mut open);
    out
}

/// A text that roff takes as it stands: no escape, no request, and hyphens and quotes that can be copied into a shell.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '^' => out.push_str("\\(ha"),
            '~' => out.push_str("\\(ti"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_behind_the_options_becomes_sections() {
        assert_eq!(
            sections("Examples:\n  a --b '{\"c\":1}'\n  .d\\e\n\nExit status:\n  0  done"),
            ".SH \"EXAMPLES\"\n.EX\na \\-\\-b \\(aq{\"c\":1}\\(aq\n\\&.d\\ee\n.EE\n.SH \"EXIT STATUS\"\n.EX\n0  done\n.EE\n"
        );
        assert_eq!(sections(""), "");
        assert_eq!(sections("See there."), ".PP\nSee there.\n");
    }
}
