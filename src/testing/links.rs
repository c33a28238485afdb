//! Where the links of a mail lead.

/// What stands in the `href` attributes of tags.
pub(super) fn of_html(html: &str) -> Vec<String> {
    let mut links = Vec::new();
    for tag in html.split('<').skip(1) {
        let mut rest = tag.trim_start_matches(|c: char| !c.is_whitespace() && c != '>');
        while let Some((name, value, after)) = attribute(rest) {
            if name.eq_ignore_ascii_case("href") {
                links.extend(Some(unescaped(value)).filter(|link| is_link(link)));
            }
            rest = after;
        }
    }
    links
}

/// The next attribute of a tag, its value, and what follows; nothing at the tag's end.
fn attribute(tag: &str) -> Option<(&str, &str, &str)> {
    let tag = tag.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
    let end = tag.find(|c: char| c.is_whitespace() || matches!(c, '=' | '>')).filter(|&end| end > 0)?;
    let (name, after) = tag.split_at(end);
    let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else { return Some((name, "", after)) };
    if let Some(quote @ ('"' | '\'')) = value.chars().next() {
        let (value, after) = value[1..].split_once(quote)?;
        return Some((name, value, after));
    }
    let end = value.find(|c: char| c.is_whitespace() || c == '>')?;
    Some((name, &value[..end], &value[end..]))
}

/// What looks like a link in a text, less the punctuation behind it.
pub(super) fn of_text(text: &str) -> Vec<String> {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '<' | '>' | '"'));
    let words = words
        .map(|word| word.trim_start_matches(['(', '[']).trim_end_matches(['.', ',', ';', ':', '!', '?', ')', ']']));
    words.filter(|word| is_link(word)).map(str::to_owned).collect()
}

fn is_link(text: &str) -> bool {
    let starts = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    ["http://", "https://", "mailto:"].into_iter().any(starts)
}

/// Without the escapes that attributes have in mails.
fn unescaped(text: &str) -> String {
    let text = ["&quot;", "&#34;"].into_iter().fold(text.to_owned(), |text, escape| text.replace(escape, "\""));
    let text = ["&#39;", "&#x27;", "&apos;"].into_iter().fold(text, |text, escape| text.replace(escape, "'"));
    text.replace("&#x2f;", "/").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_html() {
        let html = r##"<link href="https://example.com/style"><a class="x" HREF = 'https://example.com/?a=1&amp;b=2'>one</a>
            <a href=http://example.com/bare>two</a> <a href="#top">top</a> <a href="javascript:x()">three</a>
            href="https://example.com/none" <a href="mailto:a@example.com?subject=&quot;x&quot;">four</a>"##;
        assert_eq!(
            of_html(html),
            [
                "https://example.com/style",
                "https://example.com/?a=1&b=2",
                "http://example.com/bare",
                "mailto:a@example.com?subject=\"x\"",
            ]
        );
    }

    #[test]
    fn in_a_text() {
        let text =
            "Go to https://example.com/a?b=c&d=e, or (http://example.com/f).\n<https://example.com/g>\nexample.com";
        assert_eq!(of_text(text), ["https://example.com/a?b=c&d=e", "http://example.com/f", "https://example.com/g"]);
    }
}
