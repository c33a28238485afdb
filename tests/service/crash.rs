//! kill -9: nothing is lost, and what a commit holds is not sent again.

use std::{collections::HashMap, time::Duration};

use devkit::{
    kafka::Record,
    smtp::{Action, Command, SmtpServer, on},
};
use postlane::event::Priority;

use crate::{
    bed::{Bed, SOON, end, event},
    watch::{copies, until},
};

const PARTITIONS: i32 = 2;

/// A record, and how its mail is found in the ledger.
struct Published {
    topic: String,
    partition: i32,
    offset: i64,
    recipient: String,
}

/// Publishes `each` mails to every partition of every lane. `name` makes the local part of the recipient.
async fn publish(bed: &Bed, each: i64, name: impl Fn(Priority, i32, i64) -> String) -> Vec<Published> {
    let mut published = Vec::new();
    for lane in Priority::ALL {
        for partition in 0..PARTITIONS {
            let recipients: Vec<String> =
                (0..each).map(|number| format!("{}@example.com", name(lane, partition, number))).collect();
            let records =
                recipients.iter().map(|recipient| Record::new(event(recipient, recipient).to_string())).collect();
            let offsets = bed.cluster.produce(bed.topic(lane), partition, records).await.expect("published");
            published.extend(recipients.into_iter().zip(offsets).map(|(recipient, offset)| Published {
                topic: bed.topic(lane).to_owned(),
                partition,
                offset,
                recipient,
            }));
        }
    }
    published
}

/// The recipients of all records that the group has committed as settled.
async fn committed<'a>(bed: &Bed, published: &'a [Published]) -> Vec<&'a str> {
    let progress = bed.progress().await;
    let settled = published.iter().filter(|it| {
        let of = progress.get(&(it.topic.clone(), it.partition));
        of.is_some_and(|progress| progress.has_settled(it.offset))
    });
    settled.map(|it| it.recipient.as_str()).collect()
}

#[tokio::test]
async fn what_was_settled_before_the_last_commit_is_not_sent_again() {
    let smtp = SmtpServer::builder()
        .rule(on(Command::Rcpt).recipient_contains("later-").reply(451, "4.7.1", "greylisted"))
        .rule(on(Command::Dot).recipient_contains("held-").act(Action::silence()));
    let mut bed = Bed::with(smtp, PARTITIONS).await;
    bed.set("RETRY_INITIAL_DELAY", "1h");
    bed.set("RETRY_MAX_DELAY", "1h");
    let published = publish(&bed, 20, |lane, partition, number| {
        let kind = match number {
            3 | 10 => "later",
            7 => "held",
            _ => "plain",
        };
        format!("{kind}-{lane}-{partition}-{number}")
    })
    .await;
    let mut service = bed.start();
    let plain = published.iter().filter(|it| it.recipient.starts_with("plain-")).count();
    until("all that can be settled is committed", async || {
        (committed(&bed, &published).await.len() == plain).then_some(())
    })
    .await;
    bed.smtp.wait_until(|ledger| ledger.count(Command::Dot) >= 6, SOON).await.ok();
    service.kill().await.expect("killed");

    bed.smtp.clear();
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    let copies = copies(&bed.smtp);
    for it in &published {
        assert_eq!(copies.get(&it.recipient), Some(&1), "{}", it.recipient);
    }
    let ledger = bed.smtp.ledger();
    assert_eq!(ledger.taken().len(), 6, "the held ones had reached the relay");
    for mail in ledger.taken() {
        let id = mail.message_id().expect("an id");
        assert_eq!(ledger.copies(id), 1, "the copy of a mail in doubt has the same Message-ID");
    }
    assert!(bed.dead_letters_now().await.is_empty());
    end(service).await;
}

#[tokio::test]
async fn killed_again_and_again_nothing_is_lost_and_nothing_committed_comes_twice() {
    const MAILS: usize = 2000;
    let smtp = SmtpServer::builder().latency(Command::Dot, Duration::from_millis(20));
    let bed = Bed::with(smtp, PARTITIONS).await;
    let each = i64::try_from(MAILS).expect("a few") / 6 + 1;
    let published = publish(&bed, each, |lane, partition, number| format!("{lane}-{partition}-{number}")).await;
    let mut settled: HashMap<&str, usize> = HashMap::new();
    for kill in 1..=4 {
        let mut service = bed.start();
        let before = bed.smtp.ledger().accepted().len();
        bed.smtp.wait_for_mails((before + MAILS / 8).max(kill * MAILS / 6), SOON).await.expect("mails");
        service.kill().await.expect("killed");
        bed.smtp.wait_until(|ledger| ledger.open() == 0, SOON).await.expect("all sessions have ended");
        let now = copies(&bed.smtp);
        for recipient in committed(&bed, &published).await {
            let count = now.get(recipient).copied().unwrap_or(0);
            assert!(count > 0, "{recipient} is committed and was never sent");
            assert_eq!(*settled.entry(recipient).or_insert(count), count, "{recipient} was committed and sent again");
        }
    }
    assert!(settled.len() > MAILS / 10, "only {} were committed before the kills", settled.len());
    let mut service = bed.start();
    bed.wait_for_no_lag(&mut service).await;
    let at_last = copies(&bed.smtp);
    for it in &published {
        let count = at_last.get(&it.recipient).copied().unwrap_or(0);
        assert!(count > 0, "{} is lost", it.recipient);
        if let Some(before) = settled.get(it.recipient.as_str()) {
            assert_eq!(count, *before, "{} was committed and sent again", it.recipient);
        }
    }
    let ids: std::collections::HashSet<_> =
        bed.smtp.ledger().accepted().iter().filter_map(|mail| mail.message_id().map(str::to_owned)).collect();
    assert_eq!(ids.len(), published.len(), "copies have the same Message-ID");
    assert!(bed.dead_letters_now().await.is_empty());
    end(service).await;
}
