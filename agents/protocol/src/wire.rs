//! How messages are read from and written to gRPC streams: small buffers, and a count of what a
//! message holds before memory is allocated for it.
//!
//! A message of a few bytes an element would decode into a hundred times its size. So the
//! elements of what an agent sends are counted over the encoded bytes first, by a table of the
//! repeated fields, against [`crate::limits`].

use crate::{limits, reason::Reason, v1};
use bytes::{Buf, Bytes};
use prost::Message;
use std::marker::PhantomData;
use tonic::{
    Status,
    codec::{BufferSettings, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// First size, and step of growth, of a stream's buffers: a frame of a host is about 1 kB.
const BUFFER_BYTES: usize = 1_024;
/// Messages that are ready are joined up to this before they are sent.
const JOINED_BYTES: usize = 16 << 10;

/// A message that can be judged by its encoded bytes.
pub trait Bounded: Message + Default {
    /// Judges the bytes before they are decoded.
    ///
    /// # Errors
    /// The limit that is exceeded.
    fn judge(encoded: &[u8]) -> Result<(), Excess> {
        let _ = encoded;
        Ok(())
    }
}

/// A limit that a message exceeds, or bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// More elements than a field may have.
    #[error("a message holds more {0} than the limits allow")]
    Count(&'static str),
    /// More elements than a message may have, of all kinds together.
    #[error("a message holds more than {max} elements", max = limits::ELEMENTS)]
    Elements,
    /// Not a message.
    #[error("a message cannot be decoded")]
    Malformed,
}

impl Excess {
    /// The reason that the other side is told.
    #[must_use]
    pub fn reason(self) -> Reason {
        match self {
            Self::Count(_) | Self::Elements => Reason::Limit,
            Self::Malformed => Reason::Undecodable,
        }
    }
}

/// Judges a message, then decodes it. Nothing is copied: the bodies of frames share these bytes.
///
/// # Errors
/// The limit that is exceeded, or bytes that are no message.
pub fn read<U: Bounded>(encoded: Bytes) -> Result<U, Excess> {
    U::judge(&encoded)?;
    U::decode(encoded).map_err(|_| Excess::Malformed)
}

/// A field that holds messages: where it is, what it may hold, and what to look at inside.
struct Field {
    tag: u32,
    /// The most of them in one parent; 1 for a field that is not repeated.
    max: usize,
    name: &'static str,
    inside: &'static [Field],
}

const fn field(tag: u32, max: usize, name: &'static str, inside: &'static [Field]) -> Field {
    Field { tag, max, name, inside }
}

/// Every repeated field that an agent can send; `tests/messages.rs` holds this against the `.proto`.
const TO_CONTROL: &[Field] = &[
    field(
        2,
        1,
        "define",
        &[
            field(1, limits::BOOTS, "boots", &[field(3, limits::ANCHORS, "anchors", &[])]),
            field(2, limits::SOURCES, "sources", &[]),
            field(
                3,
                limits::SCHEMAS,
                "schemas",
                &[field(2, limits::COLUMNS, "columns", &[field(7, limits::LABELS, "labels", &[])])],
            ),
        ],
    ),
    field(
        3,
        1,
        "records",
        &[field(
            4,
            limits::RECORDS,
            "records",
            &[
                field(6, 1, "facts", &[field(2, limits::FACTS, "facts", &[])]),
                field(7, 1, "event", &[field(3, limits::FACTS, "attributes", &[])]),
            ],
        )],
    ),
    field(4, 1, "lost", &[field(2, limits::RANGES, "ranges", &[])]),
];

impl Bounded for v1::ToControl {
    fn judge(encoded: &[u8]) -> Result<(), Excess> {
        let mut elements = 0;
        count(encoded, TO_CONTROL, &mut elements)
    }
}
impl Bounded for v1::ToAgent {}
impl Bounded for v1::EnrollRequest {}
impl Bounded for v1::EnrollResponse {}
impl Bounded for v1::RenewRequest {}
impl Bounded for v1::RenewResponse {}

fn count(mut bytes: &[u8], fields: &[Field], elements: &mut usize) -> Result<(), Excess> {
    let mut counts = [0usize; 4];
    debug_assert!(fields.len() <= counts.len(), "the table has grown");
    while bytes.has_remaining() {
        let key = varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                continue;
            }
            1 => 8,
            2 => varint(&mut bytes)?,
            5 => 4,
            // Groups (3, 4) are in no message of ours; prost would skip them.
            _ => return Err(Excess::Malformed),
        };
        let length = usize::try_from(length).map_err(|_| Excess::Malformed)?;
        if length > bytes.len() {
            return Err(Excess::Malformed);
        }
        let (value, rest) = bytes.split_at(length);
        bytes = rest;
        let place = fields.iter().position(|field| u64::from(field.tag) == key >> 3);
        let Some(place) = place.filter(|_| key & 7 == 2) else {
            continue;
        };
        counts[place] += 1;
        *elements += 1;
        if counts[place] > fields[place].max {
            return Err(Excess::Count(fields[place].name));
        }
        if *elements > limits::ELEMENTS {
            return Err(Excess::Elements);
        }
        if !fields[place].inside.is_empty() {
            count(value, fields[place].inside, elements)?;
        }
    }
    Ok(())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Excess> {
    let mut at = 0;
    let value = crate::codec::get_varint(bytes, &mut at).map_err(|_| Excess::Malformed)?;
    *bytes = &bytes[at..];
    Ok(value)
}

/// The codec of the generated services.
#[derive(Debug, Clone, Copy)]
pub struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> tonic::codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Bounded + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = Codec<T, ()>;
    type Decoder = Codec<(), U>;

    fn encoder(&mut self) -> Self::Encoder {
        Codec(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Codec(PhantomData)
    }
}

impl<T: Message> Encoder for Codec<T, ()> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).expect("the buffer grows");
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, JOINED_BYTES)
    }
}

impl<U: Bounded> Decoder for Codec<(), U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, encoded: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let encoded = encoded.copy_to_bytes(encoded.remaining());
        read(encoded).map(Some).map_err(|excess| excess.reason().status_with(excess.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, JOINED_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(message: v1::to_control::Message) -> Result<(), Excess> {
        v1::ToControl::judge(&v1::ToControl { message: Some(message) }.encode_to_vec())
    }

    fn records(count: usize) -> v1::to_control::Message {
        v1::to_control::Message::Records(v1::Records {
            records: vec![v1::Record::default(); count],
            ..Default::default()
        })
    }

    #[test]
    fn elements_are_counted_before_they_are_decoded() {
        use v1::to_control::Message::{Define, Lost};
        assert_eq!(judge(records(limits::RECORDS)), Ok(()));
        assert_eq!(judge(records(limits::RECORDS + 1)), Err(Excess::Count("records")));
        let lost = v1::LostRanges { ranges: vec![v1::LostRange::default(); limits::RANGES + 1], ..Default::default() };
        assert_eq!(judge(Lost(lost)), Err(Excess::Count("ranges")));
        let schema = v1::Schema { columns: vec![v1::Column::default(); limits::COLUMNS], ..Default::default() };
        let define = |schemas| v1::Define { schemas: vec![schema.clone(); schemas], ..Default::default() };
        assert_eq!(judge(Define(define(7))), Ok(()));
        assert_eq!(judge(Define(define(8))), Err(Excess::Elements));
        let facts = v1::Facts {
            facts: (0..=limits::FACTS).map(|n| (n.to_string(), String::new())).collect(),
            ..Default::default()
        };
        let record = v1::Record { body: Some(v1::record::Body::Facts(facts)), ..Default::default() };
        let message = v1::Records { records: vec![record], ..Default::default() };
        assert_eq!(judge(v1::to_control::Message::Records(message)), Err(Excess::Count("facts")));
    }

    proptest::proptest! {
        #[test]
        fn random_bytes_are_judged_without_panic(bytes: Vec<u8>) {
            let _ = v1::ToControl::judge(&bytes);
        }

        /// What prost would decode into more than the limit, the count refuses.
        #[test]
        fn a_judged_message_decodes_within_its_limits(head in proptest::collection::vec(0u8..32, 0..64)) {
            if v1::ToControl::judge(&head).is_ok()
                && let Ok(v1::ToControl { message: Some(v1::to_control::Message::Records(records)) }) =
                    v1::ToControl::decode(head.as_slice())
            {
                proptest::prop_assert!(records.records.len() <= limits::RECORDS);
            }
        }
    }
}
