//! What came of the events, as one HTML page beside the mails.

use std::fmt::Write as _;

use super::outcome::{Letter, Mail, Outcome};

const HEAD: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>postlane demo</title>
<style>
  :root { color-scheme: light dark; --line: #d9dde3; --soft: #5d6673; --mark: #1f5fbf; --back: #f5f6f8; }
  @media (prefers-color-scheme: dark) {
    :root { --line: #3a414b; --soft: #9aa4b2; --mark: #8ab4f8; --back: #1b1f24; }
  }
  * { box-sizing: border-box; }
  body { margin: 0; font: 15px/1.45 system-ui, sans-serif; display: grid; grid-template-columns: minmax(22rem, 30rem) 1fr; height: 100vh; }
  aside { overflow: auto; padding: 1.5rem; border-right: 1px solid var(--line); }
  iframe { width: 100%; height: 100%; border: 0; background: #fff; }
  h1 { font-size: 1.25rem; margin: 0; }
  h2 { font-size: .8rem; letter-spacing: .06em; text-transform: uppercase; color: var(--soft); margin: 1.75rem 0 .5rem; }
  p { margin: .25rem 0 0; color: var(--soft); }
  ul { list-style: none; margin: 0; padding: 0; }
  li { padding: .6rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
  a { color: var(--mark); text-decoration: none; }
  a:hover { text-decoration: underline; }
  li > a:first-child { font-weight: 600; }
  small { display: block; color: var(--soft); }
  code { font-size: .85em; background: var(--back); padding: .1em .35em; border-radius: 4px; }
  pre { overflow: auto; font-size: .75rem; background: var(--back); padding: .75rem; border-radius: 6px; margin: 0; }
  @media (max-width: 60rem) { body { display: block; height: auto; } aside { border: 0; } iframe { height: 80vh; } }
</style>
</head>
<body>
<aside>
"#;

/// A page with the mails on the left and the chosen one beside them; `note` follows the numbers.
pub(super) fn index(outcome: &Outcome, note: &str) -> String {
    let mut page = String::from(HEAD);
    let _ = writeln!(
        page,
        "<h1>postlane demo</h1>\n<p>{} mails delivered, {} dead letters, {}</p>",
        outcome.mails.len(),
        outcome.letters.len(),
        escaped(note)
    );
    page.push_str("<h2>Mails</h2>\n<ul>\n");
    for mail in &outcome.mails {
        page.push_str(&entry(mail));
    }
    page.push_str("</ul>\n<h2>Dead letters</h2>\n<ul>\n");
    for letter in &outcome.letters {
        page.push_str(&dead(letter));
    }
    let first = outcome.mails.iter().find(|mail| mail.has_html).map(html_file).unwrap_or_default();
    page.push_str("</ul>\n");
    if !outcome.lag.is_empty() {
        let lag = escaped(outcome.lag.trim());
        let _ = writeln!(page, "<h2>kafka-consumer-groups --describe</h2>\n<pre>{lag}</pre>");
    }
    let _ = writeln!(
        page,
        "<p><a href=\"postlane.log\">postlane.log</a></p>\n</aside>\n\
         <iframe name=\"mail\" title=\"The mail\" src=\"{first}\"></iframe>\n</body>\n</html>"
    );
    page
}

fn entry(mail: &Mail) -> String {
    let subject = escaped(&mail.subject);
    let source = format!("mails/{:04}.eml", mail.sequence);
    let link = if mail.has_html {
        format!("<a href=\"{}\" target=\"mail\">{subject}</a>", html_file(mail))
    } else {
        format!("<a href=\"{source}\">{subject}</a>")
    };
    let attempts = if mail.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", mail.attempts) };
    let (to, lane) = (escaped(&mail.to), escaped(&mail.lane));
    format!("<li>{link}\n<small>{lane} lane · {attempts} · to {to} · <a href=\"{source}\">source</a></small></li>\n")
}

fn dead(letter: &Letter) -> String {
    let code = if letter.code.is_empty() { String::new() } else { format!(" · {}", escaped(&letter.code)) };
    let part = if letter.is_partial { " · one recipient of several" } else { "" };
    format!(
        "<li><code>{}</code> {}\n<small>at {}{code}{part} · record {}</small></li>\n",
        escaped(&letter.reason),
        escaped(&letter.message),
        escaped(&letter.stage),
        escaped(&letter.origin)
    )
}

fn html_file(mail: &Mail) -> String {
    format!("mails/{:04}.html", mail.sequence)
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn what_came_from_an_event_is_no_markup() {
        assert_eq!(escaped("<b title=\"x\">'&'"), "&lt;b title=&quot;x&quot;&gt;&#39;&amp;&#39;");
    }
}
