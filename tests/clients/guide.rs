//! The commands that `cargo xtask demo --keep` prints to be tried are ones that the program knows.

use std::{path::Path, process::Command};

const GUIDE: &str = include_str!("../../xtask/src/demo/guide.txt");

#[test]
fn the_program_knows_each_command_of_the_demos_guide() {
    let programs = Path::new(env!("CARGO_BIN_EXE_postlane")).parent().expect("a folder");
    let commands: Vec<&str> = GUIDE.lines().map(str::trim).filter(|line| runs_postlane(line)).collect();
    assert!(commands.len() >= 8, "{commands:?}");
    for command in commands {
        // Whatever is wrong with the words before it, clap says; only missing ones are forgiven.
        let line = format!("{} --help", command.split("    #").next().unwrap_or(command));
        let path = format!("{}:/usr/bin:/bin", programs.display());
        let output = Command::new("sh").args(["-c", &line]).env_clear().env("PATH", path).output().expect("a shell");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("Usage: postlane "), "{line}");
    }
}

fn runs_postlane(line: &str) -> bool {
    line.starts_with("postlane ") || line.starts_with("TEMPLATES_DIR= postlane ")
}
