//! Whether files of a folder have changed, by looking at them now and then.
//!
//! Polling sees changes on every file system, also on those that a container or another machine writes to.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

/// Time between two looks.
pub(super) const INTERVAL: Duration = Duration::from_millis(250);

/// Files looked at, at the most.
const FILES: usize = 10_000;

/// What a folder looked like: of each file and folder when it was changed, its size and which file it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Seen(BTreeMap<std::path::PathBuf, (i64, i64, u64, u64)>);

impl Seen {
    /// Looks at the folder and at what is two levels below it: templates are not deeper.
    pub(super) fn of(dir: Option<&Path>) -> Self {
        let mut seen = Self::default();
        if let Some(dir) = dir {
            seen.add(dir, 2);
        }
        seen
    }

    fn add(&mut self, path: &Path, depth: usize) {
        // what a link leads to counts, since that is what is read
        let Ok(metadata) = fs::metadata(path) else { return };
        let changed = (metadata.ctime(), metadata.ctime_nsec(), metadata.len(), metadata.ino());
        // the time of a folder changes with files in it that are none of ours
        let changed = if metadata.is_dir() { (0, 0, 0, metadata.ino()) } else { changed };
        self.0.insert(path.to_owned(), changed);
        if !metadata.is_dir() || depth == 0 || self.0.len() >= FILES {
            return;
        }
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // what is not read either: what editors leave about, and the like
            if !name.starts_with('.') && !name.ends_with('~') {
                self.add(&entry.path(), depth - 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_change_is_seen_and_nothing_else() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("a")).expect("writable");
        fs::write(path("a/text.txt.j2"), "one").expect("writable");
        let mut before = Seen::of(Some(dir.path()));
        assert_eq!(before, Seen::of(Some(dir.path())));
        let mut changes = |what: &str, changed: bool| {
            let now = Seen::of(Some(dir.path()));
            assert_eq!(now != before, changed, "{what}");
            before = now;
        };
        fs::write(path("a/text.txt.j2"), "three").expect("writable");
        changes("another size", true);
        fs::write(path("a/.text.txt.j2.swp"), "x").expect("writable");
        fs::write(path("a/text.txt.j2~"), "x").expect("writable");
        changes("what an editor leaves about", false);
        // as editors save: a new file in the place of the old one
        fs::write(path("a/.new"), "eerht").expect("writable");
        fs::rename(path("a/.new"), path("a/text.txt.j2")).expect("writable");
        changes("a file in its place", true);
        fs::create_dir(path("b")).expect("writable");
        changes("a folder", true);
        fs::remove_dir(path("b")).expect("writable");
        changes("a folder less", true);
        std::os::unix::fs::symlink(path("a"), path("link")).expect("writable");
        changes("a link", true);
        fs::remove_dir_all(dir.path()).expect("writable");
        changes("all of it", true);
        assert_eq!(Seen::of(None), Seen::default());
    }
}
