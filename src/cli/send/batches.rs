//! Lines by the batch, read ahead on a thread of its own: reading a pipe may take hours.

use std::io::{self, Read};

use tokio::sync::mpsc;

use super::lines::{Content, Line, Lines};

/// Lines and bytes that are read at once.
const BATCH: (usize, usize) = (512, 256 * 1024);
/// What is read stays so far ahead, in batches.
const BATCHES: usize = 4;

/// Lines in a row, at least one; or why there are no more.
pub(super) type Batch = io::Result<Vec<Line>>;

/// Starts to read. It ends with the lines, or when nobody listens; a batch never waits for a line that is not there yet.
pub(super) fn read<R: Read + Send + 'static>(mut lines: Lines<R>) -> mpsc::Receiver<Batch> {
    let (sender, receiver) = mpsc::channel(BATCHES);
    std::thread::spawn(move || {
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            let mut ended = None;
            while batch.len() < BATCH.0 && bytes < BATCH.1 && ended.is_none() {
                match lines.next() {
                    Ok(Some(line)) => {
                        if let Content::Event(event) = &line.content {
                            bytes += event.len();
                        }
                        batch.push(line);
                        if !lines.has_more() {
                            break;
                        }
                    }
                    Ok(None) => ended = Some(None),
                    Err(error) => ended = Some(Some(error)),
                }
            }
            let closed = !batch.is_empty() && sender.blocking_send(Ok(batch)).is_err();
            match ended {
                Some(Some(error)) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
                Some(None) => return,
                None if closed => return,
                None => {}
            }
        }
    });
    receiver
}
