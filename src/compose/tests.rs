use serde_json::json;

use super::*;
use crate::event::Priority;

pub(super) fn message() -> Message {
    Message {
        kind: "notification".into(),
        id: "550e8400-e29b-41d4-a716-446655440000".into(),
        from: Some("Usual Store <orders@usualstore.com>".parse().expect("mailbox")),
        to: vec!["user@example.com".parse().expect("mailbox")],
        cc: vec![],
        bcc: vec![],
        reply_to: vec![],
        subject: Some("Hello".into()),
        template: "plain".into(),
        data: serde_json::from_value(json!({"body": "x"})).expect("an object"),
        headers: vec![],
        priority: Priority::Normal,
        timestamp: "2025-12-25T20:00:00Z".parse().expect("time"),
        expires_at: None,
        retry_count: 0,
        max_retries: None,
        only_recipients: None,
    }
}

pub(super) fn rendered() -> Rendered {
    Rendered { subject: None, text: Some("Text\n".into()), html: Some("<p>HTML</p>\n".into()) }
}

pub(super) fn settings() -> config::Mail {
    config::Mail {
        from: None,
        envelope_from: None,
        redirect_to: None,
        max_size: 10_000_000,
        subject_templates: false,
        templates_dir: None,
    }
}

fn mail(change: impl FnOnce(&mut Message)) -> Result<Mail, ComposeError> {
    let mut message = message();
    change(&mut message);
    compose(&message, rendered(), &settings())
}

fn shown(mail: &Mail) -> String {
    String::from_utf8(mail.bytes.clone()).expect("ASCII")
}

/// The refusal as `reason: text`.
fn refusal(change: impl FnOnce(&mut Message)) -> String {
    let error = mail(change).expect_err("refused");
    format!("{}: {error}", error.reason().as_str())
}

fn mailbox(name: Option<&str>, user: &str, domain: &str) -> lettre::message::Mailbox {
    lettre::message::Mailbox::new(name.map(str::to_owned), Address::new_dangerous(user, domain))
}

#[test]
fn the_whole_mail() {
    let mail = mail(|m| {
        m.cc = vec!["copy@example.com".parse().expect("mailbox")];
        m.bcc = vec!["audit@example.com".parse().expect("mailbox")];
        m.reply_to = vec!["help@usualstore.com".parse().expect("mailbox")];
        m.headers = vec![("X-Campaign".into(), "orders".into())];
    })
    .expect("good");
    let expected = "Date: Thu, 25 Dec 2025 20:00:00 +0000\r\n\
        From: Usual Store <orders@usualstore.com>\r\n\
        Reply-To: help@usualstore.com\r\n\
        To: user@example.com\r\n\
        Cc: copy@example.com\r\n\
        Subject: Hello\r\n\
        Message-ID: <MID@usualstore.com>\r\n\
        Auto-Submitted: auto-generated\r\n\
        X-Campaign: orders\r\n\
        MIME-Version: 1.0\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"=_BOUNDARY\"\r\n\
        \r\n\
        --=_BOUNDARY\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        Text\r\n\
        --=_BOUNDARY\r\n\
        Content-Type: text/html; charset=utf-8\r\n\
        Content-Transfer-Encoding: 7bit\r\n\
        \r\n\
        <p>HTML</p>\r\n\
        --=_BOUNDARY--\r\n";
    let id = digest("", "550e8400-e29b-41d4-a716-446655440000");
    let boundary = digest("boundary", "550e8400-e29b-41d4-a716-446655440000");
    assert_ne!(id, boundary);
    assert_eq!(shown(&mail), expected.replace("MID", &id).replace("BOUNDARY", &boundary));
    assert_eq!(mail.message_id, format!("<{id}@usualstore.com>"));
    assert_eq!(mail.envelope_from.to_string(), "orders@usualstore.com");
    let recipients: Vec<_> = mail.recipients.iter().map(|r| (r.index, r.address.to_string())).collect();
    assert_eq!(
        recipients,
        [(0, "user@example.com".into()), (1, "copy@example.com".into()), (2, "audit@example.com".into())]
    );
}

#[test]
fn the_message_id_is_base32_of_sha256() {
    // printf abc | sha256sum | xxd -r -p | base32 | tr A-Z a-z | cut -c -32
    assert_eq!(message_id("abc", "example.com"), "<xj4bnp4pahh6uqkbidpf3lrceoyagynd@example.com>");
}

#[test]
fn the_same_event_gives_the_same_bytes() {
    assert_eq!(mail(|_| ()).expect("good"), mail(|_| ()).expect("good"));
    assert_ne!(mail(|_| ()).expect("good").message_id, mail(|m| m.id.push('x')).expect("good").message_id);
}

#[test]
fn a_single_part_is_not_wrapped() {
    for (rendered, kind) in [
        (Rendered { text: Some("x".into()), ..Rendered::default() }, "text/plain"),
        (Rendered { html: Some("x".into()), ..Rendered::default() }, "text/html"),
    ] {
        let mail = compose(&message(), rendered, &settings()).expect("good");
        let text = shown(&mail);
        assert!(text.contains(&format!("MIME-Version: 1.0\r\nContent-Type: {kind}; charset=utf-8\r\n")), "{text}");
        assert!(text.ends_with("\r\n\r\nx\r\n") && !text.contains("boundary"), "{text}");
    }
    let error = compose(&message(), Rendered::default(), &settings()).expect_err("nothing to send");
    assert_eq!(error.reason().as_str(), "malformed");
}

#[test]
fn only_the_recipients_that_are_left_stand_in_the_envelope() {
    let mail = mail(|m| {
        m.to = vec!["a@example.com".parse().expect("mailbox"), "b@example.com".parse().expect("mailbox")];
        m.cc = vec!["c@example.com".parse().expect("mailbox")];
        m.bcc = vec!["d@example.com".parse().expect("mailbox")];
        m.only_recipients = Some(vec![3, 1]);
    })
    .expect("good");
    assert_eq!(mail.recipients.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 3]);
    let text = shown(&mail);
    assert!(text.contains("To: a@example.com, b@example.com\r\nCc: c@example.com\r\n"), "{text}");
    assert!(!text.contains("d@example.com"));
    assert_eq!(
        refusal(|m| m.only_recipients = Some(vec![0, 1])),
        "malformed: postlane-recipients: names a recipient that is not there"
    );
    assert!(refusal(|m| m.only_recipients = Some(vec![])).starts_with("malformed: "));
    assert!(refusal(|m| m.to.clear()).starts_with("malformed: "));
}

#[test]
fn nobody_gets_a_mail_twice() {
    let twice = |m: &mut Message| {
        m.to = vec!["a@example.com".parse().expect("mailbox"), "A <a@EXAMPLE.com>".parse().expect("mailbox")];
        m.cc = vec!["A@example.com".parse().expect("mailbox")];
        m.bcc = vec!["a@example.com".parse().expect("mailbox")];
    };
    let indices = |mail: Mail| mail.recipients.iter().map(|r| r.index).collect::<Vec<_>>();
    assert_eq!(indices(mail(twice).expect("good")), [0, 2], "the local part counts with its case");
    let some = mail(|m| {
        twice(m);
        m.only_recipients = Some(vec![1, 3]);
    });
    assert_eq!(indices(some.expect("good")), [1]);
}

#[test]
fn senders() {
    let fallback = config::Mail { from: Some("Us <us@example.org>".parse().expect("mailbox")), ..settings() };
    let mut anonymous = message();
    anonymous.from = None;
    let mail = compose(&anonymous, rendered(), &fallback).expect("good");
    assert!(shown(&mail).contains("\r\nFrom: Us <us@example.org>\r\n"));
    assert!(mail.message_id.ends_with("@example.org>"));
    assert_eq!(refusal(|m| m.from = None), "bad-address: message.from: is absent and MAIL_FROM is not set");
    let bounces =
        config::Mail { envelope_from: Some("bounce@bücher.example".parse().expect("address")), ..settings() };
    let mail = compose(&message(), rendered(), &bounces).expect("good");
    assert_eq!(mail.envelope_from.to_string(), "bounce@xn--bcher-kva.example");
    assert!(shown(&mail).contains("From: Usual Store <orders@usualstore.com>"));
}

#[test]
fn subjects() {
    let subject = |own: Option<&str>, given: Option<&str>, expand| {
        let message = Message { subject: own.map(str::to_owned), ..message() };
        let rendered = Rendered { subject: given.map(str::to_owned), ..rendered() };
        let settings = config::Mail { subject_templates: expand, ..settings() };
        compose(&message, rendered, &settings).map(|mail| {
            let text = shown(&mail);
            let start = text.find("Subject: ").expect("a subject") + "Subject: ".len();
            text[start..].split("\r\n").next().expect("a line").to_owned()
        })
    };
    assert_eq!(subject(Some("own"), Some("template"), false).as_deref(), Ok("own"));
    assert_eq!(subject(Some("{{ own }}"), Some("expanded"), true).as_deref(), Ok("expanded"));
    assert_eq!(subject(Some(" "), Some("template"), false).as_deref(), Ok("template"));
    assert_eq!(subject(None, Some("template"), true).as_deref(), Ok("template"));
    assert_eq!(subject(Some("Grüße"), None, false).as_deref(), Ok("=?utf-8?B?R3LDvMOfZQ==?="));
    assert_eq!(subject(Some("=?utf-8?B?eA==?="), None, false).as_deref(), Ok("=?utf-8?B?PT91dGYtOD9CP2VBPT0/PQ==?="));
    for (own, given) in [(None, None), (Some(""), Some(" "))] {
        let error = subject(own, given, false).expect_err("no subject");
        assert_eq!(error.to_string(), "message.subject: is absent and the template has none");
        assert_eq!(error.reason().as_str(), "malformed");
    }
}

#[test]
fn controls_are_refused_wherever_they_stand() {
    for c in (0..0x20).map(char::from).chain(['\x7f', '\u{2028}', '\u{2029}']) {
        let bad = format!("a{c}Bcc: x@example.net");
        let end = format!("a{c}");
        for text in [bad, end] {
            assert_eq!(refusal(|m| m.subject = Some(text.clone())), "bad-header: message.subject: control characters");
            assert_eq!(
                refusal(|m| m.headers = vec![("X-Foo".into(), text.clone())]),
                "bad-header: message.headers.X-Foo: control characters"
            );
            assert_eq!(
                refusal(|m| m.headers = vec![("X-Ok".into(), "y".into()), (format!("X{c}Y"), "v".into())]),
                "bad-header: message.headers[1]: the name of the field is not valid"
            );
            let named = mailbox(Some(&text), "x", "example.net");
            assert_eq!(
                refusal(|m| m.to.push(named.clone())),
                "bad-address: message.to[1]: control characters in the display name"
            );
            assert!(refusal(|m| m.from = Some(named.clone())).starts_with("bad-address: message.from: "));
            for address in [
                mailbox(None, &text, "example.net"),
                mailbox(None, &format!("\"{text}\""), "example.net"),
                mailbox(None, "x", &text),
                mailbox(None, "x", &format!("[{text}]")),
            ] {
                for (field, refused) in [
                    ("to[1]", refusal(|m| m.to.push(address.clone()))),
                    ("cc[0]", refusal(|m| m.cc.push(address.clone()))),
                    ("bcc[0]", refusal(|m| m.bcc.push(address.clone()))),
                    ("reply_to[0]", refusal(|m| m.reply_to.push(address.clone()))),
                    ("from", refusal(|m| m.from = Some(address.clone()))),
                ] {
                    assert!(refused.starts_with(&format!("bad-address: message.{field}: ")), "{refused}");
                    assert!(!refused.contains("example.net") && !refused.contains('@') || refused.contains("the @"));
                }
            }
        }
    }
}

#[test]
fn fields_of_ours_cannot_be_set() {
    for name in [
        "From",
        "Sender",
        "To",
        "Cc",
        "bcc",
        "Reply-To",
        "SUBJECT",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Content-Type",
        "Content-Whatever",
        "Received",
        "Return-Path",
        "DKIM-Signature",
        "ARC-Seal",
        "Resent-To",
        "Auto-Submitted",
    ] {
        assert_eq!(
            refusal(|m| m.headers = vec![(name.into(), "x".into())]),
            format!("bad-header: message.headers.{name}: this field may not be set by an event")
        );
    }
    for name in ["", "X Y", "X:Y", "Xé", "user@example.com:", &"X".repeat(77)] {
        let refused = refusal(|m| m.headers = vec![(name.into(), "x".into())]);
        assert_eq!(refused, "bad-header: message.headers[0]: the name of the field is not valid");
    }
    let twice = vec![("X-A".to_owned(), "1".to_owned()), ("x-a".to_owned(), "2".to_owned())];
    assert_eq!(refusal(|m| m.headers = twice), "bad-header: message.headers.x-a: the field appears twice");
}

#[test]
fn extra_fields_keep_their_ascii_values() {
    let url = format!("<https://example.com/{}>", "x".repeat(800));
    let mail = mail(|m| {
        m.headers = vec![
            ("List-Unsubscribe".into(), format!("{url}, <mailto:leave@example.com>")),
            ("X-Blanks".into(), "  a   b  ".into()),
            ("X-Name".into(), "Zürich".into()),
            ("X-Empty".into(), String::new()),
        ];
    });
    let text = shown(&mail.expect("good"));
    assert!(text.contains(&format!("\r\nList-Unsubscribe: {url},\r\n <mailto:leave@example.com>\r\n")), "{text}");
    assert!(text.contains("\r\nX-Blanks: a   b\r\nX-Name: =?utf-8?B?WsO8cmljaA==?=\r\nX-Empty:\r\n"), "{text}");
    for long in ["x".repeat(901), format!("a{}b", " ".repeat(2000))] {
        let refused = refusal(|m| m.headers = vec![("X-Long".into(), long.clone())]);
        assert_eq!(refused, "bad-header: message.headers.X-Long: a word is too long for a line");
    }
}

#[test]
fn display_names() {
    for (name, expected) in [
        ("Ann O'Hara", "Ann O'Hara <u@example.com>"),
        ("Doe, Jane", "\"Doe, Jane\" <u@example.com>"),
        ("a \"b\" \\c", "\"a \\\"b\\\" \\\\c\" <u@example.com>"),
        ("evil@example.net, x", "\"evil@example.net, x\" <u@example.com>"),
        ("Café Zürich", "=?utf-8?B?Q2Fmw6kgWsO8cmljaA==?= <u@example.com>"),
        ("=?utf-8?B?eA==?=", "=?utf-8?B?PT91dGYtOD9CP2VBPT0/PQ==?= <u@example.com>"),
        (" ", "u@example.com"),
    ] {
        let text = shown(&mail(|m| m.to = vec![mailbox(Some(name), "u", "example.com")]).expect("good"));
        assert!(text.contains(&format!("\r\nTo: {expected}\r\n")), "{text}");
    }
}

#[test]
fn addresses() {
    let sent = |user: &str, domain: &str| {
        mail(|m| m.to = vec![mailbox(None, user, domain)]).map(|mail| {
            let address = mail.recipients[0].address.to_string();
            assert!(shown(&mail).contains(&format!("\r\nTo: {address}\r\n")));
            address
        })
    };
    assert_eq!(sent("u", "bücher.example").as_deref(), Ok("u@xn--bcher-kva.example"));
    assert_eq!(sent("u", "Example.COM").as_deref(), Ok("u@Example.COM"));
    assert_eq!(sent("u", "127.0.0.1").as_deref(), Ok("u@[127.0.0.1]"));
    assert_eq!(sent("u", "[::1]").as_deref(), Ok("u@[IPv6:::1]"));
    assert_eq!(sent("\"a,b\"", "example.com").as_deref(), Ok("\"a,b\"@example.com"));
    assert_eq!(sent("a+b.c", "x_y.example").as_deref(), Ok("a+b.c@x_y.example"));
    assert_eq!(
        sent("ü", "example.com").expect_err("not ASCII").to_string(),
        "message.to[0]: the part before the @ is not ASCII"
    );
    for (user, domain) in [
        ("", "example.com"),
        (".a", "example.com"),
        ("a b", "example.com"),
        ("a>", "example.com"),
        ("\"a b\"", "example.com"),
        ("\"a<b\"", "example.com"),
        ("\"a>b\"", "example.com"),
        ("\"a\"b\"", "example.com"),
        ("\"a\\\"", "example.com"),
        ("\"", "example.com"),
        (&*"a".repeat(65), "example.com"),
        ("a", ""),
        ("a", "example..com"),
        ("a", "example.com."),
        ("a", "-a.example"),
        ("a", "exa mple.com"),
        ("a", "example.com> SIZE=1"),
        ("a", "b＞.example"),
        ("a", "b，c.example"),
        ("a", "[example]"),
        ("a", &*format!("{}.example", "a".repeat(64))),
        ("a", &*format!("{}example", "a.".repeat(130))),
    ] {
        let error = sent(user, domain).expect_err(domain);
        assert_eq!(error.reason().as_str(), "bad-address", "{user} {domain}");
    }
}

#[test]
fn long_fields_are_folded() {
    let mail = mail(|m| {
        m.subject = Some("Ein überaus langer Betreff mit 漢字 und 🦆 ".repeat(40));
        m.to = (0..100).map(|i| mailbox(None, &format!("recipient.number.{i}"), "mail.example.com")).collect();
        m.reply_to = vec![mailbox(Some(&"x".repeat(3000)), "u", "example.com")];
    })
    .expect("good");
    let text = shown(&mail);
    assert!(text.split("\r\n").all(|line| line.len() <= 76), "{text}");
    assert_eq!(mail.recipients.len(), 100);
}

#[test]
fn limits() {
    let many = |count: usize| (0..count).map(|i| mailbox(None, &format!("r{i}"), "example.com")).collect::<Vec<_>>();
    assert_eq!(
        refusal(|m| {
            m.to = many(50);
            m.cc = many(50);
            m.bcc = many(1);
        }),
        "too-large: mail too large: 101 recipients, at most 100"
    );
    let size = mail(|_| ()).expect("good").bytes.len();
    for (max_size, fits) in [(size, true), (size - 1, false)] {
        let settings = config::Mail { max_size, ..settings() };
        let result = compose(&message(), rendered(), &settings);
        assert_eq!(result.is_ok(), fits);
        if let Err(error) = result {
            assert_eq!(error.to_string(), format!("mail too large: {size} bytes, MAIL_MAX_SIZE is {}", size - 1));
            assert_eq!(error.reason().as_str(), "too-large");
        }
    }
    assert!(refusal(|m| m.subject = Some("x".repeat(100_000))).starts_with("too-large: "));
}

#[test]
fn bodies_have_clean_lines() {
    let body = |text: &str| {
        let rendered = Rendered { text: Some(text.into()), ..Rendered::default() };
        let text = shown(&compose(&message(), rendered, &settings()).expect("good"));
        let (head, body) = text.split_once("\r\n\r\n").expect("a body");
        (head.rsplit(' ').next().expect("an encoding").to_owned(), body.to_owned())
    };
    assert_eq!(body("a\rb\nc\r\nd\0\r\n.\r\n\r.\n\n\n"), ("7bit".into(), "a\r\nb\r\nc\r\nd\r\n.\r\n\r\n.\r\n".into()));
    assert_eq!(body("a="), ("7bit".into(), "a=\r\n".into()));
    assert_eq!(body("abcdefg=_h"), ("quoted-printable".into(), "abcdefg=3D_h\r\n".into()));
    assert_eq!(body("a \nb"), ("quoted-printable".into(), "a=20\r\nb\r\n".into()));
    assert_eq!(body("Ein Gruß aus Zürich"), ("quoted-printable".into(), "Ein Gru=C3=9F aus Z=C3=BCrich\r\n".into()));
    assert_eq!(body("漢字"), ("base64".into(), "5ryi5a2X\r\n".into()));
    for long in ["x".repeat(5000), "漢".repeat(5000), "\u{1b}[0m".repeat(100)] {
        let (encoding, text) = body(&long);
        assert_ne!(encoding, "7bit");
        assert!(text.split("\r\n").all(|line| line.len() <= 76), "{text}");
    }
}

#[test]
fn megabytes_of_line_ends_take_no_time() {
    let start = std::time::Instant::now();
    let rendered = Rendered { text: Some("\n".repeat(2_000_000) + "é"), ..Rendered::default() };
    compose(&message(), rendered, &settings()).expect("good");
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}

#[test]
fn a_body_cannot_forge_a_boundary() {
    let forged = format!("x\n--=_{}\nContent-Type: text/html\n\n<b>", digest("boundary", &message().id));
    let rendered = Rendered { subject: None, text: Some(forged.clone()), html: Some(forged) };
    let text = shown(&compose(&message(), rendered, &settings()).expect("good"));
    assert_eq!(text.matches("\r\n--=_").count(), 3, "{text}");
}

#[test]
fn dates_outside_of_the_format_are_drawn_in() {
    for (time, expected) in [
        ("0001-01-01T00:00:00Z", "Thu, 1 Jan 1970 00:00:00 +0000"),
        ("2025-12-25T21:00:00.123456789+02:00", "Thu, 25 Dec 2025 19:00:00 +0000"),
    ] {
        let text = shown(&mail(|m| m.timestamp = time.parse().expect("time")).expect("good"));
        assert!(text.starts_with(&format!("Date: {expected}\r\n")), "{text}");
    }
    assert!(shown(&mail(|m| m.timestamp = DateTime::<Utc>::MAX_UTC).expect("good")).contains(" 9999 23:59:59 +0000"));
}

#[test]
fn nothing_personal_is_shown_by_debug() {
    let text = format!("{:?}", mail(|_| ()).expect("good"));
    assert!(!text.contains("user@") && !text.contains("orders@"), "{text}");
}
