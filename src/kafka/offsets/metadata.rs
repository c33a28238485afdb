//! What is settled beyond a committed offset, as the text that travels with the commit. docs/offsets.md has the format.

use std::collections::BTreeSet;

use data_encoding::BASE64URL_NOPAD;

/// Marks our metadata and its version.
const PREFIX: &str = "pl1:";
const CHECKSUM: usize = 4;
/// Largest span of offsets that is believed when it is read.
const MAX_SPAN: i64 = 1 << 40;
/// Largest number of unsettled offsets that is believed when it is read: a text of 64 KiB as a bitmap.
const MAX_UNSETTLED: usize = 1 << 20;

/// How the bytes say which offsets are settled.
#[derive(Clone, Copy)]
enum Form {
    /// Lengths of runs in LEB128: unsettled, settled, unsettled, settled, …
    Runs = 0,
    /// One bit an offset, the lowest bit first; 1 is settled.
    Bitmap = 1,
}

/// Why a commit's metadata says nothing about settled offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Written by another program, or by a later version.
    #[error("the commit's metadata was not written by this version of postlane")]
    Foreign,
    /// The checksum or the structure is wrong.
    #[error("the commit's metadata is damaged")]
    Damaged,
    /// It belongs to another offset: somebody has reset the group.
    #[error("the commit's metadata belongs to offset {0}")]
    OtherOffset(i64),
}

/// What a commit remembers of the offsets from its own up to `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// First offset of which it says nothing.
    pub end: i64,
    /// Offsets below `end` that are not settled; all others are settled or never existed.
    pub unsettled: BTreeSet<i64>,
}

impl Snapshot {
    /// Reads the metadata of a commit at `offset`.
    ///
    /// # Errors
    ///
    /// [`MetadataError`] says what is wrong with it; then nothing of it is to be believed.
    pub fn parse(offset: i64, metadata: &str) -> Result<Self, MetadataError> {
        let text = metadata.strip_prefix(PREFIX).ok_or(MetadataError::Foreign)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| MetadataError::Damaged)?;
        let (body, checksum) =
            bytes.len().checked_sub(CHECKSUM).map(|at| bytes.split_at(at)).ok_or(MetadataError::Damaged)?;
        if crc32fast::hash(body).to_be_bytes() != checksum {
            return Err(MetadataError::Damaged);
        }
        let mut reader = body;
        let base = read_number(&mut reader).ok_or(MetadataError::Damaged)?;
        if base != offset {
            return Err(MetadataError::OtherOffset(base));
        }
        let (&form, reader) = reader.split_first().ok_or(MetadataError::Damaged)?;
        match form {
            form if form == Form::Runs as u8 => from_runs(offset, reader),
            form if form == Form::Bitmap as u8 => Some(from_bitmap(offset, reader)),
            _ => None,
        }
        .ok_or(MetadataError::Damaged)
    }
}

/// The metadata for a commit at `base`, and how many settled offsets below `end` it has no room for.
pub(super) fn encode(base: i64, end: i64, unsettled: &BTreeSet<i64>, limit: usize) -> (String, u64) {
    let runs = settled_runs(end, unsettled);
    let settled: u64 = runs.iter().map(|(_, length)| length).sum();
    if settled == 0 {
        return (String::new(), 0);
    }
    let mut head = Vec::new();
    write_number(&mut head, u64::try_from(base).expect("offsets are not negative"));
    let room = limit.saturating_sub(PREFIX.len()) / 4 * 3;
    let Some(room) = room.checked_sub(head.len() + 1 + CHECKSUM) else { return (String::new(), settled) };
    let (by_runs, runs_cover) = to_runs(base, &runs, room);
    let (by_bitmap, bitmap_covers) = to_bitmap(base, &runs, room);
    let smaller = by_runs.len() <= by_bitmap.len();
    let (form, body, covered) = if runs_cover > bitmap_covers || (runs_cover == bitmap_covers && smaller) {
        (Form::Runs, by_runs, runs_cover)
    } else {
        (Form::Bitmap, by_bitmap, bitmap_covers)
    };
    if covered == 0 {
        return (String::new(), settled);
    }
    let mut bytes = head;
    bytes.push(form as u8);
    bytes.extend(body);
    bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
    (format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes)), settled - covered)
}

/// Start and length of each run of settled offsets above the lowest unsettled one.
fn settled_runs(end: i64, unsettled: &BTreeSet<i64>) -> Vec<(i64, u64)> {
    let next = unsettled.iter().skip(1).copied().chain([end]);
    unsettled
        .iter()
        .zip(next)
        .filter_map(|(&offset, next)| {
            let length = u64::try_from(next - offset - 1).unwrap_or(0);
            (length > 0).then_some((offset + 1, length))
        })
        .collect()
}

fn to_runs(base: i64, runs: &[(i64, u64)], room: usize) -> (Vec<u8>, u64) {
    let (mut bytes, mut covered, mut at) = (Vec::new(), 0, base);
    for &(start, length) in runs {
        let before = bytes.len();
        write_number(&mut bytes, u64::try_from(start - at).expect("runs ascend"));
        write_number(&mut bytes, length);
        if bytes.len() > room {
            bytes.truncate(before);
            break;
        }
        covered += length;
        at = start + i64::try_from(length).expect("a run lies within the range of offsets");
    }
    (bytes, covered)
}

fn from_runs(base: i64, mut reader: &[u8]) -> Option<Snapshot> {
    let (mut at, mut unsettled) = (base, BTreeSet::new());
    while !reader.is_empty() {
        let gap = read_number(&mut reader)?;
        let settled = read_number(&mut reader)?;
        let span = at.checked_sub(base)?.checked_add(gap)?.checked_add(settled)?;
        if gap == 0 || settled == 0 || span > MAX_SPAN || unsettled.len() + usize::try_from(gap).ok()? > MAX_UNSETTLED {
            return None;
        }
        unsettled.extend(at..at + gap);
        at += gap + settled;
    }
    Some(Snapshot { end: at, unsettled })
}

fn to_bitmap(base: i64, runs: &[(i64, u64)], room: usize) -> (Vec<u8>, u64) {
    let (mut bytes, mut covered) = (Vec::new(), 0);
    let bits = u64::try_from(room).unwrap_or(u64::MAX).saturating_mul(8);
    for &(start, length) in runs {
        let first = u64::try_from(start - base).expect("runs stand above the base");
        for bit in first..(first + length).min(bits) {
            let byte = usize::try_from(bit / 8).expect("a bitmap fits into memory");
            if bytes.len() <= byte {
                bytes.resize(byte + 1, 0);
            }
            bytes[byte] |= 1 << (bit % 8);
            covered += 1;
        }
    }
    (bytes, covered)
}

fn from_bitmap(base: i64, bytes: &[u8]) -> Snapshot {
    let bits = bytes.iter().enumerate().flat_map(|(index, byte)| {
        (0..8).map(move |bit| (i64::try_from(index * 8 + bit).unwrap_or(i64::MAX), byte & (1 << bit) != 0))
    });
    let end = bits.clone().rfind(|(_, settled)| *settled).map_or(0, |(bit, _)| bit + 1);
    let unsettled = bits.take_while(|(bit, _)| *bit < end).filter(|(_, settled)| !settled);
    Snapshot { end: base + end, unsettled: unsettled.map(|(bit, _)| base + bit).collect() }
}

/// Unsigned LEB128.
fn write_number(bytes: &mut Vec<u8>, mut number: u64) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return bytes.push(low & 0x7f);
        }
        bytes.push(low | 0x80);
    }
}

/// Unsigned LEB128 within the range of offsets.
fn read_number(reader: &mut &[u8]) -> Option<i64> {
    let mut number: u64 = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = reader.split_first()?;
        *reader = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return i64::try_from(number).ok();
        }
    }
    None
}
