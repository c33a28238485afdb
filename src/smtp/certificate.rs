//! The two facts of a server's certificate that people ask for: whose it is and how long it is valid.
//!
//! Reads just so much DER (X.690, RFC 5280 4.1). Whether a certificate may be trusted is decided by rustls alone.

use chrono::{DateTime, NaiveDate, Utc};

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// 2.5.4.3, the common name.
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of its subject, where it has one.
    pub subject: Option<String>,
    /// The last moment of its validity.
    pub not_after: DateTime<Utc>,
}

impl Certificate {
    /// Reads a certificate in DER; `None` where it is not one.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let mut certificate = Reader(Reader(der).expect(SEQUENCE)?);
        let mut body = Reader(certificate.expect(SEQUENCE)?);
        body.skip(VERSION);
        body.expect(INTEGER)?;
        let _algorithm = body.expect(SEQUENCE)?;
        let _issuer = body.expect(SEQUENCE)?;
        let mut validity = Reader(body.expect(SEQUENCE)?);
        validity.next()?;
        let (tag, until) = validity.next()?;
        let subject = common_name(body.expect(SEQUENCE)?);
        Some(Self { subject, not_after: time(tag, until)? })
    }
}

/// The last common name of a subject is the most specific one.
fn common_name(subject: &[u8]) -> Option<String> {
    let mut subject = Reader(subject);
    let mut found = None;
    while let Some(part) = subject.expect(SET) {
        let mut pair = Reader(Reader(part).expect(SEQUENCE)?);
        if pair.expect(OBJECT_IDENTIFIER)? == COMMON_NAME {
            let (_, name) = pair.next()?;
            found = Some(String::from_utf8_lossy(name).chars().filter(|c| !c.is_control()).collect());
        }
    }
    found
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` (RFC 5280 4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z').filter(|text| text.is_ascii())?;
    let (year, rest) = match tag {
        UTC_TIME if text.len() == 12 => {
            let year: i32 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        GENERALIZED_TIME if text.len() == 14 => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2)?.parse::<u32>().ok();
    let date = NaiveDate::from_ymd_opt(year, part(0)?, part(2)?)?;
    Some(date.and_hms_opt(part(4)?, part(6)?, part(8)?)?.and_utc())
}

/// DER values one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Tag and content of the next value.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The content of the next value, if it has this tag; otherwise it stays.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        (self.0.first() == Some(&tag)).then(|| self.next())?.map(|(_, content)| content)
    }

    fn skip(&mut self, tag: u8) {
        let _ = self.expect(tag);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    #[test]
    fn a_certificate_says_whose_it_is_and_until_when() {
        let pem = include_str!("../../tests/fixtures/certificate.pem");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
        let found = Certificate::parse(&der).expect("a certificate");
        assert_eq!(found.subject.as_deref(), Some("relay.example.com"));
        assert_eq!(found.not_after.to_rfc3339(), "2046-11-18T23:01:25+00:00");
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        let read = |tag, text: &str| time(tag, text.as_bytes()).map(|time| time.timestamp());
        assert_eq!(read(UTC_TIME, "491231235959Z"), read(GENERALIZED_TIME, "20491231235959Z"));
        assert_eq!(read(UTC_TIME, "700101000000Z"), Some(0));
        for (tag, text) in
            [(UTC_TIME, "20491231235959Z"), (UTC_TIME, "491331235959Z"), (GENERALIZED_TIME, "x"), (5, "")]
        {
            assert_eq!(read(tag, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_no_certificate(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Certificate::parse(&bytes), None);
        }
    }
}
