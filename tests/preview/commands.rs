//! `list`, `check` and `render` as a person and a script call them.

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::Templates;

/// Neither brokers nor a relay are named.
fn postlane(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_postlane"))
        .env_clear()
        .arg("templates")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    // it may end before it has read anything
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("its end")
}

fn run(templates: &Templates, arguments: &[&str]) -> (Option<i32>, String, String) {
    let dir = templates.path().to_str().expect("UTF-8");
    let output = postlane(&[arguments, &["--dir", dir]].concat(), "");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8").replace(dir, "DIR");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json_of(templates: &Templates, arguments: &[&str]) -> (Option<i32>, Value) {
    let (code, stdout, stderr) = run(templates, &[arguments, &["--json"]].concat());
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}

#[test]
fn the_list_has_the_sound_and_the_broken() {
    let templates = Templates::new(&[
        ("welcome/subject.txt.j2", "Hi"),
        ("broken/text.txt.j2", "{{ x"),
        ("own/text.txt.j2", "x"),
        ("own/sample.json", "{}"),
    ]);
    let (code, list) = json_of(&templates, &["list"]);
    assert_eq!(code, Some(0));
    let rows = list["templates"].as_array().expect("a list");
    let of = |name: &str| rows.iter().find(|row| row["name"] == name).expect("a row").clone();
    assert_eq!(
        of("broken"),
        json!({"name": "broken", "parts": ["text"], "from": "folder", "sample": false, "sound": false})
    );
    assert_eq!(of("own"), json!({"name": "own", "parts": ["text"], "from": "folder", "sample": true, "sound": true}));
    assert_eq!(of("welcome")["from"], "overridden");
    assert_eq!(of("plain")["from"], "built-in");
    let (code, table, _) = run(&templates, &["list"]);
    assert_eq!(code, Some(0));
    assert!(table.contains("FAIL  broken              text; from the folder; no sample data\n"), "{table}");
}

#[test]
fn a_check_tells_everything_at_once() {
    let templates = Templates::new(&[
        ("a/text.txt.j2", "ok\n{% if x %}"),
        ("b/html.html.j2", "{{ Name }}\n{{ Nmae }}\n{% if Coupon %}{{ Coupon }}{% endif %}{{ nope() }}"),
        ("b/sample.json", "{\"Name\": \"x\",\n\"Extra\": 1}"),
        ("c/sample.json", "[]"),
        ("c/text.txt.j2", "{{ Link|safe_url }}"),
        ("d/text.txt.j2", "x"),
        ("d/sample.json", "{\"Bad\": \"a\\nb\"}"),
        ("d/subject.txt.j2", "{{ Bad }}"),
        ("e/text.txt.j2", "{{ Link|safe_url }}"),
        ("e/subject.txt.j2", "x"),
        ("e/sample.json", "{\"Link\": \"javascript:x\"}"),
        ("loose.html.j2", ""),
    ]);
    let (code, stdout, _) = run(&templates, &["check"]);
    assert_eq!(code, Some(1));
    for expected in [
        "FAIL    DIR/a/text.txt.j2:2: syntax error: unexpected end of input",
        "warn    DIR/a: has no sample data",
        "warn    DIR/b: has no text part",
        "note    DIR/b: has no subject of its own",
        "FAIL    DIR/b/html.html.j2:2: Nmae is not in the sample data of b",
        "warn    DIR/b/html.html.j2:3: Coupon is not in the sample data of b",
        "FAIL    DIR/b/html.html.j2:3: there is no function nope",
        "warn    DIR/b/sample.json:2: Extra is used by no part of the template",
        "FAIL    DIR/c/sample.json:1: invalid type: sequence, expected a map",
        "FAIL    DIR/d/subject.txt.j2: the mail with the sample data is refused: message.subject: control characters",
        "FAIL    DIR/e/text.txt.j2:1: the text part of e fails with the sample data: not an http, https or mailto link in `Link|safe_url`",
        "FAIL    DIR/loose.html.j2: is in no template's folder",
        "ok      welcome: subject, text, html",
    ] {
        assert!(stdout.contains(expected), "{expected}\n{stdout}");
    }
    assert!(stdout.ends_with("\nFailed: 7, warnings: 4.\n"), "{stdout}");
    assert!(!stdout.contains('\x1b'));

    let (code, report) = json_of(&templates, &["check", "e"]);
    assert_eq!((code, &report["result"], &report["templates"]), (Some(1), &json!("fail"), &json!(["e"])));
    let found = report["findings"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{report}");
    assert_eq!(
        (&found[0]["template"], &found[0]["file"], &found[0]["line"]),
        (&json!("e"), &json!("e/text.txt.j2"), &json!(1))
    );
    let (code, _, stderr) = run(&templates, &["check", "f"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("there is no template \"f\""), "{stderr}");
}

#[test]
fn warnings_fail_where_it_is_strict() {
    let templates = Templates::new(&[("a/text.txt.j2", "x"), ("a/subject.txt.j2", "x")]);
    let (code, report) = json_of(&templates, &["check"]);
    assert_eq!((code, &report["result"]), (Some(0), &json!("warn")));
    assert_eq!(json_of(&templates, &["check", "--strict"]).0, Some(1));
    templates.write("a/sample.json", "{}");
    assert_eq!(json_of(&templates, &["check", "--strict"]).0, Some(0));
}

#[test]
fn a_link_that_leads_nowhere_is_told_by_its_place_in_the_folder() {
    let templates = Templates::new(&[]);
    std::os::unix::fs::symlink("nowhere", templates.path().join("loop")).expect("a link");
    let (code, stdout, _) = run(&templates, &["check"]);
    assert_eq!(code, Some(1));
    assert!(stdout.contains("DIR/loop") && !stdout.contains("loop (built in)"), "{stdout}");
}

#[test]
fn a_layouts_problem_is_told_once_and_breaks_those_that_use_it_alone() {
    let templates =
        Templates::new(&[("layouts/base.txt.j2", "{{ x"), ("own/text.txt.j2", "own"), ("own/sample.json", "{}")]);
    let (_, report) = json_of(&templates, &["check"]);
    let failures = report["findings"].as_array().expect("a list").iter().filter(|one| one["result"] == "fail");
    assert_eq!(failures.map(|one| one["file"].clone()).collect::<Vec<_>>(), ["layouts/base.txt.j2"]);
    assert_eq!(run(&templates, &["render", "own"]), (Some(0), "own\n".into(), String::new()));
    let (code, stdout, stderr) = run(&templates, &["render", "welcome"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.starts_with("postlane: DIR/layouts/base.txt.j2:1: syntax error"), "{stderr}");
}

#[test]
fn a_template_is_rendered_as_what_is_asked_for() {
    let templates = Templates::new(&[
        ("t/text.txt.j2", "Hello {{ Name }},\n{{ Order.Total }}\n"),
        ("t/html.html.j2", "<p>{{ Name }}</p>"),
        ("t/subject.txt.j2", "For {{ Name }}"),
        ("t/sample.json", "{\"Name\": \"<Ann>\", \"Order\": {\"Total\": 3}}"),
        ("data.json", "{\"Name\": \"Bo\", \"Order\": {\"Total\": 4}}"),
    ]);
    let render = |more: &[&str]| run(&templates, &[&["render", "t"], more].concat());
    assert_eq!(render(&[]), (Some(0), "Hello <Ann>,\n3\n".into(), String::new()));
    assert_eq!(render(&["--format", "html"]).1, "<p>&lt;Ann&gt;</p>\n");
    assert_eq!(render(&["--format", "subject"]).1, "For <Ann>\n");
    let file = format!("@{}", templates.path().join("data.json").display());
    assert_eq!(render(&["--data", &file]).1, "Hello Bo,\n4\n");
    let dir = templates.path().to_str().expect("UTF-8");
    let piped = postlane(&["render", "t", "--data", "@-", "--format", "subject", "--dir", dir], "{\"Name\": \"Cy\"}");
    assert_eq!(String::from_utf8_lossy(&piped.stdout), "For Cy\n");

    let (code, stdout, stderr) = render(&["--data", "{}"]);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert_eq!(
        stderr,
        "postlane: template t, text part (t/text.txt.j2:1): undefined value in `Name`\n  the data does not have: Name \
         (t/subject.txt.j2:1), Order (t/text.txt.j2:2)\n"
    );
    for wrong in ["[]", "{", "@/no/such/file"] {
        assert_eq!(render(&["--data", wrong]).0, Some(2), "{wrong}");
    }

    let out = templates.path().join("out.eml");
    let eml = ["--format", "eml", "--to", "Ann <a@b.example>", "--to", "c@d.example", "--from", "shop@e.example"];
    let path = out.to_str().expect("UTF-8");
    assert_eq!(
        render(&[&eml[..], &["--subject", "Other", "--output", path]].concat()),
        (Some(0), String::new(), String::new())
    );
    let mail = std::fs::read_to_string(&out).expect("a mail");
    for line in ["From: shop@e.example", "To: Ann <a@b.example>, c@d.example", "Subject: Other", "<p>&lt;Ann&gt;</p>"] {
        assert!(mail.contains(&format!("\r\n{line}\r\n")), "{line}: {mail}");
    }
}

#[test]
fn the_guide_shows_what_is_said() {
    let guide = include_str!("../../docs/templates.md");
    let html = "{% extends \"layouts/base.html.j2\" %}\n{% from \"layouts/elements.html.j2\" import title, copy, button %}\n\
                {% block content %}\n{{ title(\"Your trial ends soon\") }}\n{{ copy(\"It ends on \" ~ Dya) }}\n\
                {{ button(Link, \"Choose a plan\") }}\n{% if Coupon %}{{ copy(Coupon) }}{% endif %}\n{% endblock %}\n";
    let templates = Templates::new(&[
        ("trial-ends/html.html.j2", html),
        ("trial-ends/subject.txt.j2", "Your trial ends soon"),
        ("trial-ends/sample.json", "{\"Link\": \"https://shop.example\"}"),
    ]);
    let (_, stdout, _) = run(&templates, &["check"]);
    let shown =
        format!("$ postlane templates check --dir mail/templates\n{}```", stdout.replace("DIR", "mail/templates"));
    assert!(guide.contains(&shown), "{shown}");
    let (_, _, stderr) = run(&templates, &["render", "password-reset", "--data", "{}"]);
    assert!(guide.contains(&format!("```\n{stderr}```")), "{stderr}");
}

#[test]
fn only_what_concerns_mails_has_to_be_right_in_the_environment() {
    let run = |variables: &[(&str, &str)], arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_postlane"))
            .env_clear()
            .envs(variables.iter().copied())
            .arg("templates")
            .args(arguments)
            .output()
            .expect("the program");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(run(&[("KAFKA_BROKERS", "nonsense:x"), ("SMTP_PORT", "x")], &["check"]), (Some(0), String::new()));
    let (code, said) = run(&[("TEMPLATES_DIR", "/no/such")], &["check"]);
    assert!(code == Some(78) && said.contains("TEMPLATES_DIR=\"/no/such\""), "{said}");
    assert_eq!(run(&[("TEMPLATES_DIR", "/no/such")], &["list", "--dir", "/"]).0, Some(0));
    assert_eq!(run(&[], &["list", "--dir", "/no/such"]).0, Some(2));
}
