//! Whoever reads may stop reading: no panic, no message, and the status that the work has.

use std::process::{Command, Stdio};

use crate::bed::{Bed, Program, events};

/// Runs a command whose standard output, and if wanted standard error, nobody reads.
fn unread(mut command: Command, error_too: bool) -> (Option<i32>, String) {
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    command.stdout(closed());
    command.stderr(if error_too { closed() } else { Stdio::piped() });
    let output = command.spawn().expect("it starts").wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn a_pipe_that_closes_is_no_failure() {
    let program = Program::new();
    let sound = program.write("events", &events(1..=100));
    let bad = program.write("bad", "{}\n");
    for (arguments, status) in [
        (&["--help"][..], 0),
        (&["send", "--help"], 0),
        (&["--version"], 0),
        (&["completions", "zsh"], 0),
        (&["man"], 0),
        (&["send", "--to", "a@example.com", "--from", "b@example.com", "--template", "welcome", "--dry-run"], 0),
        (&["send", "--file", &sound, "--check"], 0),
        (&["send", "--file", &sound, "--check", "--json"], 0),
        (&["send", "--file", &bad, "--check"], 1),
        (&["config"], 78),
        (&["topics", "create"], 78),
        (&["nonsense"], 2),
    ] {
        let (code, said) = unread(program.command(arguments), true);
        assert_eq!((code, said.as_str()), (Some(status), ""), "{arguments:?}");
        let (code, said) = unread(program.command(arguments), false);
        assert_eq!(code, Some(status), "{arguments:?}: {said}");
        assert!(!said.to_lowercase().contains("pipe"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn a_file_is_published_even_where_nobody_reads_the_summary() {
    let bed = Bed::new().await;
    let file = bed.program.write("events", &events(1..=100));
    let command = bed.program.command(&["send", "--file", &file]);
    let ended = tokio::task::spawn_blocking(move || unread(command, true)).await.expect("no panic");
    assert_eq!(ended.0, Some(0));
    assert_eq!(bed.records(postlane::event::Priority::Normal).await.len(), 100);
}

/// Whoever sees a failure repeats the mail: it would be a second one.
#[tokio::test]
async fn a_mail_that_is_published_is_no_failure_where_the_receipt_cannot_be_written() {
    let bed = Bed::new().await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux");
    let mut command = bed.program.command(&["send", "--to", "a@example.com", "--template", "welcome", "--id", "w1"]);
    command.stdout(full).stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || command.spawn().expect("it starts").wait_with_output());
    let output = run.await.expect("no panic").expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("it would have said:\nw1 is in "), "{said}");
    assert_eq!(bed.records(postlane::event::Priority::Normal).await.len(), 1);
}
