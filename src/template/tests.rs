use std::fs;

use serde_json::json;

use super::*;

/// A folder of its own that goes with the value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(files: &[(&str, &str)]) -> Self {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("postlane-templates-{}-{number}", std::process::id()));
        fs::create_dir_all(&root).expect("writable temp folder");
        let folder = Self(root);
        for (name, source) in files {
            let path = folder.0.join(name);
            fs::create_dir_all(path.parent().expect("inside of the folder")).expect("writable temp folder");
            fs::write(path, source).expect("writable temp folder");
        }
        folder
    }

    fn load(&self) -> Result<Templates, LoadError> {
        Templates::load(Some(&self.0))
    }

    fn problems(&self) -> Vec<String> {
        self.load().expect_err("bad templates").problems().iter().map(ToString::to_string).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}

fn data(value: serde_json::Value) -> Data {
    serde_json::from_value(value).expect("an object")
}

/// Renders one text template.
fn text(source: &str, values: serde_json::Value) -> Result<String, String> {
    let templates = Folder::new(&[("t/text.txt.j2", source)]).load().expect("good template");
    templates.render("t", &data(values)).map(|r| r.text.expect("text part")).map_err(|error| error.to_string())
}

fn html(source: &str, values: serde_json::Value) -> Result<String, String> {
    let templates = Folder::new(&[("t/html.html.j2", source)]).load().expect("good template");
    templates.render("t", &data(values)).map(|r| r.html.expect("HTML part")).map_err(|error| error.to_string())
}

#[test]
fn every_built_in_template_renders_with_its_sample() {
    let templates = Templates::load(None).expect("sound built-in templates");
    let names: Vec<_> = templates.names().collect();
    assert_eq!(names, ["order-confirmation", "password-reset", "plain", "welcome"]);
    for name in names {
        let rendered = templates.render(name, templates.sample(name).expect("a sample")).expect(name);
        let (text, html) = (rendered.text.expect("text"), rendered.html.expect("HTML"));
        assert!(!text.contains("{{") && !text.contains("\n\n\n"), "{name}: {text}");
        assert!(text.lines().all(|line| line.len() <= 76), "{name}: {text}");
        assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"), "{name}: {html}");
        assert!(html.len() < 20_000, "{name}: {} bytes; Gmail clips at 102 kB", html.len());
        assert!(!rendered.subject.unwrap_or_default().contains('\n'), "{name}");
    }
}

#[test]
fn built_in_templates_fit_the_events_that_producers_write() {
    let templates = Templates::load(None).expect("sound built-in templates");
    for (event, name, expected) in [
        (include_str!("../../tests/fixtures/events/seed-password-reset.json"), "password-reset", "reset?token=abc123"),
        (include_str!("../../tests/fixtures/events/seed-go-zero-values.json"), "plain", "<br>\nLine two &lt;b&gt;"),
        (include_str!("../../tests/fixtures/events/new-fields.json"), "order-confirmation", "19.90 €"),
    ] {
        let event: serde_json::Value = serde_json::from_str(event).expect("JSON");
        let rendered = templates.render(name, &data(event["message"]["data"].clone())).expect(name);
        assert!(rendered.html.expect("HTML").contains(expected), "{name}");
    }
}

#[test]
fn optional_data_may_be_missing_null_or_empty() {
    let templates = Templates::load(None).expect("sound built-in templates");
    for values in [json!({}), json!({"Name": null, "Link": null}), json!({"Name": "", "Link": ""})] {
        let rendered = templates.render("welcome", &data(values)).expect("welcome");
        assert_eq!(rendered.subject.as_deref(), Some("Welcome"));
        assert!(!rendered.html.expect("HTML").contains("href"));
    }
}

#[test]
fn html_is_escaped_and_text_and_subject_are_not() {
    let folder = Folder::new(&[
        ("t/subject.txt.j2", "S {{ v }}\n\n"),
        ("t/text.txt.j2", "T {{ v }}\n"),
        ("t/html.html.j2", "<a title=\"{{ v }}\" href='{{ v }}'>{{ v }}</a>"),
    ]);
    let rendered = folder.load().expect("good").render("t", &data(json!({"v": "<b a=\"'\">&/"}))).expect("renders");
    assert_eq!(rendered.subject.as_deref(), Some("S <b a=\"'\">&/"));
    assert_eq!(rendered.text.as_deref(), Some("T <b a=\"'\">&/"));
    let escaped = "&lt;b a=&quot;&#39;&quot;&gt;&amp;/";
    assert_eq!(rendered.html, Some(format!("<a title=\"{escaped}\" href='{escaped}'>{escaped}</a>")));
}

#[test]
fn numbers_lists_and_macros_are_escaped_too() {
    assert_eq!(
        html("{{ n }} {{ f }} {{ l }}", json!({"n": 2, "f": 1.5, "l": ["<"]})).as_deref(),
        Ok("2 1.5 [&#39;&lt;&#39;]")
    );
    let source = "{% macro m(x) %}<i>{{ x }}</i>{% endmacro %}{% set s %}{{ v }}{% endset %}{{ m(v) }}{{ s }}";
    assert_eq!(html(source, json!({"v": "<"})).as_deref(), Ok("<i>&lt;</i>&lt;"));
}

#[test]
fn what_is_missing_or_null_is_an_error_wherever_it_is_printed() {
    for source in [
        "{{ v }}",
        "{{ v.w }}",
        "{{ o.v }}",
        "{{ v|upper }}",
        "{{ 'a' ~ v }}",
        "{{ v|safe_url }}",
        "{{ v|linebreaks }}",
        "{{ v|safe }}",
        "{{ v|e }}",
        "{{ v|trim }}",
        "{{ [1, v]|join }}",
        "{{ v|join }}",
        "{{ v|string }}",
        "{{ v|title }}",
        "{{ v|urlencode }}",
        "{{ v|lines }}",
        "{{ v|tojson }}",
        "{{ '%s'|format(v) }}",
        "{{ none|e }}",
        "{{ o|e }}",
        "{{ v|replace('a', 'b') }}",
        "{{ [v] }}",
        "{{ o }}",
        "{{ none }}",
        "{{ [none] }}",
        "{% for x in v %}{% endfor %}",
        "{% for x in l %}{{ x }}{% endfor %}",
    ] {
        for values in [json!({"o": {"v": null}, "l": [null]}), json!({"v": null, "o": {"v": null}, "l": ["a", null]})] {
            assert!(text(source, values.clone()).is_err(), "{source} {values}: {:?}", text(source, values.clone()));
            assert!(html(source, values.clone()).is_err(), "{source} {values}: {:?}", html(source, values.clone()));
        }
    }
    let source = "{% if v %}1{% endif %}{{ v|default('2') }}{{ v is defined }}{% if o.v %}3{% endif %}";
    assert_eq!(text(source, json!({"v": null, "o": {"v": null}})).as_deref(), Ok("2False"));
}

#[test]
fn data_is_never_a_template() {
    let values = json!({"v": "{{ secret }}{% include 'layouts/base.txt.j2' %}", "secret": "s"});
    assert_eq!(text("{{ v }}", values.clone()), Ok(values["v"].as_str().expect("text").to_owned()));
}

#[test]
fn only_links_that_one_may_click_pass() {
    for good in ["https://a.b/?x=1&y=2", "HTTP://a.b", "mailto:a@b.c"] {
        assert!(text("{{ v|safe_url }}", json!({"v": good})).is_ok(), "{good}");
    }
    assert_eq!(html("{{ v|safe_url }}", json!({"v": "https://a/?b&\"c"})).as_deref(), Ok("https://a/?b&amp;&quot;c"));
    for bad in [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        " https://a.b",
        "https://a.b/\nx",
        "java\tscript:x",
        "data:text/html,x",
        "//a.b",
        "/a",
        "",
        "https:a",
        "häß",
    ] {
        let error = text("{{ v|safe_url }}", json!({"v": bad})).expect_err(bad);
        assert!(error.contains("not an http, https or mailto link in `v|safe_url`"), "{error}");
    }
    let templates = Templates::load(None).expect("sound built-in templates");
    for name in ["password-reset", "welcome"] {
        let error = templates.render(name, &data(json!({"Link": "javascript:alert(1)"}))).expect_err(name);
        assert_eq!(error.reason().as_str(), "render-failed");
    }
}

#[test]
fn errors_name_the_place_and_the_expression_but_no_value() {
    let secret = "user@example.com hunter2";
    for (source, part) in [
        ("a\n{{ missing }}", ":2): undefined value in `missing`"),
        ("{{ v + 1 }}", "invalid operation in `v + 1`"),
        ("{{ v.nothing() }}", "`v.nothing()`"),
        ("{{ v|batch('x') }}", "in `v|batch('x')`"),
        ("{{ o[v].x }}", "undefined value"),
        ("{{ v() }}", ""),
        ("{{ v|int }}", ""),
        ("{{ v|float }}", ""),
        ("{{ v|tojson|safe_url }}", ""),
        ("{{ range(v) }}", ""),
        ("{{ o|attr(v)|safe_url }}", ""),
        ("{{ namespace(a=1)[v].x }}", ""),
        ("{{ v|dictsort }}", ""),
        ("{{ v|items }}", ""),
        ("{{ l|map(v) }}", ""),
        ("{{ l|select(v) }}", ""),
        ("{{ l|sum }}", ""),
        ("{% for a, b in l %}{% endfor %}", ""),
    ] {
        let error = text(source, json!({"v": secret, "o": {}, "l": [secret]})).expect_err(source);
        assert!(error.starts_with("template t, text part (t/text.txt.j2:"), "{error}");
        assert!(error.contains(part), "{source}: {error}");
        assert!(!error.contains("hunter2") && !error.contains('\n'), "{source}: {error}");
    }
    let folder = Folder::new(&[
        ("layouts/outer.txt.j2", "\n{% block b %}{% endblock %}\n{% include 'layouts/inner.txt.j2' %}"),
        ("layouts/inner.txt.j2", "\n\n{{ Missing.Deep }}"),
        ("t/text.txt.j2", "{% extends 'layouts/outer.txt.j2' %}"),
    ]);
    assert_eq!(
        folder.load().expect("good").render("t", &Data::new()).expect_err("missing").to_string(),
        "template t, text part (layouts/inner.txt.j2:3): undefined value in `Missing.Deep`"
    );
}

#[test]
fn an_unknown_template_is_named_only_if_it_can_be_one() {
    let templates = Templates::load(None).expect("sound built-in templates");
    let error = templates.render("nope", &Data::new()).expect_err("unknown");
    assert_eq!(
        (error.to_string().as_str(), error.reason().as_str()),
        ("there is no template \"nope\"", "unknown-template")
    );
    for name in ["", "a@b.c", "../plain", "a\nb", "layouts/base.html.j2", "layouts"] {
        let error = templates.render(name, &Data::new()).expect_err("unknown");
        assert_eq!(error.reason().as_str(), "unknown-template");
        assert!(!error.to_string().contains(['@', '/', '\n']), "{error}");
    }
}

#[test]
fn runaway_templates_end() {
    let loops = "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}";
    assert!(text(loops, json!({})).expect_err("fuel").contains("too much work"));
    let big = "{% for a in range(1000) %}{{ v }}{% endfor %}";
    let error = text(big, json!({"v": "x".repeat(10_000)})).expect_err("size");
    assert!(error.contains("output larger than 2000000 bytes"), "{error}");
    assert!(text("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", json!({})).is_err());
    assert!(text("{{ 'x' * 100000000000 }}", json!({})).is_err());
    assert!(text("{% set x %}{{ 'x' * 1000000000 }}{% endset %}", json!({})).is_err());
    let folder = Folder::new(&[("t/text.txt.j2", "{% include 't/text.txt.j2' %}")]);
    assert!(folder.load().expect("good").render("t", &Data::new()).is_err());
}

#[test]
fn a_subject_cannot_nest_values_until_the_stack_overflows() {
    let templates = Templates::load(None).expect("sound built-in templates");
    let subject =
        "{% set ns = namespace(x=[]) %}{% for i in range(45000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|length }}";
    assert!(templates.render_subject(subject, &Data::new()).expect_err("fuel").to_string().contains("too much work"));
}

#[test]
fn a_message_brings_its_own_subject() {
    let templates = Templates::load(None).expect("sound built-in templates");
    let values = data(json!({"Name": "Ann"}));
    assert_eq!(templates.render_subject("Hi {{ Name }}", &values).as_deref(), Ok("Hi Ann"));
    assert_eq!(
        templates.render_subject("{{ Name|safe_url }}", &values).expect_err("no link").to_string(),
        "message.subject: not an http, https or mailto link"
    );
    let error = templates.render_subject("{{ hunter2", &values).expect_err("syntax");
    assert_eq!(
        (error.to_string().as_str(), error.reason().as_str()),
        ("message.subject: syntax error", "render-failed")
    );
}

#[test]
fn line_ends_of_a_subjects_file_are_no_part_of_the_subject_but_those_of_the_data_are() {
    let source = "{# About\n   it #}\n\nHello\r\n  {% if Name %}\n  dear {{ Name }}\n{% endif %}\nand\nall \n\n";
    let templates = Folder::new(&[("t/subject.txt.j2", source), ("t/text.txt.j2", "x")]).load().expect("good");
    let subject = |name| templates.render("t", &data(json!({"Name": name}))).expect("renders").subject;
    assert_eq!(subject("Ann").as_deref(), Some("Hello dear Ann and all"));
    assert_eq!(subject("A\n").as_deref(), Some("Hello dear A\n and all"));
}

#[test]
fn the_guides_example_and_error_are_what_it_says() {
    let guide = include_str!("../../docs/templates.md");
    let (_, example) = guide.split_once("```jinja\n").expect("an example");
    let (example, _) = example.split_once("```").expect("its end");
    let rendered = html(example, json!({"Day": "Friday", "Link": "https://example.com"})).expect("renders");
    assert!(rendered.contains("Your trial ends on Friday.") && rendered.contains("href=\"https://example.com\""));
    let html_only = Folder::new(&[("password-reset/text.txt.j2", "\n")]).load().expect("good");
    let error = html_only.render("password-reset", &data(json!({"Link": "ftp://x"}))).expect_err("no link");
    assert!(guide.contains(&format!("\n{error}\n")), "{error}");
}

#[test]
fn one_set_of_templates_serves_all_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Templates>();
}

fn message(subject: Option<&str>) -> Message {
    Message {
        kind: "welcome".into(),
        id: "1".into(),
        from: None,
        to: vec!["a@example.com".parse().expect("mailbox")],
        cc: vec![],
        bcc: vec![],
        reply_to: vec![],
        subject: subject.map(str::to_owned),
        template: "t".into(),
        data: data(json!({"Name": "Ann"})),
        headers: vec![],
        priority: crate::event::Priority::Normal,
        timestamp: chrono::DateTime::UNIX_EPOCH,
        expires_at: None,
        retry_count: 0,
        max_retries: None,
        only_recipients: None,
    }
}

#[test]
fn the_subject_of_a_message_wins_and_the_templates_is_not_rendered_then() {
    let folder = Folder::new(&[("t/subject.txt.j2", "{{ Missing }}"), ("t/text.txt.j2", "x")]);
    let templates = folder.load().expect("good");
    let subject = |own, expand| templates.render_message(&message(own), expand).map(|r| r.subject.expect("subject"));
    assert_eq!(subject(Some("{{ Name }}"), false).as_deref(), Ok("{{ Name }}"));
    assert_eq!(subject(Some("{{ Name }}"), true).as_deref(), Ok("Ann"));
    for own in [None, Some(""), Some(" ")] {
        assert!(subject(own, true).expect_err("missing").to_string().contains("`Missing`"));
    }
}

#[test]
fn a_folder_overrides_single_files_and_adds_templates() {
    let folder = Folder::new(&[
        ("password-reset/subject.txt.j2", "Neues Passwort\n"),
        ("password-reset/text.txt.j2", " \n"),
        ("layouts/base.html.j2", "[{% block content %}{% endblock %}]"),
        ("notice/text.txt.j2", "{{ x }}"),
        ("notice/README.md", "not a template"),
        (".git/config", ""),
        ("notice/text.txt.j2~", "backup {{"),
    ]);
    let templates = folder.load().expect("good");
    assert!(templates.contains("notice") && templates.contains("plain") && !templates.contains("layouts"));
    let rendered = templates.render("password-reset", templates.sample("password-reset").expect("sample"));
    let rendered = rendered.expect("renders");
    assert_eq!(rendered.subject.as_deref(), Some("Neues Passwort"));
    assert_eq!(rendered.text, None, "a blank file takes a part away");
    assert!(rendered.html.expect("HTML").starts_with('['));
}

#[test]
fn all_problems_are_told_at_once_with_file_and_line() {
    let folder = Folder::new(&[
        ("a/text.txt.j2", "ok\n{% if x %}\n"),
        ("b/html.html.j2", "\n\n{% extends 'layouts/nope.html.j2' %}"),
        ("c/subject.txt.j2", "only"),
        ("d/html.j2", "misnamed"),
        ("e/text.txt.j2", "{{ x|upperr }}\n{% if x is evn %}{% endif %}{% filter lwer %}{% endfilter %}"),
        ("f/text.txt.j2", "{% include x %}{% include 'a' ~ x %}{% include ['a'] %}"),
        ("g/html.html.j2", "{% include 'layouts/base.txt.j2' %}"),
        ("h/text.txt.j2", "{% extends 'h/text.txt.j2' %}"),
        ("i/text.txt.j2", "x"),
        ("i/sample.json", "[]"),
        ("j k/text.txt.j2", "x"),
        ("loose.txt.j2", "x"),
        ("layouts/odd.j2", "x"),
    ]);
    let problems = folder.problems();
    let expected = [
        "a/text.txt.j2:2: syntax error: unexpected end of input",
        "b/html.html.j2:3: extends: there is no layouts/nope.html.j2",
        "c: has neither text.txt.j2 nor html.html.j2",
        "d: has neither text.txt.j2 nor html.html.j2",
        "d/html.j2: is none of subject.txt.j2, text.txt.j2, html.html.j2",
        "e/text.txt.j2:1: unknown filter upperr",
        "e/text.txt.j2:2: unknown test evn",
        "e/text.txt.j2:2: unknown filter lwer",
        "f/text.txt.j2:1: include takes the name of a file in quotes",
        "f/text.txt.j2:1: include takes the name of a file in quotes",
        "f/text.txt.j2:1: include takes the name of a file in quotes",
        "g/html.html.j2:1: include: layouts/base.txt.j2 is not escaped for HTML",
        "h/text.txt.j2: extends itself",
        "i/sample.json:1: invalid type: sequence, expected a map",
        "j k: is not a template name",
        "layouts/odd.j2: is neither *.txt.j2 nor *.html.j2",
        "loose.txt.j2: is in no template's folder",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem} | {expected}");
    }
    let shown = folder.load().expect_err("bad templates").to_string();
    assert!(problems.iter().all(|problem| shown.contains(problem)));
}

#[test]
fn the_checks_leave_texts_comments_and_raw_blocks_alone() {
    let source = "{# {% include 'no' %} #}{% raw %}{% include 'no' %}{{ x|no }}{% endraw %}\
        {{ \"{% include 'no' %} }} |no is no\" }}{{ 'it\\'s |no' }}{% include 'layouts/no.txt.j2' ignore missing %}\
        {{ this.is.fine is not defined }}";
    let values = json!({"this": {"is": {}}});
    assert_eq!(
        text(source, values).as_deref(),
        Ok("{% include 'no' %}{{ x|no }}{% include 'no' %} }} |no is noit's |noTrue")
    );
}

#[test]
fn a_missing_folder_is_a_problem() {
    let folder = Folder::new(&[]);
    assert!(Templates::load(Some(&folder.0.join("nope"))).is_err());
}

#[cfg(unix)]
#[test]
fn links_may_lead_about_in_the_folder_but_not_out_of_it() {
    use std::os::unix::fs::symlink;
    let outside = Folder::new(&[("x/text.txt.j2", "secret")]);
    let folder = Folder::new(&[("..data/t/text.txt.j2", "x")]);
    symlink(folder.0.join("..data/t"), folder.0.join("t")).expect("symlink");
    assert!(folder.load().expect("good").contains("t"));
    symlink(outside.0.join("x"), folder.0.join("dir")).expect("symlink");
    symlink(outside.0.join("x/text.txt.j2"), folder.0.join("..data/t/html.html.j2")).expect("symlink");
    assert_eq!(
        folder.problems(),
        ["dir: leads out of the templates' folder", "t/html.html.j2: leads out of the templates' folder"]
    );
}
