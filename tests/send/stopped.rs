//! A file whose sending is cut short goes on where it stopped.

use devkit::process::Signal;
use postlane::event::Priority;

use crate::bed::{Bed, events, ids};

const LINES: usize = 12_000;
const RATE: &str = "4000/s";

#[tokio::test]
async fn after_ctrl_c_nothing_is_missing_and_nothing_is_there_twice() {
    let bed = Bed::new().await;
    let file = bed.program.write("events", &events(1..=LINES));
    for (signal, status, name) in [(Signal::INT, 130, "SIGINT"), (Signal::TERM, 143, "SIGTERM")] {
        let already = bed.program.state()["published"].as_u64().unwrap_or_default();
        let mut running = bed.program.start(&["send", "--file", &file, "--rate", RATE]);
        bed.program.wait_for_published(already + 1000).await;
        running.process.signal(signal).expect("a signal");
        assert_eq!(running.wait().await, Some(status), "{}", running.log());
        let published = bed.program.state()["published"].as_u64().expect("a number");
        assert!((1000..LINES as u64).contains(&published), "{published}");
        let line = bed.program.state()["line"].as_u64().expect("a number");
        let told = format!("stopped by {name}; the same command goes on at line {line} ({file}.postlane)");
        assert!(running.log().contains(&told), "{}", running.log());
    }
    let ended = bed.program.run(&["send", "--file", &file]).await;
    assert!(ended.assert(0).err.contains("going on at line"), "{}", ended.err);
    assert!(ended.out.contains(", 12,000 with those before"), "{}", ended.out);
    bed.assert_once(Priority::Normal, ids(1..=LINES)).await;
}

#[tokio::test]
async fn after_sigkill_only_the_last_second_is_repeated_under_the_same_ids() {
    let bed = Bed::new().await;
    // without ids of their own
    let event = "{\"message\":{\"to\":\"a@example.com\",\"template\":\"plain\"}}\n";
    let file = bed.program.write("events", &event.repeat(LINES));
    let mut running = bed.program.start(&["send", "--file", &file, "--rate", RATE]);
    bed.program.wait_for_published(4000).await;
    running.process.signal(Signal::KILL).expect("a signal");
    assert_eq!(running.wait().await, None, "killed");
    bed.program.run(&["send", "--file", &file]).await.assert(0);

    let found = bed.ids(Priority::Normal).await;
    let run = bed.program.state()["run"].as_str().expect("a name").to_owned();
    let expected: Vec<String> = (1..=LINES).map(|number| format!("{run}-{number}")).collect();
    assert!(found.len() == LINES && expected.iter().all(|id| found.contains_key(id)), "{} ids", found.len());
    let repeated = found.values().filter(|times| **times > 1).count();
    // what a second holds, and what a slow machine puts on top
    assert!(repeated <= 8000, "{repeated}");
}

#[tokio::test]
async fn only_one_sends_a_file_at_a_time() {
    let bed = Bed::new().await;
    let file = bed.program.write("events", &events(1..=LINES));
    let mut first = bed.program.start(&["send", "--file", &file, "--rate", "100/s"]);
    bed.program.wait_for_published(1).await;
    let second = bed.program.run(&["send", "--file", &file, "--restart"]).await;
    assert!(second.assert(75).err.contains("is being sent by another process"), "{}", second.err);
    first.process.signal(Signal::INT).expect("a signal");
    assert_eq!(first.wait().await, Some(130));
}

/// Standard input gives a line now and then: each goes out at once, and a signal is not kept waiting by the next.
#[tokio::test]
async fn a_slow_pipe_is_published_line_by_line_and_can_be_stopped() {
    let bed = Bed::new().await;
    let pipe = bed.program.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let mut running = bed.program.start(&["send", "--file", pipe.to_str().expect("UTF-8")]);
    let mut writer = {
        let pipe = pipe.clone();
        let open = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(pipe));
        open.await.expect("no panic").expect("a pipe")
    };
    for number in 1..=2 {
        std::io::Write::write_all(&mut writer, events([number]).as_bytes()).expect("written");
        let topic = bed.topic(Priority::Normal);
        bed.cluster.read_until(topic, number, crate::bed::SOON).await.expect("it is there at once");
    }
    running.process.signal(Signal::INT).expect("a signal");
    assert_eq!(running.wait().await, Some(130), "{}", running.log());
    assert!(running.log().contains("Published: 2 mails"), "{}", running.log());
    bed.assert_once(Priority::Normal, ids(1..=2)).await;
}
