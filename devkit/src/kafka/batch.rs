//! The bytes of a record batch, format 2, uncompressed.
//!
//! Owns the encoding, written here because the libraries' encoders know neither null nor repeated headers. Where a test
//! wants such records compressed, the topic's `compression.type` makes the broker do it.

use super::records::Record;

const TRANSACTIONAL: i16 = 1 << 4;
const MAGIC: u8 = 2;

/// Who writes a batch, where the broker has to know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Producer {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
    /// The number of the batch's first record in the producer's count for the partition.
    pub(crate) sequence: i32,
}

/// Encodes a batch, transactional where a producer is given.
pub(crate) fn encode(records: &[Record], producer: Option<Producer>) -> Vec<u8> {
    let count = i32::try_from(records.len()).expect("a batch has fewer than 2^31 records");
    let times = || records.iter().map(|record| record.timestamp.timestamp_millis());
    let (first, last) = (times().next().unwrap_or_default(), times().max().unwrap_or_default());

    // From here on the checksum counts.
    let mut body = Vec::new();
    body.extend(producer.map_or(0, |_| TRANSACTIONAL).to_be_bytes());
    body.extend((count - 1).to_be_bytes());
    body.extend(first.to_be_bytes());
    body.extend(last.to_be_bytes());
    let Producer { id, epoch, sequence } = producer.unwrap_or(Producer { id: -1, epoch: -1, sequence: -1 });
    body.extend(id.to_be_bytes());
    body.extend(epoch.to_be_bytes());
    body.extend(sequence.to_be_bytes());
    body.extend(count.to_be_bytes());
    for (delta, record) in (0..).zip(records) {
        let bytes = encode_record(record, delta, record.timestamp.timestamp_millis() - first);
        put_length(&mut body, bytes.len());
        body.extend(bytes);
    }

    let mut batch = Vec::with_capacity(body.len() + 21);
    batch.extend(0_i64.to_be_bytes()); // base offset, given by the broker
    let length = i32::try_from(body.len() + 9).expect("a batch is smaller than 2 GiB");
    batch.extend(length.to_be_bytes());
    batch.extend((-1_i32).to_be_bytes()); // the leader's epoch, given by the broker
    batch.push(MAGIC);
    batch.extend(crc32c::crc32c(&body).to_be_bytes());
    batch.extend(body);
    batch
}

fn encode_record(record: &Record, offset_delta: i64, time_delta: i64) -> Vec<u8> {
    let mut bytes = vec![0]; // attributes
    put_varint(&mut bytes, time_delta);
    put_varint(&mut bytes, offset_delta);
    put_bytes(&mut bytes, record.key.as_deref());
    put_bytes(&mut bytes, record.value.as_deref());
    put_length(&mut bytes, record.headers.len());
    for (name, value) in &record.headers {
        put_bytes(&mut bytes, Some(name.as_bytes()));
        put_bytes(&mut bytes, value.as_deref());
    }
    bytes
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_length(out, bytes.len());
            out.extend(bytes);
        }
    }
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    put_varint(out, i64::try_from(length).expect("a length fits"));
}

/// Zigzag, then seven bits a byte, the lowest first.
fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    loop {
        let [low, ..] = (rest & 0x7f).to_le_bytes();
        rest >>= 7;
        if rest == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::put_varint;

    #[test]
    fn varints_are_those_of_the_protocol() {
        let encoded = |value| {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            out
        };
        assert_eq!(encoded(0), [0x00]);
        assert_eq!(encoded(-1), [0x01]);
        assert_eq!(encoded(63), [0x7e]);
        assert_eq!(encoded(64), [0x80, 0x01]);
        assert_eq!(encoded(i64::MIN), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }
}
