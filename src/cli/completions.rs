//! `postlane completions`: what a shell needs to know to complete the commands and their options.

use clap::Args;
use clap_complete::Shell;

use super::{exit::Exit, terminal::print};

const EXAMPLES: &str = "\
Examples:
  source <(postlane completions bash)              # a line of ~/.bashrc
  postlane completions zsh > ~/.zfunc/_postlane    # a folder of $fpath
  postlane completions fish > ~/.config/fish/completions/postlane.fish";

/// Which shell.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments, mut program: clap::Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "postlane", &mut script);
    print(&String::from_utf8_lossy(&script), Exit::Done)
}
