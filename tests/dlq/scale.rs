//! Many letters: memory stays bounded, and all of them arrive once.

use std::{fs, process::Stdio, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    time::{Instant, sleep},
};

use crate::{
    bed::{Bed, SOON},
    letters::{bury, in_lane, letter, mail, quiet},
};

const LETTERS: usize = 20_000;
const MIB: usize = 1 << 20;
/// The program, its fetches, and a few dozen bytes for each letter.
const BOUND: usize = 96 * MIB;

/// Runs a command to its end: how many lines it has written, and the most memory that it had.
async fn measured(bed: &Bed, arguments: &[&str]) -> (usize, usize) {
    let mut child = bed.command(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
    let status = format!("/proc/{}/status", child.id().expect("it runs"));
    let mut stdout = child.stdout.take().expect("a pipe");
    let reading = tokio::spawn(async move {
        let (mut lines, mut buffer) = (0, vec![0; 64 * 1024]);
        loop {
            match stdout.read(&mut buffer).await.expect("readable") {
                0 => return lines,
                count => lines += buffer[..count].split(|byte| *byte == b'\n').count() - 1,
            }
        }
    });
    let (mut peak, begin) = (0, Instant::now());
    let ended = loop {
        if let Ok(status) = fs::read_to_string(&status) {
            let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
            let kib: usize = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
            peak = peak.max(kib * 1024);
        }
        if let Some(ended) = child.try_wait().expect("a state") {
            break ended;
        }
        assert!(begin.elapsed() < SOON * 3, "{arguments:?} does not end");
        sleep(Duration::from_millis(5)).await;
    };
    assert!(ended.success(), "{arguments:?}: {ended}");
    (reading.await.expect("no panic"), peak)
}

#[tokio::test]
async fn twenty_thousand_letters_take_little_memory_and_go_once() {
    let bed = quiet().await;
    for thousand in 0..LETTERS / 1000 {
        let numbers = thousand * 1000..(thousand + 1) * 1000;
        // two kilobytes that no compression makes small for who reads them
        let pad = |record: devkit::kafka::Record| record.header("x-pad", vec![b'x'; 2000]);
        bury(
            &bed,
            numbers.map(|number| pad(letter(&bed, i64::try_from(number).unwrap_or(0), &mail(number)))).collect(),
        )
        .await;
    }
    let commands: [(&[&str], usize); 4] = [
        (&["dlq", "list", "--json"], LETTERS),
        (&["dlq", "list", "--newest"], 51),
        (&["dlq", "export"], LETTERS),
        (&["dlq", "redrive", "--all", "--yes"], 0),
    ];
    for (command, lines) in commands {
        let begin = Instant::now();
        let (written, peak) = measured(&bed, command).await;
        println!("{command:?}: {} MiB, {:?}", peak / MIB, begin.elapsed());
        assert_eq!(written, lines, "{command:?}");
        assert!(peak < BOUND, "{command:?} took {} MiB", peak / MIB);
    }
    let (copies, _) = in_lane(&bed).await;
    assert!(copies.len() == LETTERS && copies.values().all(|count| *count == 1), "{}", copies.len());
}
