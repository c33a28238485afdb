//! No readable reply to the final dot: the relay may have the mail, and nobody can know.

use std::time::Duration;

use devkit::smtp::{Action, Command, SmtpServer, on};
use postlane::event::Priority;

use crate::{
    bed::{Bed, event},
    found::Found,
};

#[tokio::test]
async fn without_an_answer_the_attempts_end_and_every_copy_has_the_same_id() {
    let dot = |name: &str| on(Command::Dot).recipient(&format!("{name}@example.org"));
    let server = SmtpServer::builder()
        .rule(dot("silence").act(Action::silence()))
        .rule(dot("hangup").act(Action::TakeAndHangUp))
        .rule(dot("rubbish").act(Action::raw("well, well\r\n")))
        .rule(dot("between").act(Action::raw("354 more?\r\n")))
        .rule(dot("half").act(Action::Sequence(vec![Action::raw("250-half\r\n"), Action::HangUp])))
        .rule(dot("once").once(Action::silence()))
        .rule(dot("mixed").turns([Action::HangUp, Action::reply(451, "4.3.0", "a"), Action::reply(451, "4.3.0", "b")]));
    let mut bed = Bed::with(server, 1).await;
    bed.set("SMTP_FINAL_DOT_TIMEOUT", "300ms");
    let dead = ["silence", "hangup", "rubbish", "between", "half", "mixed"];
    let mail = |name: &str| event(name, &format!("{name}@example.org"));
    bed.publish(Priority::Normal, dead.map(mail)).await;
    bed.publish(Priority::Normal, [mail("once")]).await;
    let found = Found::at_the_end(&bed, bed.start()).await;

    for name in dead {
        let letter = found.letter(name);
        letter.assert_cause("send", "outcome-unknown", 3);
        assert_eq!(letter.recipients(), None);
        if name != "mixed" {
            letter.assert_reply("", "");
            letter.assert_headers(&["postlane-message-id"]);
        }
        let address = format!("{name}@example.org");
        let ledger = &found.ledger;
        let copies = ledger.taken().iter().chain(ledger.accepted()).chain(ledger.refused());
        let ids: Vec<_> = copies.filter(|mail| mail.recipients == [address.as_str()]).map(|m| m.message_id()).collect();
        assert_eq!(ids.len(), 3, "{name}");
        assert!(ids[0].is_some() && ids.iter().all(|id| id == &ids[0]), "{ids:?}");
        assert!(found.outcomes(name).iter().all(|fields| fields["outcome"] != "sent"));
    }
    found.assert_sent("once", 2, 1);
    let first = found.ledger.taken().iter().find(|mail| mail.recipients == ["once@example.org"]).expect("taken");
    assert_eq!(found.mails_to("once@example.org").next().expect("accepted").message_id(), first.message_id());
    assert_eq!(found.letters.len(), dead.len());
}

#[tokio::test]
async fn a_reply_that_comes_too_late_is_nobodys() {
    let late = |code, enhanced: &str| Action::late_reply(Duration::from_millis(700), code, enhanced, "sorry, late");
    let server = SmtpServer::builder()
        .rule(on(Command::Dot).recipient("refused@example.org").act(late(554, "5.6.0")))
        .rule(on(Command::Dot).recipient("no@example.org").reply(554, "5.6.0", "no"))
        .rule(on(Command::Rcpt).recipient("slow@example.org").act(late(250, "2.1.5")));
    let mut bed = Bed::with(server, 1).await;
    bed.set("SMTP_SESSIONS", 1);
    bed.set("SMTP_FINAL_DOT_TIMEOUT", "250ms");
    bed.set("SMTP_COMMAND_TIMEOUT", "250ms");
    bed.set("RETRY_MAX_ATTEMPTS", 2);
    // each late reply is followed by a mail that must not take it for its own
    let order = ["good0", "refused", "no", "slow", "good1", "refused2", "good2"];
    bed.publish(
        Priority::Normal,
        order.map(|name| event(name, &format!("{}@example.org", name.replace("refused2", "refused")))),
    )
    .await;
    // more of them, so that a mail that breaks the session off can be told from a relay that does
    bed.publish(Priority::Low, (3..9).map(|n| event(&format!("good{n}"), &format!("good{n}@example.org")))).await;
    let mut service = bed.start();
    for id in ["refused", "refused2", "no"] {
        service.wait_for_line(&[id, "dead letter"], crate::bed::SOON).await.expect("its end");
    }
    bed.smtp.clear();
    let found = Found::at_the_end(&bed, service).await;

    for id in ["refused", "refused2"] {
        found.letter(id).assert_cause("send", "outcome-unknown", 2);
        assert!(found.outcomes(id).iter().all(|fields| fields["outcome"] != "sent"), "{id} was called sent");
    }
    found.letter("no").assert_cause("send", "rejected", 1);
    for number in 0..9 {
        let id = format!("good{number}");
        found.assert_sent(&id, 1, 0);
    }
    assert_eq!(found.ledger.deliveries("refused@example.org"), 0);
}
