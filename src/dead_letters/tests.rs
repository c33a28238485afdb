//! The pure parts: what a letter says, which are meant, what becomes of them, what is remembered, what a scan brings.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use serde_json::json;

use super::{
    Filter, Found, Kept, Lanes, Letter, Marks, Memory, Place, Scan, Skip, event_lines, exported, judge, of_this_topic,
    scan::Reading,
};
use crate::{
    config,
    failure::{Reason, Stage},
    kafka::{
        Record,
        dead_letter::{Failure, letter, stub},
        fetch::{Bounds, FetchError, Fetched, PartitionReader},
    },
};

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_767_600_000_000).expect("a time")
}

fn record(topic: &str, value: Option<&[u8]>) -> Record {
    Record {
        topic: Arc::from(topic),
        partition: 3,
        offset: 41,
        timestamp: now(),
        arrived: now(),
        key: Some(b"k\xff".to_vec()),
        value: value.map(<[u8]>::to_vec),
        headers: BTreeMap::new(),
    }
}

fn failure() -> Failure {
    Failure {
        stage: Stage::Send,
        reason: Reason::Rejected,
        message: "550 no".to_owned(),
        recipients: None,
        attempts: 2,
        smtp_code: Some(550),
        smtp_enhanced: Some((5, 1, 1)),
        message_id: Some("id-1".to_owned()),
    }
}

/// The letter that the service writes, as it is read back.
fn read(record: &Record, failure: &Failure) -> Letter {
    stored(letter(record, failure, "g", now()), 7)
}

fn stored(written: rskafka::record::Record, offset: i64) -> Letter {
    Letter::read(Record {
        topic: Arc::from("dlq"),
        partition: 0,
        offset,
        timestamp: written.timestamp,
        arrived: now(),
        key: written.key,
        value: written.value,
        headers: written.headers,
    })
}

fn event(fields: &serde_json::Value) -> Vec<u8> {
    let mut message = json!({"id": "", "to": ["a@example.com", "b@example.org"], "template": "plain"});
    for (name, value) in fields.as_object().expect("an object") {
        message[name] = value.clone();
    }
    json!({ "message": message }).to_string().into_bytes()
}

fn lanes() -> Lanes {
    let variables = [("KAFKA_BROKERS", "b:1"), ("KAFKA_TOPIC", "q"), ("KAFKA_GROUP_ID", "g")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Lanes::new(&config::kafka_from_variables(variables).expect("settings"))
}

#[test]
fn a_letter_reads_back_what_was_written() {
    let died = read(&record("q", Some(&event(&json!({})))), &Failure { recipients: Some(vec![1]), ..failure() });
    assert_eq!((died.reason.as_deref(), died.stage.as_deref()), (Some("rejected"), Some("send")));
    assert_eq!(
        (died.attempts, died.smtp_code.as_deref(), died.smtp_enhanced.as_deref()),
        (Some(2), Some("550"), Some("5.1.1"))
    );
    assert_eq!(died.original.as_ref().map(ToString::to_string).as_deref(), Some("q 3:41"));
    assert_eq!((died.died(), died.id().as_deref()), (now(), Some("id-1")));
    assert_eq!((died.addresses(), died.domains()), (vec!["b@example.org".to_owned()], vec!["example.org".to_owned()]));
    assert!(died.flaws.is_empty() && !died.is_foreign());
}

#[test]
fn two_letters_of_one_death_are_the_same_and_two_deaths_are_not() {
    let value = event(&json!({}));
    let first = record("q", Some(&value));
    let same = read(&first, &failure()).identity();
    assert_eq!(same, stored(letter(&first, &failure(), "other", now() + TimeDelta::hours(1)), 99).identity());
    let others = [
        Record { offset: 42, ..first.clone() },
        Record { partition: 4, ..first.clone() },
        Record { topic: "p".into(), ..first.clone() },
        // a topic that was made anew has the same offsets
        Record { timestamp: now() + TimeDelta::milliseconds(1), ..first.clone() },
    ];
    let identities: BTreeSet<_> =
        others.iter().map(|record| read(record, &failure()).identity()).chain([same]).collect();
    assert_eq!(identities.len(), 5);
    assert_eq!(Letter::read(first).identity(), None);
}

#[test]
fn what_becomes_of_a_letter() {
    let verdict =
        |letter: &Letter| judge(letter, &lanes(), now()).map(|target| (target.topic.to_string(), target.instead_of));
    let plain = event(&json!({}));
    assert_eq!(verdict(&read(&record("q-low", Some(&plain)), &failure())), Ok(("q-low".to_owned(), None)));
    let high = event(&json!({"priority": "high"}));
    // its topic decides, not its priority
    assert_eq!(verdict(&read(&record("q", Some(&high)), &failure())), Ok(("q".to_owned(), None)));
    let renamed = Some("old".to_owned());
    assert_eq!(verdict(&read(&record("old", Some(&high)), &failure())), Ok(("q-high".to_owned(), renamed)));
    let strange = stored(letter(&record("old", Some(&high)), &failure(), "another", now()), 1);
    assert_eq!(verdict(&strange), Err(Skip::OtherGroup("another".to_owned())));
    let strange = stored(letter(&record("q", Some(&high)), &failure(), "another", now()), 1);
    let differs = Skip::GroupDiffers { group: "another".to_owned(), ours: "g".to_owned() };
    assert_eq!(verdict(&strange), Err(differs), "it may have been sent back by its own group's name");
    let wanted = judge(&strange, &lanes().for_any_group(), now());
    assert_eq!(wanted.map(|target| target.topic.to_string()), Ok("q".to_owned()), "a group that was renamed");
    let expired = event(&json!({"expires_at": now().to_rfc3339()}));
    assert_eq!(verdict(&read(&record("q", Some(&expired)), &failure())), Err(Skip::Expired(now())));
    assert!(matches!(verdict(&read(&record("q", Some(b"{")), &failure())), Err(Skip::Unreadable(_))));
    let large = stored(stub(&record("q", Some(&plain)), &failure(), "g", now()), 1);
    assert!(matches!(verdict(&large), Err(Skip::TooLarge(Some(_)))));
    assert_eq!(verdict(&read(&record("q", None), &failure())), Err(Skip::NoValue));
    assert_eq!(verdict(&Letter::read(record("dlq", Some(&plain)))), Err(Skip::Foreign));
}

#[test]
fn an_event_is_exported_for_those_alone_who_were_not_served() {
    let lists = json!({"to": ["a@b.c"], "cc": "d@e.f", "bcc": ["g@h.i", "j@k.l"], "retry_count": 2});
    let value = event(&lists);
    let lines = |only: &[usize]| -> Vec<[serde_json::Value; 3]> {
        let died = read(&record("q", Some(&value)), &Failure { recipients: Some(only.to_vec()), ..failure() });
        let read = |line: String| serde_json::from_str::<serde_json::Value>(&line).expect("JSON")["message"].take();
        let messages = event_lines(&died).into_iter().map(read);
        messages
            .inspect(|message| assert!(message["id"] == "id-1" && message.get("retry_count").is_none(), "{message}"))
            .map(|message| ["to", "cc", "bcc"].map(|field| message[field].clone()))
            .collect()
    };
    assert_eq!(lines(&[0, 3]), [[json!(["a@b.c"]), json!([]), json!(["j@k.l"])]]);
    assert_eq!(lines(&[1]), [[json!(["d@e.f"]), json!([]), json!([])]], "somebody must stand in To");
    let alone = |address: &str| [json!([address]), json!([]), json!([])];
    assert_eq!(lines(&[2, 3]), [alone("g@h.i"), alone("j@k.l")], "no blind copy may see another");
    assert!(event_lines(&read(&record("q", Some(b"{")), &failure())).is_empty());
    assert_eq!(exported(&read(&record("q", Some(&value)), &failure()))["key"], json!({"base64": "a/8="}));
}

#[test]
fn an_empty_filter_takes_all_and_a_foreign_record_has_no_words() {
    let foreign = Letter::read(record("dlq", None));
    assert!(Filter::default().is_empty() && Filter::default().takes(&foreign));
    assert!(!Filter { reasons: vec![String::new()], ..Filter::default() }.takes(&foreign));
    assert!(!Filter { domains: vec!["example.com".to_owned()], ..Filter::default() }.takes(&foreign));
}

fn at(offset: i64) -> Place {
    Place { partition: 0, offset }
}

fn ends(end: i64) -> BTreeMap<i32, (i64, i64)> {
    [(0, (0, end))].into()
}

fn seen(kept: &Kept, end: i64, limit: usize) -> Memory {
    let mut memory = Memory::new(kept, &ends(end), limit).expect("ours");
    (0..end).for_each(|offset| memory.see(at(offset)));
    memory.seen_all();
    memory
}

fn kept(memory: &Memory) -> Kept {
    memory.positions().map(|(partition, it)| (partition, (it.offset, it.metadata))).collect()
}

#[test]
fn scattered_letters_are_refused_before_there_is_no_room() {
    let memory = seen(&Kept::new(), 100_000, 3712);
    let every_third: Vec<Place> = (0..100_000).step_by(3).map(at).collect();
    assert!(!memory.has_room_for(&every_third));
    assert!(memory.has_room_for(&every_third[..7000]), "a bitmap has room for 20,000 places at least");
    assert!(memory.has_room_for(&(0..100_000).map(at).collect::<Vec<_>>()));
    assert!(memory.has_room_for(&[at(99_999)]));
}

#[test]
fn an_offset_beyond_the_end_is_of_a_topic_that_is_gone() {
    let old: Kept = [(0, (50, String::new())), (7, (0, String::new()))].into();
    assert!(of_this_topic(&old, &ends(10)).is_empty());
    let ours = of_this_topic(&old, &ends(50));
    assert_eq!(ours, Kept::from([(0, (50, String::new()))]));
    // what another redrive has settled since the ends were read is settled
    assert!(!seen(&ours, 10, 4096).is_waiting(at(9)) && Marks::new(&ours).expect("ours").contains(at(9)));
    assert_eq!(kept(&seen(&ours, 10, 4096)), ours, "and is not taken back");
    let strange: Kept = [(0, (5, "not ours".to_owned()))].into();
    assert!(Memory::new(&strange, &ends(10), 4096).is_err() && Marks::new(&strange).is_err());
}

proptest! {
    #[test]
    fn what_was_settled_is_remembered_and_nothing_else(
        first in proptest::collection::btree_set(0..300_i64, 0..200),
        second in proptest::collection::btree_set(0..400_i64, 0..200),
    ) {
        let mut memory = seen(&Kept::new(), 300, 4096);
        for offset in &first {
            memory.settle(at(*offset));
        }
        // letters come in between
        let mut memory = seen(&kept(&memory), 400, 4096);
        for offset in 0..400 {
            prop_assert_eq!(memory.is_waiting(at(offset)), !first.contains(&offset));
        }
        for offset in &second {
            memory.settle(at(*offset));
        }
        let marks = Marks::new(&kept(&memory)).expect("ours");
        for start in [0, 150, 350] {
            let waiting = (start..400).filter(|offset| !first.contains(offset) && !second.contains(offset)).count();
            prop_assert_eq!(usize::try_from(marks.waiting(0, start, 400)), Ok(waiting));
        }
        for offset in 0..400 {
            prop_assert_eq!(marks.contains(at(offset)), first.contains(&offset) || second.contains(&offset));
        }
    }
}

/// A partition with these records, some of which fail the whole fetch that holds them.
struct Fake {
    records: Vec<(i64, i64)>,
    broken: BTreeSet<i64>,
    most: usize,
    /// How far the leader knows its replicas to be.
    known: i64,
}

#[async_trait]
impl PartitionReader for Fake {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        let found: Vec<_> = self.records.iter().filter(|(own, _)| *own >= offset).take(self.most).collect();
        if found.iter().any(|(own, _)| self.broken.contains(own)) {
            return Err(FetchError::Undecodable { detail: "null".to_owned() });
        }
        let records: Vec<Record> = found
            .into_iter()
            .map(|(offset, second)| Record {
                offset: *offset,
                timestamp: now() + TimeDelta::seconds(*second),
                ..record("dlq", None)
            })
            .collect();
        let next_offset = records.last().map_or(offset, |last| last.offset + 1);
        Ok(Fetched { records, next_offset, high_watermark: self.known })
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        Ok(Bounds { log_start: 0, log_end: 100 })
    }
}

fn source(partition: i32, records: &[(i64, i64)], broken: &[i64], end: i64) -> Reading {
    let fake = |most| -> Box<dyn PartitionReader> {
        Box::new(Fake { records: records.to_vec(), broken: broken.iter().copied().collect(), most, known: 100 })
    };
    (fake(4), fake(1), partition, 0, end)
}

/// A log whose batches, from their first offset to the one after their last, hold these records; it brings one at a time.
struct Compacted(Vec<(std::ops::Range<i64>, Vec<i64>)>);

#[async_trait]
impl PartitionReader for Compacted {
    async fn fetch(&mut self, offset: i64) -> Result<Fetched, FetchError> {
        let (_, batch) = self.0.iter().find(|(span, _)| span.end > offset).expect("below the end");
        let left: Vec<_> = batch.iter().copied().filter(|own| *own >= offset).map(|own| (own, own)).collect();
        let most = left.len();
        Fake { records: left, broken: BTreeSet::new(), most, known: 100 }.fetch(offset).await
    }

    async fn bounds(&mut self) -> Result<Bounds, FetchError> {
        unreachable!("no offset is out of range")
    }
}

async fn all(mut scan: Scan) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(found) = scan.next().await.expect("readable") {
        told.push(match found {
            Found::Letter(letter) => letter.place().offset.to_string(),
            Found::Undecodable { from, to, .. } => format!("{from}..{to}"),
        });
    }
    told
}

#[tokio::test]
async fn a_scan_goes_by_time_up_to_where_the_topic_ended() {
    let one = source(0, &[(0, 0), (1, 5), (2, 6), (3, 9)], &[], 3);
    let two = source(1, &[(10, 1), (12, 4), (17, 7)], &[], 18);
    assert_eq!(all(Scan::over([one, two])).await, ["0", "10", "12", "1", "2", "17"]);
}

#[tokio::test]
async fn a_scan_steps_over_what_it_cannot_decode_and_over_nothing_else() {
    let records: Vec<(i64, i64)> = (0..12).map(|offset| (offset, offset)).collect();
    for (broken, told) in [
        (&[5][..], "0 1 2 3 4 5..6 6 7 8 9 10 11"),
        (&[0], "0..1 1 2 3 4 5 6 7 8 9 10 11"),
        (&[4, 5, 6], "0 1 2 3 4..7 7 8 9 10 11"),
        (&[11], "0 1 2 3 4 5 6 7 8 9 10 11..12"),
    ] {
        let told: Vec<&str> = told.split(' ').collect();
        assert_eq!(all(Scan::over([source(0, &records, broken, 12)])).await, told, "{broken:?}");
    }
}

#[tokio::test]
async fn a_scan_finds_what_lies_behind_batches_that_compaction_has_emptied() {
    for (batches, end, told) in [
        (vec![(0..3, vec![]), (3..5, vec![3, 4])], 5, "0..3 3 4"),
        (vec![(0..4, vec![0, 1]), (4..6, vec![5])], 6, "0 1 2..5 5"),
        (vec![(0..1, vec![0]), (1..3, vec![])], 3, "0 1..3"),
        (vec![(0..2, vec![]), (2..4, vec![]), (4..5, vec![4]), (5..6, vec![])], 6, "0..4 4 5..6"),
    ] {
        let reader = || Box::new(Compacted(batches.clone()));
        let scan = Scan::over([(reader() as Box<dyn PartitionReader>, reader() as _, 0, 0, end)]);
        assert_eq!(all(scan).await, told.split(' ').collect::<Vec<_>>(), "{batches:?}");
    }
}

#[tokio::test]
async fn a_log_that_goes_on_and_brings_nothing_because_its_leader_does_not_know_is_an_error() {
    let fake = || Box::new(Fake { records: vec![(0, 0)], broken: BTreeSet::new(), most: 4, known: 1 });
    let mut scan = Scan::over([(fake() as Box<dyn PartitionReader>, fake() as _, 0, 0, 5)]);
    assert!(matches!(scan.next().await, Ok(Some(Found::Letter(_)))));
    assert!(matches!(scan.next().await, Err(FetchError::Unavailable { .. })));
}
