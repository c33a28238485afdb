//! The loads: so many mails a second whatever becomes of those before, or so many callers one mail after the other.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{runtime::Handle, sync::mpsc, task::JoinSet, time::Instant};

use super::{latency::Measured, subject::Subject};

/// Sends at fixed times. A mail's time counts from when it was to be sent, so that one that waits because the program or
/// the broker is busy is not left out.
pub(super) async fn open(subject: Subject, rate: u32, warm_up: Duration, span: Duration) -> Result<Measured> {
    let subject = Arc::new(subject);
    let (tell, mut told) = mpsc::unbounded_channel();
    let handle = Handle::current();
    let start = Instant::now();
    // a thread of its own, because tokio's clock only knows whole milliseconds
    let clock = thread::spawn(move || {
        for number in 0.. {
            let due = Duration::from_secs(1) * number / rate;
            if due >= warm_up + span {
                break;
            }
            thread::sleep(due.saturating_sub(start.elapsed()));
            let (subject, tell) = (Arc::clone(&subject), tell.clone());
            handle.spawn(async move {
                let outcome = subject.send(number).await;
                let counts = due >= warm_up;
                let _ = tell.send(outcome.map(|()| counts.then(|| start.elapsed().saturating_sub(due))));
            });
        }
    });
    let mut times = Vec::new();
    while let Some(outcome) = told.recv().await {
        times.extend(outcome?);
    }
    clock.join().ok().context("the clock has panicked")?;
    Ok(Measured::new(times, span))
}

/// Lets so many callers send at once, each one mail after the other.
pub(super) async fn closed(subject: Subject, callers: u32, each: u32) -> Result<Measured> {
    let subject = Arc::new(subject);
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for caller in 0..callers {
        let subject = Arc::clone(&subject);
        calls.spawn(async move {
            let mut times = Vec::new();
            for mail in 0..each {
                let start = Instant::now();
                subject.send(caller * each + mail).await?;
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(call) = calls.join_next().await {
        times.extend(call??);
    }
    Ok(Measured::new(times, start.elapsed()))
}
