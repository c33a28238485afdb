#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 4096;

fn tracker(unsettled: &[i64], settled: &[i64], position: i64) -> Tracker {
    let mut offsets: Vec<i64> = unsettled.iter().chain(settled).copied().collect();
    offsets.sort_unstable();
    let mut tracker = Tracker::new(offsets.first().copied().unwrap_or(position));
    for offset in offsets {
        assert_eq!(tracker.see(offset), Seen::New);
    }
    tracker.advance(position);
    for offset in settled {
        tracker.settle(0, *offset);
    }
    tracker
}

#[test]
fn commits_the_lowest_unsettled_offset() {
    let mut tracker = tracker(&[10, 11, 12], &[], 13);
    assert_eq!(tracker.commit(LIMIT).offset, 10);
    tracker.settle(0, 11);
    assert_eq!(tracker.commit(LIMIT).offset, 10);
    tracker.settle(0, 10);
    assert_eq!(tracker.commit(LIMIT).offset, 12);
    tracker.settle(0, 12);
    assert_eq!(tracker.commit(LIMIT), Position { offset: 13, metadata: String::new(), forgotten: 0 });
}

#[test]
fn gaps_are_not_waited_for() {
    let mut tracker = tracker(&[10], &[20], 30);
    tracker.settle(0, 10);
    assert_eq!(tracker.commit(LIMIT).offset, 30, "a marker at the end is no lag");
}

#[test]
fn a_restart_does_not_read_again_what_was_settled() {
    let before = tracker(&[10, 13], &[11, 12, 14, 15], 16);
    let commit = before.commit(LIMIT);
    assert_eq!((commit.offset, commit.forgotten), (10, 0));
    let mut after = Tracker::restore(commit.offset, &commit.metadata).unwrap();
    assert_eq!(after.position(), 10);
    let seen: Vec<Seen> = (10..18).map(|offset| after.see(offset)).collect();
    assert_eq!(
        seen,
        [Seen::New, Seen::Settled, Seen::Settled, Seen::New, Seen::Settled, Seen::Settled, Seen::New, Seen::New]
    );
}

#[test]
fn a_restart_commits_no_less_than_before() {
    let commit = tracker(&[10, 13], &[11, 12, 14, 15], 16).commit(LIMIT);
    let mut after = Tracker::restore(commit.offset, &commit.metadata).unwrap();
    assert_eq!(after.commit(LIMIT), commit, "nothing read yet, nothing forgotten");
    assert_eq!(after.see(10), Seen::New);
    after.advance(11);
    after.settle(0, 10);
    assert_eq!(after.commit(LIMIT).offset, 13);
}

#[test]
fn what_retention_took_after_a_restart_is_not_waited_for() {
    let commit = tracker(&[10, 13], &[11, 12, 14, 15], 16).commit(LIMIT);
    let mut after = Tracker::restore(commit.offset, &commit.metadata).unwrap();
    after.advance(20);
    assert_eq!(after.commit(LIMIT).offset, 20);
}

#[test]
fn a_second_look_at_an_offset_is_nothing_new() {
    let mut tracker = tracker(&[10], &[], 11);
    assert_eq!(tracker.see(10), Seen::Settled);
    assert_eq!(tracker.see(9), Seen::Settled);
}

#[test]
fn a_log_made_anew_is_followed() {
    let mut tracker = tracker(&[100], &[101], 102);
    tracker.restart(0);
    for offset in 0..=100 {
        assert_eq!(tracker.see(offset), Seen::New);
        if offset < 100 {
            tracker.settle(tracker.generation(), offset);
        }
    }
    tracker.settle(0, 100);
    assert_eq!(tracker.commit(LIMIT).offset, 100, "the old log's offset 100 is not the new one's");
}

#[test]
fn the_examples_of_the_document_are_what_is_written() {
    let document = include_str!("../../../docs/offsets.md");
    let settled_in = |ranges: &[std::ops::RangeInclusive<i64>]| ranges.iter().cloned().flatten().collect::<Vec<_>>();
    let examples = [
        (tracker(&[1000, 1003], &[1001, 1002, 1004, 1005], 1006), "e8 07 01 36 e1 61 04 96", "pl1:6AcBNuFhBJY"),
        (
            tracker(&[1000, 1301, 1302], &settled_in(&[1001..=1300, 1303..=1322]), 1323),
            "e8 07 00 01 ac 02 02 14 e1 05 32 af",
            "pl1:6AcAAawCAhThBTKv",
        ),
    ];
    for (tracker, bytes, text) in examples {
        assert_eq!(tracker.commit(LIMIT), Position { offset: 1000, metadata: text.to_owned(), forgotten: 0 });
        let encoded = text.strip_prefix("pl1:").unwrap();
        let decoded = data_encoding::BASE64URL_NOPAD.decode(encoded.as_bytes()).unwrap();
        let hex: Vec<String> = decoded.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(" "), bytes);
        assert!(document.contains(bytes) && document.contains(text), "{text}");
    }
}

#[test]
fn metadata_of_others_is_refused() {
    let metadata = tracker(&[10, 13], &[11, 12], 14).commit(LIMIT).metadata;
    assert!(Snapshot::parse(10, &metadata).is_ok());
    assert_eq!(Snapshot::parse(11, &metadata), Err(MetadataError::OtherOffset(10)));
    assert_eq!(Snapshot::parse(10, "by another client"), Err(MetadataError::Foreign));
    assert_eq!(Snapshot::parse(10, "pl2:AAAA"), Err(MetadataError::Foreign));
    for damaged in ["pl1:", "pl1:AAAA", "pl1:%%%%", &metadata[..metadata.len() - 1], &metadata.replace("pl1:", "pl1:A")]
    {
        assert_eq!(Snapshot::parse(10, damaged), Err(MetadataError::Damaged), "{damaged}");
    }
    for index in 4..metadata.len() {
        let mut damaged = metadata.clone().into_bytes();
        damaged[index] = if damaged[index] == b'A' { b'B' } else { b'A' };
        assert!(Snapshot::parse(10, &String::from_utf8(damaged).unwrap()).is_err(), "byte {index}");
    }
}

#[test]
fn what_has_no_room_is_counted() {
    let unsettled: Vec<i64> = (0..100_000).step_by(2).collect();
    let settled: Vec<i64> = (1..100_000).step_by(2).collect();
    let tracker = tracker(&unsettled, &settled, 100_000);
    let commit = tracker.commit(LIMIT);
    assert!(commit.metadata.len() <= LIMIT, "{}", commit.metadata.len());
    let remembered = Snapshot::parse(0, &commit.metadata).unwrap();
    let kept = (0..remembered.end).filter(|offset| !remembered.unsettled.contains(offset)).count() as u64;
    assert_eq!(kept + commit.forgotten, 50_000);
    assert!(kept > 10_000, "{kept}");
    assert_eq!(tracker.commit(0), Position { offset: 0, metadata: String::new(), forgotten: 50_000 });
}

#[test]
fn a_usual_load_fits() {
    let unsettled: Vec<i64> = (0..20_000).filter(|offset| offset % 10 == 0).collect();
    let settled: Vec<i64> = (0..20_000).filter(|offset| offset % 10 != 0).collect();
    assert_eq!(tracker(&unsettled, &settled, 20_000).commit(LIMIT).forgotten, 0);
}

proptest! {
    #[test]
    fn metadata_reads_back(
        base in 0..i64::MAX / 2,
        pattern in proptest::collection::vec((1..300_i64, proptest::bool::ANY), 1..200),
        limit in 0..6000_usize,
    ) {
        // the tracker's state: an unsettled base, then runs of settled and unsettled offsets
        let (mut unsettled, mut settled, mut at) = (BTreeSet::from([base]), Vec::new(), base + 1);
        for (length, done) in pattern {
            if done { settled.extend(at..at + length) } else { unsettled.extend(at..at + length.min(5)) }
            at += if done { length } else { length.min(5) };
        }
        let (metadata, forgotten) = metadata::encode(base, at, &unsettled, limit);
        prop_assert!(metadata.len() <= limit || metadata.is_empty());
        let (end, kept) = if metadata.is_empty() {
            (base, BTreeSet::new())
        } else {
            let snapshot = Snapshot::parse(base, &metadata).unwrap();
            (snapshot.end, snapshot.unsettled)
        };
        let below: BTreeSet<i64> = unsettled.range(..end.max(base)).copied().collect();
        if end > base { prop_assert_eq!(kept, below) }
        prop_assert_eq!(settled.iter().filter(|offset| **offset >= end).count() as u64, forgotten);
    }

    #[test]
    fn damage_never_passes_and_never_panics(text in "pl1:[A-Za-z0-9_-]{0,60}", offset in 0..1000_i64) {
        prop_assert!(Snapshot::parse(offset, &text).is_err());
    }

    #[test]
    fn nothing_is_committed_before_it_is_settled(
        steps in proptest::collection::vec((0..3_u8, 0..40_usize), 1..300),
    ) {
        // a model: every offset that was handed out and not settled must stay at or above what is committed, and a
        // restart must hand out exactly those and what was never read
        let mut tracker = Tracker::new(0);
        let (mut next, mut open, mut done) = (0_i64, Vec::new(), BTreeSet::new());
        for (step, choice) in steps {
            match step {
                0 => {
                    next += i64::try_from(choice % 3).unwrap();
                    if tracker.see(next) == Seen::New { open.push(next) } else { prop_assert!(done.contains(&next)) }
                    next += 1;
                    tracker.advance(next);
                }
                1 if !open.is_empty() => {
                    let offset = open.swap_remove(choice % open.len());
                    tracker.settle(0, offset);
                    done.insert(offset);
                }
                1 => {}
                _ => {
                    let commit = tracker.commit(LIMIT);
                    prop_assert!(open.iter().all(|offset| *offset >= commit.offset));
                    if choice < 5 {
                        tracker = Tracker::restore(commit.offset, &commit.metadata).unwrap();
                        for offset in commit.offset..next {
                            let new = tracker.see(offset) == Seen::New;
                            prop_assert!(new || !open.contains(&offset), "{} would be lost", offset);
                            prop_assert!(!new || !done.contains(&offset), "{} would be sent again", offset);
                            if new && !open.contains(&offset) { open.push(offset) }
                            tracker.advance(offset + 1);
                        }
                    }
                }
            }
        }
    }
}
