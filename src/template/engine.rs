//! The template engine as mails need it: strict, bounded, without access to anything.

use std::{fmt, io};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, Output, State, Template, UndefinedBehavior, Value, filters,
    syntax::SyntaxConfig,
    value::{Kwargs, StringInput, ValueKind},
};

use super::Data;

/// Largest output of one part in bytes. Fuel alone would let a loop print hundreds of megabytes.
pub const MAX_PART_SIZE: usize = 2_000_000;

/// Work that one part may cost: about one unit an instruction and one for 64 bytes of data.
const FUEL: u64 = 500_000;

/// Depth of nested calls; an include or a macro costs about ten. Small enough for the stack of a worker thread.
const RECURSION: usize = 150;
/// The same for a subject that a producer gave.
pub(super) const SUBJECT_FUEL: u64 = 10_000;

/// Why a value was refused; it stands in the error's source, for the engine's own details may quote data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("null value")]
    Null,
    #[error("null value inside of a list or an object")]
    NullInside,
    #[error("not a text")]
    NotText,
    #[error("not an http, https or mailto link")]
    UnsafeUrl,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::new(ErrorKind::InvalidOperation, "refused").with_source(refused)
    }
}

pub(super) fn environment() -> Environment<'static> {
    let mut env = Environment::new();
    env.set_debug(false);
    env.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().expect("the usual delimiters are valid"),
    );
    env.set_undefined_behavior(UndefinedBehavior::SemiStrict);
    env.set_auto_escape_callback(|name| if is_html(name) { AutoEscape::Html } else { AutoEscape::None });
    env.set_formatter(print);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(RECURSION);
    env.add_filter("safe_url", safe_url);
    env.add_filter("linebreaks", line_breaks);
    env.add_filter("escape", escape);
    env.add_filter("e", escape);
    env.add_filter("urlencode", url_encode);
    env.add_filter("tojson", to_json);
    env.add_filter("join", join);
    env
}

pub(super) fn is_html(name: &str) -> bool {
    name.ends_with(".html.j2")
}

/// The data of an event as the engine sees it: JSON null is undefined, at any depth.
///
/// As a value of its own, null would print as `none` wherever it meets a filter or `~`. This way it is refused there as
/// well, and `default` and `if` treat it as what producers mean by it: nothing.
pub(super) fn context(data: &Data) -> Value {
    Value::from_pairs(data.iter().map(|(key, value)| (key.as_str(), convert(value))))
}

fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::UNDEFINED,
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => Value::from(number),
            (None, Some(number), _) => Value::from(number),
            (None, None, number) => Value::from(number.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(convert).collect::<Vec<_>>().into(),
        serde_json::Value::Object(data) => context(data),
    }
}

pub(super) fn render(template: &Template<'_, '_>, context: &Value) -> Result<String, Error> {
    let mut output = Limited(Vec::new());
    template.render_captured_to(context.clone(), &mut output)?;
    Ok(String::from_utf8(output.0).expect("the engine writes whole strings"))
}

struct Limited(Vec<u8>);

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_PART_SIZE {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a value. The engine has refused an undefined one before; literals can still be null.
fn print(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    demand(value)?;
    if value.is_safe() || state.auto_escape() == &AutoEscape::None {
        return write(out, value);
    }
    match value.as_str() {
        Some(text) => write(out, &Escaped(text)),
        None => write(out, &Escaped(&value.to_string())),
    }
}

fn write(out: &mut Output<'_>, value: &dyn fmt::Display) -> Result<(), Error> {
    out.write_fmt(format_args!("{value}")).map_err(Error::from)
}

fn holds_null(value: &Value) -> bool {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return false;
    }
    let is_map = value.kind() == ValueKind::Map;
    value.try_iter().is_ok_and(|mut items| {
        items.any(|item| {
            let item = if is_map { value.get_item(&item).unwrap_or(Value::UNDEFINED) } else { item };
            item.is_undefined() || item.is_none() || holds_null(&item)
        })
    })
}

/// HTML text and attribute values. Unlike the engine's own escaping it leaves `/` alone, so that links stay readable.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            let (before, special) = rest.split_at(at);
            f.write_str(before)?;
            f.write_str(match special.as_bytes()[0] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &special[1..];
        }
        f.write_str(rest)
    }
}

/// Refuses what is missing or null, at any depth.
fn demand(value: &Value) -> Result<(), Error> {
    match value {
        value if value.is_undefined() => Err(ErrorKind::UndefinedError.into()),
        value if value.is_none() => Err(Refused::Null.into()),
        value if holds_null(value) => Err(Refused::NullInside.into()),
        _ => Ok(()),
    }
}

fn text(value: &Value) -> Result<&str, Error> {
    demand(value)?;
    value.as_str().ok_or_else(|| Refused::NotText.into())
}

/// Lets pass what a reader may click: `http:`, `https:` and `mailto:` links without blanks and controls.
fn safe_url(value: &Value) -> Result<Value, Error> {
    let url = text(value)?;
    let starts = |scheme: &str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let allowed = ["http://", "https://", "mailto:"].into_iter().any(starts);
    if allowed && !url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        Ok(value.clone())
    } else {
        Err(Refused::UnsafeUrl.into())
    }
}

// The engine's own filters of these names take what is missing for an empty text.

fn escape(value: &Value) -> Result<Value, Error> {
    demand(value)?;
    let escaped = |value: &Value| Value::from_safe_string(Escaped(&value.to_string()).to_string());
    Ok(if value.is_safe() { value.clone() } else { escaped(value) })
}

fn url_encode(value: &Value) -> Result<String, Error> {
    demand(value)?;
    filters::urlencode(value)
}

fn to_json(value: &Value, indent: Option<Value>, args: Kwargs) -> Result<Value, Error> {
    demand(value)?;
    filters::tojson(value, indent, args)
}

fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    args: Kwargs,
) -> Result<Value, Error> {
    if attribute.is_none() {
        demand(value)?;
    }
    filters::join(state, value, joiner, attribute, args)
}

/// Escapes a text for HTML and keeps its lines.
fn line_breaks(value: &Value) -> Result<Value, Error> {
    let text = text(value)?.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<String> = text.split('\n').map(|line| Escaped(line).to_string()).collect();
    Ok(Value::from_safe_string(lines.join("<br>\n")))
}
