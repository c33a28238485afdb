//! Small files that others write: secrets and certificates.
//!
//! Owns that no such file can hold the service up: only regular files are opened, no more is read than such a file may
//! hold, and while the service runs nobody waits for a file system that hangs. What the content means is the reader's.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

/// Longest time for a file; one that takes longer lies on a file system that hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// One turn for each file that is read while the service runs: as many as the settings name.
static TURNS: Mutex<BTreeMap<PathBuf, Arc<tokio::sync::Mutex<()>>>> = Mutex::new(BTreeMap::new());

/// The content of a regular file, or of one that a link leads to, of at most `limit` bytes. Blocks.
///
/// # Errors
///
/// When it cannot be read, is a pipe, a device or a folder, or is longer.
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    // to open a pipe would be to wait for whoever writes to it
    regular(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    regular(&file.metadata()?)?;
    let mut content = Vec::new();
    file.take(u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1)).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes")));
    }
    Ok(content)
}

fn regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

/// Runs `work`, which reads this file, on a thread where it may block, and waits for a few seconds. What hangs keeps
/// its thread, and no second one is started for the same file before it has ended.
///
/// # Errors
///
/// When it takes longer.
pub(crate) async fn apart<T: Send + 'static>(path: &Path, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    within(PATIENCE, path, work).await
}

async fn within<T: Send + 'static>(
    patience: Duration,
    path: &Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    // no user panics while it holds the map
    let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner).entry(path.to_owned()).or_default().clone();
    let reading = async {
        let turn = turn.lock_owned().await;
        tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            outcome
        })
        .await
    };
    match timeout(patience, reading).await {
        Ok(outcome) => outcome.map_err(io::Error::other),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {patience:?}: does its file system hang?"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_only_short_ones() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        fs::write(&path, "12345").expect("written");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        assert_eq!(read(&link, 5).expect("read"), b"12345");
        assert_eq!(read(&path, 4).expect_err("long").to_string(), "it is longer than 4 bytes");
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
        for path in [pipe.as_path(), folder.path(), Path::new("/dev/zero")] {
            assert_eq!(read(path, 5).expect_err("odd").to_string(), "it is not a regular file", "{}", path.display());
        }
    }

    #[tokio::test]
    async fn what_hangs_is_waited_for_briefly_and_started_once() {
        let (path, started) = (Path::new("a file that hangs"), Arc::new(AtomicUsize::new(0)));
        let (end, hang) = mpsc::channel::<()>();
        let patience = Duration::from_millis(50);
        let count = Arc::clone(&started);
        let work = move || {
            count.fetch_add(1, Ordering::SeqCst);
            hang.recv()
        };
        let error = within(patience, path, work).await.expect_err("it hangs");
        assert!(error.to_string().starts_with("no answer within 50ms"), "{error}");
        for _ in 0..3 {
            let count = Arc::clone(&started);
            let again = within(patience, path, move || count.fetch_add(1, Ordering::SeqCst)).await;
            assert_eq!(again.expect_err("it hangs still").kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(started.load(Ordering::SeqCst), 1, "one thread hangs, not four");
        assert!(within(patience, Path::new("another file"), || ()).await.is_ok());
        end.send(()).expect("it waits");
        assert_eq!(within(PATIENCE, path, || 7).await.expect("it goes on"), 7);
    }
}
