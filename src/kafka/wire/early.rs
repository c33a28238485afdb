//! What a broker may say before it has been let to know who we are, and we who it is: read by hand where
//! `kafka-protocol` would set aside memory for as many elements as are announced.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use bytes::Buf;
use kafka_protocol::protocol::VersionRange;

/// The error code, and the versions of each API, of an answer to `ApiVersions` in version 0 or 3. What follows them is
/// not read.
pub(super) fn versions(version: i16, mut answer: impl Buf) -> Result<(i16, BTreeMap<i16, VersionRange>)> {
    let compact = version >= 3;
    let code = answer.try_get_i16()?;
    let count = if compact { varint(&mut answer)?.saturating_sub(1) } else { array(&mut answer)? };
    let mut versions = BTreeMap::new();
    // each of them takes bytes, so that the end comes whatever was announced
    for _ in 0..count {
        let api = answer.try_get_i16()?;
        versions.insert(api, VersionRange { min: answer.try_get_i16()?, max: answer.try_get_i16()? });
        if compact {
            skip_tags(&mut answer)?;
        }
    }
    Ok((code, versions))
}

/// Whether an answer to `SaslHandshake` (versions 0 and 1) could hold as many names as it announces.
pub(super) fn check_handshake(mut answer: impl Buf) -> Result<()> {
    answer.try_get_i16()?;
    let (count, left) = (array(&mut answer)?, answer.remaining());
    // the length of each alone takes two bytes
    ensure!(usize::try_from(count)? <= left / 2, "{count} mechanisms announced in {left} bytes");
    Ok(())
}

fn array(answer: &mut impl Buf) -> Result<u32> {
    Ok(u32::try_from(answer.try_get_i32()?.max(0))?)
}

fn skip_tags(answer: &mut impl Buf) -> Result<()> {
    for _ in 0..varint(answer)? {
        varint(answer)?;
        let length = usize::try_from(varint(answer)?)?;
        ensure!(length <= answer.remaining(), "a field of {length} bytes in {}", answer.remaining());
        answer.advance(length);
    }
    Ok(())
}

fn varint(answer: &mut impl Buf) -> Result<u32> {
    let mut value = 0;
    for shift in (0..32).step_by(7) {
        let byte = u32::from(answer.try_get_u8().context("a number that does not end")?);
        value |= (byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number longer than 32 bits")
}
