//! Bodies: line ends, transfer encoding, MIME structure.

use std::borrow::Cow;

use lettre::message::{
    Body, MultiPart, SinglePart,
    header::{ContentTransferEncoding, ContentType},
};

use super::ComposeError;

/// Longest line that goes out as it is (RFC 2045 6.7 demands as much of quoted-printable).
const LINE: usize = 76;

/// The content fields and the body: one part, or the text and its HTML form as alternatives.
pub(super) fn build(
    text: Option<&str>,
    html: Option<&str>,
    boundary: impl FnOnce() -> String,
) -> Result<Vec<u8>, ComposeError> {
    let text = text.map(|text| part(text, ContentType::TEXT_PLAIN));
    let html = html.map(|html| part(html, ContentType::TEXT_HTML));
    match (text, html) {
        (Some(text), Some(html)) => {
            Ok(MultiPart::alternative().boundary(boundary()).singlepart(text).singlepart(html).formatted())
        }
        (Some(part), None) | (None, Some(part)) => Ok(part.formatted()),
        (None, None) => Err(ComposeError::malformed("message.template", "gave neither text nor HTML")),
    }
}

fn part(content: &str, kind: ContentType) -> SinglePart {
    SinglePart::builder().header(kind).body(encode(lines(content)))
}

/// Ends every line by CRLF and drops NUL; what ends the last one is added by the part.
///
/// A bare CR or LF on the wire is what SMTP smuggling is made of. It is done here also because lettre inserts one CR
/// after the other into the text, which takes minutes for a few megabytes of line ends.
fn lines(content: &str) -> String {
    let content: Cow<'_, str> = if content.contains('\0') { content.replace('\0', "").into() } else { content.into() };
    let mut out = String::with_capacity(content.len() + content.len() / 16);
    let mut rest = &*content;
    while let Some(at) = rest.bytes().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (line, end) = rest.split_at(at);
        out.push_str(line);
        out.push_str("\r\n");
        rest = end.strip_prefix("\r\n").unwrap_or(&end[1..]);
    }
    out.push_str(rest);
    out.truncate(out.trim_end_matches(['\r', '\n']).len());
    out
}

fn encode(content: String) -> Body {
    if is_plain(&content) {
        return Body::dangerous_pre_encoded(content.into_bytes(), ContentTransferEncoding::SevenBit);
    }
    let quoted = content.bytes().filter(|b| !matches!(b, b' '..=b'<' | b'>'..=b'~' | b'\t' | b'\r' | b'\n')).count();
    // Quoted-printable stays readable, and filters frown at base64 without need: only where every third byte is one.
    let encoding = if quoted * 3 > content.len() {
        ContentTransferEncoding::Base64
    } else {
        ContentTransferEncoding::QuotedPrintable
    };
    Body::new_with_encoding(content, encoding).expect("quoted-printable and base64 take every text")
}

/// Whether a text needs no encoding. `=_` begins our boundaries and can stand in no encoded text: so no data can
/// forge one.
fn is_plain(content: &str) -> bool {
    content.split("\r\n").all(|line| {
        line.len() <= LINE
            && line.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t'))
            && !line.ends_with([' ', '\t'])
            && !line.contains("=_")
    })
}
