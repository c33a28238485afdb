//! Completions, manual pages and help, as a shell, groff and a terminal take them.

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use crate::bed::Program;

fn output(command: &mut Command) -> Output {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    output.unwrap_or_else(|error| panic!("{}: {error}", command.get_program().display()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn said(program: &Program, arguments: &[&str]) -> String {
    let output = output(&mut program.command(arguments));
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn every_shell_has_completions() {
    let program = Program::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = said(&program, &["completions", shell]);
        assert!(script.contains("give-up-after") && script.contains("completions"), "{shell}");
    }
    assert_eq!(output(&mut program.command(&["completions", "ksh"])).status.code(), Some(2));
}

#[test]
fn bash_takes_the_completions_and_completes() {
    let program = Program::new();
    program.write("completions", &said(&program, &["completions", "bash"]));
    let checked = output(Command::new("bash").arg("-n").arg(program.path("completions")));
    assert!(checked.status.success() && checked.stderr.is_empty(), "{}", text(&checked.stderr));
    for (words, expected) in [
        ("postlane se", "serve send"),
        ("postlane send --gi", "--give-up-after"),
        ("postlane topics cr", "create"),
        ("postlane send --format e", "eml event"),
        ("postlane send --priority l", "low"),
        ("postlane send --priority ''", "high normal low"),
        ("postlane dlq list --stage s", "send"),
        ("postlane dlq redrive --reason re", "rejected retries-exhausted"),
        ("postlane templates render --format h", "html"),
    ] {
        let script = format!(
            "source completions; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _postlane postlane \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\" | sort | xargs"
        );
        let completed = output(Command::new("bash").arg("-c").arg(&script).current_dir(program.folder.path()));
        let completed = text(&completed.stdout);
        for word in expected.split(' ') {
            assert!(completed.split_whitespace().any(|found| found == word), "{words}: {completed}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page_that_groff_takes_without_a_warning() {
    let program = Program::new();
    fs::create_dir(program.path("man")).expect("a folder");
    let names = said(&program, &["man", "--output-dir", "man"]);
    for page in ["postlane", "postlane-send", "postlane-topics-create", "postlane-man"] {
        assert!(names.contains(&format!("man/{page}.1\n")), "{page} in {names}");
    }
    for name in names.lines() {
        let formatted = output(
            Command::new("groff")
                .args(["-man", "-ww", "-Tutf8", "-P-c", "-P-b", "-P-u", "-P-o"])
                .arg(program.path(name)),
        );
        assert!(formatted.status.success() && formatted.stderr.is_empty(), "{name}: {}", text(&formatted.stderr));
        let page = text(&formatted.stdout);
        assert!(page.contains("SYNOPSIS") && page.contains("DESCRIPTION"), "{page}");
    }
    let page = said(&program, &["man", "send"]);
    assert_eq!(page, program.read("man/postlane-send.1"));
    assert!(
        page.contains(".SH \"EXAMPLES\"\n.EX\n# One mail") && page.contains("\npostlane send \\-\\-file "),
        "{page}"
    );
    assert!(said(&program, &["man"]).contains(".SH \"EXIT STATUS\"\n"));
    assert_eq!(output(&mut program.command(&["man", "nonsense"])).status.code(), Some(2));
    assert_eq!(output(&mut program.command(&["man", "--output-dir", "/nowhere"])).status.code(), Some(1));
}

#[test]
fn colours_are_shown_where_they_are_wanted() {
    let program = Program::new();
    let coloured = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = program.command(arguments);
        command.envs(variables.iter().copied());
        text(&output(&mut command).stdout).contains('\x1b')
    };
    // without settings it fails, with a table
    let check = ["check"];
    assert!(!coloured(&check, &[]));
    assert!(coloured(&["check", "--color", "always"], &[("NO_COLOR", "1")]));
    assert!(coloured(&["--color=always", "check"], &[]));
    assert!(coloured(&check, &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&check, &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(!coloured(&["check", "--color=never"], &[("CLICOLOR_FORCE", "1")]));
    assert!(coloured(&["--color=always", "--help"], &[]));
    assert!(!coloured(&["--help"], &[]));
}
