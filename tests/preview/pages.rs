//! What somebody sees who writes a template.

use std::net::TcpListener;

use serde_json::json;

use crate::{Preview, Templates, browser::Browser};

const HTML: &str = "\
{% extends \"layouts/base.html.j2\" %}
{% from \"layouts/elements.html.j2\" import title, button %}
{% block content %}
{{ title(\"Your trial ends on \" ~ Day) }}
{{ button(Link, \"Choose a plan\") }}
{% endblock %}
";
const TEXT: &str = "Your trial ends on {{ Day }}.\n";
const SUBJECT: &str = "Until {{ Day }}\n";
const SAMPLE: &str = "{\"Day\": \"Friday <b>\", \"Link\": \"https://shop.example/plans\"}\n";

fn trial() -> Templates {
    Templates::new(&[
        ("trial/html.html.j2", HTML),
        ("trial/text.txt.j2", TEXT),
        ("trial/subject.txt.j2", SUBJECT),
        ("trial/sample.json", SAMPLE),
    ])
}

const NAMES: &str = "[...document.querySelectorAll('#list a span')].map((name) => name.textContent)";
const FINDINGS: &str = "document.getElementById('findings').innerText";

/// An expression in one of the frames.
fn within(frame: &str, expression: &str) -> String {
    format!("document.getElementById('{frame}').contentWindow.{expression}")
}

fn says(frame: &str, text: &str) -> String {
    within(frame, &format!("document.body?.innerText.includes({})", json!(text)))
}

#[tokio::test]
async fn a_template_is_shown_wide_narrow_and_as_text() {
    let templates = trial();
    let preview = Preview::start(&templates).await;
    let mut browser = Browser::start(1400, 900);
    browser.open(&format!("{}/templates/trial", preview.address));
    browser.expect(NAMES, json!(["order-confirmation", "password-reset", "plain", "trial", "welcome"]));
    browser.expect("document.querySelector('#list [aria-current] span')?.textContent", "trial");
    browser.expect("document.getElementById('subject').textContent", "Until Friday <b>");
    for frame in ["wide", "narrow"] {
        browser.expect(&says(frame, "Your trial ends on Friday <b>"), true);
    }
    // the layout's rule for phones holds in the one frame and not in the other
    let on_a_phone = "matchMedia('(max-width: 620px)').matches";
    browser.expect(&within("narrow", "innerWidth"), 375);
    browser.expect(&within("narrow", on_a_phone), true);
    browser.expect(&within("wide", "innerWidth > 620"), true);
    browser.expect(&within("wide", on_a_phone), false);
    // a dark mail beside a light page
    browser.evaluate("document.querySelector('[data-scheme=dark]').click()");
    browser.expect(&within("wide", "matchMedia('(prefers-color-scheme: dark)').matches"), true);
    browser.evaluate("document.querySelector('[data-scheme=light]').click()");
    browser.expect(&within("wide", "matchMedia('(prefers-color-scheme: dark)').matches"), false);

    browser.evaluate("document.querySelector('[data-view=text]').click()");
    browser.expect("document.getElementById('text').innerText.trim()", "Your trial ends on Friday <b>.");
    browser.expect("document.getElementById('wide').checkVisibility()", false);
    browser.expect("/^HTML [0-9.]+ kB · mail [0-9.]+ kB$/.test(document.getElementById('facts').innerText)", true);
    let mail = browser.evaluate("fetch(document.getElementById('eml').href).then((answer) => answer.text())");
    let mail = mail.as_str().expect("a mail");
    assert!(mail.starts_with("Date: ") && mail.contains("\r\nSubject: Until Friday <b>\r\n"), "{mail}");

    browser.evaluate("document.querySelector('a[href=\"/templates/welcome\"]').click()");
    browser.expect("document.getElementById('subject').textContent", "Welcome, Zoë");
    browser.expect("location.pathname", "/templates/welcome");
    browser.evaluate("history.back()");
    browser.expect("document.getElementById('subject').textContent", "Until Friday <b>");
}

#[tokio::test]
async fn a_template_of_text_alone_that_needs_no_data_is_shown_without_a_sample() {
    let templates = Templates::new(&[("note/text.txt.j2", "Just text.\n")]);
    let preview = Preview::start(&templates).await;
    let mut browser = Browser::start(1400, 900);
    browser.open(&format!("{}/templates/note", preview.address));
    browser.expect("document.getElementById('text').innerText.trim()", "Just text.");
    browser.expect("document.getElementById('text').checkVisibility()", true);
    browser.expect("document.getElementById('wide').checkVisibility()", false);
    browser.expect(&format!("{FINDINGS}.includes('has no sample data')"), true);
    browser.expect("document.getElementById('origin').textContent", "No sample.json");
}

#[tokio::test]
async fn a_change_shows_by_itself_and_an_error_until_it_is_repaired() {
    let templates = trial();
    let preview = Preview::start(&templates).await;
    let mut browser = Browser::start(1400, 900);
    browser.open(&format!("{}/templates/trial", preview.address));
    browser.expect(&says("wide", "Your trial ends on Friday"), true);
    // it goes where the page is loaded anew
    browser.evaluate("window.untouched = true");

    templates.write("trial/html.html.j2", &HTML.replace("Your trial ends", "It is over"));
    browser.expect(&says("wide", "It is over on Friday"), true);
    templates.write("trial/sample.json", &SAMPLE.replace("Friday", "Sunday"));
    browser.expect(&says("narrow", "It is over on Sunday"), true);
    templates.write(
        "layouts/elements.html.j2",
        "{% macro title(x) %}<h2>own {{ x }}</h2>{% endmacro %}{% macro button(a, b) %}{% endmacro %}",
    );
    browser.expect(&says("wide", "own It is over on Sunday"), true);
    browser.expect("document.querySelector('#list [aria-current] i').dataset.result", "ok");
    // others import from it what it does not have any more
    browser.expect("document.querySelector('a[href=\"/templates/welcome\"] i').dataset.result", "fail");

    templates.write("trial/html.html.j2", "<p>{{ Day }}</p>\n<p>{% if Day %}</p>\n");
    browser
        .expect(&format!("{FINDINGS}.includes('trial/html.html.j2:2') && {FINDINGS}.includes('syntax error')"), true);
    browser.expect("document.querySelector('#list [aria-current] i').dataset.result", "fail");
    browser.expect("document.querySelector('.wide').innerText", "The HTML part cannot be rendered.");
    browser.expect("document.getElementById('text').textContent", "Your trial ends on Sunday <b>.");
    browser.expect("document.getElementById('eml').href", "");
    templates.write("trial/html.html.j2", "<p>{{ Day }}</p>\n\n<p>{{ Dya }}</p>\n");
    browser
        .expect(&format!("{FINDINGS}.includes('trial/html.html.j2:3') && {FINDINGS}.includes('Dya is not in')"), true);
    templates.write("trial/html.html.j2", "<p>healed {{ Day }} {{ Link }}</p>");
    browser.expect(&says("wide", "healed Sunday"), true);
    browser.expect(FINDINGS, "");

    templates.write("brand-new/text.txt.j2", "x");
    browser.expect(&format!("{NAMES}.includes('brand-new')"), true);
    std::fs::remove_dir_all(templates.path().join("trial")).expect("writable");
    browser.expect(&format!("{FINDINGS}.includes('there is no template \"trial\" any more')"), true);
    browser.expect("window.untouched", true);

    assert_eq!(preview.interrupt().await, Some(0));
    browser.expect("document.getElementById('state').className", "away");
}

fn type_in(browser: &mut Browser, text: &str) {
    let text = json!(text);
    browser.evaluate(&format!("document.getElementById('json').value = {text}"));
    browser.evaluate("document.getElementById('json').dispatchEvent(new Event('input'))");
}

#[tokio::test]
async fn other_data_is_rendered_as_it_is_typed() {
    let templates = trial();
    let preview = Preview::start(&templates).await;
    let mut browser = Browser::start(1400, 900);
    browser.open(&format!("{}/templates/trial", preview.address));
    browser.expect("document.getElementById('json').value", SAMPLE);
    type_in(&mut browser, "{\"Day\": \"tomorrow\", \"Link\": \"https://shop.example\"}");
    browser.expect(&says("wide", "Your trial ends on tomorrow"), true);
    type_in(&mut browser, "{\"Day\": \"tomorrow\",\n");
    browser.expect("document.getElementById('wrong').textContent.includes('line 2')", true);
    browser.expect("document.getElementById('origin').textContent", "Changed here");
    browser.expect(&says("wide", "Your trial ends on tomorrow"), true);
    type_in(&mut browser, "{}");
    browser.expect(&format!("{FINDINGS}.includes('Link is not in this data')"), true);
    browser.expect("document.getElementById('wrong').textContent", "");
    browser.evaluate("document.getElementById('reset').click()");
    browser.expect(&says("wide", "Your trial ends on Friday"), true);
    browser.expect("document.getElementById('json').value", SAMPLE);
}

#[tokio::test]
async fn a_mail_runs_no_script_and_loads_nothing_from_elsewhere_unless_asked() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("a port");
    elsewhere.set_nonblocking(true).expect("a socket");
    let port = elsewhere.local_addr().expect("an address").port();
    let html = format!(
        "<p id=\"p\">still here</p><script>parent.document.title = 'stolen'; document.getElementById('p').textContent = 'changed'</script>\
         <img src=\"http://127.0.0.1:{port}/pixel.png\" onerror=\"parent.document.title = 'stolen'\">\
         <style>@import url(http://127.0.0.1:{port}/style.css);</style>\
         <a href=\"https://shop.example\">link</a>"
    );
    let templates = Templates::new(&[("trial/html.html.j2", &html), ("trial/sample.json", "{}")]);
    let preview = Preview::start(&templates).await;
    let mut browser = Browser::start(1400, 900);
    browser.open(&format!("{}/templates/trial", preview.address));
    // the id of what is shown stands at the frame once it is loaded, images and all
    browser.expect("document.getElementById('wide').dataset.shows !== undefined", true);
    browser.expect(&says("wide", "still here"), true);
    browser.expect("document.title", "trial – Templates");
    browser.expect(&within("wide", "document.querySelector('a').target"), "_blank");
    assert!(elsewhere.accept().is_err(), "something was loaded from elsewhere");
    let own = "performance.getEntriesByType('resource').every((entry) => entry.name.startsWith(location.origin))";
    browser.expect(own, true);

    browser.evaluate("document.getElementById('images').click()");
    let deadline = std::time::Instant::now() + crate::LIMIT;
    while elsewhere.accept().is_err() {
        assert!(std::time::Instant::now() < deadline, "the image was not loaded");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
