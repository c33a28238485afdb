//! One test for each row of the table of outcomes.

use super::*;

fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    Reply::new(code.parse().expect("a code"), rest)
}

fn throttle() -> BTreeSet<ReplyPattern> {
    BTreeSet::from([ReplyPattern::Enhanced(5, 4, 5), ReplyPattern::Code(447)])
}

fn at_mail(text: &str) -> Class {
    match classify(&Attempt::MailRefused(reply(text)), &throttle()) {
        Verdict::All(class) => class,
        Verdict::Each(_) => panic!("MAIL is for all recipients"),
    }
}

fn each(replies: &[&str], data: Data) -> Vec<Class> {
    let replies = replies.iter().map(|text| reply(text)).collect();
    match classify(&Attempt::Recipients { replies, data }, &throttle()) {
        Verdict::Each(classes) => classes,
        Verdict::All(_) => panic!("recipients have a class each"),
    }
}

/// The class of `text` as the reply to RCPT beside an accepted recipient, to DATA, and to the final dot.
fn after_mail(text: &str) -> [Class; 3] {
    let sent = Data::Dot(reply("250 ok"));
    [
        each(&["250 ok", text], sent).remove(1),
        each(&["250 ok"], Data::Refused(reply(text))).remove(0),
        each(&["250 ok"], Data::Dot(reply(text))).remove(0),
    ]
}

fn lost(fresh: bool, text: Option<&str>) -> Class {
    let attempt = Attempt::Lost { fresh, reply: text.map(reply), detail: "why".to_owned() };
    match classify(&attempt, &throttle()) {
        Verdict::All(class) => class,
        Verdict::Each(_) => panic!("a lost session is for all recipients"),
    }
}

#[test]
fn sent_needs_a_2xx_to_rcpt_and_to_the_dot() {
    let classes = each(&["250 ok", "550 no", "251 ok"], Data::Dot(reply("250 queued")));
    let sent = || Class::Sent(reply("250 queued"));
    assert_eq!(classes, [sent(), Class::Refused { reply: reply("550 no"), at_mail: false }, sent()]);
    for data in [
        Data::NotAsked,
        Data::Refused(reply("250 ok")),
        Data::Dot(reply("354 go")),
        Data::Dot(reply("451 x")),
        Data::Unknown { detail: String::new() },
    ] {
        assert!(!matches!(each(&["250 ok"], data.clone())[0], Class::Sent(_)), "{data:?}");
    }
    for refused in ["354 go", "450 x", "550 x", "199 x"] {
        assert!(!matches!(each(&[refused], Data::Dot(reply("250 ok")))[0], Class::Sent(_)), "{refused}");
    }
}

#[test]
fn relay_down_is_a_failed_login_anywhere() {
    for text in ["530 5.7.0 must authenticate", "534 x", "535 x", "538 x"] {
        let down = Class::RelayDown(reply(text));
        assert_eq!(at_mail(text), down);
        assert_eq!(after_mail(text), [down.clone(), down.clone(), down.clone()]);
        assert_eq!(lost(false, Some(text)), down);
        assert_eq!(each(&[text], Data::NotAsked), [down]);
    }
    assert!(matches!(at_mail("536 x"), Class::Refused { .. }));
}

#[test]
fn a_lost_session_is_stale_when_used_and_broken_off_when_new() {
    let detail = || "why".to_owned();
    for text in [None, Some("421 bye"), Some("451 x"), Some("550 x")] {
        assert_eq!(lost(false, text), Class::Stale { reply: text.map(reply), detail: detail() });
        assert_eq!(lost(true, text), Class::BrokenOff { reply: text.map(reply), detail: detail() });
    }
}

#[test]
fn no_reply_to_the_dot_is_an_unknown_outcome_for_the_accepted() {
    let classes = each(&["250 ok", "450 x"], Data::Unknown { detail: "why".to_owned() });
    assert_eq!(classes, [Class::OutcomeUnknown { detail: "why".to_owned() }, Class::Deferred(reply("450 x"))]);
}

#[test]
fn a_421_is_deferred_at_the_dot_and_throttled_at_mail() {
    assert_eq!(each(&["250 ok"], Data::Dot(reply("421 bye"))), [Class::Deferred(reply("421 bye"))]);
    assert_eq!(at_mail("421 bye"), Class::Throttled(reply("421 bye")));
}

#[test]
fn throttled_is_any_4xx_to_mail_and_some_replies_anywhere() {
    for text in ["450 x", "451 4.7.1 x", "452 4.3.1 x", "452 4.5.3 x", "499 x"] {
        assert_eq!(at_mail(text), Class::Throttled(reply(text)));
    }
    for text in ["432 x", "454 x", "452 4.3.1 full", "447 named by code", "550 5.4.5 named by enhanced code"] {
        let slower = Class::Throttled(reply(text));
        assert_eq!(at_mail(text), slower);
        assert_eq!(after_mail(text), [slower.clone(), slower.clone(), slower]);
    }
    assert!(matches!(at_mail("550 5.4.6 x"), Class::Refused { .. }));
    assert!(after_mail("452 4.3.2 x").iter().all(|class| matches!(class, Class::Deferred(_))));
}

#[test]
fn a_throttle_pattern_never_catches_an_acceptance() {
    let all = BTreeSet::from([ReplyPattern::Code(250)]);
    let attempt = Attempt::Recipients { replies: vec![reply("250 ok")], data: Data::Dot(reply("250 queued")) };
    assert_eq!(classify(&attempt, &all), Verdict::Each(vec![Class::Sent(reply("250 queued"))]));
}

#[test]
fn too_many_recipients_is_split_as_long_as_some_were_accepted() {
    for text in ["452 4.5.3 enough", "552 4.5.3 enough", "552 5.5.3 enough"] {
        let ends = [
            Data::Dot(reply("250 ok")),
            Data::Dot(reply("451 x")),
            Data::Refused(reply("451 x")),
            Data::Unknown { detail: String::new() },
        ];
        for data in ends {
            assert_eq!(each(&["250 ok", text], data)[1], Class::Split(reply(text)), "{text}");
        }
        let alone = each(&[text, "550 no"], Data::NotAsked);
        assert_eq!(alone[0], Class::Deferred(reply(text)), "nobody was accepted: {text}");
    }
    // Elsewhere than at RCPT the reply has its usual meaning.
    assert_eq!(each(&["250 ok"], Data::Dot(reply("452 4.5.3 x"))), [Class::Deferred(reply("452 4.5.3 x"))]);
    assert!(matches!(each(&["250 ok"], Data::Dot(reply("552 5.5.3 x")))[0], Class::Refused { .. }));
    assert!(matches!(after_mail("452 no enhanced code")[0], Class::Deferred(_)));
    assert!(matches!(after_mail("552 5.2.2 mailbox full")[0], Class::Refused { .. }));
}

#[test]
fn other_4xx_are_deferred_and_other_5xx_refused() {
    for text in ["450 4.2.0 greylisted", "451 x", "421 x"] {
        let later = Class::Deferred(reply(text));
        assert_eq!(after_mail(text), [later.clone(), later.clone(), later]);
    }
    for text in ["550 5.1.1 unknown", "552 5.3.4 too big", "554 x", "503 x"] {
        let no = |at_mail| Class::Refused { reply: reply(text), at_mail };
        assert_eq!(at_mail(text), no(true));
        assert_eq!(after_mail(text), [no(false), no(false), no(false)]);
    }
}

#[test]
fn a_mail_beyond_the_servers_limit_is_too_large() {
    let verdict = classify(&Attempt::TooLarge { limit: 7 }, &throttle());
    assert_eq!(verdict, Verdict::All(Class::TooLarge { limit: 7 }));
}
