//! Whatever an event holds, the mail has the fields, recipients and parts that it should have, and no others.

use lettre::{Address, message::Mailbox};
use proptest::prelude::*;

use super::{
    compose,
    tests::{message, rendered, settings},
};
use crate::compose::Rendered;

/// Text with what does harm more often than chance would have it.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[ -~]{0,12}".prop_map(String::from),
        2 => any::<char>().prop_map(String::from),
        1 => "[a-zäß漢🦆]{0,400}".prop_map(String::from),
        1 => prop::sample::select(vec![
            "\r\nBcc: x@example.net\r\n", "\n", "\r", "\r\n.\r\n", "\r\n\r\n", "\0", "=?utf-8?B?eA==?=", "\u{2028}", "\u{85}",
            "\u{feff}", "\t", "--=_", "Content-Type: text/html", "<", ">", "\"", "\\", ",", ";", ":", "  ", "@", "＠", "＞",
        ]).prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn mailbox() -> impl Strategy<Value = Mailbox> {
    let user = prop_oneof![3 => "[a-z.+\"]{1,70}".prop_map(String::from), 1 => text()];
    let domain = prop_oneof![3 => "[a-z]{1,60}(\\.[a-zü_-]{1,20}){0,3}".prop_map(String::from), 1 => text()];
    (prop::option::of(text()), user, domain)
        .prop_map(|(name, user, domain)| Mailbox::new(name, Address::new_dangerous(user, domain)))
}

/// Names of the fields of a header, and the body.
fn parse(bytes: &[u8]) -> (Vec<String>, &str) {
    let text = std::str::from_utf8(bytes).expect("ASCII");
    assert!(text.is_ascii());
    let (head, body) = text.split_once("\r\n\r\n").expect("a body");
    let mut names = Vec::new();
    for line in head.split("\r\n") {
        if line.starts_with(' ') {
            assert!(!names.is_empty() && !line.trim().is_empty(), "a line of blanks: {head}");
        } else {
            names.push(line.split_once(':').expect("a name").0.to_owned());
        }
    }
    (names, body)
}

fn check_lines(bytes: &[u8]) {
    let text = std::str::from_utf8(bytes).expect("ASCII");
    assert!(text.ends_with("\r\n"));
    for line in text.split("\r\n") {
        assert!(line.len() < 998, "{} bytes", line.len());
        assert!(!line.contains(['\r', '\n', '\0']), "{line:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn headers_hold_what_they_should(
        subject in text(),
        extra in prop::collection::vec((prop_oneof![3 => "X-[A-Za-z]{1,60}".prop_map(String::from), 1 => text()], text()), 0..4),
        from in mailbox(),
        to in prop::collection::vec(mailbox(), 1..4),
        cc in prop::collection::vec(mailbox(), 0..3),
        bcc in prop::collection::vec(mailbox(), 0..3),
        reply_to in prop::collection::vec(mailbox(), 0..3),
    ) {
        let mut message = message();
        message.subject = Some(subject);
        message.headers = extra;
        // One bad piece refuses the whole mail: each property is tried apart and together.
        let mut variants = vec![message.clone()];
        for change in 0..5 {
            let mut one = super::tests::message();
            match change {
                0 => one.from = Some(from.clone()),
                1 => one.to.clone_from(&to),
                2 => one.cc.clone_from(&cc),
                3 => one.bcc.clone_from(&bcc),
                _ => one.reply_to.clone_from(&reply_to),
            }
            variants.push(one);
        }
        (message.from, message.to, message.cc, message.bcc, message.reply_to) = (Some(from), to, cc, bcc, reply_to);
        variants.push(message);
        for message in variants {
            match compose(&message, rendered(), &settings()) {
                Ok(mail) => {
                    check_lines(&mail.bytes);
                    let mut expected = vec!["Date", "From"];
                    expected.extend((!message.reply_to.is_empty()).then_some("Reply-To"));
                    expected.push("To");
                    expected.extend((!message.cc.is_empty()).then_some("Cc"));
                    expected.extend(["Subject", "Message-ID", "Auto-Submitted"]);
                    expected.extend(message.headers.iter().map(|(name, _)| name.as_str()));
                    expected.extend(["MIME-Version", "Content-Type"]);
                    prop_assert_eq!(parse(&mail.bytes).0, expected);
                    let count = message.to.len() + message.cc.len() + message.bcc.len();
                    prop_assert!((1..=count).contains(&mail.recipients.len()));
                    for recipient in &mail.recipients {
                        let address = recipient.address.to_string();
                        prop_assert!(address.is_ascii() && !address.contains(|c: char| c.is_ascii_control()));
                    }
                }
                Err(error) => {
                    let shown = error.to_string();
                    prop_assert!(shown.len() < 200 && !shown.contains(|c: char| c.is_control()), "{}", shown);
                }
            }
        }
    }

    #[test]
    fn bodies_make_the_parts_that_they_should(plain in text(), html in text(), which in 0..3) {
        let mut given = Rendered { subject: None, text: Some(plain), html: Some(html) };
        match which {
            0 => given.text = None,
            1 => given.html = None,
            _ => {}
        }
        let both = given.text.is_some() && given.html.is_some();
        let mail = compose(&message(), given, &settings()).expect("any body is good");
        check_lines(&mail.bytes);
        let (names, body) = parse(&mail.bytes);
        if both {
            prop_assert!(!names.contains(&"Content-Transfer-Encoding".to_owned()));
            let boundary = format!("\r\n--=_{}", super::digest("boundary", &message().id));
            let body = format!("\r\n{body}");
            let parts: Vec<_> = body.split(&boundary).collect();
            prop_assert_eq!((parts.len(), parts[0], parts[3]), (4, "", "--\r\n"));
            for part in &parts[1..3] {
                let (names, _) = parse(part.strip_prefix("\r\n").expect("a line end").as_bytes());
                prop_assert_eq!(names, ["Content-Type", "Content-Transfer-Encoding"]);
            }
        } else {
            prop_assert!(names.ends_with(&["Content-Type".to_owned(), "Content-Transfer-Encoding".to_owned()]));
        }
    }

    #[test]
    fn any_id_makes_a_message_id(id in any::<String>()) {
        let given = super::message_id(&id, "example.com");
        prop_assert_eq!(given.len(), 1 + 32 + "@example.com>".len());
        prop_assert!(given[1..33].bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')));
    }
}
