//! The lines of a file of events, numbered and with their places; of one that is too long only its length is kept.

use std::io::{self, BufRead as _, BufReader, Read};

/// What some editors put before the first line (U+FEFF).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Offset behind its line break.
    pub(super) end: u64,
    pub(super) content: Content,
}

/// What stands in a line, without its break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Something that should be an event.
    Event(Vec<u8>),
    /// White space alone.
    Blank,
    /// More than is read; its length in bytes.
    TooLong(u64),
}

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    number: u64,
    offset: u64,
    longest: usize,
}

impl<R: Read> Lines<R> {
    /// Goes on behind a place: `number` is that of the next line, which starts at `offset`, where the reader stands.
    pub(super) fn new(reader: R, number: u64, offset: u64, longest: usize) -> Self {
        Self { reader: BufReader::with_capacity(BUFFER, reader), number, offset, longest }
    }

    /// Whether there is a further line that needs not be waited for.
    pub(super) fn has_more(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// The next line; `None` at the end. The last one needs no line break.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let mut length: u64 = 0;
        let mut ended = false;
        while !ended {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                break;
            }
            let (part, used) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => {
                    ended = true;
                    (&buffer[..at], at + 1)
                }
                None => (buffer, buffer.len()),
            };
            length += part.len() as u64;
            let room = self.longest + 1 - bytes.len();
            bytes.extend_from_slice(&part[..part.len().min(room)]);
            self.offset += used as u64;
            self.reader.consume(used);
        }
        if !ended && length == 0 {
            return Ok(None);
        }
        let number = self.number;
        self.number += 1;
        let content = if bytes.len() > self.longest { Content::TooLong(length) } else { content(bytes, number) };
        Ok(Some(Line { number, end: self.offset, content }))
    }
}

fn content(mut bytes: Vec<u8>, number: u64) -> Content {
    if number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    if bytes.trim_ascii().is_empty() { Content::Blank } else { Content::Event(bytes) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives three bytes at a time, as a pipe may.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let (part, rest) = self.0.split_at(self.0.len().min(3).min(buffer.len()));
            buffer[..part.len()].copy_from_slice(part);
            self.0 = rest;
            Ok(part.len())
        }
    }

    fn read(text: &[u8], longest: usize) -> Vec<Line> {
        let mut lines = Lines::new(Drip(text), 1, 0, longest);
        std::iter::from_fn(|| lines.next().expect("memory can be read")).collect()
    }

    fn event(number: u64, end: u64, text: &str) -> Line {
        Line { number, end, content: Content::Event(text.into()) }
    }

    #[test]
    fn lines_have_their_number_and_the_offset_behind_them() {
        let blank = |number, end| Line { number, end, content: Content::Blank };
        assert_eq!(
            read(b"\xef\xbb\xbf{1}\r\n\n  \t\n{22}\n{333}", 10),
            [event(1, 8, "{1}"), blank(2, 9), blank(3, 13), event(4, 18, "{22}"), event(5, 23, "{333}")]
        );
        assert_eq!(read(b"", 10), []);
        assert_eq!(read(b"\n", 10), [blank(1, 1)]);
    }

    #[test]
    fn one_that_is_too_long_is_stepped_over() {
        let lines = read(b"{1}\n0123456789ab\n0123456789\n", 10);
        assert_eq!(lines[1], Line { number: 2, end: 17, content: Content::TooLong(12) });
        assert_eq!(lines[2], event(3, 28, "0123456789"));
    }

    #[test]
    fn going_on_behind_a_place_is_reading_on() {
        let text = b"{1}\n{22}\n{333}\n";
        let mut lines = Lines::new(&text[4..], 2, 4, 10);
        assert_eq!(lines.next().expect("memory can be read"), Some(event(2, 9, "{22}")));
    }

    proptest! {
        #[test]
        fn no_byte_is_lost(parts in prop::collection::vec("[a-z]{1,12}", 0..20)) {
            let text = parts.join("\n");
            let lines = read(text.as_bytes(), 100);
            let read: Vec<_> = lines.iter().map(|line| match &line.content {
                Content::Event(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                other => panic!("{other:?}"),
            }).collect();
            prop_assert_eq!(&read, &parts);
            prop_assert_eq!(lines.last().map_or(0, |line| line.end), text.len() as u64);
        }
    }
}
